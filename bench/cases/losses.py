"""Losses with their gradient, and dropout."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cases.case import Array, Arrays, Case, Stream, random_array

COMMON: dict[str, Any] = {"group": "loss", "tolerance": 2e-6, "full_only": True}


def _copy(count: int, *, read: int) -> Stream:
    """`read` arrays of `count` floats are read and one is written."""
    return Stream("copy", read=4.0 * read * count, written=4.0 * count, footprint=4.0 * (read + 1) * count)


def softmax_case(rows: int, classes: int) -> Case:
    """Labels are class ids; the gradient is that of the mean over rows."""

    def arrays(rng: np.random.Generator) -> Arrays:
        return {"logits": random_array(rng, rows, classes), "labels": rng.integers(0, classes, rows)}

    def expected(v: Arrays) -> Arrays:
        shifted = v["logits"] - v["logits"].max(1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        at = np.arange(rows), v["labels"]
        gradient = np.exp(log_p)
        gradient[at] -= 1
        return {"value": np.array(-log_p[at].mean()), "gradient": gradient / rows}

    return Case(
        name=f"softmax cross-entropy {rows}x{classes}",
        op="softmax_cross_entropy",
        arrays=arrays,
        expected=expected,
        flops=5.0 * rows * classes,  # maximum, difference, exp, sum, quotient
        stream=_copy(rows * classes, read=1),
        **COMMON,
    )


def sigmoid_case(rows: int, outputs: int) -> Case:
    """Targets are 0 or 1; value and gradient are those of the mean over all elements."""

    def arrays(rng: np.random.Generator) -> Arrays:
        targets = rng.integers(0, 2, (rows, outputs)).astype(np.float32)
        return {"logits": random_array(rng, rows, outputs), "targets": targets}

    def expected(v: Arrays) -> Arrays:
        x, t = v["logits"], v["targets"]
        sigmoid = 0.5 * (1 + np.tanh(0.5 * x))
        return {"value": np.array((np.logaddexp(x, 0) - x * t).mean()), "gradient": (sigmoid - t) / x.size}

    return Case(
        name=f"sigmoid cross-entropy {rows}x{outputs}",
        op="sigmoid_cross_entropy",
        arrays=arrays,
        expected=expected,
        flops=11.0 * rows * outputs,
        stream=_copy(rows * outputs, read=2),
        **COMMON,
    )


def _mse(d: Array) -> tuple[Array, Array]:
    return (d * d).mean(), 2 * d / d.size


def _quadratic_cost(d: Array) -> tuple[Array, Array]:
    return (d * d).sum() / (2 * len(d)), d / len(d)


def _huber(d: Array) -> tuple[Array, Array]:
    size = np.abs(d)
    return np.where(size <= 1, 0.5 * d * d, size - 0.5).mean(), d.clip(-1, 1) / d.size


def distance_case(
    op: str, formula: Callable[[Array], tuple[Array, Array]], flops: float, rows: int, outputs: int
) -> Case:
    """Value and gradient of a function of pred - target; `flops` for each element."""

    def arrays(rng: np.random.Generator) -> Arrays:
        return {"pred": random_array(rng, rows, outputs), "target": random_array(rng, rows, outputs)}

    def expected(v: Arrays) -> Arrays:
        value, gradient = formula(v["pred"] - v["target"])
        return {"value": np.array(value), "gradient": gradient}

    return Case(
        name=f"{op.replace('_', ' ')} {rows}x{outputs}",
        op=op,
        arrays=arrays,
        expected=expected,
        flops=flops * rows * outputs,
        stream=_copy(rows * outputs, read=2),
        **COMMON,
    )


P = 0.5


def dropout_case(direction: str, shape: tuple[int, int]) -> Case:
    """Libraries draw different masks: right is what is 0 or x / (1 - p), and about 1 - p of it not 0.

    Results: "kept", the share that is not 0 (allowed: 5 standard deviations), and "wrong", how many of those
    are not x / (1 - p). Backward: the gradient through the mask that forward drew.
    """
    count = math.prod(shape)
    return Case(
        name=f"dropout {direction} {shape}",
        group="loss",
        op={"forward": "dropout", "backward": "dropout_backward"}[direction],
        arrays=lambda rng: {"x": random_array(rng, *shape), "dy": random_array(rng, *shape)},
        expected=lambda v: {"kept": np.array(1 - P), "wrong": np.array(0)},
        tolerance=5 * math.sqrt(P * (1 - P) / count) / (1 - P),
        flops=2.0 * count,
        stream=_copy(count, read=1),
        full_only=True,
    )


def dropout_results(x: Array, y: Array) -> Arrays:
    """What `dropout_case` compares, from one input and output."""
    kept = y != 0
    wrong = np.abs(y - x / (1 - P))[kept] > 1e-6 * np.abs(y[kept])
    return {"kept": np.array(kept.mean()), "wrong": np.array(np.count_nonzero(wrong))}


CASES = [
    softmax_case(512, 10),
    softmax_case(512, 1000),
    sigmoid_case(512, 100),
    distance_case("mse", _mse, 4.0, 512, 100),
    distance_case("quadratic_cost", _quadratic_cost, 4.0, 512, 100),
    distance_case("huber", _huber, 6.0, 512, 100),
    *(dropout_case(direction, (512, 1024)) for direction in ("forward", "backward")),
]
