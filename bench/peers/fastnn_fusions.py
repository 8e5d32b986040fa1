"""What the fastnn worker measures of its fusions: each beside the same work by kernels of their own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import fastnn
import numpy as np
from fastnn import losses, ops, optim

from cases.case import TIMING_RATE, Array, random_array
from peers.fastnn_conditions import Call, in_turns
from peers.fastnn_network import network

# A product, and rows and columns of what passes through batch-norm.
PRODUCTS = ((128, 784, 256), (32, 64, 64))
SHAPES = ((512, 2048), (128, 256))
# Widths, batch-norm or not, batch.
STEPS = (
    ((64, 32, 10), True, 32),
    ((64, 64, 64, 10), False, 32),
    ((784, 128, 10), False, 64),
    ((784, 512, 512, 10), True, 128),
)
LOWERED = (64,) * 20 + (10,)  # 20 Linear, ReLU between them


def fusions(rounds: int) -> dict[str, Any]:
    """Seconds of the fused call and of its parts, by name."""
    pairs: dict[str, tuple[Call, Call]] = {}
    for m, k, n in PRODUCTS:
        pairs[f"product {m}x{k}x{n}, bias and ReLU"] = product(m, k, n)
    for rows, cols in SHAPES:
        forward, backward = batch_norm(rows, cols)
        pairs[f"batch-norm ({rows}, {cols}) and ReLU"] = forward
        pairs[f"batch-norm ({rows}, {cols}) and ReLU, backward"] = backward
    for widths, with_batch_norm, batch in STEPS:
        name = "-".join(map(str, widths)) + " with BN" * with_batch_norm
        pairs[f"step {name}, batch {batch}"] = step(widths, with_batch_norm, batch)
    return {name: in_turns(calls, rounds) for name, calls in pairs.items()}


def product(m: int, k: int, n: int) -> tuple[Call, Call]:
    """One kernel against three passes: NumPy's addition in place stands for the one of a bias."""
    rng = np.random.default_rng(0)
    a, b, bias = random_array(rng, m, k), random_array(rng, k, n), random_array(rng, n)
    c = np.empty((m, n), np.float32)

    def parts() -> Array:
        ops.gemm(a, b, out=c)
        np.add(c, bias, out=c)
        return ops.activation(c, "relu", out=c)

    return lambda: ops.gemm(a, b, out=c, bias=bias, activation="relu"), parts


def batch_norm(rows: int, cols: int) -> tuple[tuple[Call, Call], tuple[Call, Call]]:
    """Forward and backward with ReLU in the last pass, against two kernels each."""
    rng = np.random.default_rng(0)
    x, dy = random_array(rng, rows, cols), random_array(rng, rows, cols)
    gamma, beta, mean, var = np.ones((4, cols), np.float32)
    y, dx, between = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    _, batch_mean, rstd = ops.batch_norm(x, gamma, beta, mean, var, activation="relu", out=y)

    def fused_forward() -> Array:
        return ops.batch_norm(x, gamma, beta, mean, var, activation="relu", out=y)[0]

    def forward() -> Array:
        ops.batch_norm(x, gamma, beta, mean, var, out=y)
        return ops.activation(y, "relu", out=y)

    def fused_backward() -> Array:
        out = (dx, None, None)
        return ops.batch_norm_backward(dy, x, gamma, batch_mean, rstd, activation="relu", y=y, out=out)[0]

    def backward() -> Array:
        ops.activation_backward(dy, y, "relu", out=between)
        return ops.batch_norm_backward(between, x, gamma, batch_mean, rstd, out=(dx, None, None))[0]

    return (fused_forward, forward), (fused_backward, backward)


def step(widths: Sequence[int], with_batch_norm: bool, batch: int) -> tuple[Call, Call]:
    """A step as a program against the plain loop: the same kernels, layer by layer."""
    rng = np.random.default_rng(0)
    x, y = random_array(rng, batch, widths[0]), rng.integers(0, widths[-1], batch)
    model = network(widths, batch_norm=with_batch_norm, seed=0)
    loss = losses.CrossEntropyLoss()
    optimizer = optim.Adam(model.parameters(), lr=TIMING_RATE)
    trainer = fastnn.Trainer(model, loss, optimizer)

    def parts() -> float:
        value, dpred = loss(model(x), y)
        model.backward(dpred, input_grad=False)
        optimizer.step()
        return value

    return lambda: trainer.step(x, y), parts


def lowering(rounds: int) -> dict[str, Any]:
    """Seconds by which the first step of a network of 20 Linear layers exceeds the shortest of three more."""
    rng = np.random.default_rng(0)
    x, y = random_array(rng, 32, LOWERED[0]), rng.integers(0, LOWERED[-1], 32)
    found = []
    for _ in range(rounds):
        model = network(LOWERED, batch_norm=False, seed=0)
        trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters()))
        seconds = []
        for _ in range(4):
            begin = time.perf_counter()
            trainer.step(x, y)
            seconds.append(time.perf_counter() - begin)
        found.append(seconds[0] - min(seconds[1:]))
    return {"seconds": found}


COMMANDS = {"fusions": fusions, "lowering": lowering}
