"""NumPy, each operation as the best sequence of in-place ufuncs and BLAS calls we know (see numpy_mlp.py)."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cases.case import Array, Arrays
from cases.train_step import weights_of
from job import BATCH
from numpy_mlp import ADAM_BLOCK, Adam, BatchNormReLU, NumpyMLP
from peers import numpy_job
from peers.peer import Prepared, Setup


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


def batch_norm(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    norm = BatchNormReLU(*v["x"].shape)
    norm.running_mean[...], norm.running_var[...] = 0, 1
    x, gamma, beta = v["x"], v["gamma"], v["beta"]
    return Prepared(
        lambda: norm.normalize(x, gamma, beta),
        lambda: {"y": norm.y, "running_mean": norm.running_mean, "running_var": norm.running_var},
    )


def batch_norm_backward(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    norm = BatchNormReLU(*v["x"].shape)
    norm.normalize(v["x"], v["gamma"], v["beta"])
    dy, dx, dgamma, dbeta = (
        v["dy"],
        np.empty_like(v["dy"]),
        np.empty_like(v["gamma"]),
        np.empty_like(v["beta"]),
    )
    return Prepared(
        lambda: norm.backward(dy, dgamma, dbeta, dx, relu=False),
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


def rmsprop(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    params, grads = params_and_grads(v, sizes)
    scratch = np.empty(ADAM_BLOCK, np.float32)
    # square_avg / (1 - rho), as in Adam: the factor goes into the root's scale
    averages = [np.zeros_like(p) for p in params]
    root = 0.1**0.5

    def call() -> None:
        for p, g, s in zip(params, grads, averages, strict=True):
            for start in range(0, p.size, ADAM_BLOCK):
                block = slice(start, start + ADAM_BLOCK)
                part, average = p[block], s[block]
                t = scratch[: part.size]
                np.multiply(average, 0.9, out=average)
                np.multiply(g[block], g[block], out=t)
                np.add(average, t, out=average)
                np.sqrt(average, out=t)
                np.add(t, 1e-8 / root, out=t)
                np.divide(g[block], t, out=t)
                np.multiply(t, lr / root, out=t)
                np.subtract(part, t, out=part)

    return Prepared(call, lambda: update_results(params, v))


def momentum(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    params, grads = params_and_grads(v, sizes)
    scratch = np.empty(ADAM_BLOCK, np.float32)
    velocities = [np.zeros_like(p) for p in params]

    def call() -> None:
        for p, g, velocity in zip(params, grads, velocities, strict=True):
            for start in range(0, p.size, ADAM_BLOCK):
                block = slice(start, start + ADAM_BLOCK)
                part, moving = p[block], velocity[block]
                t = scratch[: part.size]
                np.multiply(moving, 0.9, out=moving)
                np.add(moving, g[block], out=moving)
                np.multiply(moving, lr, out=t)
                np.subtract(part, t, out=part)

    return Prepared(call, lambda: update_results(params, v))


def train_step(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    net = NumpyMLP(weights_of(v), batch=BATCH)
    X, Y, order = v["X"], v["Y"], v["order"]
    losses: list[float] = []

    def call() -> None:
        losses.append(net.gather_step(X, Y, order[len(losses) % len(order)], lr))

    return Prepared(call, lambda: {"losses": np.array(losses)})


SETUPS: dict[str, Setup] = {
    "gemm": gemm,
    "batch_norm": batch_norm,
    "batch_norm_backward": batch_norm_backward,
    "batch_norm_both": batch_norm_both,
    "adam": adam,
    "rmsprop": rmsprop,
    "momentum": momentum,
    "train_step": train_step,
}
COMMANDS = numpy_job.COMMANDS
