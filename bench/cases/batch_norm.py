"""Batch-norm on (rows, features): training forward (with running statistics) and backward."""

from __future__ import annotations

import numpy as np

from cases.case import Array, Arrays, Case, Stream, random_array

EPS = 1e-5
MOMENTUM = 0.1


def _inputs(rng: np.random.Generator, rows: int, c: int) -> Arrays:
    return {
        "x": random_array(rng, rows, c) + np.float32(0.5),
        "dy": random_array(rng, rows, c),
        "gamma": random_array(rng, c),
        "beta": random_array(rng, c),
    }


def _forward(v: Arrays) -> Arrays:
    mean, var = v["x"].mean(0), v["x"].var(0)
    y = v["gamma"] * (v["x"] - mean) / np.sqrt(var + EPS) + v["beta"]
    unbiased = var * len(y) / (len(y) - 1)
    return {
        "y": y,
        "running_mean": MOMENTUM * mean,
        "running_var": (1 - MOMENTUM) + MOMENTUM * unbiased,
    }


def _backward(v: Arrays) -> Arrays:
    rstd: Array = 1 / np.sqrt(v["x"].var(0) + EPS)
    xhat = (v["x"] - v["x"].mean(0)) * rstd
    dgamma, dbeta = (v["dy"] * xhat).sum(0), v["dy"].sum(0)
    dx = v["gamma"] * rstd * (v["dy"] - dbeta / len(xhat) - xhat * dgamma / len(xhat))
    return {"dx": dx, "dgamma": dgamma, "dbeta": dbeta}


def forward_case(rows: int, c: int) -> Case:
    """x is read at least once and y written once."""
    size = 4.0 * rows * c
    return Case(
        name=f"batch-norm forward ({rows}, {c})",
        group="batch_norm",
        op="batch_norm",
        arrays=lambda rng: _inputs(rng, rows, c),
        expected=_forward,
        tolerance=1e-6,
        stream=Stream("copy", read=size, written=size, footprint=2 * size),
    )


def backward_case(rows: int, c: int) -> Case:
    """dy and x are read at least once and dx written once."""
    size = 4.0 * rows * c
    return Case(
        name=f"batch-norm backward ({rows}, {c})",
        group="batch_norm",
        op="batch_norm_backward",
        arrays=lambda rng: _inputs(rng, rows, c),
        expected=_backward,
        tolerance=2e-6,
        stream=Stream("copy", read=2 * size, written=size, footprint=3 * size),
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
        tolerance=2e-6,
        stream=Stream("copy", read=3 * size, written=2 * size, footprint=4 * size),
        full_only=True,
    )


CASES = [case(rows, c) for rows, c in ((128, 512), (512, 2048)) for case in (forward_case, backward_case)]
CASES.append(both_case(512, 2048))
