"""The one schedule with a state: it watches a metric and cuts the rate when that stops improving."""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Mapping
from typing import Any, Literal

from fastnn._arrays import check_int, check_number
from fastnn.schedulers._base import Schedule, check_keys


class ReduceOnPlateau(Schedule):
    """max(lr * factor**cuts, min_lr), with one cut whenever `patience` epochs have brought nothing better.

    Parameters
    ----------
    lr : rate before the first cut, >= 0
    factor : of each cut, 0 < factor < 1
    patience : epochs that may be no better than the best one, >= 0
    threshold, threshold_mode : how much better is better. For mode "min" a metric counts when it is below
        best - threshold * |best| ("rel") or best - threshold ("abs"). threshold >= 0
    cooldown : epochs after a cut in which nothing is counted and nothing is cut, >= 0
    min_lr : the floor, 0 <= min_lr <= lr
    mode : "min" for a loss, "max" for an accuracy
    monitor : what `Trainer.fit` takes from the history; None means "val_loss" with validation, else "loss"
    semantics : whose counting of the epochs in a row that were no better:

        ========= ============ ========================= ====================
        semantics a cut after  best in the cool-down     the cool-down lasts
        ========= ============ ========================= ====================
        paddle    patience + 1 stays as it is            cooldown epochs
        torch     patience + 1 follows the metric        cooldown epochs
        keras     patience     follows the metric        cooldown - 1 epochs
        optax     patience     follows the metric        cooldown epochs
        ========= ============ ========================= ====================

    `fit` calls `update` after each epoch, an own loop calls it itself; the state is in
    `optimizer.state_dict()`. The rate does not depend on t. MindSpore counts like "torch". Keras's min_delta
    is threshold with threshold_mode="abs"; Optax's atol likewise.

    In two things this differs from PyTorch, Paddle and Optax under every semantics. They scale best itself by
    the threshold, so that with "rel" a negative metric never is a plateau: here the margin is of |best|. And
    a metric that is not finite is never better and never becomes the best; in Paddle a NaN in the first epoch
    stays the best for ever. (PyTorch and Paddle also leave out a cut of less than 1e-8.)

    >>> s = ReduceOnPlateau(0.1, factor=0.5, patience=1)
    >>> rates = []
    >>> for loss in (1.0, 0.8, 0.8, 0.8, 0.7):
    ...     s.update(loss)
    ...     rates.append(s(0))
    >>> rates
    [0.1, 0.1, 0.1, 0.05, 0.05]
    """

    def __init__(
        self,
        lr: float,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        *,
        mode: Literal["min", "max"] = "min",
        monitor: str | None = None,
        semantics: Literal["paddle", "torch", "keras", "optax"] = "paddle",
    ) -> None:
        self.lr = check_number(lr, "ReduceOnPlateau: lr", 0)
        self.factor = check_number(factor, "ReduceOnPlateau: factor", 0, 1)
        if self.factor == 0:
            raise ValueError("ReduceOnPlateau: factor must be above 0, got 0; min_lr is the floor")
        self.patience = check_int(patience, "ReduceOnPlateau: patience", 0)
        self.threshold = check_number(threshold, "ReduceOnPlateau: threshold", 0)
        self.threshold_mode = _one_of(threshold_mode, "threshold_mode", ("rel", "abs"))
        self.cooldown = check_int(cooldown, "ReduceOnPlateau: cooldown", 0)
        self.min_lr = check_number(min_lr, "ReduceOnPlateau: min_lr", 0)
        if self.min_lr > self.lr:
            raise ValueError(f"ReduceOnPlateau: min_lr must be at most lr, got {min_lr} and {lr}")
        self.mode = _one_of(mode, "mode", ("min", "max"))
        if monitor is not None and not isinstance(monitor, str):
            raise TypeError(f"ReduceOnPlateau: monitor must be a name in the history, got {monitor!r}")
        self.monitor = monitor
        self.semantics = _one_of(semantics, "semantics", ("paddle", "torch", "keras", "optax"))
        self._best: float | None = None
        self._bad_epochs = self._cooling = self._cuts = 0

    def _rate(self, t: int) -> float:
        return max(self.lr * self.factor**self._cuts, self.min_lr)

    def _plateaus(self) -> list[ReduceOnPlateau]:
        return [self]

    def update(self, metric: float) -> None:
        """Count an epoch with this metric, and cut the rate when it is one too many that is no better."""
        if isinstance(metric, bool) or not isinstance(metric, numbers.Real):
            raise TypeError(
                f"ReduceOnPlateau.update: metric must be a number, got {metric!r} ({type(metric).__name__})"
            )
        cooling = self._cooling > 0
        if cooling:
            self._cooling -= 1
            if self.semantics == "paddle":
                return
        if self._better(float(metric)):
            self._best = float(metric)
            self._bad_epochs = 0
        elif not cooling or (self.semantics == "keras" and self._cooling == 0):
            self._bad_epochs += 1
            strict = self.semantics in ("paddle", "torch")
            if self._bad_epochs >= max(self.patience + strict, 1):
                self._bad_epochs = 0
                self._cooling = self.cooldown
                self._cuts += 1

    def _better(self, metric: float) -> bool:
        if not math.isfinite(metric):
            return False
        if self._best is None:
            return True
        margin = self.threshold * (abs(self._best) if self.threshold_mode == "rel" else 1.0)
        return metric < self._best - margin if self.mode == "min" else metric > self._best + margin

    def state_dict(self) -> dict[str, Any]:
        """`best` (None: none yet), `bad_epochs` in a row, `cooling` (epochs to come) and `cuts` so far."""
        return {
            "best": self._best,
            "bad_epochs": self._bad_epochs,
            "cooling": self._cooling,
            "cuts": self._cuts,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a `state_dict`; TypeError or ValueError when it is none, and then nothing has changed."""
        where = "ReduceOnPlateau.load_state_dict"
        check_keys(state, self.state_dict(), where)
        best = state["best"]
        if best is not None:
            best = check_number(best, f"{where}: best", -sys.float_info.max)
        counts = [check_int(state[key], f"{where}: {key}", 0) for key in ("bad_epochs", "cooling", "cuts")]
        self._best = best
        self._bad_epochs, self._cooling, self._cuts = counts


def _one_of(value: str, name: str, known: tuple[str, ...]) -> str:
    if value not in known:
        choices = " or ".join(f'"{choice}"' for choice in known)
        raise ValueError(f"ReduceOnPlateau: {name} must be {choices}, got {value!r}")
    return value
