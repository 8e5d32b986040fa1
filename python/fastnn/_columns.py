"""Passes over the columns of a data matrix: what preprocessing and `nn.Standardize` share."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn._arrays import Array, as_array
from fastnn._core import column_moments, scale_columns

__all__ = ["check_out", "column_moments", "samples", "scale_columns"]

_NATIVE = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.uint8))


def samples(X: Any, what: str) -> Array:
    """X as the kernels read it: a matrix of float32, float64 or uint8 with contiguous columns.

    Those are read where they lie; small integers and float16 become float32, which holds them exactly, other
    numbers float64. Raises TypeError for what holds no real numbers, ValueError unless X is (rows, columns).
    """
    X = as_array(X, what)
    if isinstance(X, np.ma.MaskedArray):
        raise TypeError(f"{what} is a masked array and its mask would be lost; pass .filled(value)")
    if X.dtype.kind not in "biuf":
        raise TypeError(f"{what} must hold real numbers, got dtype {X.dtype}; pass .astype(np.float64)")
    if X.ndim != 2:
        raise ValueError(f"{what} must be (rows, columns), got shape {X.shape}; pass X.reshape(len(X), -1)")
    if X.dtype not in _NATIVE:
        exact = X.dtype.newbyteorder("=") == np.float32 or (X.dtype.itemsize <= 2 and X.dtype.kind != "b")
        X = X.astype(np.uint8 if X.dtype.kind == "b" else np.float32 if exact else np.float64)
    row, column = X.strides
    in_place = X.flags.aligned and row % X.itemsize == 0 and (column == X.itemsize or X.shape[1] == 1)
    return X if in_place else np.array(X, order="C")


def check_out(out: Any, X: Array, what: str) -> None:
    """Raise unless the scaled rows of X can be written into `out`."""
    if not isinstance(out, np.ndarray) or out.dtype != np.float32 or not out.dtype.isnative:
        kind = out.dtype if isinstance(out, np.ndarray) else type(out).__name__
        raise TypeError(f"{what} must be a float32 array, got {kind}")
    if out.shape != X.shape:
        raise ValueError(f"{what} must have shape {X.shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError(f"{what} is read-only; pass an array that may be written")
    if out.size and not (out.flags.c_contiguous and out.flags.aligned):
        raise ValueError(f"{what} must be C-contiguous; pass np.empty(X.shape, np.float32), or X itself")
    itself = out.ctypes.data == X.ctypes.data and out.dtype == X.dtype and out.strides == X.strides
    if not itself and np.shares_memory(out, X):
        raise ValueError(f"{what} shares memory with X; pass X itself, or memory of its own")
