"""Dropout: random zeros in training, nothing in evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import ops
from fastnn._arrays import Array, FloatArray, as_generator, check_number
from fastnn._device import as_floats
from fastnn.nn.module import Module

_HALF = 0.5  # the default itself, an object of its own: another 0.5 was given, and then not beside keep


class Dropout(Module):
    """y = x * mask / (1 - p) in training, for x of any shape; y = x in evaluation.

    Parameters
    ----------
    p : probability that an element becomes 0, from 0 to 1
    keep : instead of p, the probability that it stays: `Dropout(keep=0.8)` is `Dropout(0.2)`. PyTorch,
        PaddlePaddle and Keras take p; MindSpore's first argument and TensorFlow 1 mean keep
    rng : NumPy generator or integer to draw `seed` from; None takes fresh entropy (`Sequential(seed=...)`
        draws the seeds of all layers again)

    The mask depends on `seed`, on `forwards`, the number of training forwards before, and on the place of
    the element: never on threads, instruction set or layout. It is not stored; `backward` draws it again
    (`ops.dropout`). Copies and pickles keep both numbers, so they go on with the same masks. `state_dict`
    leaves them out, as PyTorch does with its generator: they are no arrays. Files keep them (`fastnn.save`,
    `Trainer.save`). To go on with the same masks after loading a `state_dict`, set `layer.seed` and
    `layer.forwards`.

    Dropping is selection, not multiplication: a dropped NaN is 0.

    Raises TypeError or ValueError for a wrong probability, ValueError for both p and keep.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> layer = nn.Dropout(0.5, rng=0)
    >>> layer(np.ones(6)).tolist()
    [0.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    >>> layer.backward(np.ones(6)).tolist()
    [0.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    >>> layer.eval()(np.ones(6)).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """

    counters = ("seed", "forwards")

    def __init__(
        self,
        p: float = _HALF,
        *,
        keep: float | None = None,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        if keep is not None:
            if p is not _HALF:
                raise ValueError(f"Dropout: got p={p!r} and keep={keep!r}; pass one of them")
            p = 1.0 - check_number(keep, "Dropout: keep", 0, 1, closed=True)
        self.p = check_number(p, "Dropout: p", 0, 1, closed=True)
        self._reset(as_generator(rng, "Dropout: rng"))

    def _reset(self, rng: np.random.Generator) -> None:
        self.seed = int(rng.integers(2**63))
        self.forwards = 0

    def forward(self, x: Array) -> FloatArray:
        x = as_floats(x, "Dropout: x")
        self._saved = None
        if not self.training:
            return x
        y = ops.dropout(x, self.p, seed=self.seed, step=self.forwards)
        self._saved = (x.shape, self.forwards)
        self.forwards += 1
        return y

    def backward(self, dy: Array, *, accumulate: bool = False, input_grad: bool = True) -> FloatArray | None:
        shape, step = self._take_saved()
        dy = as_floats(dy, "Dropout.backward: dy")
        if dy.shape != shape:
            raise ValueError(f"Dropout.backward: dy must have shape {shape}, got {dy.shape}")
        return ops.dropout(dy, self.p, seed=self.seed, step=step) if input_grad else None

    def _lower(self, lowering: Any, x: Any) -> Any:
        number = lowering.dropout(self)
        if not self.training:
            return x, None
        y = lowering.value(x.shape)
        lowering.emit("dropout", x, y, x.size, number, self.p, self.seed)

        def backward(dy: Any, wanted: bool) -> Any:
            if not wanted:
                return None
            dx = lowering.value(x.shape)
            lowering.emit("dropout", dy, dx, x.size, number, self.p, self.seed)
            return dx

        return y, backward

    def _config(self) -> dict[str, Any]:
        return {"p": self.p}

    def _arguments(self) -> str:
        return f"p={self.p:g}"
