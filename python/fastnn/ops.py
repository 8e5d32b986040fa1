"""Kernels on float32 arrays: a call computes, or updates in place, exactly what its name says.

Arrays are NumPy's, or any in host memory that speak DLPack, such as PyTorch's CPU tensors: they are read
and written where they lie, and what a function makes itself is an ndarray. Or they are all on an NVIDIA GPU
(CuPy's, PyTorch's, any with a CUDA export): then the kernels run there, on the caller's stream, and what a
function makes is an array of the caller's library (docs/cuda.md); `batch_norm_steps` and bfloat16 are the
host's alone. Every function takes native float32 arrays and nothing else (`gemm` bfloat16 too): another
dtype raises a `TypeError` that names the cure, a wrong shape or value a `ValueError`. Inputs may be
strided, misaligned or read-only; results that are given memory (`out=`, and everything an update changes)
must be writable and must not overlap an input. Names that end in `_` change their arguments in place, and
take one array or a list of arrays per argument (a list is one native call). Results have the same bits for
every number of threads and, in float32, every instruction set. `batch_norm_steps` alone is plain NumPy, for
teaching and checking.

>>> import numpy as np
>>> from fastnn import ops
>>> x = np.array([[1, 2], [3, 4]], np.float32)
>>> w = np.array([[1, -1], [0, 1]], np.float32)
>>> ops.gemm(x, w, bias=np.array([0, -2], np.float32), activation="relu").tolist()
[[1.0, 0.0], [3.0, 0.0]]
>>> param, grad = np.ones(2, np.float32), np.array([2, -2], np.float32)
>>> ops.sgd_(param, grad, lr=0.25)
>>> param.tolist()
[0.5, 1.5]
"""

from __future__ import annotations

from fastnn import _core
from fastnn._batch_norm_steps import batch_norm_steps
from fastnn._core import (
    activation,
    activation_backward,
    adagrad_,
    adam_,
    batch_norm,
    batch_norm_backward,
    dropout,
    gemm,
    huber,
    linear_backward,
    momentum_,
    mse,
    quadratic_cost,
    rmsprop_,
    sgd_,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
)

# The sum of nn.Residual.
_add = _core.add
# Whole steps of an optimizer, for fastnn._update.
_Update, _run_update = _core.Update, _core.run_update
# What a batch weighs, for fastnn.nn.
_debiased_weight = _core.debiased_weight
# What metrics are made of, for fastnn.losses.
_score_hits, _score_sides, _score_squares = _core.score_hits, _core.score_sides, _core.score_squares

__all__ = [
    "activation",
    "activation_backward",
    "adagrad_",
    "adam_",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_steps",
    "dropout",
    "gemm",
    "huber",
    "linear_backward",
    "momentum_",
    "mse",
    "quadratic_cost",
    "rmsprop_",
    "sgd_",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
]
