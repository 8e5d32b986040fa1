"""Watcher: a callback that looks into some steps of a fit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from fastnn.callbacks.callback import Callback
from fastnn.nn import Module

Loss = Callable[..., Any]


class Watcher(Callback, ABC):
    """Watches some steps, which are then done layer by layer, with the same bits; all others stay native.

    Not public: `diagnostics.StepReports` is one, and a fit has at most one.
    """

    @abstractmethod
    def steps_ahead(self, step: int) -> int:
        """How many steps there are before the next one to watch, or to be asked again; `step` updates are
        done. 0: the next one is watched.
        """

    @abstractmethod
    def watching(
        self, model: Module, loss: Loss, optimizer: Any
    ) -> AbstractContextManager[tuple[Module, Loss]]:
        """Inside, one step is done with the model and the loss that this gives, and with the optimizer."""
