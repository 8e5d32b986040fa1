"""Learning-rate schedules: pure functions of the number of updates done so far.

`s(t) -> float`, and the first update uses `s(0)`. Every schedule is a closed form in t, never a recursion on
the rate before, so training can resume at any t. Wherever a schedule is asked for, any function of t will do
and a number stands for a constant rate.
"""

from __future__ import annotations

import copy
import math
import numbers
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from fastnn._arrays import check_int, check_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CosineAnnealingDecay", "LinearWarmup", "PerEpoch", "Schedule", "StepDecay"]


class Schedule(ABC):
    """Base of all schedules: a subclass gives `_rate(t)`, this class checks t and draws.

    >>> class Halve(Schedule):
    ...     def _rate(self, t):
    ...         return 0.5**t
    >>> Halve()(3)
    0.125
    """

    def __call__(self, t: int) -> float:
        """The rate of the update that follows t updates (t >= 0)."""
        return self._rate(check_int(t, f"{type(self).__name__}: t", 0))

    @abstractmethod
    def _rate(self, t: int) -> float: ...

    def with_steps_per_epoch(self, steps: int) -> Schedule:
        """This schedule with every `PerEpoch` in it that leaves steps_per_epoch open set to `steps`."""
        return self

    def plot(self, steps: int, *, ax: Axes | None = None) -> Axes:
        """Draw the rates of the first `steps` updates, into `ax` or a new figure; returns the axes.

        Needs matplotlib, which is imported here and nowhere else.
        """
        steps = check_int(steps, f"{type(self).__name__}.plot: steps", 1)
        if ax is None:
            try:
                import matplotlib.pyplot as plt
            except ImportError as error:
                raise ImportError(
                    f"{type(self).__name__}.plot needs matplotlib; install it with pip install matplotlib"
                ) from error
            _, ax = plt.subplots()
        ax.plot([self(t) for t in range(steps)], label=repr(self))
        ax.set_xlabel("updates done")
        ax.set_ylabel("learning rate")
        return ax

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({fields})"


class _Constant(Schedule):
    """The same rate for ever: what a plain number stands for."""

    def __init__(self, lr: float) -> None:
        self.lr = lr

    def _rate(self, t: int) -> float:
        return self.lr

    def __repr__(self) -> str:
        return repr(self.lr)


class _Function(Schedule):
    """A function of t that is not a `Schedule` itself."""

    def __init__(self, function: Callable[[int], float]) -> None:
        self.function = function

    def _rate(self, t: int) -> float:
        return float(self.function(t))

    def __repr__(self) -> str:
        return repr(self.function)


def as_schedule(rate: float | Callable[[int], float], where: str = "as_schedule: rate") -> Schedule:
    """`rate` as a `Schedule`: a schedule comes back as it is, a number or a function of t is wrapped.

    `where` names function and argument in error texts. Raises TypeError for anything else, ValueError for a
    number that is negative or not finite.

    >>> as_schedule(0.1)(1000)
    0.1
    >>> as_schedule(lambda t: 0.95**t)(1)
    0.95
    """
    if isinstance(rate, Schedule):
        return rate
    if callable(rate):
        return _Function(rate)
    if not isinstance(rate, numbers.Real):
        raise TypeError(
            f"{where} must be a number or a schedule (a function of the number of updates done), "
            f"got {type(rate).__name__}"
        )
    return _Constant(check_number(rate, where, 0))


class StepDecay(Schedule):
    """lr * gamma ** (t // step_size): the rate is cut every `step_size` updates.

    Parameters
    ----------
    lr : rate of the first `step_size` updates, >= 0
    step_size : updates between two cuts, >= 1 (epochs inside a `PerEpoch`)
    gamma : factor of each cut, 0 < gamma <= 1

    The closed form of PyTorch's `StepLR` and Paddle's `StepDecay`.

    >>> s = StepDecay(0.5, step_size=30)
    >>> [round(s(t), 6) for t in (0, 29, 30, 60)]
    [0.5, 0.5, 0.05, 0.005]
    """

    def __init__(self, lr: float, step_size: int, gamma: float = 0.1) -> None:
        self.lr = check_number(lr, "StepDecay: lr", 0)
        self.step_size = check_int(step_size, "StepDecay: step_size", 1)
        self.gamma = check_number(gamma, "StepDecay: gamma", 0)
        if not 0 < self.gamma <= 1:
            raise ValueError(f"StepDecay: gamma must be above 0 and at most 1, got {gamma}")

    def _rate(self, t: int) -> float:
        return self.lr * self.gamma ** (t // self.step_size)


class CosineAnnealingDecay(Schedule):
    """eta_min + (lr - eta_min) * (1 + cos(pi * t / T_max)) / 2: half a cosine from lr down to eta_min.

    Parameters
    ----------
    lr : rate at t = 0, >= 0
    T_max : updates until eta_min is reached, >= 1 (epochs inside a `PerEpoch`)
    eta_min : the floor, >= 0
    after : what follows T_max. "reflect": the rate rises again, period 2 * T_max (PyTorch, Paddle). "hold":
        it stays at eta_min (Keras, Optax, MLX)

    Loshchilov & Hutter, "SGDR", 2017, equation 5, without restarts. PyTorch and Paddle compute each rate from
    the one before, which goes wrong on resuming; here any t gives the right rate.

    >>> s = CosineAnnealingDecay(1.0, T_max=4, eta_min=0.1)
    >>> [round(s(t), 6) for t in range(7)]
    [1.0, 0.868198, 0.55, 0.231802, 0.1, 0.231802, 0.55]
    """

    def __init__(
        self, lr: float, T_max: int, eta_min: float = 0.0, after: Literal["reflect", "hold"] = "reflect"
    ) -> None:
        self.lr = check_number(lr, "CosineAnnealingDecay: lr", 0)
        self.T_max = check_int(T_max, "CosineAnnealingDecay: T_max", 1)
        self.eta_min = check_number(eta_min, "CosineAnnealingDecay: eta_min", 0)
        if after not in ("reflect", "hold"):
            raise ValueError(f'CosineAnnealingDecay: after must be "reflect" or "hold", got {after!r}')
        self.after = after

    def _rate(self, t: int) -> float:
        # Whole periods are taken off first, so that a far t has exactly the rate of the first period.
        t = min(t, self.T_max) if self.after == "hold" else t % (2 * self.T_max)
        return self.eta_min + (self.lr - self.eta_min) * (1 + math.cos(math.pi * t / self.T_max)) / 2


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

    `PerEpoch(LinearWarmup(...))` warms up over epochs, `LinearWarmup(PerEpoch(...))` over updates.

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

    def with_steps_per_epoch(self, steps: int) -> LinearWarmup:
        filled = copy.copy(self)
        filled.after = self.after.with_steps_per_epoch(steps)
        return filled


class PerEpoch(Schedule):
    """schedule(t // steps_per_epoch): a schedule that counts epochs instead of updates.

    Parameters
    ----------
    schedule : a schedule (or a number)
    steps_per_epoch : updates of one epoch, >= 1. None leaves it to `Trainer.fit`, which knows it; an own loop
        takes it from `data.steps_per_epoch`, and a call without it raises ValueError

    >>> s = PerEpoch(StepDecay(0.5, step_size=1), steps_per_epoch=63)
    >>> s(62), round(s(63), 6)
    (0.5, 0.05)
    """

    def __init__(self, schedule: float | Callable[[int], float], steps_per_epoch: int | None = None) -> None:
        self.schedule = as_schedule(schedule, "PerEpoch: schedule")
        self.steps_per_epoch = (
            None if steps_per_epoch is None else check_int(steps_per_epoch, "PerEpoch: steps_per_epoch", 1)
        )

    def _rate(self, t: int) -> float:
        if self.steps_per_epoch is None:
            raise ValueError(
                "PerEpoch: steps_per_epoch is not known outside Trainer.fit; "
                "pass steps_per_epoch=data.steps_per_epoch(len(X), batch_size)"
            )
        return self.schedule(t // self.steps_per_epoch)

    def with_steps_per_epoch(self, steps: int) -> PerEpoch:
        return PerEpoch(self.schedule.with_steps_per_epoch(steps), self.steps_per_epoch or steps)
