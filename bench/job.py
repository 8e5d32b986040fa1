"""The main job as data: the network, its training, and the files through which its processes share them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from numpy_mlp import Array

WIDTHS = (784, 256, 128, 10)
BATCH = 128
EPOCHS = 10
ROWS = 8000  # training digits
RATE = 1e-3  # Adam; cosine to 0 over all updates
SEEDS = (0, 1, 2, 3, 4)  # of a quick run
MORE_SEEDS = tuple(range(10))  # where every library trains
ACCURACY_EACH, ACCURACY_MEAN = 0.945, 0.95  # on the 2,000 test digits, for each seed and in the mean


def step_flops(rows: int, widths: Sequence[int] = WIDTHS) -> float:
    """Multiply-adds of all products of one step, times 2: forward, dW, and dX of all layers but the first."""
    products = (a * b * (2 if index == 0 else 3) for index, (a, b) in enumerate(pairwise(widths)))
    return 2.0 * rows * sum(products)


def cosine(lr: float, step: int, total: int) -> float:
    """Cosine annealing from lr to 0 over `total` updates; `step` counts from 0."""
    return 0.5 * lr * (1 + math.cos(math.pi * step / total))


class Files:
    """Names and keys of the files that fastnn's worker writes and the others read."""

    DIGITS = "digits.npz"
    DIGITS_KEYS = ("X", "Y", "X_test", "Y_test")
    WEIGHT_KEYS = tuple(f"w{i}" for i in range(len(WIDTHS) - 1))

    @staticmethod
    def run(seed: int) -> str:
        """Initial weights and, under "rows", the order of the rows of every epoch."""
        return f"run-{seed}.npz"

    @staticmethod
    def masks(seed: int) -> str:
        """Which units the ReLUs let through in the first steps, packed bits, an array a layer."""
        return f"masks-{seed}.npz"


@dataclass(frozen=True)
class Run:
    """One run of a seed as the other libraries read it: digits, initial weights, the rows of every epoch."""

    X: Array
    Y: Array
    X_test: Array
    Y_test: Array
    weights: list[Array]
    orders: Array

    def batches(self, epoch: int) -> list[Array]:
        """The rows of every batch of an epoch; the last is shorter."""
        order = self.orders[epoch]
        return [order[start : start + BATCH] for start in range(0, len(order), BATCH)]

    def rates(self, epoch: int) -> list[float]:
        """The learning rate of every batch of an epoch."""
        steps = -(-self.orders.shape[1] // BATCH)
        return [cosine(RATE, epoch * steps + i, EPOCHS * steps) for i in range(steps)]


def load(folder: str, seed: int) -> Run:
    """The run of a seed from the files that fastnn's worker wrote."""
    with np.load(Path(folder) / Files.DIGITS) as digits, np.load(Path(folder) / Files.run(seed)) as run:
        return Run(
            *(digits[key] for key in Files.DIGITS_KEYS),
            weights=[run[key] for key in Files.WEIGHT_KEYS],
            orders=run["rows"],
        )
