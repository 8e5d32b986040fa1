"""DivergenceGuard: the end of a fit that runs away, or the way back."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, Literal

from fastnn._arrays import check_number
from fastnn.callbacks.callback import Callback, Trainer


class DivergenceGuard(Callback):
    """Stops, or goes back, when the training runs away.

    It has run away when the loss of a step or a gradient is not finite (then the optimizer's
    `NonFiniteGradientError` does not leave the fit), or when the mean loss of an epoch is above `factor`
    times the best epoch's (before one is done: above `factor` times the first step's loss). Each time it
    warns, and says so in `reason`.

    Parameters
    ----------
    factor : above 1
    action : "stop" ends the fit with everything as it is. "rollback" gives parameters, running statistics
        and the optimizer's state (its step count too, and so the place in a schedule) back as they were after
        the best epoch (before one is done: when the fit began), and training goes on with the next batch

    A rollback lowers no rate: with the same one it may run away again. Counting `rollbacks`, a callback of
    your own can lower it (`trainer.optimizer.lr`). Epochs are counted on (by the next one a `PerEpoch` that
    follows `fit` too), and the masks of a Dropout do not return either, so that the same steps are not
    repeated. With another model the guard begins anew. A network whose loss rises smoothly needs
    `EarlyStopping`. Losses that may be negative or 0 have no meaningful factor: only what is not finite is
    seen then.

    Keras' `TerminateOnNaN` is action="stop" without the factor; PyTorch has nothing of the kind.

    >>> import warnings
    >>> import numpy as np, fastnn
    >>> from fastnn import callbacks, losses, nn, optim
    >>> X = np.random.default_rng(0).normal(size=(64, 2))
    >>> model = nn.Sequential(nn.Linear(2, 1), seed=0)
    >>> trainer = fastnn.Trainer(model, losses.MSELoss(), optim.SGD(model.parameters(), lr=100))
    >>> guard = callbacks.DivergenceGuard()
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     history = trainer.fit(X, X[:, :1], batch_size=16, epochs=9, callbacks=[guard])
    >>> history["epoch"], guard.reason[:22]
    ([1], 'the loss of epoch 1 is')
    """

    _STATE = ("best", "rollbacks", "reason", "_first", "_good", "_judged")

    def __init__(self, factor: float = 4.0, action: Literal["stop", "rollback"] = "stop") -> None:
        self.factor = check_number(factor, "DivergenceGuard: factor", 1)
        if self.factor == 1:
            raise ValueError("DivergenceGuard: factor must be above 1, got 1")
        if action not in ("stop", "rollback"):
            raise ValueError(f'DivergenceGuard: action must be "stop" or "rollback", got {action!r}')
        self.action = action
        self._begin()

    def _begin(self) -> None:
        self.best = math.inf
        self.rollbacks = 0
        self.reason = ""
        self._first = math.inf  # loss of the first step
        self._good: dict[str, Any] | None = None
        self.refused = ""  # why the optimizer has just refused to step; set by the trainer
        self._judged = False  # this epoch has been rolled back: its mean says nothing

    def on_fit_begin(self, trainer: Trainer) -> None:
        if self._model not in (None, trainer.model):
            self._begin()
        self._model = trainer.model
        if self._good is None:
            self._keep(trainer)

    def on_step_end(self, trainer: Trainer, step: int, loss: float) -> bool:
        refused, self.refused = self.refused, ""
        if refused or not math.isfinite(loss):
            self._judged = True
            return self._act(trainer, refused or f"the loss of step {step} is {loss}")
        if self._first == math.inf:
            self._first = loss
        return False

    def on_epoch_end(self, trainer: Trainer, logs: Mapping[str, float]) -> bool:
        loss, judged, self._judged = logs["loss"], self._judged, False
        if judged:
            return False
        usual = self._first if self.best == math.inf else self.best
        if not math.isfinite(loss) or loss > self.factor * usual > 0:
            what = f"the loss of epoch {int(logs['epoch'])} is {loss:g}"
            return self._act(trainer, f"{what}, above {self.factor:g} times {usual:g}")
        if loss < self.best:
            self.best = loss
            self._keep(trainer)
        return False

    def _keep(self, trainer: Trainer) -> None:
        if self.action == "rollback":
            self._good = {"model": trainer.model.state_dict(), "optimizer": trainer.optimizer.state_dict()}

    def _act(self, trainer: Trainer, reason: str) -> bool:
        self.reason = reason
        if self.action == "stop":
            warnings.warn(f"DivergenceGuard: {reason}; the fit stops", stacklevel=2)
            return True
        assert self._good is not None
        trainer.model.load_state_dict(self._good["model"])
        trainer.optimizer.load_state_dict(self._good["optimizer"])
        self.rollbacks += 1
        warnings.warn(
            f"DivergenceGuard: {reason}; back to the state after {trainer.optimizer.step_count} updates, the "
            "learning rate is as it was",
            stacklevel=2,
        )
        return False

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._STATE}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in self._STATE:
            setattr(self, name, state[name])
        self._model = None
