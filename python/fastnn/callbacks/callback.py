"""Callback: the methods that a fit calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastnn.nn import Module

Trainer = Any  # fastnn.Trainer, which imports this room


class Callback:
    """Base of all callbacks; a subclass writes what it needs of the four methods.

    Returning True from `on_step_end` or `on_epoch_end` stops the fit. A stop in the middle of an epoch leaves
    it begun, as Ctrl-C does: the next `fit` finishes it first.

    `monitor`, if set, names an entry of `logs` that must be there; `fit` raises ValueError before the first
    step when it will not. A callback whose state must survive in a file writes `state_dict` (numbers,
    strings, None, arrays, and lists, tuples and dicts of these) and `load_state_dict`. Those of fastnn keep
    their state for one model: with another one they begin anew, but for `EMA`, which refuses it.

    As in Keras, with fewer hooks, and stopping by a result instead of a flag on the model.

    >>> class Half(Callback):
    ...     def on_epoch_end(self, trainer, logs):
    ...         trainer.optimizer.lr /= 2
    >>> isinstance(Half(), Callback)  # now in fit(..., callbacks=[Half()])
    True
    """

    monitor: str | None = None
    _model: Module | None = None  # whose state it keeps; None: of nobody yet, or of the next trainer's

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Before the first step of a `fit`."""

    def on_step_end(self, trainer: Trainer, step: int, loss: float) -> bool | None:
        """After a step: `step` updates are done, `loss` is that of the batch before its update.

        True stops the fit. Only where a callback overrides this does `fit` ask after each step.
        """
        return None

    def on_epoch_end(self, trainer: Trainer, logs: Mapping[str, float]) -> bool | None:
        """After an epoch and its validation; `logs` is its row of the history. True stops the fit."""
        return None

    def on_fit_end(self, trainer: Trainer) -> None:
        """Once for each `on_fit_begin`, however the fit ended."""

    def state_dict(self) -> dict[str, Any]:
        """What a file must keep; nothing, here."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a `state_dict()`."""
