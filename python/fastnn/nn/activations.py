"""Activations: a function of every element, without parameters."""

from __future__ import annotations

from typing import Any, ClassVar

from fastnn import ops
from fastnn._arrays import Array, FloatArray, as_float32
from fastnn.nn.module import Module


class Activation(Module):
    """Base of the activations: `kind` is the name of the formula in `ops.activation`."""

    kind: ClassVar[Any]

    def forward(self, x: Array) -> FloatArray:
        x = as_float32(x, f"{type(self).__name__}: x")
        self._saved = x if self.training else None
        return ops.activation(x, self.kind)

    def backward(self, dy: Array, *, accumulate: bool = False, input_grad: bool = True) -> FloatArray | None:
        x = self._take_saved()
        where = f"{type(self).__name__}.backward: dy"
        dy = as_float32(dy, where)
        if dy.shape != x.shape:
            raise ValueError(f"{where} must have shape {x.shape}, got {dy.shape}")
        return ops.activation_backward(dy, x, self.kind) if input_grad else None


class ReLU(Activation):
    """y = max(x, 0), for x of any shape; the derivative at 0 is 0 and NaN passes through, as in PyTorch.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> layer = nn.ReLU()
    >>> layer(np.array([-1.0, 0.0, 2.0])).tolist()
    [0.0, 0.0, 2.0]
    >>> layer.backward(np.array([5.0, 5.0, 5.0])).tolist()
    [0.0, 0.0, 5.0]
    """

    kind = "relu"
