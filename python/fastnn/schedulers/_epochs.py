"""Epochs: how many epochs are done after t updates, where they are not all of one length."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple


class _Pace(NamedTuple):
    """From `update` on, with `epoch` epochs done, so many `epochs` take so many `updates`."""

    update: int
    epoch: int
    epochs: int
    updates: int


class Epochs(int):
    """The number of updates of an epoch in the fit that runs, which also knows the epochs before it.

    What an open `PerEpoch` counts by: for epochs of one length it is t // length.
    """

    _paces: list[_Pace]
    _zero = 0, 1  # numerator and denominator of the epochs that were done at t = 0

    @classmethod
    def of(cls, steps: int, ends: Iterable[float], first: int) -> Epochs:
        """`ends`: updates done at the end of each finished epoch; `first`: where the next one begins.

        Updates that a rollback took back count no more.
        """
        points = [(0, 0)]
        ended = list(enumerate(map(int, ends), 1))
        for epoch, update in (*ended, (len(ended), first)):
            while points[-1][0] > update:
                points.pop()
            points.append((update, epoch))
        epochs = cls(steps)
        epochs._paces = [_Pace(*one, other[1] - one[1], other[0] - one[0]) for one, other in pairwise(points)]
        epochs._paces.append(_Pace(*points[-1], 1, steps))
        return epochs

    def after(self, updates: int) -> Epochs:
        """As counted by a schedule whose t = 0 is after so many updates."""
        epochs = type(self)(self)
        epochs._paces = [pace._replace(update=pace.update - updates) for pace in self._paces]
        epochs._zero = epochs._at(0)
        return epochs

    def _at(self, t: int) -> tuple[int, int]:
        """The epochs done after t updates, as numerator and denominator."""
        pace = self._paces[-1]
        if t < pace.update:
            pace = self._paces[bisect_right(self._paces, t, key=lambda one: one.update) - 1]
        return pace.epoch * pace.updates + (t - pace.update) * pace.epochs, pace.updates

    def done(self, t: int) -> int:
        """The whole epochs between t = 0 and t."""
        (top, below), (top_then, below_then) = self._at(t), self._zero
        return (top * below_then - top_then * below) // (below * below_then)

    def begins(self, epoch: int, update: int) -> bool:
        """Whether this many epochs are just done there."""
        top, below = self._at(update)
        return top == epoch * below


def later(steps: int, updates: int) -> int:
    """What `with_steps_per_epoch` hands on to a schedule that begins after so many updates."""
    return steps.after(updates) if isinstance(steps, Epochs) else steps
