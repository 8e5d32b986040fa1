"""NumPy, each operation as the best sequence of in-place ufuncs and BLAS calls we know (see numpy_mlp.py)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cases.case import Array, Arrays
from cases.losses import P, dropout_results
from cases.networks import numpy_mlp, one_of_many
from cases.updates import DECAY
from numpy_mlp import ADAM_BLOCK, Adam, BatchNormReLU
from peers import numpy_activations, numpy_job
from peers.peer import Prepared

COMMANDS = numpy_job.COMMANDS


def describe(threads: int) -> dict[str, Any]:
    """The version, and the kernels OpenBLAS chose."""
    return {"version": np.__version__, "detail": f"OpenBLAS {openblas_core() or 'kernels unknown'}"}


def openblas_core() -> str:
    """The name of the kernels that NumPy's OpenBLAS runs, such as "Haswell"; empty for another BLAS."""
    paths = {
        line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "openblas" in line
    }
    for path in paths:
        for name in (
            "scipy_openblas_get_corename64_",
            "scipy_openblas_get_corename",
            "openblas_get_corename",
        ):
            function = getattr(ctypes.CDLL(path), name, None)
            if function is not None:
                function.restype = ctypes.c_char_p
                return str(function().decode())
    return ""


def gemm(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    a = v["a"].T if sizes["trans_a"] else v["a"]
    b = v["b"].T if sizes["trans_b"] else v["b"]
    c = np.empty((sizes["m"], sizes["n"]), np.float32)
    if "bias" not in v:
        return Prepared(lambda: np.matmul(a, b, out=c), lambda: {"c": c})
    bias = v["bias"]

    def call() -> None:
        np.matmul(a, b, out=c)
        np.add(c, bias, out=c)
        np.maximum(c, 0, out=c)

    return Prepared(call, lambda: {"c": c})


def linear_backward(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    dy, x, w = v["dy"], v["x"], v["w"]
    dx, dw, db = np.empty_like(x), np.empty_like(w), np.empty(len(w[0]), np.float32)

    def call() -> None:
        np.matmul(dy, w.T, out=dx)
        np.matmul(x.T, dy, out=dw)
        np.sum(dy, axis=0, out=db)

    return Prepared(call, lambda: {"dx": dx, "dw": dw, "db": db})


def activation(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared | None:
    function = numpy_activations.FORWARD.get(sizes["kind"])
    if function is None:
        return None
    x = v["x"]
    y, t = np.empty_like(x), np.empty_like(x)
    return Prepared(lambda: function(x, y, t), lambda: {"y": y})


def activation_backward(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared | None:
    function = numpy_activations.BACKWARD.get(sizes["kind"])
    if function is None:
        return None
    dy, x, y = v["dy"], v["x"], v["y"]
    dx, t = np.empty_like(x), np.empty_like(x)
    return Prepared(lambda: function(dy, x, y, dx, t), lambda: {"dx": dx})


def batch_norm(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    norm = BatchNormReLU(*v["x"].shape)
    norm.running_mean[...], norm.running_var[...] = 0, 1
    x, gamma, beta = v["x"], v["gamma"], v["beta"]
    call = norm.forward if sizes["relu"] else norm.normalize
    return Prepared(
        lambda: call(x, gamma, beta),
        lambda: {"y": norm.y, "running_mean": norm.running_mean, "running_var": norm.running_var},
    )


def batch_norm_backward(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    norm = BatchNormReLU(*v["x"].shape)
    norm.forward(v["x"], v["gamma"], v["beta"])
    dy, dx, dgamma, dbeta = (
        v["dy"],
        np.empty_like(v["dy"]),
        np.empty_like(v["gamma"]),
        np.empty_like(v["beta"]),
    )
    relu = sizes["relu"]
    if relu:
        np.greater(v["y"], 0, out=norm.mask)
    # With ReLU, backward multiplies dy by the mask in place, which a second time changes nothing.
    return Prepared(
        lambda: norm.backward(dy, dgamma, dbeta, dx, relu=relu),
        lambda: {"dx": dx, "dgamma": dgamma, "dbeta": dbeta},
    )


def batch_norm_both(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    norm = BatchNormReLU(*v["x"].shape)
    x, gamma, beta, dy = v["x"], v["gamma"], v["beta"], v["dy"]
    dx, dgamma, dbeta = np.empty_like(dy), np.empty_like(gamma), np.empty_like(beta)

    def call() -> None:
        norm.normalize(x, gamma, beta)
        norm.backward(dy, dgamma, dbeta, dx, relu=False)

    return Prepared(call, lambda: {"y": norm.y, "dx": dx, "dgamma": dgamma, "dbeta": dbeta})


def params_and_grads(v: Arrays, sizes: Mapping[str, Any]) -> tuple[list[Array], list[Array]]:
    """The parameters and gradients of an update case, flat."""
    count = sizes["arrays"]
    return [v[f"p{i}"].reshape(-1) for i in range(count)], [v[f"g{i}"].reshape(-1) for i in range(count)]


def update_results(params: list[Array], inputs: Arrays) -> Arrays:
    """The parameters in the shapes of the inputs."""
    return {f"p{i}": p.reshape(inputs[f"p{i}"].shape) for i, p in enumerate(params)}


def adam(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    params, grads = params_and_grads(v, sizes)
    optimizer = Adam([p.size for p in params])
    return Prepared(lambda: optimizer.step(params, grads, lr), lambda: update_results(params, v))


def update(v: Arrays, sizes: Mapping[str, Any], slots: int, rule: Callable[..., None]) -> Prepared:
    """`rule(p, g, *state, t)` on blocks that stay in cache, `slots` states of zeros, t scratch memory. The
    views are made once."""
    params, grads = params_and_grads(v, sizes)
    scratch = np.empty(ADAM_BLOCK, np.float32)
    blocks = []
    for p, g in zip(params, grads, strict=True):
        arrays = [p, g, *(np.zeros_like(p) for _ in range(slots))]
        for start in range(0, p.size, ADAM_BLOCK):
            views = [a[start : start + ADAM_BLOCK] for a in arrays]
            blocks.append((*views, scratch[: views[0].size]))

    def call() -> None:
        for block in blocks:
            rule(*block)

    return Prepared(call, lambda: update_results(params, v))


def rmsprop(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    # The state is square_avg / (1 - rho), as in Adam: the factor goes into the root's scale.
    root = 0.1**0.5

    def rule(p: Array, g: Array, s: Array, t: Array) -> None:
        np.multiply(s, 0.9, out=s)
        np.multiply(g, g, out=t)
        np.add(s, t, out=s)
        np.sqrt(s, out=t)
        np.add(t, 1e-8 / root, out=t)
        np.divide(g, t, out=t)
        np.multiply(t, lr / root, out=t)
        np.subtract(p, t, out=p)

    return update(v, sizes, 1, rule)


def momentum(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    def rule(p: Array, g: Array, velocity: Array, t: Array) -> None:
        np.multiply(velocity, 0.9, out=velocity)
        np.add(velocity, g, out=velocity)
        np.multiply(velocity, lr, out=t)
        np.subtract(p, t, out=p)

    return update(v, sizes, 1, rule)


def sgd(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    def rule(p: Array, g: Array, t: Array) -> None:
        np.multiply(g, lr, out=t)
        np.subtract(p, t, out=p)

    return update(v, sizes, 0, rule)


def adagrad(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    def rule(p: Array, g: Array, total: Array, t: Array) -> None:
        np.multiply(g, g, out=t)
        np.add(total, t, out=total)
        np.sqrt(total, out=t)
        np.add(t, 1e-10, out=t)
        np.divide(g, t, out=t)
        np.multiply(t, lr, out=t)
        np.subtract(p, t, out=p)

    return update(v, sizes, 1, rule)


def adamw(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    params, grads = params_and_grads(v, sizes)
    optimizer = Adam([p.size for p in params])
    shrink = 1 - lr * DECAY

    def call() -> None:
        for p in params:
            np.multiply(p, shrink, out=p)
        optimizer.step(params, grads, lr)

    return Prepared(call, lambda: update_results(params, v))


def softmax_cross_entropy(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    logits, labels, gradient = v["logits"], v["labels"], np.empty_like(v["logits"])
    n = len(logits)
    rows, top, total = np.arange(n), np.empty((n, 1), np.float32), np.empty((n, 1), np.float32)
    value = [0.0]

    def call() -> None:
        np.maximum.reduce(logits, 1, keepdims=True, out=top)
        np.subtract(logits, top, out=gradient)
        picked = gradient[rows, labels]
        np.exp(gradient, out=gradient)
        np.add.reduce(gradient, 1, keepdims=True, out=total)
        value[0] = float(np.add.reduce(np.log(total[:, 0]) - picked)) / n
        np.multiply(total, n, out=total)
        np.divide(gradient, total, out=gradient)
        gradient[rows, labels] -= 1 / n

    return Prepared(call, lambda: {"value": np.array(value[0]), "gradient": gradient})


def sigmoid_cross_entropy(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    x, targets, gradient, t = (
        v["logits"],
        v["targets"],
        np.empty_like(v["logits"]),
        np.empty_like(v["logits"]),
    )
    value = [0.0]

    def call() -> None:
        np.abs(x, out=t)
        np.negative(t, out=t)
        np.exp(t, out=t)
        np.log1p(t, out=t)
        np.maximum(x, 0, out=gradient)
        np.add(t, gradient, out=t)
        np.multiply(x, targets, out=gradient)
        np.subtract(t, gradient, out=t)
        value[0] = float(np.add.reduce(t, None)) / x.size
        numpy_activations.sigmoid(x, gradient, t)
        np.subtract(gradient, targets, out=gradient)
        np.multiply(gradient, 1 / x.size, out=gradient)

    return Prepared(call, lambda: {"value": np.array(value[0]), "gradient": gradient})


def mse(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return _squares(v, 1 / v["pred"].size)


def quadratic_cost(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return _squares(v, 0.5 / len(v["pred"]))


def _squares(v: Arrays, factor: float) -> Prepared:
    """factor * sum((pred - target)^2)."""
    pred, target, gradient = v["pred"], v["target"], np.empty_like(v["pred"])
    flat, value = gradient.reshape(-1), [0.0]

    def call() -> None:
        np.subtract(pred, target, out=gradient)
        value[0] = factor * float(np.dot(flat, flat))
        np.multiply(gradient, 2 * factor, out=gradient)

    return Prepared(call, lambda: {"value": np.array(value[0]), "gradient": gradient})


def huber(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    """c (d - c / 2) with c the clipped d is d^2 / 2 within 1 and |d| - 1/2 beyond."""
    pred, target = v["pred"], v["target"]
    gradient, d, value = np.empty_like(pred), np.empty_like(pred), [0.0]
    flat, flat_d = gradient.reshape(-1), d.reshape(-1)

    def call() -> None:
        np.subtract(pred, target, out=d)
        np.clip(d, -1, 1, out=gradient)
        value[0] = float(np.dot(flat, flat_d) - 0.5 * np.dot(flat, flat)) / flat.size
        np.multiply(gradient, 1 / flat.size, out=gradient)

    return Prepared(call, lambda: {"value": np.array(value[0]), "gradient": gradient})


def dropout(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    x, y, mask = v["x"], np.empty_like(v["x"]), np.empty_like(v["x"])
    random = np.random.Generator(np.random.SFC64(0)).random

    def call() -> None:
        random(dtype=np.float32, out=mask)
        np.greater_equal(mask, P, out=mask)
        np.multiply(mask, 1 / (1 - P), out=mask)
        np.multiply(x, mask, out=y)

    return Prepared(call, lambda: dropout_results(x, y))


def dropout_backward(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    dy, dx = v["dy"], np.empty_like(v["dy"])
    drawn = np.random.Generator(np.random.SFC64(0)).random(dy.shape, dtype=np.float32)
    mask = (drawn >= P) * np.float32(1 / (1 - P))
    return Prepared(lambda: np.multiply(dy, mask, out=dx), lambda: dropout_results(dy, dx))


def train_step(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    net = numpy_mlp(v, sizes)
    X, Y, order = v["X"], v["Y"], v["order"]
    losses: list[float] = []

    def call() -> None:
        losses.append(net.gather_step(X, Y, order[len(losses) % len(order)], lr))

    return Prepared(call, lambda: {"losses": np.array(losses)})


def many_steps(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    """One network after another."""
    nets = [numpy_mlp(one_of_many(v, k), sizes) for k in range(sizes["networks"])]
    X, Y, order = v["X"], v["Y"], v["order"]
    losses: list[list[float]] = []

    def call() -> None:
        rows = order[len(losses) % len(order)]
        losses.append([net.gather_step(X, Y, rows, lr) for net in nets])

    return Prepared(call, lambda: {"mean_losses": np.mean(losses, 0)})


swept_step = train_step
