"""Schedules made of schedules."""

from __future__ import annotations

import copy
import math
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable

from fastnn._arrays import check_int, check_number
from fastnn.schedulers._base import Schedule, as_schedule, check_boundaries, check_list
from fastnn.schedulers._epochs import Epochs, later


class LinearWarmup(Schedule):
    """A straight line from start_lr to end_lr over `warmup_steps` updates, then `after`.

    t < warmup_steps: start_lr + (end_lr - start_lr) * t / warmup_steps; then after(t - warmup_steps).

    Parameters
    ----------
    after : a number or a schedule; it counts from the end of the warm-up, so its T_max leaves the warm-up out
        (as in Keras; the decay_steps of Optax's warm-up cosine include it)
    warmup_steps : updates of the warm-up, >= 0
    start_lr : rate at t = 0, >= 0
    end_lr : where the line ends, >= 0; None means after(0), so that the line meets `after`. A value that
        leaves a jump gives a UserWarning

    `PerEpoch(LinearWarmup(...))` warms up over epochs, `LinearWarmup(PerEpoch(...))` over updates. Metrics go
    on to a `ReduceOnPlateau` inside from the first epoch on, during the warm-up too.

    >>> from fastnn.schedulers import CosineAnnealingDecay
    >>> s = LinearWarmup(CosineAnnealingDecay(0.1, T_max=100), warmup_steps=4)
    >>> [round(s(t), 6) for t in (0, 1, 2, 4, 54, 104)]
    [0.0, 0.025, 0.05, 0.1, 0.05, 0.0]
    """

    def __init__(
        self,
        after: float | Callable[[int], float],
        warmup_steps: int,
        start_lr: float = 0.0,
        end_lr: float | None = None,
    ) -> None:
        self.after = as_schedule(after, "LinearWarmup: after")
        self.warmup_steps = check_int(warmup_steps, "LinearWarmup: warmup_steps", 0)
        self.start_lr = check_number(start_lr, "LinearWarmup: start_lr", 0)
        # Epoch 0 starts at t = 0 however long it is: an open PerEpoch need not be known yet.
        first = self.after.with_steps_per_epoch(1)(0)
        self.end_lr = first if end_lr is None else check_number(end_lr, "LinearWarmup: end_lr", 0)
        if self.warmup_steps > 0 and not math.isclose(self.end_lr, first, rel_tol=1e-9):
            warnings.warn(
                f"LinearWarmup: the rate jumps from {self.end_lr:g} to {first:g} where the warm-up ends; "
                "leave end_lr out to end the warm-up at after(0)",
                stacklevel=2,
            )

    def _rate(self, t: int) -> float:
        if t >= self.warmup_steps:
            return self.after(t - self.warmup_steps)
        return self.start_lr + (self.end_lr - self.start_lr) * t / self.warmup_steps

    def _parts(self) -> dict[str, Schedule]:
        return {"after": self.after}

    def with_steps_per_epoch(self, steps: int) -> LinearWarmup:
        filled = copy.copy(self)
        filled.after = self.after.with_steps_per_epoch(later(steps, self.warmup_steps))
        return filled


class Sequence(Schedule):
    """One schedule after the other: schedules[i](t - boundaries[i - 1]) from boundaries[i - 1] on.

    Parameters
    ----------
    schedules : numbers or schedules, one more than boundaries; each counts from its own boundary
    boundaries : numbers of updates, rising; t < boundary: the schedule before it

    PyTorch's `SequentialLR`, as a pure function of t. Metrics go on to every `ReduceOnPlateau` inside, from
    the first epoch on, before its turn too.

    >>> from fastnn.schedulers import StepDecay
    >>> s = Sequence([0.1, StepDecay(0.5, step_size=2)], boundaries=[3])
    >>> [round(s(t), 6) for t in range(7)]
    [0.1, 0.1, 0.1, 0.5, 0.5, 0.05, 0.05]
    """

    def __init__(
        self, schedules: Iterable[float | Callable[[int], float]], boundaries: Iterable[int]
    ) -> None:
        given = check_list(schedules, "Sequence: schedules")
        self.schedules = [as_schedule(s, f"Sequence: schedules[{i}]") for i, s in enumerate(given)]
        self.boundaries = check_boundaries(boundaries, "Sequence: boundaries")
        if len(self.schedules) != len(self.boundaries) + 1:
            raise ValueError(
                f"Sequence: schedules must hold one more than the {len(self.boundaries)} boundaries, "
                f"got {len(self.schedules)}"
            )

    def _rate(self, t: int) -> float:
        i = bisect_right(self.boundaries, t)
        return self.schedules[i](t - self.boundaries[i - 1] if i else t)

    def _parts(self) -> dict[str, Schedule]:
        return {str(i): schedule for i, schedule in enumerate(self.schedules)}

    def with_steps_per_epoch(self, steps: int) -> Sequence:
        begins = zip(self.schedules, (0, *self.boundaries), strict=True)
        filled = [schedule.with_steps_per_epoch(later(steps, begin)) for schedule, begin in begins]
        return Sequence(filled, self.boundaries)


class PerEpoch(Schedule):
    """schedule(t // steps_per_epoch): a schedule that counts epochs instead of updates.

    Parameters
    ----------
    schedule : a schedule (or a number)
    steps_per_epoch : updates of one epoch, >= 1. None follows `Trainer.fit`: the epochs that the trainer has
        finished, whatever their lengths, and the place in the running one. An own loop takes it from
        `data.steps_per_epoch`; a call without it, before any fit, raises ValueError

    PyTorch's and Paddle's schedules count calls of `step()`: the place of that call in the loop says what.

    >>> from fastnn.schedulers import StepDecay
    >>> s = PerEpoch(StepDecay(0.5, step_size=1), steps_per_epoch=63)
    >>> s(62), round(s(63), 6)
    (0.5, 0.05)
    """

    _epochs: Epochs | None = None  # those of the fit that runs, or of the last one

    def __init__(self, schedule: float | Callable[[int], float], steps_per_epoch: int | None = None) -> None:
        self.schedule = as_schedule(schedule, "PerEpoch: schedule")
        self.steps_per_epoch = (
            None if steps_per_epoch is None else check_int(steps_per_epoch, "PerEpoch: steps_per_epoch", 1)
        )

    def _rate(self, t: int) -> float:
        if self.steps_per_epoch is not None:
            return self.schedule(t // self.steps_per_epoch)
        if self._epochs is None:
            raise ValueError(
                "PerEpoch: steps_per_epoch is not known outside Trainer.fit; "
                "pass steps_per_epoch=data.steps_per_epoch(len(X), batch_size)"
            )
        return self.schedule(self._epochs.done(t))

    def _parts(self) -> dict[str, Schedule]:
        return {"schedule": self.schedule}

    def with_steps_per_epoch(self, steps: int) -> PerEpoch:
        filled = copy.copy(self)
        filled.schedule = self.schedule.with_steps_per_epoch(steps)
        if isinstance(steps, Epochs):
            filled._epochs = steps
        elif self.steps_per_epoch is None:
            filled.steps_per_epoch = steps
        return filled
