"""Steps and predictions layer by layer: where the loss, or a layer, is the caller's own.

On the device layers and loss get CuPy's arrays, as in a plain loop there.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastnn import _device, data
from fastnn._arrays import Array, FloatArray
from fastnn._epoch import Epoch
from fastnn._fitting import total_weight
from fastnn._precision import products_in
from fastnn.callbacks import Watcher
from fastnn.nn import Module
from fastnn.optim import NonFiniteGradientError, Optimizer

Loss = Callable[..., tuple[float, FloatArray]]


class Done(NamedTuple):
    """What a run of steps did: the loss and (if it was one step) the predictions of the last, and the error
    that kept the optimizer from its update."""

    value: float
    pred: FloatArray | None = None
    refused: NonFiniteGradientError | None = None


class Layers(NamedTuple):
    """A model, a loss and an optimizer that are called one after another, where the parameters are."""

    model: Module
    loss: Loss
    optimizer: Optimizer
    precision: str
    on_device: bool

    def put(self, what: str, array: Any) -> Any:
        """What the caller gave, where the layers are."""
        return _device.placed(what, array) if self.on_device and array is not None else array

    def rows(self, what: str, x: Any) -> FloatArray:
        """Rows of x as float32, where the layers are."""
        return self.put(what, _device.as_floats(x, what))  # type: ignore[no-any-return]

    def value(self, pred: FloatArray, y: Array, weight: Array | None) -> tuple[float, FloatArray]:
        """The loss and its gradient."""
        value, gradient = self.loss(pred, y) if weight is None else self.loss(pred, y, weight)
        try:
            return _device.number(value), gradient
        except (TypeError, ValueError):
            raise TypeError(f"Trainer: the loss must give its value as a number, got {value!r:.60}") from None

    def gradients(self, x: FloatArray, y: Array, weight: Array | None) -> tuple[float, FloatArray]:
        """A step up to the update: its loss and its predictions."""
        with products_in(self.precision):
            pred = self.model.forward(x)
        value, gradient = self.value(pred, y, weight)
        if self.on_device and not _device.is_on_device(gradient):
            raise TypeError(
                "Trainer: the loss must give its gradient as a CuPy array, as pred is one on the device, got "
                f"{type(gradient).__name__}"
            )
        self.model.backward(gradient, input_grad=False)
        return value, pred

    def run(
        self,
        epoch: Epoch,
        X: Array,
        Y: Array,
        weight: FloatArray | None,
        rows: npt.NDArray[np.int64],
        one: bool,
        keep_refused: bool,
    ) -> Done:
        """Train on these rows, the next batch of the epoch."""
        start = time.perf_counter()
        x = self.rows("Trainer.fit: X", _taken(X, rows))
        y = self.put("Trainer.fit: Y", _taken(Y, rows))
        w = None if weight is None else self.put("Trainer.fit: sample_weight", _taken(weight, rows))
        rate = self.optimizer.lr
        try:
            value, pred = self.gradients(x, y, w)
        except Exception as error:
            note = getattr(error, "add_note", None)  # from Python 3.11 on
            if note is not None:
                note(f"Trainer.fit: this was the batch of rows {rows}")
            raise
        refused = None
        try:
            self.optimizer.step()
        except NonFiniteGradientError as error:
            if not keep_refused:
                raise
            refused = error
        share = getattr(self.loss, "total_weight", total_weight)(y, w)
        sums = np.array([epoch.total + share, epoch.sums["loss"] + share * value])
        epoch.take(1, len(x), rate, sums)
        if epoch.scores is not None:
            epoch.scores.add(pred, y, w)
        epoch.seconds += time.perf_counter() - start
        return Done(value, _device.on_host(pred) if one else None, refused)

    def watched(self, watcher: Watcher, epoch: Epoch, *batch: Any) -> Done:
        """`run` under the eyes of a watcher."""
        with watcher.watching(self.model, self.loss, self.optimizer) as (model, loss):
            return self._replace(model=model, loss=loss).run(epoch, *batch)

    def tried(self, watcher: Watcher, epoch: Epoch, *batch: Any) -> Done | None:
        """`watched`; None, with all as it was, where an error came before the update: a program has its own
        words for it.
        """
        parts = [(m, name) for m in self.model.modules() for name in (*m.buffers, *m.counters)]
        before = [copy.copy(getattr(*part)) for part in parts]
        counts = self.optimizer.step_count, self.optimizer.skipped_steps
        try:
            return self.watched(watcher, epoch, *batch)
        except BaseException as error:
            if counts != (self.optimizer.step_count, self.optimizer.skipped_steps):
                raise
            for (module, name), value in zip(parts, before, strict=True):
                if name in module.counters:
                    setattr(module, name, value)
                else:
                    getattr(module, name)[...] = value
            if not isinstance(error, Exception):
                raise
            return None

    def predict(self, what: str, X: Array, batch_size: int) -> FloatArray:
        """The model's outputs, where it is; in the mode in which it is."""
        parts = []
        with products_in(self.precision):
            # One empty batch where there are no rows: it has the right number of columns.
            for i in range(0, max(len(X), 1), batch_size):
                parts.append(self.model.forward(self.rows(what, X[i : i + batch_size])))
        return parts[0] if len(parts) == 1 else _device.concatenated(parts)


def _taken(array: Any, rows: npt.NDArray[np.int64]) -> Any:
    """A fresh copy of these rows, where the array is."""
    return array.take(_device.copied(rows), axis=0) if _device.is_on_device(array) else data.take(array, rows)
