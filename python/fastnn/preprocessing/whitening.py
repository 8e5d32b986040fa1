"""Whitening: uncorrelated columns of variance 1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from fastnn import ops
from fastnn._arrays import Array, FloatArray, check_number
from fastnn._columns import column_moments, scale_columns
from fastnn.preprocessing._scaler import Float64, Scaler, State, merged_mean

_BLOCK = 1024  # rows that are centred, and multiplied, at a time


class Whitening(Scaler):
    """y = (x - mean) W: columns that are uncorrelated, with variance 1 (v / (v + eps), to be exact).

    Parameters
    ----------
    method : "pca": W = U (V + eps)**-1/2, where the covariance C = sum (x - mean)' (x - mean) / n is U V U',
        V its eigenvalues, the largest first; column i of y is principal component i. "zca": W = U (V +
        eps)**-1/2 U', the whitening that stays closest to x
    eps : at least 0, added to the variances; directions with hardly any variance hold noise, which 0 would
        blow up. It has the unit of the data squared, so scale columns of different units first

    This decorrelates; mean 0 and variance 1 for each column alone, which the sources call whitening in one
    place, is `StandardScaler`. The sign of an eigenvector is free: its largest element is positive. After
    `fit`: `mean_`, `covariance_` (float64), `n_samples_seen_`, `n_features_in_`; `matrix_` is W.

    scikit-learn has `PCA(whiten=True)`: no eps, and n - 1 for n in C. It has no ZCA. The products run in
    float32 (`ops.gemm`) on centred rows, 1024 at a time, and are summed in float64.

    Raises ValueError in `transform` where eps is 0 and rows so few or columns so dependent that a variance is
    0 to float32.

    >>> import numpy as np
    >>> from fastnn.preprocessing import Whitening
    >>> X = np.random.default_rng(0).normal(size=(1000, 2)) @ np.array([[1, 2], [0, 1]])
    >>> y = Whitening("zca").fit(X).transform(X)
    >>> bool(np.abs(y.T @ y / 1000 - np.eye(2)).max() < 1e-4)
    True
    """

    _names = ("mean", "products")
    _matrices = ("products",)
    mean_: Float64
    covariance_: Float64
    _pair: tuple[FloatArray, FloatArray] | None  # W and its inverse

    def __init__(self, method: Literal["pca", "zca"] = "pca", *, eps: float = 1e-5) -> None:
        if method not in ("pca", "zca"):
            raise ValueError(f'Whitening: method must be "pca" or "zca", got {method!r}')
        self.method = method
        self.eps = check_number(eps, "Whitening: eps", 0)

    def _arguments(self) -> dict[str, Any]:
        return {"method": self.method, "eps": self.eps}

    def _learn(self, X: Array) -> State:
        mean, _ = column_moments(X)
        products = np.zeros((len(mean), len(mean)))
        for _, centred in _less(X, mean):
            products += ops.gemm(centred, centred, trans_a=True)
        return {"mean": mean, "products": products}

    def _merge(self, rows: int, old: State, new_rows: int, new: State) -> State:
        mean, gap = merged_mean(rows, old, new_rows, new)
        between = np.outer(gap, gap) * (rows * (new_rows / (rows + new_rows)))
        return {"mean": mean, "products": old["products"] + new["products"] + between}

    def _prepare(self) -> None:
        assert self._learned is not None
        self.mean_ = self._learned["mean"]
        self.covariance_ = self._learned["products"] / self.n_samples_seen_
        self._pair = None

    @property
    def matrix_(self) -> FloatArray:
        """W, (columns, columns)."""
        self._require_fit("matrix_")
        return self._matrices_of_both_ways()[0]

    def _matrices_of_both_ways(self) -> tuple[FloatArray, FloatArray]:
        if self._pair is None:
            variances, vectors = np.linalg.eigh(self.covariance_)
            variances, vectors = variances[::-1].clip(0), vectors[:, ::-1]
            noise = len(variances) * np.finfo(np.float32).eps * variances.max(initial=0)
            if self.eps == 0 and (weak := np.count_nonzero(variances <= noise)):
                raise ValueError(
                    f"Whitening: {weak} of {len(variances)} directions have no variance; pass eps= above 0"
                )
            largest = np.abs(vectors).argmax(axis=0)
            vectors = vectors * np.sign(vectors[largest, np.arange(len(variances))])
            scale = np.sqrt(variances + self.eps)
            there, back = vectors / scale, (vectors * scale).T
            if self.method == "zca":
                there, back = there @ vectors.T, vectors @ back
            self._pair = there.astype(np.float32), back.astype(np.float32)
        return self._pair

    def _scaled(self, X: Array, out: FloatArray | None, inverse: bool) -> FloatArray:
        matrix = self._matrices_of_both_ways()[inverse]
        mean, nothing = self.mean_, np.zeros(self._columns)
        bias = mean.astype(np.float32) if inverse else None
        y = np.empty(X.shape, np.float32) if out is None else out
        for rows, block in _less(X, nothing if inverse else mean):
            ops.gemm(block, matrix, bias=bias, out=y[rows])
        return y


def _less(X: Array, mean: Float64) -> Iterator[tuple[slice, FloatArray]]:
    """X - mean in float32, block by block of rows, with the rows that each block is made of."""
    one, zero = np.ones(len(mean), np.float32), np.zeros(len(mean), np.float32)
    for start in range(0, len(X), _BLOCK):
        rows = slice(start, start + _BLOCK)
        yield rows, scale_columns(X[rows], mean, one, zero)
