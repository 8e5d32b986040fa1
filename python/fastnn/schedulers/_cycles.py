"""Schedules of waves: cosines and triangles."""

from __future__ import annotations

import math
from typing import Literal

from fastnn._arrays import check_int, check_number
from fastnn.schedulers._base import Schedule, check_positive


def _cosine(start: float, end: float, t: float, length: float) -> float:
    """Half a cosine from start at t = 0 to end at t = length."""
    return end + (start - end) * (1 + math.cos(math.pi * t / length)) / 2


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
        return _cosine(self.lr, self.eta_min, t, self.T_max)


class CosineAnnealingWarmRestarts(Schedule):
    """eta_min + (lr - eta_min) * (1 + cos(pi * u / T)) / 2: half a cosine of length T again and again.

    u counts the updates since the last restart; the first T is T_0, each later one T_mult times as long.

    Parameters
    ----------
    lr : rate at t = 0 and after each restart, >= 0
    T_0 : updates until the first restart, >= 1 (epochs inside a `PerEpoch`)
    T_mult : growth of the cycles, >= 1
    eta_min : the floor, >= 0; a restart comes where it would be reached

    Loshchilov & Hutter, "SGDR", 2017, equation 5. The class of the same name in PyTorch, and Paddle's.

    >>> s = CosineAnnealingWarmRestarts(1.0, T_0=3, T_mult=2, eta_min=0.1)
    >>> [round(s(t), 6) for t in range(10)]
    [1.0, 0.775, 0.325, 1.0, 0.939711, 0.775, 0.55, 0.325, 0.160289, 1.0]
    """

    def __init__(self, lr: float, T_0: int, T_mult: int = 1, eta_min: float = 0.0) -> None:
        self.lr = check_number(lr, "CosineAnnealingWarmRestarts: lr", 0)
        self.T_0 = check_int(T_0, "CosineAnnealingWarmRestarts: T_0", 1)
        self.T_mult = check_int(T_mult, "CosineAnnealingWarmRestarts: T_mult", 1)
        self.eta_min = check_number(eta_min, "CosineAnnealingWarmRestarts: eta_min", 0)

    def _rate(self, t: int) -> float:
        length = self.T_0
        if self.T_mult == 1:
            t %= length
        while t >= length:  # at most log2(t) times
            t -= length
            length *= self.T_mult
        return _cosine(self.lr, self.eta_min, t, length)


class OneCycle(Schedule):
    """Half a cosine from max_lr / div up to max_lr, then one down to max_lr / div / final_div.

    Parameters
    ----------
    max_lr : the peak, >= 0; it stands at t = pct_start * total_steps - 1
    total_steps : updates of the cycle, >= 1; the rate of the last one stays for any t after it
    pct_start : share of the updates that rise, 0 <= pct_start < 1
    div, final_div : how far below the peak the cycle begins, and how far below that it ends, > 0

    Smith & Topin, "Super-Convergence", 2018, as PyTorch's `OneCycleLR` computes it (Paddle's ends at the
    absolute rate it is given). It leaves the momentum alone, which PyTorch turns the other way unless told
    `cycle_momentum=False`: pass a schedule as `momentum` for that. PyTorch raises after total_steps.

    >>> s = OneCycle(1.0, total_steps=10)
    >>> [round(s(t), 6) for t in (0, 1, 2, 9, 10)]
    [0.04, 0.52, 1.0, 4e-06, 4e-06]
    """

    def __init__(
        self,
        max_lr: float,
        total_steps: int,
        pct_start: float = 0.3,
        div: float = 25.0,
        final_div: float = 1e4,
    ) -> None:
        self.max_lr = check_number(max_lr, "OneCycle: max_lr", 0)
        self.total_steps = check_int(total_steps, "OneCycle: total_steps", 1)
        self.pct_start = check_number(pct_start, "OneCycle: pct_start", 0, 1)
        self.div = check_positive(div, "OneCycle: div")
        self.final_div = check_positive(final_div, "OneCycle: final_div")

    def _rate(self, t: int) -> float:
        peak, last = self.pct_start * self.total_steps - 1, self.total_steps - 1
        first = self.max_lr / self.div
        t = min(t, last)
        if t < peak:
            return _cosine(first, self.max_lr, t, peak)
        return _cosine(self.max_lr, first / self.final_div, t - peak, last - peak)


class Cyclic(Schedule):
    """A line from base_lr up to max_lr over step_up updates, one down over step_down, again and again.

    Parameters
    ----------
    base_lr : the trough, at t = 0, >= 0
    max_lr : the peak, at t = step_up, >= base_lr
    step_up, step_down : updates of the two lines, >= 1; None means step_up

    Smith, "Cyclical Learning Rates", 2017, policy "triangular": `CyclicLR` in PyTorch, which cycles the
    momentum too unless told `cycle_momentum=False`.

    >>> s = Cyclic(0.1, 0.5, step_up=2, step_down=4)
    >>> [round(s(t), 6) for t in range(8)]
    [0.1, 0.3, 0.5, 0.4, 0.3, 0.2, 0.1, 0.3]
    """

    def __init__(self, base_lr: float, max_lr: float, step_up: int, step_down: int | None = None) -> None:
        self.base_lr = check_number(base_lr, "Cyclic: base_lr", 0)
        self.max_lr = check_number(max_lr, "Cyclic: max_lr", 0)
        if self.max_lr < self.base_lr:
            raise ValueError(f"Cyclic: max_lr must be at least base_lr, got {max_lr} and {base_lr}")
        self.step_up = check_int(step_up, "Cyclic: step_up", 1)
        self.step_down = self.step_up if step_down is None else check_int(step_down, "Cyclic: step_down", 1)

    def _rate(self, t: int) -> float:
        t %= self.step_up + self.step_down
        height = (
            t / self.step_up if t <= self.step_up else (self.step_up + self.step_down - t) / self.step_down
        )
        return self.base_lr + (self.max_lr - self.base_lr) * height
