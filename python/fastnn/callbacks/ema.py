"""EMA: a moving average of the parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastnn import _device
from fastnn._arrays import FloatArray, check_number
from fastnn.callbacks.callback import Callback, Trainer
from fastnn.nn import Module


class EMA(Callback):
    """Exponential moving average of the parameters: after each step e = decay * e + (1 - decay) * p.

    Parameters
    ----------
    decay : 0 <= decay < 1; about 1 / (1 - decay) steps count

    e starts as a copy of p before the first step, so it is a mean of parameters from the beginning and needs
    no bias correction (an average that starts at 0 is divided by 1 - decay**t, as in Adam). PyTorch's
    `AveragedModel` starts from p after the first step; Keras' `use_ema` as here, with a decay of 0.99.

    `fit` trains, and evaluates `validation=`, with the parameters themselves. To look at the average:

        with ema.averaged(model):
            scores = trainer.evaluate(X, Y)

    gives the model the average inside and the trained parameters again afterwards; `ema.copy_to(model)`
    gives it for good. Running statistics of batch-norm are no parameters and are left as they are. In a loop
    of your own call `ema.update(model)` after each `optimizer.step()`. One EMA, one model: a `fit` of another
    raises ValueError.

    >>> import numpy as np
    >>> from fastnn import callbacks, nn
    >>> layer = nn.Linear(1, 1, bias=False)
    >>> ema = callbacks.EMA(decay=0.75)
    >>> for value in (0.0, 4.0, 4.0):
    ...     layer.weight.data = np.full((1, 1), value)
    ...     ema.update(layer)
    >>> with ema.averaged(layer):
    ...     print(layer.weight.data.item())
    1.75
    >>> layer.weight.data.item()
    4.0
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = check_number(decay, "EMA: decay", 0, 1)
        self._average: dict[str, FloatArray] = {}

    def on_fit_begin(self, trainer: Trainer) -> None:
        if self._model not in (None, trainer.model):
            raise ValueError(
                "EMA: this average is of another trainer's model; one EMA, one model: make a new EMA"
            )
        self._model = trainer.model
        if not self._average:
            self.update(trainer.model)

    def on_step_end(self, trainer: Trainer, step: int, loss: float) -> None:
        self.update(trainer.model)

    def update(self, model: Module) -> None:
        """Take the parameters into the average; the first call copies them."""
        parameters = dict(model.named_parameters())
        if not self._average:
            self._average = {name: parameter.data.copy() for name, parameter in parameters.items()}
            return
        for average, parameter in self._pairs(parameters, "update"):
            average += (parameter - average) * np.float32(1 - self.decay)

    def _pairs(self, parameters: Mapping[str, Any], method: str) -> Iterator[tuple[FloatArray, FloatArray]]:
        shapes = {name: parameter.data.shape for name, parameter in parameters.items()}
        own = {name: average.shape for name, average in self._average.items()}
        if not own:
            raise RuntimeError(f"EMA.{method}: there is no average yet; fit with it, or call update(model)")
        if shapes != own:
            raise ValueError(
                f"EMA.{method}: the model has other parameters than the average; one EMA, one model"
            )
        for name, parameter in parameters.items():  # of a file, or of a model that has moved since
            self._average[name] = _device.beside(parameter.data, self._average[name])
        return ((self._average[name], parameter.data) for name, parameter in parameters.items())

    def copy_to(self, model: Module) -> None:
        """Give the model the average for good."""
        for average, parameter in self._pairs(dict(model.named_parameters()), "copy_to"):
            parameter[...] = average

    @contextmanager
    def averaged(self, model: Module) -> Iterator[Module]:
        """The model with the average inside the `with`, with its own parameters again afterwards."""
        pairs = list(self._pairs(dict(model.named_parameters()), "averaged"))
        own = [parameter.copy() for _, parameter in pairs]
        for average, parameter in pairs:
            parameter[...] = average
        try:
            yield model
        finally:
            for (_, parameter), value in zip(pairs, own, strict=True):
                parameter[...] = value

    def state_dict(self) -> dict[str, Any]:
        return {"average": _device.copies(self._average)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._average = {name: np.array(average) for name, average in state["average"].items()}
        self._model = None
