"""The forward pass in evaluation mode as a native program: all batches of a data set in one call."""

from __future__ import annotations

import numpy as np

from fastnn import _core, _device
from fastnn._arrays import Array, FloatArray, as_rows
from fastnn._lowering import Lowering, has_chains
from fastnn.nn import Module
from fastnn.nn.module import evaluating


def can_lower(model: Module) -> bool:
    """Whether all layers are fastnn's: those of the user's own are Python."""
    return all(type(module).__module__.startswith("fastnn.") for module in model.modules())


def output_shape(model: Module, batch_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of the outputs for such a batch; an error as from a prediction where it is not one for this model."""
    lowering = Lowering(batch_shape, True, "float32", False)
    with evaluating(model):
        return (batch_shape[0], *lowering.layer(model, lowering.input)[0].shape)


class Forward:
    """A model in evaluation mode as one native program, for rows of one shape."""

    def __init__(self, model: Module, precision: str, batch_shape: tuple[int, ...]) -> None:
        chains = has_chains(model, False)
        lowering = Lowering(batch_shape, True, precision, chains)
        pred, _ = lowering.layer(model, lowering.input)
        self._modules = list(model.modules())
        self._made_for = model, precision, batch_shape[1:], _device.moves
        self._pred_shape = pred.shape
        # Lists of dicts, compared in one go.
        self._seen = lowering.seen
        self._seen_then = [dict(attributes) for attributes in lowering.seen]
        self._native = _core.Program(lowering.buffers, lowering.all_ops(), chains, pred.ref)

    def fits(self, model: Module, precision: str, row_shape: tuple[int, ...]) -> bool:
        """Whether this is still the program of these, whatever mode they are in now."""
        if self._made_for != (model, precision, row_shape, _device.moves):
            return False
        for module in self._modules:
            module._saved = None  # as a forward in evaluation mode leaves it
        for now, then in zip(self._seen, self._seen_then, strict=True):
            then["training"] = now["training"]
        try:
            return self._seen == self._seen_then
        except ValueError:  # an array was replaced by another, and arrays do not compare to one truth value
            return False

    def predict(self, X: Array, what: str, batch_size: int) -> FloatArray:
        """The results for the rows of X, `batch_size` at a time; `what` names X in errors."""
        pred = np.empty((len(X), *self._pred_shape), np.float32)
        # Rows that it cannot read are converted a batch at a time.
        readable = np.may_share_memory(as_rows(X[:1], what), X)
        part = len(X) if readable else batch_size
        for i in range(0, len(X), max(part, 1)):
            rows = slice(i, i + part)
            _core.run_forward(self._native, as_rows(X[rows], what), pred[rows], batch_size)
        return pred
