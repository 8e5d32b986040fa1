"""One training step with Adam of whole networks, on random rows of an array that no cache holds, and of one
network over many batch sizes and widths.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cases.case import CHECK_RATE, Array, Arrays, Case, random_array
from job import BATCH, WIDTHS, step_flops
from numpy_mlp import NumpyMLP

DATA_BYTES = 64 << 20  # at least; float32 rows
CHECK_STEPS = 3
# Wide layers add up many first Adam steps of full size: rounding alone moved the losses of 784-1024-1024-10
# by 7e-6, a learning rate 1 % off by 9e-3 (in 64-32-10 by 2.6e-5).
WIDE = 512


def arrays(rng: np.random.Generator, widths: tuple[int, ...], batch: int) -> Arrays:
    """X, labels, the order of the rows (whole batches only) and the initial weights."""
    limits = [(6 / a) ** 0.5 for a in widths[:-1]]
    weights = {
        f"w{i}": rng.uniform(-limit, limit, (widths[i], widths[i + 1])).astype(np.float32)
        for i, limit in enumerate(limits)
    }
    batches = -(-DATA_BYTES // (4 * widths[0] * batch))
    return {
        "X": random_array(rng, batches * batch, widths[0]),
        "Y": rng.integers(0, widths[-1], batches * batch),
        "order": rng.permutation(batches * batch).reshape(batches, batch),
        **weights,
    }


def weights_of(v: Arrays) -> list[Array]:
    """The initial weights of the Linear layers, in order."""
    return [v[f"w{i}"] for i in range(sum(key.startswith("w") for key in v))]


def numpy_mlp(v: Arrays, sizes: Mapping[str, Any], dtype: Any = np.float32) -> NumpyMLP:
    """The case's network as the NumPy loop."""
    return NumpyMLP(weights_of(v), batch=sizes["batch"], batch_norm=sizes["batch_norm"], dtype=dtype)


def step_case(widths: tuple[int, ...], batch: int, *, batch_norm: bool = False, group: str = "step") -> Case:
    """Forward, softmax cross-entropy, backward and Adam."""
    sizes = {"widths": widths, "batch": batch, "batch_norm": batch_norm}

    def expected(v: Arrays) -> Arrays:
        """The losses of the first steps, from the NumPy loop in float64."""
        net = numpy_mlp(v, sizes, np.float64)
        losses = [net.gather_step(v["X"], v["Y"], rows, CHECK_RATE) for rows in v["order"][:CHECK_STEPS]]
        return {"losses": np.array(losses)}

    norm = " with BN" * batch_norm
    return Case(
        name=f"{group} {'-'.join(map(str, widths))}{norm}, batch {batch}",
        group=group,
        op="train_step" if group == "step" else "swept_step",
        arrays=lambda rng: arrays(rng, widths, batch),
        expected=expected,
        tolerance=1e-5 if max(widths[1:]) < WIDE else 5e-5,
        flops=step_flops(batch, widths),
        sizes=sizes,
        check_steps=CHECK_STEPS,
        full_only=True,
    )


# The sweeps change one of these and keep the others.
SWEEP_WIDTH, SWEEP_BATCH = 512, 128
BATCHES = [2**power for power in range(3, 13)]  # 8 to 4096
SWEPT_WIDTHS = [2**power for power in range(4, 13)]  # 16 to 4096


def swept(width: int, batch: int) -> Case:
    """784-width-width-10."""
    return step_case((784, width, width, 10), batch, group="sweep")


CASES = [
    step_case((64, 32, 10), 32, batch_norm=True),
    step_case((64, 64, 64, 10), 32),
    step_case((17, 64, 64, 6), 64),
    step_case((64, 100, 10), 200),
    step_case((784, 128, 10), 64),
    step_case(WIDTHS, BATCH, batch_norm=True),
    step_case((784, 512, 512, 10), 128, batch_norm=True),
    step_case((784, 2048, 2048, 10), 512),
    *(swept(SWEEP_WIDTH, batch) for batch in BATCHES),
    *(swept(width, SWEEP_BATCH) for width in SWEPT_WIDTHS if width != SWEEP_WIDTH),
]
