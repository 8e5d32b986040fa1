"""One training step of the main job's network, on random rows of an array no cache holds."""

from __future__ import annotations

import numpy as np

from cases.case import CHECK_RATE, Array, Arrays, Case, random_array
from job import BATCH, WIDTHS, step_flops
from numpy_mlp import NumpyMLP

ROWS = 22_000  # 69 MB of float32
CHECK_STEPS = 3


def arrays(rng: np.random.Generator) -> Arrays:
    """X, labels, the order of the rows (whole batches only) and the initial weights."""
    limits = [(6 / a) ** 0.5 for a in WIDTHS[:-1]]
    weights = {
        f"w{i}": rng.uniform(-limit, limit, (WIDTHS[i], WIDTHS[i + 1])).astype(np.float32)
        for i, limit in enumerate(limits)
    }
    order = rng.permutation(ROWS)[: ROWS // BATCH * BATCH].reshape(-1, BATCH)
    return {
        "X": random_array(rng, ROWS, WIDTHS[0]),
        "Y": rng.integers(0, WIDTHS[-1], ROWS),
        "order": order,
        **weights,
    }


def weights_of(v: Arrays) -> list[Array]:
    """The initial weights of the Linear layers, in order."""
    return [v[f"w{i}"] for i in range(len(WIDTHS) - 1)]


def expected(v: Arrays) -> Arrays:
    """The losses of the first steps, from the NumPy loop in float64."""
    net = NumpyMLP(weights_of(v), batch=BATCH, dtype=np.float64)
    losses = [net.gather_step(v["X"], v["Y"], rows, CHECK_RATE) for rows in v["order"][:CHECK_STEPS]]
    return {"losses": np.array(losses)}


CASES = [
    Case(
        name=f"training step {'-'.join(map(str, WIDTHS))}, batch {BATCH}",
        group="step",
        op="train_step",
        arrays=arrays,
        expected=expected,
        tolerance=1e-5,
        flops=step_flops(BATCH),
        check_calls=CHECK_STEPS,
        full_only=True,
    )
]
