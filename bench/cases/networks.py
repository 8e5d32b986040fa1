"""Training with Adam of whole networks, on random rows of an array that no cache holds: fits, single steps of
one network over many batch sizes and widths, and many networks at once.
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
BFLOAT16_TOLERANCE = 0.03  # products of bfloat16: 8 bits
MANY = 8  # networks trained at once


def arrays(rng: np.random.Generator, sizes: Mapping[str, Any], data_bytes: int = DATA_BYTES) -> Arrays:
    """X, labels (or the targets of the squared error), the order of the rows (whole batches only) and the
    initial weights, a stack of them where there are many networks."""
    widths, batch, networks = sizes["widths"], sizes["batch"], sizes.get("networks")
    limits = [(6 / a) ** 0.5 for a in widths[:-1]]
    stack = () if networks is None else (networks,)
    weights = {
        f"w{i}": rng.uniform(-limit, limit, (*stack, widths[i], widths[i + 1])).astype(np.float32)
        for i, limit in enumerate(limits)
    }
    batches = -(-data_bytes // (4 * widths[0] * batch))
    rows = batches * batch
    return {
        "X": random_array(rng, rows, widths[0]),
        "Y": random_array(rng, rows, widths[-1]) if sizes["mse"] else rng.integers(0, widths[-1], rows),
        "order": rng.permutation(rows).reshape(batches, batch),
        **weights,
    }


def weights_of(v: Arrays) -> list[Array]:
    """The initial weights of the Linear layers, in order."""
    return [v[f"w{i}"] for i in range(sum(key.startswith("w") for key in v))]


def numpy_mlp(v: Arrays, sizes: Mapping[str, Any], dtype: Any = np.float32) -> NumpyMLP:
    """The case's network as the NumPy loop."""
    batch_norm, mse = sizes["batch_norm"], sizes["mse"]
    return NumpyMLP(weights_of(v), batch=sizes["batch"], batch_norm=batch_norm, mse=mse, dtype=dtype)


def one_of_many(v: Arrays, network: int) -> Arrays:
    """The arrays of one network of a case with many."""
    return {key: a[network] if key.startswith("w") else a for key, a in v.items()}


def step_case(
    widths: tuple[int, ...],
    batch: int,
    *,
    batch_norm: bool = False,
    mse: bool = False,
    bfloat16: bool = False,
    group: str = "step",
    op: str = "train_step",
    data_bytes: int = DATA_BYTES,
) -> Case:
    """Forward, softmax cross-entropy or mean squared error, backward and Adam."""
    sizes = {"widths": widths, "batch": batch, "batch_norm": batch_norm, "mse": mse}

    def expected(v: Arrays) -> Arrays:
        """The losses of the first steps, from the NumPy loop in float64."""
        net = numpy_mlp(v, sizes, np.float64)
        losses = [net.gather_step(v["X"], v["Y"], rows, CHECK_RATE) for rows in v["order"][:CHECK_STEPS]]
        return {"losses": np.array(losses)}

    kind = " with BN" * batch_norm + " with MSE" * mse + " in bf16" * bfloat16
    tolerance = 1e-5 if max(widths[1:]) < WIDE else 5e-5
    return Case(
        name=f"{group} {'-'.join(map(str, widths))}{kind}, batch {batch}",
        group=group,
        op=op,
        arrays=lambda rng: arrays(rng, sizes, data_bytes),
        expected=expected,
        tolerance=BFLOAT16_TOLERANCE if bfloat16 else tolerance,
        bfloat16=bfloat16,
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
    return step_case((784, width, width, 10), batch, group="sweep", op="swept_step")


def many_case(widths: tuple[int, ...], batch: int, data_bytes: int = DATA_BYTES) -> Case:
    """A step of `MANY` networks with weights of their own, on the same batches."""
    sizes = {"widths": widths, "batch": batch, "batch_norm": False, "mse": False, "networks": MANY}

    def expected(v: Arrays) -> Arrays:
        """The mean loss of each network over the first steps: all that a fit without callbacks tells."""
        losses = []
        for k in range(MANY):
            net = numpy_mlp(one_of_many(v, k), sizes, np.float64)
            first = v["order"][:CHECK_STEPS]
            losses.append([net.gather_step(v["X"], v["Y"], rows, CHECK_RATE) for rows in first])
        return {"mean_losses": np.mean(losses, 1)}

    return Case(
        name=f"{MANY} networks {'-'.join(map(str, widths))}, batch {batch}",
        group="many",
        op="many_steps",
        arrays=lambda rng: arrays(rng, sizes, data_bytes),
        expected=expected,
        tolerance=1e-5,
        flops=MANY * step_flops(batch, widths),
        sizes=sizes,
        check_steps=CHECK_STEPS,
        full_only=True,
    )


# Few rows: what a new process needs until its first step is done.
FIRST_STEP = step_case((64, 64, 64, 10), 32, group="first step", op="swept_step", data_bytes=1 << 16)

CASES = [
    step_case((64, 32, 10), 32, batch_norm=True),
    step_case((64, 64, 64, 10), 32),
    step_case((17, 64, 64, 6), 64, mse=True),
    step_case((64, 100, 10), 200),
    step_case((784, 128, 10), 64),
    step_case(WIDTHS, BATCH, batch_norm=True),
    step_case((784, 512, 512, 10), 128, batch_norm=True),
    step_case((784, 2048, 2048, 10), 512),
    step_case((784, 2048, 2048, 10), 512, bfloat16=True, op="train_step_bf16"),
    many_case((64, 64, 10), 32),
    *(swept(SWEEP_WIDTH, batch) for batch in BATCHES),
    *(swept(width, SWEEP_BATCH) for width in SWEPT_WIDTHS if width != SWEEP_WIDTH),
]
