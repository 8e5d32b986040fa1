"""The main job as data: the network, its training, and the files through which its processes share them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

WIDTHS = (784, 256, 128, 10)
BATCH = 128
EPOCHS = 10
ROWS = 8000  # training digits
RATE = 1e-3  # Adam; cosine to 0 over all updates
SEEDS = (0, 1, 2, 3, 4)
ACCURACY_EACH, ACCURACY_MEAN = 0.945, 0.95  # on the 2,000 test digits, for each seed and in the mean


def step_flops(rows: int, widths: Sequence[int] = WIDTHS) -> float:
    """Multiply-adds of all products of one step, times 2: forward, dW, and dX of all layers but the first."""
    products = (a * b * (2 if index == 0 else 3) for index, (a, b) in enumerate(pairwise(widths)))
    return 2.0 * rows * sum(products)


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
