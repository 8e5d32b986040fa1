"""EarlyStopping: the end of a fit that no longer improves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from fastnn._arrays import FloatArray, check_flag, check_int, check_number
from fastnn.callbacks.callback import Callback, Trainer
from fastnn.nn import Module


class EarlyStopping(Callback):
    """Stops the fit once `patience` epochs in a row have not improved the monitored number.

    Parameters
    ----------
    monitor : name in the history, `val_loss` by default (so pass `validation=`)
    mode : "min" when smaller is better, "max" when larger is
    patience : epochs without improvement until the stop, at least 1
    min_delta : an epoch improves when it is better than the best by more than this, at least 0
    restore_best : when it stops, give the model the parameters and running statistics of the best epoch

    A NaN improves nothing. `best` and `best_epoch` are the best so far. The best parameters come back at the
    end of a fit that this callback stopped, not of one that ran out of epochs (so that 5 + 5 epochs are 10;
    Keras 3 restores then too): call `restore(trainer.model)` there. The optimizer keeps its state. After a
    stop a further `fit` has `patience` epochs again; with another model it begins anew.

    Prechelt, "Early stopping - but when?", 1998. PyTorch has none; Keras' default patience is 0, which stops
    at the first epoch that does not improve, as 1 does here.

    Raises ValueError before the first step when the history will not have `monitor`.

    >>> import numpy as np, fastnn
    >>> from fastnn import callbacks, losses, nn, optim
    >>> X = np.random.default_rng(0).normal(size=(40, 3))
    >>> Y = np.arange(40) % 2  # nothing to learn
    >>> model = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 2), seed=0)
    >>> trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.05))
    >>> stopping = callbacks.EarlyStopping(patience=5)
    >>> options = {"batch_size": 10, "epochs": 99, "validation": (X[20:], Y[20:])}
    >>> history = trainer.fit(X[:20], Y[:20], callbacks=[stopping], **options)
    >>> len(history["epoch"]) == stopping.best_epoch + 5
    True
    >>> trainer.evaluate(X[20:], Y[20:])["loss"] == stopping.best == min(history["val_loss"])
    True
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        mode: Literal["min", "max"] = "min",
        patience: int = 10,
        min_delta: float = 0.0,
        restore_best: bool = True,
    ) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"EarlyStopping: monitor must be a name in the history, got {monitor!r}")
        if mode not in ("min", "max"):
            raise ValueError(f'EarlyStopping: mode must be "min" or "max", got {mode!r}')
        self.monitor = monitor
        self.mode = mode
        self.patience = check_int(patience, "EarlyStopping: patience", 1)
        self.min_delta = check_number(min_delta, "EarlyStopping: min_delta", 0)
        self.restore_best = check_flag(restore_best, "EarlyStopping: restore_best")
        self._begin()

    def _begin(self) -> None:
        self.best = math.inf if self.mode == "min" else -math.inf
        self.best_epoch = 0
        self.wait = 0  # epochs since the best
        self._state: dict[str, FloatArray] | None = None
        self._stopped = False

    def on_fit_begin(self, trainer: Trainer) -> None:
        if self._model not in (None, trainer.model):
            self._begin()
        self._model = trainer.model
        self._stopped = False

    def on_epoch_end(self, trainer: Trainer, logs: Mapping[str, float]) -> bool:
        value = logs[str(self.monitor)]
        gain = self.best - value if self.mode == "min" else value - self.best
        if gain > self.min_delta:  # never for NaN
            self.best, self.best_epoch, self.wait = value, int(logs["epoch"]), 0
            if self.restore_best:
                self._state = trainer.model.state_dict()
            return False
        self.wait += 1
        self._stopped = self.wait >= self.patience
        if self._stopped:
            self.wait = 0
        return self._stopped

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._stopped and self._state is not None:
            self.restore(trainer.model)

    def restore(self, model: Module) -> None:
        """Give a model the parameters and running statistics of the best epoch."""
        if self._state is None:
            why = "no epoch has improved yet" if self.restore_best else "restore_best is False"
            raise RuntimeError(f"EarlyStopping.restore: nothing to restore, {why}")
        model.load_state_dict(self._state)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "wait": self.wait, "state": self._state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.best_epoch, self.wait, self._state = (
            state[key] for key in ("best", "best_epoch", "wait", "state")
        )
        self._model = None
