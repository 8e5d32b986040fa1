"""Steps on the device against tests/reference.py, which computes them in float64."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import fastnn
import numpy as np
import reference
from fastnn import losses, nn, optim

SIZES = ((30, 20, 10, 5), (784, 256, 128, 10))
RULES: dict[str, tuple[Callable[[Any], optim.Optimizer], Callable[..., Any]]] = {
    "sgd": (
        lambda parameters: optim.SGD(parameters, lr=0.1),
        lambda step, param, grad: reference.sgd(param, grad, lr=0.1),
    ),
    "momentum": (
        lambda parameters: optim.Momentum(parameters, lr=0.1, momentum=0.9),
        lambda step, param, grad, velocity=0.0: reference.momentum(param, grad, velocity, lr=0.1),
    ),
    "rmsprop": (
        lambda parameters: optim.RMSProp(parameters, lr=1e-3, rho=0.9),
        lambda step, param, grad, average=0.0: reference.rmsprop(param, grad, average, lr=1e-3),
    ),
    "adam": (
        lambda parameters: optim.Adam(parameters, lr=1e-3),
        lambda step, param, grad, m=0.0, v=0.0: reference.adam(param, grad, m, v, step=step),
    ),
}
# float32 rounds by 6e-8 of a number, and a gradient passes three layers of a few hundred terms.
TOLERANCE = {"loss": 1e-5, "gradients": 1e-4, "statistics": 1e-5, "updates": 1e-5}


def network(sizes: tuple[int, ...]) -> nn.Sequential:
    """Linear, batch-norm and ReLU for each width but the last."""
    layers: list[nn.Module] = []
    for i, o in itertools.pairwise(sizes[:-1]):
        layers += [nn.Linear(i, o, bias=False), nn.BatchNorm1d(o), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(*sizes[-2:]), seed=0)


def gradients(arrays: dict[str, Any], x: Any, y: Any) -> tuple[float, dict[str, Any], dict[str, Any]]:
    """Loss, gradients and running statistics of a step of the `network` that has these arrays, by name."""
    hidden = (len(arrays) - 2) // 5  # weight; gamma, beta and two statistics
    saved, found, running = [], {}, {}
    for i in range(hidden):
        linear, norm = str(3 * i), str(3 * i + 1)
        z = reference.gemm(x, arrays[f"{linear}.weight"])
        after, mean, var, _ = reference.batch_norm(
            z, arrays[f"{norm}.gamma"], arrays[f"{norm}.beta"], activation="relu"
        )
        spread = reference.unbiased(var, len(x))
        for name, value in (("running_mean", mean), ("running_var", spread)):
            running[f"{norm}.{name}"] = reference.running(arrays[f"{norm}.{name}"], value, 0.1)
        saved.append((x, z, after, mean, 1 / np.sqrt(var + np.float64(np.float32(1e-5)))))
        x = after
    last = str(3 * hidden)
    logits = reference.gemm(x, arrays[f"{last}.weight"]) + arrays[f"{last}.bias"]
    loss, dy = reference.softmax_cross_entropy(logits, y)
    dy, found[f"{last}.weight"], found[f"{last}.bias"] = reference.linear_backward(
        dy, x, arrays[f"{last}.weight"]
    )
    for i in reversed(range(hidden)):
        x, z, after, mean, rstd = saved[i]
        linear, norm = str(3 * i), str(3 * i + 1)
        dz, found[f"{norm}.gamma"], found[f"{norm}.beta"] = reference.batch_norm_backward(
            dy, z, arrays[f"{norm}.gamma"], mean, rstd, y=after
        )
        dy, found[f"{linear}.weight"], _ = reference.linear_backward(dz, x, arrays[f"{linear}.weight"])
    return loss, found, running


def distance(got: Any, want: Any) -> float:
    """The largest, of the largest number wanted; infinite where one is not finite."""
    gap = float(np.max(np.abs(np.asarray(got, np.float64) - want))) / max(float(np.max(np.abs(want))), 1e-30)
    return gap if np.isfinite(gap) else float("inf")


def steps(rule: str, sizes: tuple[int, ...], rows: int, count: int = 3) -> dict[str, float]:
    """The largest distances over so many steps, each held to the reference from where the device was.

    An update is held to that of the device's own gradient: a rule that divides by its size magnifies what is
    lost of a small one.
    """
    make, update = RULES[rule]
    model = network(sizes)
    optimizer = make(model.parameters())
    run = fastnn.Trainer(model, losses.CrossEntropyLoss(), optimizer, device="cuda")
    named = dict(model.named_parameters())
    worst = dict.fromkeys(TOLERANCE, 0.0)
    slots: dict[str, list[Any]] = {name: [] for name in named}
    rng = np.random.default_rng(0)
    for step in range(1, count + 1):
        x, y = rng.standard_normal((rows, sizes[0]), np.float32), rng.integers(0, sizes[-1], rows)
        before = model.state_dict()
        value = float(run.step(x, y))
        after = model.state_dict()
        loss, wanted, running = gradients(before, x, y)
        found = {"loss": [(value, loss)], "gradients": [], "updates": []}
        found["statistics"] = [(after[name], want) for name, want in running.items()]
        for name, parameter in named.items():
            grad = parameter.grad.get()  # type: ignore[attr-defined]  # CuPy's
            found["gradients"].append((grad, wanted[name]))
            want, *slots[name] = update(step, before[name], grad, *slots[name])
            found["updates"].append((after[name], want))
        for what, pairs in found.items():
            worst[what] = max(worst[what], *(distance(*pair) for pair in pairs))
    return worst


def is_near(found: dict[str, float]) -> bool:
    """Whether distances are within the tolerance."""
    return all(found[what] <= most for what, most in TOLERANCE.items())
