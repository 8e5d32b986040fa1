"""Optimizers with their options against PyTorch's, over many steps."""

import numpy as np
import pytest
from bounds import assert_within
from fastnn import nn, ops, optim

torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install '.[peers]')")


def tensor(x, grad=False):
    return torch.from_numpy(np.array(x)).requires_grad_(grad)


def normal(rng, *shape):
    return rng.standard_normal(shape, np.float32)


OPTIMIZERS = {
    "SGD": (lambda p: optim.SGD(p, lr=0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    "Momentum": (
        lambda p: optim.Momentum(p, lr=0.05, momentum=0.8),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8),
    ),
    "Nesterov": (
        lambda p: optim.Momentum(p, lr=0.05, nesterov=True),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    ),
    "Nesterov of style velocity": (
        lambda p: optim.Momentum(p, lr=0.05, nesterov=True, style="velocity"),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    ),
    "Momentum of style velocity": (
        lambda p: optim.Momentum(p, lr=0.05, momentum=0.8, style="velocity"),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8),
    ),
    "AdaGrad": (lambda p: optim.AdaGrad(p), lambda p: torch.optim.Adagrad(p)),
    "AdaGrad lr eps": (
        lambda p: optim.AdaGrad(p, lr=0.3, eps=1e-3),
        lambda p: torch.optim.Adagrad(p, lr=0.3, eps=1e-3),
    ),
    "AdamW": (
        lambda p: optim.AdamW(p, decay="all"),
        lambda p: torch.optim.AdamW(p),
    ),
    "Adam with decay": (
        lambda p: optim.Adam(p, lr=1e-2, weight_decay=0.1, decay="all"),
        lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=0.1),
    ),
    "RMSProp": (
        lambda p: optim.RMSProp(p, lr=1e-3),
        lambda p: torch.optim.RMSprop(p, lr=1e-3, alpha=0.9),
    ),
    "Adam": (lambda p: optim.Adam(p, lr=1e-3), lambda p: torch.optim.Adam(p, lr=1e-3)),
    "Adam betas eps": (
        lambda p: optim.Adam(p, lr=1e-2, betas=(0.8, 0.95), eps=1e-4),
        lambda p: torch.optim.Adam(p, lr=1e-2, betas=(0.8, 0.95), eps=1e-4),
    ),
    "Adam amsgrad": (
        lambda p: optim.Adam(p, lr=1e-2, amsgrad=True),
        lambda p: torch.optim.Adam(p, lr=1e-2, amsgrad=True),
    ),
    "AdamW amsgrad": (
        lambda p: optim.AdamW(p, lr=1e-2, amsgrad=True, weight_decay=0.1, decay="all"),
        lambda p: torch.optim.AdamW(p, lr=1e-2, amsgrad=True, weight_decay=0.1),
    ),
    "dampening": (
        lambda p: optim.Momentum(p, lr=0.05, dampening=0.4, weight_decay=0.01, decay="all"),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, dampening=0.4, weight_decay=0.01),
    ),
    "SGD with decay": (
        lambda p: optim.SGD(p, lr=0.1, weight_decay=0.1, like="pytorch"),
        lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.1),
    ),
    "AdaGrad start decay": (
        lambda p: optim.AdaGrad(p, initial_accumulator=0.1, weight_decay=0.1, like="pytorch"),
        lambda p: torch.optim.Adagrad(p, initial_accumulator_value=0.1, weight_decay=0.1),
    ),
    "RMSProp like": (
        lambda p: optim.RMSProp(p, lr=1e-3, like="pytorch"),
        lambda p: torch.optim.RMSprop(p, lr=1e-3),
    ),
    "RMSProp centered": (
        lambda p: optim.RMSProp(p, lr=1e-3, eps=1e-3, centered=True, like="pytorch"),
        lambda p: torch.optim.RMSprop(p, lr=1e-3, eps=1e-3, centered=True),
    ),
    "RMSProp momentum": (
        lambda p: optim.RMSProp(p, lr=1e-3, momentum=0.8, weight_decay=0.01, like="pytorch"),
        lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.8, weight_decay=0.01),
    ),
    "Rprop": (lambda p: optim.Rprop(p), lambda p: torch.optim.Rprop(p)),
    "Rprop etas": (
        lambda p: optim.Rprop(p, lr=0.1, etas=(0.6, 1.1), step_sizes=(1e-3, 0.15)),
        lambda p: torch.optim.Rprop(p, lr=0.1, etas=(0.6, 1.1), step_sizes=(1e-3, 0.15)),
    ),
    "groups": (
        lambda p: optim.Adam(
            [{"params": p[:1], "lr": 0.02, "betas": (0.7, 0.9), "weight_decay": 0.1}, {"params": p[1:]}],
            like="pytorch",
        ),
        lambda p: torch.optim.Adam(
            [{"params": p[:1], "lr": 0.02, "betas": (0.7, 0.9), "weight_decay": 0.1}, {"params": p[1:]}]
        ),
    ),
}


def largest_difference(name, rng, steps, **torch_changes):
    """The largest difference of any parameter after so many steps with the same gradients."""
    start = [normal(rng, 40, 30), normal(rng, 30)]
    ours, theirs = [nn.Parameter(p) for p in start], [tensor(p, grad=True) for p in start]
    optimizer, other = OPTIMIZERS[name][0](ours), OPTIMIZERS[name][1](theirs)
    for group in other.param_groups:
        group.update(torch_changes)
    for _ in range(steps):
        for p, t in zip(ours, theirs, strict=True):
            p.grad = normal(rng, *p.data.shape) * np.float32(10.0 ** rng.uniform(-3, 0))
            t.grad = tensor(p.grad)
        optimizer.step()
        other.step()
    return max(
        np.max(np.abs(p.data - t.detach().numpy()) / (1.0 + np.abs(p.data)))
        for p, t in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(isa, rng, name):
    assert largest_difference(name, rng, 200) <= 1e-5


def test_the_comparison_of_optimizers_sees_another_formula(rng):
    assert largest_difference("Adam", rng, 200, eps=1e-5) > 1e-5
    assert largest_difference("RMSProp", rng, 200, alpha=0.91) > 1e-5
    assert largest_difference("Nesterov", rng, 200, nesterov=False) > 1e-5
    assert largest_difference("AdamW", rng, 200, weight_decay=0.02) > 1e-5
    assert largest_difference("AdaGrad lr eps", rng, 200, eps=1e-10) > 1e-5


@pytest.mark.parametrize("kind", ["value", "global norm"])
def test_clipping(isa, rng, kind):
    """PyTorch's factor of a norm is max / (norm + 1e-6), ours max / norm: 1e-6 apart at most here."""
    start = [normal(rng, 40, 30), normal(rng, 30)]
    ours, theirs = [nn.Parameter(p) for p in start], [tensor(p, grad=True) for p in start]
    clip = optim.ClipByValue(0.5) if kind == "value" else 2.0
    optimizer, other = optim.Momentum(ours, lr=0.1, clip=clip), torch.optim.SGD(theirs, lr=0.1, momentum=0.9)
    for _ in range(20):
        for p, t in zip(ours, theirs, strict=True):
            p.grad = normal(rng, *p.data.shape)
            t.grad = tensor(p.grad)
        if kind == "value":
            torch.nn.utils.clip_grad_value_(theirs, 0.5)
        else:
            torch.nn.utils.clip_grad_norm_(theirs, 2.0)
        optimizer.step()
        other.step()
    for p, t in zip(ours, theirs, strict=True):
        assert_within(p.data, t.detach(), 1e-5 * (1.0 + np.abs(p.data)), "parameter")


@pytest.mark.parametrize("decoupled", [False, True])
def test_weight_decay(isa, rng, decoupled):
    p, m, v = normal(rng, 500), np.zeros(500, np.float32), np.zeros(500, np.float32)
    t = tensor(p, grad=True)
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    other = kind([t], lr=1e-2, weight_decay=0.1)
    for step in range(1, 101):
        g = normal(rng, 500)
        t.grad = tensor(g)
        ops.adam_(p, g, m, v, step=step, lr=1e-2, weight_decay=0.1, decoupled=decoupled)
        other.step()
    assert_within(p, t.detach(), 1e-5 * (1.0 + np.abs(p)), "parameter")
