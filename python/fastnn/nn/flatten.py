"""Flatten: all axes but the first become one."""

from __future__ import annotations

import math
from typing import Any

from fastnn._arrays import Array, FloatArray
from fastnn._device import as_floats
from fastnn.nn.module import Module


class Flatten(Module):
    """x of shape (n, a, b, ...) becomes (n, a * b * ...), in C order, as in PyTorch.

    The result is a view of x where x is contiguous, so nothing is copied; backward shapes dy like x.

    Raises ValueError for x of fewer than two dimensions.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.Flatten()(np.zeros((10, 28, 28))).shape
    (10, 784)
    """

    passes_on = True

    def forward(self, x: Array) -> FloatArray:
        x = as_floats(x, "Flatten: x")
        if x.ndim < 2:
            raise ValueError(f"Flatten: x must have shape (n, ...), got {x.shape}; pass x[:, None]")
        self._saved = x.shape if self.training else None
        return x.reshape(len(x), math.prod(x.shape[1:]))

    def backward(self, dy: Array, *, accumulate: bool = False, input_grad: bool = True) -> FloatArray | None:
        shape = self._take_saved()
        dy = as_floats(dy, "Flatten.backward: dy")
        flat = shape[0], math.prod(shape[1:])
        if dy.shape != flat:
            raise ValueError(f"Flatten.backward: dy must have shape {flat}, got {dy.shape}")
        return dy.reshape(shape) if input_grad else None

    def _lower(self, lowering: Any, x: Any) -> Any:
        return x._replace(shape=(x.size,)), lambda dy, wanted: dy._replace(shape=x.shape) if wanted else None
