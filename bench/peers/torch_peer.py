"""PyTorch on the CPU, each operation as its users get it fastest: `out=`, fused optimizers, no autograd where
none is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cases.batch_norm import EPS, MOMENTUM
from cases.case import Arrays
from cases.train_step import weights_of
from job import BATCH, WIDTHS
from peers.peer import Prepared, Setup


def describe(threads: int) -> dict[str, Any]:
    """The version and the instruction set PyTorch chose."""
    torch.set_num_threads(threads)
    return {"version": torch.__version__, "detail": f"{torch.backends.cpu.get_cpu_capability()}, eager"}


def own(v: Arrays) -> dict[str, Tensor]:
    """The inputs in PyTorch's own memory, aligned as it likes."""
    return {key: torch.from_numpy(a).clone() for key, a in v.items()}


def shown(results: Mapping[str, Tensor]) -> Arrays:
    return {key: t.detach().numpy() for key, t in results.items()}


def gemm(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    t = own(v)
    a = t["a"].T if sizes["trans_a"] else t["a"]
    b = t["b"].T if sizes["trans_b"] else t["b"]
    c = torch.empty((sizes["m"], sizes["n"]))
    if "bias" not in t:
        return Prepared(lambda: torch.mm(a, b, out=c), lambda: shown({"c": c}))
    bias = t["bias"]
    return Prepared(lambda: torch.addmm(bias, a, b, out=c).relu_(), lambda: shown({"c": c}))


def batch_norm(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    t = own(v)
    x, gamma, beta = t["x"], t["gamma"], t["beta"]
    running_mean, running_var = torch.zeros_like(gamma), torch.ones_like(gamma)
    results: dict[str, Tensor] = {"running_mean": running_mean, "running_var": running_var}

    def call() -> None:
        results["y"] = torch.native_batch_norm(
            x, gamma, beta, running_mean, running_var, True, MOMENTUM, EPS
        )[0]

    return Prepared(call, lambda: shown(results))


def batch_norm_backward(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    t = own(v)
    x, dy, gamma = t["x"], t["dy"], t["gamma"]
    _, mean, rstd = torch.native_batch_norm(x, gamma, t["beta"], None, None, True, MOMENTUM, EPS)
    backward = torch.ops.aten.native_batch_norm_backward
    results: dict[str, Tensor] = {}

    def call() -> None:
        results["dx"], results["dgamma"], results["dbeta"] = backward(
            dy, x, gamma, None, None, mean, rstd, True, EPS, [True, True, True]
        )

    return Prepared(call, lambda: shown(results))


def batch_norm_both(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    t = own(v)
    x, dy, gamma, beta = t["x"], t["dy"], t["gamma"], t["beta"]
    running_mean, running_var = torch.zeros_like(gamma), torch.ones_like(gamma)
    backward = torch.ops.aten.native_batch_norm_backward
    results: dict[str, Tensor] = {}

    def call() -> None:
        results["y"], mean, rstd = torch.native_batch_norm(
            x, gamma, beta, running_mean, running_var, True, MOMENTUM, EPS
        )
        results["dx"], results["dgamma"], results["dbeta"] = backward(
            dy, x, gamma, running_mean, running_var, mean, rstd, True, EPS, [True, True, True]
        )

    return Prepared(call, lambda: shown(results))


def update(v: Arrays, sizes: Mapping[str, Any], make: Any) -> Prepared:
    """An optimizer's `step()` on parameters whose gradients stay as they are."""
    t = own(v)
    params = [t[f"p{i}"].requires_grad_() for i in range(sizes["arrays"])]
    for i, p in enumerate(params):
        p.grad = t[f"g{i}"]
    return Prepared(make(params).step, lambda: shown({f"p{i}": p for i, p in enumerate(params)}))


def adam(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return update(v, sizes, lambda params: torch.optim.Adam(params, lr=lr, fused=True))


def rmsprop(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return update(
        v, sizes, lambda params: torch.optim.RMSprop(params, lr=lr, alpha=0.9, eps=1e-8, foreach=True)
    )


def momentum(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return update(v, sizes, lambda params: torch.optim.SGD(params, lr=lr, momentum=0.9, fused=True))


def train_step(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    t = own({key: v[key] for key in ("X", "Y", "order")})
    layers: list[torch.nn.Module] = []
    for fan_in, fan_out in pairwise(WIDTHS[:-1]):
        layers += [
            torch.nn.Linear(fan_in, fan_out, bias=False),
            torch.nn.BatchNorm1d(fan_out),
            torch.nn.ReLU(),
        ]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(WIDTHS[-2], WIDTHS[-1]))
    with torch.no_grad():
        for p, initial in zip((p for p in model.parameters() if p.ndim == 2), weights_of(v), strict=True):
            p.copy_(torch.from_numpy(initial).T)
        model[-1].bias.zero_()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    x = torch.empty((BATCH, WIDTHS[0]))
    values: list[float] = []

    def call() -> None:
        rows = t["order"][len(values) % len(t["order"])]
        torch.index_select(t["X"], 0, rows, out=x)
        loss = torch.nn.functional.cross_entropy(model(x), t["Y"][rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        values.append(loss.item())

    return Prepared(call, lambda: {"losses": np.array(values)})


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
COMMANDS: dict[str, Any] = {}
