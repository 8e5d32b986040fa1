"""Schedules that fall: by pieces, by powers, along a line."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable

from fastnn._arrays import check_flag, check_int, check_number
from fastnn.schedulers._base import Schedule, check_boundaries, check_gamma, check_list, check_positive


class PiecewiseDecay(Schedule):
    """values[i] from update boundaries[i - 1] up to but without boundaries[i]: constant pieces.

    Parameters
    ----------
    boundaries : numbers of updates, rising: the rate changes at t = boundary, so the update that follows
        `boundary` updates is the first with the new value (t < boundary: the old one)
    values : the rates, >= 0, one more than boundaries

    Paddle's `PiecewiseDecay`. Keras changes one update later (step <= boundary: the old value); Optax takes
    factors instead of values; MindSpore's milestones are the ends of the pieces, as many as values.

    >>> s = PiecewiseDecay([3, 6], [0.1, 0.2, 0.3])
    >>> [s(t) for t in range(8)]
    [0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.3, 0.3]
    """

    def __init__(self, boundaries: Iterable[int], values: Iterable[float]) -> None:
        self.boundaries = check_boundaries(boundaries, "PiecewiseDecay: boundaries")
        given = check_list(values, "PiecewiseDecay: values")
        self.values = [check_number(v, f"PiecewiseDecay: values[{i}]", 0) for i, v in enumerate(given)]
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"PiecewiseDecay: values must hold one more than the {len(self.boundaries)} boundaries, "
                f"got {len(self.values)}"
            )

    def _rate(self, t: int) -> float:
        return self.values[bisect_right(self.boundaries, t)]


class ExponentialDecay(Schedule):
    """lr * gamma**t.

    Parameters
    ----------
    lr : rate at t = 0, >= 0
    gamma : factor from one update to the next, 0 < gamma <= 1

    PyTorch's `ExponentialLR` and Paddle's `ExponentialDecay`, in closed form: they multiply the rate before.

    >>> s = ExponentialDecay(0.5, gamma=0.9)
    >>> [round(s(t), 6) for t in range(4)]
    [0.5, 0.45, 0.405, 0.3645]
    """

    def __init__(self, lr: float, gamma: float) -> None:
        self.lr = check_number(lr, "ExponentialDecay: lr", 0)
        self.gamma = check_gamma(gamma, "ExponentialDecay: gamma")

    def _rate(self, t: int) -> float:
        return self.lr * self.gamma**t


class NaturalExpDecay(Schedule):
    """lr * exp(-gamma * t).

    Parameters
    ----------
    lr : rate at t = 0, >= 0
    gamma : speed of the decay, > 0

    Paddle's `NaturalExpDecay`; PyTorch has none. The initial rate is multiplied, not the current one.

    >>> s = NaturalExpDecay(0.5, gamma=0.1)
    >>> [round(s(t), 6) for t in range(5)]
    [0.5, 0.452419, 0.409365, 0.370409, 0.33516]
    """

    def __init__(self, lr: float, gamma: float) -> None:
        self.lr = check_number(lr, "NaturalExpDecay: lr", 0)
        self.gamma = check_positive(gamma, "NaturalExpDecay: gamma")

    def _rate(self, t: int) -> float:
        return self.lr * math.exp(-self.gamma * t)


class InverseTimeDecay(Schedule):
    """lr / (1 + gamma * t).

    Parameters
    ----------
    lr : rate at t = 0, >= 0
    gamma : speed of the decay, > 0

    Paddle's `InverseTimeDecay`; PyTorch has none.

    >>> s = InverseTimeDecay(0.5, gamma=0.1)
    >>> [round(s(t), 6) for t in range(5)]
    [0.5, 0.454545, 0.416667, 0.384615, 0.357143]
    """

    def __init__(self, lr: float, gamma: float) -> None:
        self.lr = check_number(lr, "InverseTimeDecay: lr", 0)
        self.gamma = check_positive(gamma, "InverseTimeDecay: gamma")

    def _rate(self, t: int) -> float:
        return self.lr / (1 + self.gamma * t)


class PolynomialDecay(Schedule):
    """end_lr + (lr - end_lr) * (1 - t / N)**power, with N = decay_steps.

    Parameters
    ----------
    lr : rate at t = 0, >= 0
    decay_steps : updates until end_lr is reached, >= 1 (epochs inside a `PerEpoch`)
    end_lr : the floor, >= 0
    power : > 0; 1 is a straight line
    cycle : what follows decay_steps. False: end_lr stays. True: N = decay_steps * ceil(t / decay_steps), at
        least decay_steps, so that the rate jumps up after each trough, each time less high

    Paddle's `PolynomialDecay` (t = 0 counts as the first cycle, where ceil would make 0 / 0). PyTorch's
    `PolynomialLR` has no end_lr: it goes to 0.

    >>> s = PolynomialDecay(1.0, decay_steps=4, end_lr=0.1, cycle=True)
    >>> [round(s(t), 6) for t in range(9)]
    [1.0, 0.775, 0.55, 0.325, 0.1, 0.4375, 0.325, 0.2125, 0.1]
    """

    def __init__(
        self, lr: float, decay_steps: int, end_lr: float = 1e-4, power: float = 1.0, cycle: bool = False
    ) -> None:
        self.lr = check_number(lr, "PolynomialDecay: lr", 0)
        self.decay_steps = check_int(decay_steps, "PolynomialDecay: decay_steps", 1)
        self.end_lr = check_number(end_lr, "PolynomialDecay: end_lr", 0)
        self.power = check_positive(power, "PolynomialDecay: power")
        self.cycle = check_flag(cycle, "PolynomialDecay: cycle")

    def _rate(self, t: int) -> float:
        steps = self.decay_steps
        if self.cycle:
            steps *= max(1, -(-t // steps))
        else:
            t = min(t, steps)
        return self.end_lr + (self.lr - self.end_lr) * math.pow(1 - t / steps, self.power)


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
        self.gamma = check_gamma(gamma, "StepDecay: gamma")

    def _rate(self, t: int) -> float:
        return self.lr * self.gamma ** (t // self.step_size)


class MultiStepDecay(Schedule):
    """lr * gamma**(number of milestones <= t): the rate is cut at each milestone.

    Parameters
    ----------
    lr : rate before the first milestone, >= 0
    milestones : numbers of updates (epochs inside a `PerEpoch`), rising; t < milestone: not cut yet
    gamma : factor of each cut, 0 < gamma <= 1

    PyTorch's `MultiStepLR` and Paddle's `MultiStepDecay`. A repeated milestone, which PyTorch counts twice,
    is refused, as in Paddle.

    >>> s = MultiStepDecay(0.5, [30, 50])
    >>> [round(s(t), 6) for t in (0, 29, 30, 49, 50)]
    [0.5, 0.5, 0.05, 0.05, 0.005]
    """

    def __init__(self, lr: float, milestones: Iterable[int], gamma: float = 0.1) -> None:
        self.lr = check_number(lr, "MultiStepDecay: lr", 0)
        self.milestones = check_boundaries(milestones, "MultiStepDecay: milestones")
        self.gamma = check_gamma(gamma, "MultiStepDecay: gamma")

    def _rate(self, t: int) -> float:
        return self.lr * self.gamma ** bisect_right(self.milestones, t)


class LinearDecay(Schedule):
    """(1 - t / steps) * lr + t / steps * end_lr up to t = steps, then end_lr: a line with a floor.

    Parameters
    ----------
    lr : rate at t = 0, >= 0
    steps : updates until end_lr is reached, >= 1 (epochs inside a `PerEpoch`)
    end_lr : where the line ends and stays, >= 0

    Goodfellow, Bengio & Courville, "Deep Learning", 2016, equation 8.14. Optax's `linear_schedule`; PyTorch's
    `LinearLR` takes factors of lr.

    >>> s = LinearDecay(0.1, steps=10, end_lr=0.001)
    >>> [round(s(t), 6) for t in (0, 1, 5, 10, 12)]
    [0.1, 0.0901, 0.0505, 0.001, 0.001]
    """

    def __init__(self, lr: float, steps: int, end_lr: float) -> None:
        self.lr = check_number(lr, "LinearDecay: lr", 0)
        self.steps = check_int(steps, "LinearDecay: steps", 1)
        self.end_lr = check_number(end_lr, "LinearDecay: end_lr", 0)

    def _rate(self, t: int) -> float:
        done = min(t, self.steps) / self.steps
        return (1 - done) * self.lr + done * self.end_lr


class LambdaDecay(Schedule):
    """lr * fn(t), for any function fn of the updates done.

    Parameters
    ----------
    lr : what fn scales, >= 0
    fn : t -> a number >= 0; it should depend on t alone, or a resumed run goes another way

    PyTorch's `LambdaLR` and Paddle's `LambdaDecay`. A function that is the rate itself needs no class: pass
    it as `lr`.

    >>> s = LambdaDecay(0.5, lambda t: 0.95**t)
    >>> [round(s(t), 6) for t in range(3)]
    [0.5, 0.475, 0.45125]
    """

    def __init__(self, lr: float, fn: Callable[[int], float]) -> None:
        self.lr = check_number(lr, "LambdaDecay: lr", 0)
        if not callable(fn):
            raise TypeError(f"LambdaDecay: fn must be a function of the updates done, got {fn!r}")
        self.fn = fn

    def _rate(self, t: int) -> float:
        return self.lr * check_number(self.fn(t), f"LambdaDecay: fn({t})", 0)


class NoamDecay(Schedule):
    """lr * d_model**-0.5 * min(t**-0.5, t * warmup_steps**-1.5): a line up, then 1 / sqrt(t).

    Parameters
    ----------
    d_model : width of the model, >= 1
    warmup_steps : updates until the peak of lr * (d_model * warmup_steps)**-0.5, >= 1
    lr : a factor, >= 0

    Vaswani et al., "Attention Is All You Need", 2017, equation 3, whose steps count from 1; here, as in
    Paddle's `NoamDecay`, the rate at t = 0 is 0. PyTorch has none.

    >>> s = NoamDecay(512, warmup_steps=4)
    >>> [round(s(t), 6) for t in range(6)]
    [0.0, 0.005524, 0.011049, 0.016573, 0.022097, 0.019764]
    """

    def __init__(self, d_model: int, warmup_steps: int, lr: float = 1.0) -> None:
        self.d_model = check_int(d_model, "NoamDecay: d_model", 1)
        self.warmup_steps = check_int(warmup_steps, "NoamDecay: warmup_steps", 1)
        self.lr = check_number(lr, "NoamDecay: lr", 0)

    def _rate(self, t: int) -> float:
        falling = math.pow(t, -0.5) if t else 1.0
        rising = t * math.pow(self.warmup_steps, -1.5)
        return self.lr * math.pow(self.d_model, -0.5) * min(falling, rising)
