"""The main job in the NumPy worker: the same weights, the same batches, the same learning rates as fastnn."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import agreement
from job import BATCH, EPOCHS, RATE, Files
from numpy_mlp import Array, NumpyMLP


def cosine(lr: float, step: int, total: int) -> float:
    """Cosine annealing from lr to 0 over `total` updates; `step` counts from 0."""
    return 0.5 * lr * (1 + math.cos(math.pi * step / total))


class Job:
    """One training run; `epoch()` is what is timed."""

    def __init__(self, folder: str, seed: int) -> None:
        with np.load(Path(folder) / Files.DIGITS) as digits:
            self.X, self.Y, self.X_test, self.Y_test = (digits[key] for key in Files.DIGITS_KEYS)
        with np.load(Path(folder) / Files.run(seed)) as run:
            self.weights = [run[key] for key in Files.WEIGHT_KEYS]
            self.orders: Array = run["rows"]
        self.net = NumpyMLP(self.weights, batch=BATCH)
        self.steps_done = 0
        self.epochs_done = 0
        self.total_steps = EPOCHS * -(-len(self.X) // BATCH)

    def epoch(self) -> float:
        """Trains one epoch; returns its mean loss over rows."""
        order, total = self.orders[self.epochs_done], 0.0
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            lr = cosine(RATE, self.steps_done, self.total_steps)
            total += self.net.gather_step(self.X, self.Y, rows, lr) * len(rows)
            self.steps_done += 1
        self.epochs_done += 1
        return total / len(order)

    def first_batches(self, count: int) -> tuple[list[tuple[Array, Array]], list[float]]:
        """The first `count` batches of epoch 0 and their learning rates."""
        order = self.orders[0]
        rows = [order[start : start + BATCH] for start in range(0, count * BATCH, BATCH)]
        return [(self.X[r], self.Y[r]) for r in rows], [
            cosine(RATE, t, self.total_steps) for t in range(count)
        ]


_running: list[Job] = []


def start(folder: str, seed: int) -> dict[str, Any]:
    """Makes the run of this seed ready."""
    _running[:] = [Job(folder, seed)]
    return {}


def epoch() -> dict[str, Any]:
    """One timed epoch, then the accuracy on the test digits, untimed."""
    job = _running[0]
    begin = time.perf_counter()
    loss = job.epoch()
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "loss": loss, "accuracy": job.net.accuracy(job.X_test, job.Y_test)}


def compare(folder: str, seed: int, theirs: Sequence[float]) -> dict[str, Any]:
    """Compares the losses of the other side's first steps with the NumPy loop's."""
    job = Job(folder, seed)
    batches, rates = job.first_batches(len(theirs))
    found = agreement.follow(theirs, read_masks(folder, seed), job.weights, batches, rates)
    return {**asdict(found), "agrees": found.agrees}


def read_masks(folder: str, seed: int) -> list[Array]:
    """What the other side's ReLUs let through in the first steps, a (steps, rows, units) mask a layer."""
    with np.load(Path(folder) / Files.masks(seed)) as packed:
        return [np.unpackbits(packed[key], axis=-1).astype(bool) for key in packed]


COMMANDS = {"start": start, "epoch": epoch, "compare": compare}
