"""The main job in a peer's worker: the same weights, batches and learning rates for every library."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from cases.case import Array
from job import Run, load


class Trainee(Protocol):
    """A network in training, with its optimizer."""

    def train(self, batches: Sequence[Array], rates: Sequence[float]) -> Sequence[float]:
        """A step on the rows of each batch; the losses before the updates."""

    def accuracy(self) -> float:
        """The share of the test digits it knows."""


def commands(make: Callable[[Run], Trainee]) -> dict[str, Callable[..., dict[str, Any]]]:
    """`start`, `epoch` and `first_losses` for the network that `make` builds."""
    running: list[tuple[Run, Trainee]] = []
    epochs_done = 0

    def start(folder: str, seed: int) -> dict[str, Any]:
        """Makes the run of this seed ready. The first one trains an epoch for nothing: compiling is counted
        apart from training, as the time to the first step."""
        nonlocal epochs_done
        run = load(folder, seed)
        if not running:
            first = make(run)
            first.train(run.batches(0), run.rates(0))
            first.accuracy()
        running[:] = [(run, make(run))]
        epochs_done = 0
        return {}

    def epoch() -> dict[str, Any]:
        """One timed epoch, then the accuracy on the test digits, untimed."""
        nonlocal epochs_done
        run, trainee = running[0]
        batches, rates = run.batches(epochs_done), run.rates(epochs_done)
        begin = time.perf_counter()
        losses = trainee.train(batches, rates)
        seconds = time.perf_counter() - begin
        epochs_done += 1
        loss = sum(float(x) * len(rows) for x, rows in zip(losses, batches, strict=True))
        return {"seconds": seconds, "loss": loss / len(run.X), "accuracy": trainee.accuracy()}

    def first_losses(folder: str, seed: int, steps: int) -> dict[str, Any]:
        """The losses of the first steps."""
        run = load(folder, seed)
        losses = make(run).train(run.batches(0)[:steps], run.rates(0)[:steps])
        return {"losses": [float(x) for x in losses]}

    return {"start": start, "epoch": epoch, "first_losses": first_losses}
