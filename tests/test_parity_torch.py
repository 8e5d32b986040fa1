"""The same numbers as PyTorch on the CPU: kernels, layers and a training of 50 steps.

PyTorch is an oracle here, never needed: without it the file is skipped. Networks have no bias in front of
batch-norm: its gradient is nothing but rounding noise, which Adam scales up to whole steps.
"""

from itertools import pairwise

import bounds
import numpy as np
import pytest
import reference as ref
from bounds import assert_bits, assert_within
from fastnn import data, losses, nn, ops, optim

torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install '.[peers]')")
F = torch.nn.functional


def tensor(x, grad=False):
    return torch.from_numpy(np.array(x)).requires_grad_(grad)


def normal(rng, *shape):
    return rng.standard_normal(shape, np.float32)


# ---- kernels -----------------------------------------------------------------------------------------------
# Both sides round, so each comparison has twice the bound that one side has against the truth.


def test_gemm(isa, rng):
    for m, n, k in [(3, 5, 7), (128, 10, 512), (65, 130, 700)]:
        x, w, bias = normal(rng, m, k), normal(rng, n, k), normal(rng, n)
        bound = 2.0 * bounds.gemm_bound(x, w, random=True, trans_b=True, bias=bias)
        want = F.linear(tensor(x), tensor(w), tensor(bias))
        assert_within(ops.gemm(x, w, trans_b=True, bias=bias), want, bound, "linear")
        assert_within(ops.gemm(x, w, trans_b=True, bias=bias, activation="relu"), F.relu(want), bound, "relu")
        beta = torch.addmm(want, tensor(x), tensor(w).T, beta=0.5, alpha=-2.0)
        given = {"trans_b": True, "alpha": -2.0, "beta": 0.5, "out": want.numpy().copy()}
        bound = 2.0 * bounds.gemm_bound(x, w, random=True, **given)
        assert_within(ops.gemm(x, w, **given), beta, bound, "addmm")


def test_relu(isa, rng):
    x, dy = normal(rng, 50, 40), normal(rng, 50, 40)
    x[0, :3] = 0.0, -0.0, np.nan
    t = tensor(x, grad=True)
    F.relu(t).backward(tensor(dy))
    assert np.array_equal(ops.activation(x, "relu"), F.relu(t).detach(), equal_nan=True)
    assert np.array_equal(ops.activation_backward(dy, x, "relu"), t.grad)


ACTIVATIONS = {
    "relu": (nn.ReLU(), F.relu),
    "leaky_relu": (nn.LeakyReLU(), F.leaky_relu),
    "leaky_relu 0.3": (nn.LeakyReLU(0.3), lambda t: F.leaky_relu(t, 0.3)),
    "sigmoid": (nn.Sigmoid(), F.sigmoid),
    "tanh": (nn.Tanh(), F.tanh),
    "gelu": (nn.GELU(), F.gelu),
    "gelu_tanh": (nn.GELU("tanh"), lambda t: F.gelu(t, approximate="tanh")),
    "silu": (nn.SiLU(), F.silu),
    "elu": (nn.ELU(), F.elu),
    "elu 0.7": (nn.ELU(0.7), lambda t: F.elu(t, 0.7)),
    "selu": (nn.SELU(), F.selu),
    "softplus": (nn.Softplus(), F.softplus),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(isa, rng, name):
    """Kernels and layers, forward and backward. PyTorch's own errors are up to 1e-6."""
    layer, function = ACTIVATIONS[name]
    x, dy = 4 * normal(rng, 50, 40), normal(rng, 50, 40)
    x[0, :6] = 0.0, -0.0, 30.0, -30.0, 100.0, -100.0
    t = tensor(x, grad=True)
    want = function(t)
    want.backward(tensor(dy))
    assert_within(layer(x), want.detach(), 1e-6 * (1.0 + np.abs(x)), "y")
    assert_within(layer.backward(dy), t.grad, 3e-6 * np.abs(dy), "dx")
    kind = name.split()[0]
    if kind == name:
        assert_bits(ops.activation(x, kind), layer(x))
        w, bias = normal(rng, 40, 30), normal(rng, 30)
        want = function(F.linear(tensor(x), tensor(w.T.copy()), tensor(bias)))
        got = ops.gemm(x, w, bias=bias, activation=kind)
        assert_within(got, want, 2.0 * bounds.gemm_bound(x, w, random=True, bias=bias) * 1.2 + 1e-6, "gemm")


def test_batch_norm(isa, rng):
    """Same momentum, unbiased running variance, epsilon inside the root; and the same gradients."""
    for rows, columns in [(2, 5), (100, 33), (1000, 8)]:
        x, dy = normal(rng, rows, columns) + np.float32(1.5), normal(rng, rows, columns)
        gamma, beta = normal(rng, 2, columns)
        running = [np.zeros(columns, np.float32), np.ones(columns, np.float32)]
        trunning = [tensor(r) for r in running]
        tx, tgamma, tbeta = tensor(x, True), tensor(gamma, True), tensor(beta, True)

        y, mean, rstd = ops.batch_norm(x, gamma, beta, *running, momentum=0.3)
        ty = F.batch_norm(tx, *trunning, tgamma, tbeta, training=True, momentum=0.3)
        ty.backward(tensor(dy))
        _, want_mean, var, xhat = ref.batch_norm(x, gamma, beta)
        std = np.sqrt(var + 1e-5)
        assert_within(y, ty.detach(), 2.0 * bounds.batch_norm_bound(gamma, beta, xhat, want_mean, std), "y")
        for got, want, name in zip(running, trunning, ("running_mean", "running_var"), strict=True):
            assert_within(got, want, 4e-6 * np.abs(want.numpy()) + 1e-6, name)
        got = ops.batch_norm_backward(dy, x, gamma, mean, rstd)
        limits = bounds.batch_norm_backward_bounds(dy, x, gamma, mean, rstd)
        wants = (tx.grad, tgamma.grad, tbeta.grad)
        for g, want, limit, name in zip(got, wants, limits, ("dx", "dgamma", "dbeta"), strict=True):
            assert_within(g, want, 4.0 * limit, name)  # PyTorch sums rows without blocks

        y, _, _ = ops.batch_norm(x, gamma, beta, *running, training=False)
        ty = F.batch_norm(tensor(x), *(tensor(r) for r in running), tensor(gamma), tensor(beta))
        assert_within(y, ty, 1e-5 * (1.0 + np.abs(ty.numpy())), "evaluation")


def test_softmax_cross_entropy(isa, rng):
    logits, labels = 3 * normal(rng, 60, 17), rng.integers(0, 17, 60)
    probabilities = rng.random((60, 17), np.float32)
    for target in (labels, probabilities):
        t = tensor(logits, grad=True)
        want = F.cross_entropy(t, tensor(target))
        want.backward()
        value, dlogits = ops.softmax_cross_entropy(logits, target)
        value_bound, bound = bounds.softmax_bounds(logits, target)
        assert_within(value, want.item(), 2.0 * value_bound, "value")
        assert_within(dlogits, t.grad, 2.0 * bound, "dlogits")


def rows_mean(loss, weight):
    """PyTorch's losses of elements, averaged over outputs, then over rows by weight."""
    rows = loss.reshape(len(loss), -1).mean(1)
    return rows.mean() if weight is None else (rows * tensor(weight)).sum() / float(weight.sum())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("ignore", [None, -100, 2])
def test_cross_entropy_options(isa, rng, weighted, smoothing, ignore):
    logits, labels = 3 * normal(rng, 60, 17), rng.integers(0, 17, 60)
    if ignore is not None:
        labels[::4] = ignore
    weight = rng.random(60, np.float32) if weighted else None
    t = tensor(logits, grad=True)
    options = {"label_smoothing": smoothing, "ignore_index": -100 if ignore is None else ignore}
    if weighted:
        # PyTorch has no weights of rows: sum of w l over sum of w, ignored rows in neither.
        kept = tensor(weight) * tensor(labels != options["ignore_index"])
        want = (F.cross_entropy(t, tensor(labels), reduction="none", **options) * kept).sum() / kept.sum()
    else:
        want = F.cross_entropy(t, tensor(labels), **options)
    want.backward()
    loss = losses.CrossEntropyLoss(label_smoothing=smoothing, ignore_index=ignore)
    value, dlogits = loss(logits, labels, weight)
    limits = {"label_smoothing": smoothing, "ignore_index": ignore}
    value_bound, bound = bounds.softmax_bounds(logits, labels, weight, **limits)
    assert_within(value, want.item(), 2.0 * value_bound, "value")
    assert_within(dlogits, t.grad, 2.0 * bound, "dlogits")
    if not weighted and ignore is None:
        mixed = rng.random((60, 17), np.float32)
        want = F.cross_entropy(tensor(logits), tensor(mixed), label_smoothing=smoothing)
        value_bound, _ = bounds.softmax_bounds(logits, mixed, label_smoothing=smoothing)
        assert_within(loss(logits, mixed)[0], want.item(), 2.0 * value_bound, "probabilities")


LOSSES = {
    "mse": (losses.MSELoss(), lambda p, t: F.mse_loss(p, t, reduction="none"), {}),
    "huber": (losses.HuberLoss(), lambda p, t: F.huber_loss(p, t, reduction="none"), {}),
    "huber 0.4": (
        losses.HuberLoss(0.4),
        lambda p, t: F.huber_loss(p, t, reduction="none", delta=0.4),
        {"delta": 0.4},
    ),
    "quadratic_cost": (
        losses.QuadraticCost(),
        lambda p, t: p[0].numel() / 2 * F.mse_loss(p, t, reduction="none"),
        {},
    ),
    "sigmoid_cross_entropy": (
        losses.BCEWithLogitsLoss(),
        lambda p, t: F.binary_cross_entropy_with_logits(p, t, reduction="none"),
        {},
    ),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(60,), (60, 1), (60, 17), (9, 3, 4)], ids=str)
def test_elementwise_losses(isa, rng, name, weighted, shape):
    loss, other, numbers = LOSSES[name]
    pred, target = 3 * normal(rng, *shape), rng.random(shape, np.float32)
    weight = rng.random(len(pred), np.float32) if weighted else None
    t = tensor(pred, grad=True)
    want = rows_mean(other(t, tensor(target)), weight)
    want.backward()
    value, dpred = loss(pred, target, weight)
    value_bound, bound = bounds.elementwise_loss_bounds(name.split()[0], pred, target, weight, **numbers)
    assert_within(value, want.item(), 2.0 * value_bound, "value")
    assert_within(dpred, t.grad, 2.0 * bound, "dpred")


# ---- layers and a training ---------------------------------------------------------------------------------


def network(*widths, seed=0):
    """The same network twice: Linear without bias, batch-norm, ReLU, and a last Linear with bias."""
    ours = []
    for i, (fan_in, fan_out) in enumerate(pairwise(widths)):
        last = i == len(widths) - 2
        ours += [nn.Linear(fan_in, fan_out, bias=last)]
        ours += [] if last else [nn.BatchNorm1d(fan_out), nn.ReLU()]
    model = nn.Sequential(*ours, seed=seed)
    theirs = []
    for layer in ours:
        if isinstance(layer, nn.Linear):
            theirs.append(torch.nn.Linear(*layer.weight.data.shape, bias=layer.bias is not None))
            with torch.no_grad():
                theirs[-1].weight.copy_(tensor(layer.weight.data).T)
                if layer.bias is not None:
                    theirs[-1].bias.copy_(tensor(layer.bias.data))
        else:
            theirs.append(
                torch.nn.BatchNorm1d(layer.num_features) if hasattr(layer, "gamma") else torch.nn.ReLU()
            )
    return model, torch.nn.Sequential(*theirs)


def transposed_like(parameter, other):
    """PyTorch's array, its Linear weight (out, in) turned to (in, out)."""
    array = other.detach().numpy()
    return array.T if array.ndim == 2 else array


def test_layers(isa, rng):
    """One forward and backward: result, gradients of every parameter and of the input, running statistics."""
    model, other = network(20, 32, 16, 5)
    x, dy = normal(rng, 64, 20), normal(rng, 64, 5)
    t = tensor(x, grad=True)
    y, ty = model(x), other(t)
    assert_within(y, ty.detach(), 1e-5, "y")
    dx = model.backward(dy)
    ty.backward(tensor(dy))
    assert_within(dx, t.grad, 2e-5 * np.abs(t.grad.numpy()).max(), "dx")
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        want = transposed_like(p, q.grad)
        assert_within(p.grad, want, 2e-5 * np.abs(want).max(), p.name)
    model.eval()
    other.eval()
    with torch.no_grad():
        assert_within(model(x), other(tensor(x)), 1e-5, "evaluation")


def training(steps, eps=1e-8):
    """The losses of both libraries on the same batches of digits."""
    (x, labels), _ = data.digits()
    model, other = network(784, 64, 32, 10, seed=1)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    adam = torch.optim.Adam(other.parameters(), lr=1e-3, eps=eps)
    loss = losses.CrossEntropyLoss()
    found = []
    for step in range(steps):
        rows = slice(128 * step % 7936, 128 * step % 7936 + 128)
        value, grad = loss(model(x[rows]), labels[rows])
        model.backward(grad, input_grad=False)
        optimizer.step()
        adam.zero_grad()
        theirs = F.cross_entropy(other(tensor(x[rows])), tensor(labels[rows]))
        theirs.backward()
        adam.step()
        found.append((value, theirs.item()))
    return np.array(found)


def test_training_of_50_steps(isa):
    ours, theirs = training(50).T
    assert np.abs(ours - theirs).max() <= 1e-5
    assert ours[-1] < 0.5 * ours[0]


def test_the_comparison_of_trainings_sees_another_epsilon():
    ours, theirs = training(50, eps=1e-7).T
    assert np.abs(ours - theirs).max() > 1e-5
