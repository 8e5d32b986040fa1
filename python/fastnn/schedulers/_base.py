"""What all schedules have in common, and what a number or a function of t becomes."""

from __future__ import annotations

import inspect
import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from fastnn._arrays import check_int, check_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastnn.schedulers._plateau import ReduceOnPlateau


class Schedule(ABC):
    """Base of all schedules: a subclass gives `_rate(t)`, this class checks t, hands on metrics and draws.

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

    def _parts(self) -> Mapping[str, Schedule]:
        """The schedules inside this one by name: they share its updates and its state."""
        return {}

    def _plateaus(self) -> list[ReduceOnPlateau]:
        return plateaus(self._parts().values())

    def update(self, metric: float) -> None:
        """Tell every `ReduceOnPlateau` in this schedule the metric of an epoch; nothing else has a state."""
        for plateau in self._plateaus():
            plateau.update(metric)

    def state_dict(self) -> dict[str, Any]:
        """What updates have changed, in numbers: empty for a pure function of t."""
        return {name: state for name, part in self._parts().items() if (state := part.state_dict())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a `state_dict` of a schedule built the same way; ValueError or TypeError if it is not."""
        parts = {name: part for name, part in self._parts().items() if part.state_dict()}
        check_keys(state, parts, f"{type(self).__name__}.load_state_dict")
        for name, part in parts.items():
            part.load_state_dict(state[name])

    def plot(self, steps: int, *, ax: Axes | None = None) -> Axes:
        """Draw the rates of the first `steps` updates, into `ax` or a new figure; returns the axes.

        Needs matplotlib, which is imported here and nowhere else.
        """
        rates = [self(t) for t in range(check_int(steps, f"{type(self).__name__}.plot: steps", 1))]
        if ax is None:
            try:
                import matplotlib.pyplot as plt
            except ImportError as error:
                raise ImportError(
                    f"{type(self).__name__}.plot needs matplotlib; install it with pip install matplotlib"
                ) from error
            _, ax = plt.subplots()
        ax.plot(rates, label=repr(self))
        ax.set_xlabel("updates done")
        ax.set_ylabel("learning rate")
        return ax

    def __repr__(self) -> str:
        fields = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if not k.startswith("_"))
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

    def __init__(self, function: Callable[[int], float], where: str) -> None:
        self.function = function
        self._where = where

    def _rate(self, t: int) -> float:
        return check_number(self.function(t), f"{self._where}({t})", 0)

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
        return _Function(rate, where)
    if not isinstance(rate, numbers.Real):
        raise TypeError(
            f"{where} must be a number or a schedule (a function of the number of updates done), "
            f"got {type(rate).__name__}"
        )
    return _Constant(check_number(rate, where, 0))


def described(rate: Any) -> str:
    """A schedule in words: its class and the arguments it was made with; a function is "a function".

    >>> described([as_schedule(0.1), as_schedule(lambda t: 0.95**t)])
    '[0.1, a function]'
    """
    if isinstance(rate, _Constant):
        return repr(rate.lr)
    if isinstance(rate, Schedule) and not isinstance(rate, _Function):
        arguments = inspect.signature(type(rate)).parameters.keys() & vars(rate).keys()
        own = (f"{key}={described(value)}" for key, value in vars(rate).items() if key in arguments)
        return f"{type(rate).__name__}({', '.join(own)})"
    if isinstance(rate, (list, tuple)):
        return f"[{', '.join(map(described, rate))}]"
    if callable(rate):
        return "a function"
    return repr(rate) if isinstance(rate, (str, numbers.Real, type(None))) else type(rate).__name__


def plateaus(rates: Iterable[Any]) -> list[ReduceOnPlateau]:
    """Every `ReduceOnPlateau` in these schedules, once each; whatever else is among them has none."""
    found = (p for rate in rates if isinstance(rate, Schedule) for p in rate._plateaus())
    return list({id(plateau): plateau for plateau in found}.values())


def check_keys(state: Mapping[str, Any], wanted: Iterable[str], where: str) -> None:
    """Raise unless `state` is a dict with exactly the wanted keys."""
    if not isinstance(state, Mapping):
        raise TypeError(f"{where}: expected a dict from state_dict(), got {type(state).__name__}")
    if set(state) != set(wanted):
        raise ValueError(f"{where}: the state has {sorted(state)}, must have {sorted(wanted)}")


def check_gamma(gamma: float, what: str) -> float:
    """Return `gamma` as a float when it is a factor of decay: above 0 and at most 1."""
    value = check_number(gamma, what, 0)
    if not 0 < value <= 1:
        raise ValueError(f"{what} must be above 0 and at most 1, got {gamma}")
    return value


def check_positive(value: float, what: str) -> float:
    """Return `value` as a float when it is a finite number above 0."""
    checked = check_number(value, what, 0)
    if checked == 0:
        raise ValueError(f"{what} must be above 0, got {value}")
    return checked


def check_list(values: Iterable[Any], what: str) -> list[Any]:
    """Return `values` as a list when it is one, or a tuple, an array or the like."""
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise TypeError(f"{what} must be a list, got {values!r} ({type(values).__name__})")
    return list(values)


def check_boundaries(boundaries: Iterable[int], what: str) -> list[int]:
    """Return numbers of updates as a list of ints when they are whole, not negative and rising."""
    given = check_list(boundaries, what)
    checked = [check_int(boundary, f"{what}[{i}]", 0) for i, boundary in enumerate(given)]
    if any(later <= earlier for earlier, later in pairwise(checked)):
        raise ValueError(f"{what} must rise from one to the next, got {checked}")
    return checked
