"""Batch-norm on (rows, features), alone and with ReLU: training forward (with running statistics), backward.

Backward with ReLU is given y, the result of forward, as layers keep it: rounding near zero then decides in no
library which units were let through.
"""

from __future__ import annotations

import numpy as np

from cases.case import Array, Arrays, Case, Stream, random_array

EPS = 1e-5
L2 = 1 << 20  # bytes
MOMENTUM = 0.1


def _tolerance(rows: int) -> float:
    """Float32 sums over many rows lose more in most libraries (PyTorch, 50,176 rows: 5e-6)."""
    return max(1e-6, 4e-10 * rows)


def _passes_forward(rows: int) -> float:
    """Bytes an element that the targets count: x read and y written; x twice where not even the rows of one
    line of columns stay in L2."""
    return 8.0 if 64 * rows <= L2 else 12.0


def _inputs(rng: np.random.Generator, rows: int, c: int) -> Arrays:
    return {
        "x": random_array(rng, rows, c) + np.float32(0.5),
        "dy": random_array(rng, rows, c),
        "gamma": random_array(rng, c),
        "beta": random_array(rng, c),
    }


def _inputs_after_relu(rng: np.random.Generator, rows: int, c: int) -> Arrays:
    v = _inputs(rng, rows, c)
    y = np.maximum(_forward({key: a.astype(np.float64) for key, a in v.items()})["y"], 0)
    return {**v, "y": y.astype(np.float32)}


def _forward(v: Arrays) -> Arrays:
    mean, var = v["x"].mean(0), v["x"].var(0)
    y = v["gamma"] * (v["x"] - mean) / np.sqrt(var + EPS) + v["beta"]
    unbiased = var * len(y) / (len(y) - 1)
    return {
        "y": y,
        "running_mean": MOMENTUM * mean,
        "running_var": (1 - MOMENTUM) + MOMENTUM * unbiased,
    }


def _forward_relu(v: Arrays) -> Arrays:
    found = _forward(v)
    return {**found, "y": np.maximum(found["y"], 0)}


def _backward(v: Arrays) -> Arrays:
    dy = v["dy"] * (v["y"] > 0) if "y" in v else v["dy"]
    rstd: Array = 1 / np.sqrt(v["x"].var(0) + EPS)
    xhat = (v["x"] - v["x"].mean(0)) * rstd
    dgamma, dbeta = (dy * xhat).sum(0), dy.sum(0)
    dx = v["gamma"] * rstd * (dy - dbeta / len(xhat) - xhat * dgamma / len(xhat))
    return {"dx": dx, "dgamma": dgamma, "dbeta": dbeta}


def forward_case(rows: int, c: int, *, relu: bool = False, full_only: bool = False) -> Case:
    """x is read at least once and y written once."""
    size = 4.0 * rows * c
    return Case(
        name=f"batch-norm{' + ReLU' * relu} forward ({rows}, {c})",
        group="batch_norm",
        op="batch_norm",
        arrays=lambda rng: _inputs(rng, rows, c),
        expected=_forward_relu if relu else _forward,
        tolerance=_tolerance(rows),
        # The mean: 1 an element; the variance: 3; scale and shift: 2.
        flops=(6.0 + relu) * rows * c,
        sizes={"relu": relu},
        stream=Stream("copy", size, size, footprint=2 * size, yardstick=_passes_forward(rows) * rows * c),
        full_only=full_only,
    )


def backward_case(rows: int, c: int, *, relu: bool = False, full_only: bool = False) -> Case:
    """dy and x (and y, with ReLU) are read at least once and dx written once; the targets count dy and x
    twice."""
    size = 4.0 * rows * c
    inputs = _inputs_after_relu if relu else _inputs
    return Case(
        name=f"batch-norm{' + ReLU' * relu} backward ({rows}, {c})",
        group="batch_norm",
        op="batch_norm_backward",
        arrays=lambda rng: inputs(rng, rows, c),
        expected=_backward,
        tolerance=2 * _tolerance(rows),
        # x to xhat: 2 an element; the two sums: 3; dx: 5.
        flops=(10.0 + relu) * rows * c,
        sizes={"relu": relu},
        stream=Stream(
            "copy", (2 + relu) * size, size, footprint=(3 + relu) * size, yardstick=20.0 * rows * c
        ),
        full_only=full_only,
    )


def both_case(rows: int, c: int) -> Case:
    """Forward, then backward with what forward left."""
    size = 4.0 * rows * c
    return Case(
        name=f"batch-norm forward + backward ({rows}, {c})",
        group="batch_norm",
        op="batch_norm_both",
        arrays=lambda rng: _inputs(rng, rows, c),
        expected=lambda v: {"y": _forward(v)["y"], **_backward(v)},
        tolerance=2 * _tolerance(rows),
        flops=16.0 * rows * c,
        stream=Stream("copy", read=3 * size, written=2 * size, footprint=4 * size),
        full_only=True,
    )


CASES = [case(rows, c) for rows, c in ((128, 512), (512, 2048)) for case in (forward_case, backward_case)]
CASES += [
    case(rows, c, relu=True, full_only=True)
    for rows, c in ((128, 512), (512, 2048))
    for case in (forward_case, backward_case)
]
CASES += [both_case(512, 2048)]
for rows, cols in ((50176, 64), (6272, 256)):
    CASES += [case(rows, cols, full_only=True) for case in (forward_case, backward_case)]
