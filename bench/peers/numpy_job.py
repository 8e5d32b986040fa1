"""The main job in the NumPy worker: the same weights, the same batches, the same learning rates as fastnn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import agreement
from job import BATCH, Files, Run, load
from numpy_mlp import Array, NumpyMLP
from peers.job_commands import commands


class Job:
    """One training run."""

    def __init__(self, run: Run) -> None:
        self.run, self.net = run, NumpyMLP(run.weights, batch=BATCH)

    def train(self, batches: Sequence[Array], rates: Sequence[float]) -> list[float]:
        """A step on the rows of each batch."""
        X, Y, step = self.run.X, self.run.Y, self.net.gather_step
        return [step(X, Y, rows, lr) for rows, lr in zip(batches, rates, strict=True)]

    def accuracy(self) -> float:
        """The share of the test digits it knows."""
        return self.net.accuracy(self.run.X_test, self.run.Y_test)


def compare(folder: str, seed: int, theirs: Sequence[float]) -> dict[str, Any]:
    """Compares the losses of the other side's first steps with the NumPy loop's."""
    run, steps = load(folder, seed), len(theirs)
    batches = [(run.X[rows], run.Y[rows]) for rows in run.batches(0)[:steps]]
    found = agreement.follow(theirs, read_masks(folder, seed), run.weights, batches, run.rates(0)[:steps])
    return {**asdict(found), "agrees": found.agrees}


def read_masks(folder: str, seed: int) -> list[Array]:
    """What the other side's ReLUs let through in the first steps, a (steps, rows, units) mask a layer."""
    with np.load(Path(folder) / Files.masks(seed)) as packed:
        return [np.unpackbits(packed[key], axis=-1).astype(bool) for key in packed]


COMMANDS = {**commands(Job), "compare": compare}
