"""The one way of timing: processes take turns, and what counts is the ratio within a round.

A round is one turn of every library (A B C A B C ...); a turn is a few milliseconds of calls. The speed of a
shared machine moves by tens of percent within seconds, and both sides of a pair move together.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cases.case import Case, worst_error
from worker import Worker


class WrongResult(RuntimeError):
    """fastnn's result differs from the float64 expectation; nothing is timed then."""


@dataclass(frozen=True)
class Ratio:
    """How many times faster fastnn is than a peer: the median over pairs and their 10 to 90 % range."""

    median: float
    low: float
    high: float
    pairs: int


def ratio(peer: Sequence[float], own: Sequence[float]) -> Ratio:
    """Seconds of the peer over seconds of fastnn, pair by pair.

    >>> ratio([2.0, 4.0, 9.0], [1.0, 1.0, 1.0])
    Ratio(median=4.0, low=2.4, high=8.0, pairs=3)
    """
    if len(peer) != len(own) or len(own) == 0:
        raise ValueError(
            f"ratio: needs as many times of the peer as of fastnn, got {len(peer)} and {len(own)}"
        )
    low, median, high = np.percentile(np.divide(peer, own), [10, 50, 90])
    return Ratio(float(median), float(low), float(high), len(own))


@dataclass(frozen=True)
class Budget:
    """How long a case is timed: for `seconds`, but at least `least` and at most `most` rounds."""

    least: int
    most: int
    seconds: float = float("inf")

    def rounds(self) -> Iterator[int]:
        """The numbers of the rounds, until the time is over."""
        begin = time.perf_counter()
        for done in range(self.most):
            if done >= self.least and time.perf_counter() - begin > self.seconds:
                return
            yield done


def thread_turns(worker: Worker, threads: int, budget: Budget) -> tuple[list[float], list[float]]:
    """Seconds of the case that fastnn's worker has prepared, on all threads and on one, in turns.

    Both in one process: two processes differ by up to a tenth even where both use one thread.
    """
    found: dict[int, list[float]] = {threads: [], 1: []}
    for _ in budget.rounds():
        for n, seconds in found.items():
            worker.ask("set_threads", threads=n)
            worker.wait_until_quiet()
            seconds.append(worker.ask("turn")["seconds"])
    worker.ask("set_threads", threads=threads)
    return found[threads], found[1]


@dataclass(frozen=True)
class Timing:
    """Seconds a call of one case, by library and round, and the errors against the float64 expectation;
    `wrong` holds the errors of peers whose results are off: they are named, not timed."""

    seconds: dict[str, list[float]]
    errors: dict[str, float]
    wrong: dict[str, float]

    def quantiles(self, library: str) -> list[float]:
        """The 10 % quantile, the median and the 90 % quantile of a library's seconds."""
        return [float(q) for q in np.percentile(self.seconds[library], [10, 50, 90])]


def check(case: Case, worker: Worker, expectation: dict[str, np.ndarray]) -> float | None:
    """Prepares the case in the worker and compares its results; returns the error, or None where the library
    does not offer the operation."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.npz"
        if not worker.ask("prepare", case=case.name, results=str(path))["offered"]:
            return None
        with np.load(path) as results:
            return worst_error(dict(results), expectation)


def take_turns(case: Case, workers: Sequence[Worker], budget: Budget) -> Timing:
    """Checks every worker's results, then times rounds of turns of those who are right. The first worker is
    fastnn's; without it, the others are timed alone.

    Raises WrongResult where the first worker, fastnn's, is not.
    """
    expectation = case.expectation()
    found = {worker: check(case, worker, expectation) for worker in workers}
    del expectation
    offered = {worker: error for worker, error in found.items() if error is not None}
    errors = {worker: error for worker, error in offered.items() if error <= case.tolerance}
    wrong = {worker.peer.name: error for worker, error in offered.items() if worker not in errors}
    first = workers[0].peer
    if first.name in wrong:
        raise WrongResult(
            f"{case.name}: the result of {first.title} is off by {wrong[first.name]:.1e} of its largest "
            f"element (allowed: {case.tolerance:.1e}); nothing was timed"
        )
    seconds: dict[str, list[float]] = {worker.peer.name: [] for worker in errors}
    for worker in errors:
        worker.wait_until_quiet()
    for _ in budget.rounds():
        for worker in errors:
            seconds[worker.peer.name].append(worker.ask("turn")["seconds"])
            worker.wait_until_quiet()
    return Timing(seconds, {worker.peer.name: error for worker, error in errors.items()}, wrong)
