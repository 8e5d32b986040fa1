"""Initializers of whole matrices: orthogonal, sparse, identity."""

from __future__ import annotations

import numpy as np

from fastnn import ops
from fastnn._arrays import FloatArray, check_int, check_number
from fastnn.init._initializer import LARGEST, Fans, Initializer, check_matrix

_BLOCK = 32  # rows made orthogonal one by one; earlier blocks are taken away by products of matrices


class Orthogonal(Initializer):
    """`gain` times a random matrix with orthonormal rows or columns, whichever are fewer.

    For a weight W of shape (fan_in, fan_out): W' W = gain**2 I if fan_out <= fan_in, else W W' = gain**2 I.
    So a square layer keeps the length of every vector, forward and backward. Every such matrix is equally
    likely (the Haar measure): rows of normal draws, made orthogonal in order by Gram and Schmidt.
    Saxe et al. 2013. The products are `ops.gemm`'s, so the bits are the same on every machine; PyTorch and
    Keras use LAPACK's QR, whose are not.

    >>> w = Orthogonal()((6, 4), rng=0)
    >>> bool(np.abs(w.T @ w - np.eye(4)).max() < 1e-6)
    True
    """

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = check_number(gain, "Orthogonal: gain", 0, LARGEST)

    def _fill(self, values: FloatArray, rng: np.random.Generator, fans: Fans) -> None:
        tall = values.shape[0] >= values.shape[1] if check_matrix("Orthogonal", values) else False
        rows = rng.standard_normal(values.T.shape if tall else values.shape, dtype=np.float32)
        for start in range(0, len(rows), _BLOCK):
            _orthonormalize(rows[start : start + _BLOCK], rows[:start])
        values[...] = rows.T if tall else rows
        values *= np.float32(self.gain)


def _orthonormalize(rows: FloatArray, done: FloatArray) -> None:
    """Make `rows` orthonormal, and orthogonal to the orthonormal `done`, in place.

    Twice: what rounding leaves of the first time is of the size of rounding after the second.
    """
    for _ in range(2):
        _take_away(rows, done)
        for i in range(len(rows)):
            row = rows[i : i + 1]
            _take_away(row, rows[:i])
            row /= np.sqrt(ops.gemm(row, row, trans_b=True))


def _take_away(rows: FloatArray, done: FloatArray) -> None:
    """rows -= (rows done') done"""
    if len(done):
        ops.gemm(ops.gemm(rows, done, trans_b=True), done, out=rows, alpha=-1.0, beta=1.0)


class Sparse(Initializer):
    """Exactly k weights of every neuron are not zero: drawn from a normal distribution of this `std`.

    For a weight of shape (fan_in, fan_out), so in every column, k places of fan_in are chosen, each set
    equally likely. Martens 2010, with k = 15 and std = 1. It is for wide layers: a neuron's input has
    variance k std**2 whatever fan_in is. PyTorch's and MindSpore's `sparse_` zero a fraction for every
    *input*, so that a neuron may be left with any number of weights, none at all too.

    Raises ValueError for a k above fan_in.

    >>> w = Sparse(3, std=1.0)((100, 8), rng=0)
    >>> np.count_nonzero(w, axis=0)
    array([3, 3, 3, 3, 3, 3, 3, 3])
    """

    def __init__(self, k: int, std: float) -> None:
        self.k = check_int(k, "Sparse: k", 1)
        self.std = check_number(std, "Sparse: std", 0, LARGEST)

    def _fill(self, values: FloatArray, rng: np.random.Generator, fans: Fans) -> None:
        inputs, neurons = check_matrix("Sparse", values)
        if self.k > inputs:
            raise ValueError(f"Sparse: k must be at most fan_in = {inputs}, got {self.k}")
        chosen = rng.random((neurons, inputs)).argsort(axis=1, kind="stable")[:, : self.k]
        # In float64, where a draw is 0 once in 2**52.
        drawn = self.std * rng.standard_normal((neurons, self.k))
        values[...] = 0
        np.put_along_axis(values.T, chosen, drawn.astype(np.float32), axis=1)


class Identity(Initializer):
    """`gain` on the main diagonal of a matrix, 0 elsewhere: a square layer that multiplies by `gain`.

    Draws nothing. A stack of L such layers gives gain**L x, and its gradient gain**L dy: what variance
    scaling is there to avoid. As PyTorch's `eye_` where the matrix is not square.

    >>> Identity(1.5)((2, 3), rng=0)
    array([[1.5, 0. , 0. ],
           [0. , 1.5, 0. ]], dtype=float32)
    """

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = check_number(gain, "Identity: gain", -LARGEST, LARGEST, closed=True)

    def _fill(self, values: FloatArray, rng: np.random.Generator, fans: Fans) -> None:
        check_matrix("Identity", values)
        values[...] = 0
        np.fill_diagonal(values, self.gain)
