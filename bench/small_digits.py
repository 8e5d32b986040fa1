"""scikit-learn's own ground: fits of `MLPClassifier` and of fastnn on its digits of 8x8, at equal accuracy.

Both train 64-100-10 with ReLU, Adam at 1e-3 and batch 200 for the same epochs, from weights of their own; the
accuracies on the rows left out must agree in the mean over seeds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from numpy_mlp import Array
from timing import ratio
from worker import Worker

HIDDEN, CLASSES, BATCH, RATE, EPOCHS = 100, 10, 200, 1e-3, 100
TEST_ROWS = 397  # of 1,797
EQUAL = 0.005  # of the mean accuracies
FILE = "digits8x8.npz"


def share(folder: str, X: Array, Y: Array) -> None:
    """Writes the digits, shuffled once, for both processes."""
    order = np.random.default_rng(0).permutation(len(X))
    np.savez(Path(folder) / FILE, X=(X[order] / 16).astype(np.float32), Y=Y[order])


def parts(folder: str) -> tuple[Array, Array, Array, Array]:
    """X, Y, and those of the test."""
    with np.load(Path(folder) / FILE) as digits:
        X, Y = digits["X"], digits["Y"]
    return X[:-TEST_ROWS], Y[:-TEST_ROWS], X[-TEST_ROWS:], Y[-TEST_ROWS:]


def run(fastnn: Worker, sklearn: Worker, seeds: Sequence[int]) -> dict[str, Any]:
    """A fit of each in turn, for every seed."""
    found: dict[str, list[dict[str, float]]] = {worker.peer.name: [] for worker in (fastnn, sklearn)}
    with tempfile.TemporaryDirectory() as folder:
        sklearn.ask("share_small_digits", folder=folder)
        for seed in seeds:
            for worker in (fastnn, sklearn):
                worker.wait_until_quiet()
                found[worker.peer.name].append(worker.ask("small_digits", folder=folder, seed=seed))
    times = {name: [fit["seconds"] for fit in fits] for name, fits in found.items()}
    means = {name: fmean(fit["accuracy"] for fit in fits) for name, fits in found.items()}
    own, other = fastnn.peer.name, sklearn.peer.name
    return {
        "fits": found,
        "seconds": {name: median(seconds) for name, seconds in times.items()},
        "accuracy": means,
        "equal": abs(means[own] - means[other]) <= EQUAL,
        "ratio": asdict(ratio(times[other], times[own])),
    }


def lines(found: dict[str, Any], titles: dict[str, str]) -> list[str]:
    """The comparison for the terminal."""
    text = ["", f"Digits of 8x8: fits of 64-{HIDDEN}-{CLASSES}, batch {BATCH}, {EPOCHS} epochs, Adam"]
    for name, seconds in found["seconds"].items():
        accuracy = found["accuracy"][name]
        text.append(f"  {titles[name]:<18}{seconds:8.3f} s   mean accuracy {accuracy:.2%}")
    r = found["ratio"]
    text.append(f"  fastnn is {r['median']:.2f} times as fast ({r['low']:.2f} to {r['high']:.2f})")
    if not found["equal"]:
        text.append(f"  PROBLEM: the accuracies differ by more than {EQUAL:.1%}")
    return text
