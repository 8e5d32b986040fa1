"""Scalers that treat each column alone: mean 0 and variance 1, or a range."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn._arrays import Array, FloatArray, check_flag, check_number
from fastnn._columns import column_moments
from fastnn.preprocessing._scaler import LARGEST, ColumnScaler, Float64, State, merged_mean


def _divisor(spread: Float64, numerator: float = 1.0) -> Float64:
    """spread, or 1 where a column is constant, or so nearly that numerator / spread is beyond float32."""
    return np.where(spread > numerator / LARGEST, spread, 1.0)


class StandardScaler(ColumnScaler):
    """y = (x - mean) / std for each column: mean 0 and variance 1 over the rows of `fit` ("z-score").

    Parameters
    ----------
    with_mean : False leaves the mean where it is
    with_std : False leaves the variance as it is

    mean = sum x / n and the biased std = sqrt(sum (x - mean)**2 / n), as in scikit-learn and in the sources
    (a lecture often copied divides by the variance: wrong). A constant column has std 0: it is divided by 1,
    so it becomes 0 in the training data. After `fit`: `mean_`, `var_`, `scale_` (float64, (columns,)),
    `n_samples_seen_`, `n_features_in_`. Sums are formed in float64 about a row of each block and batches are
    merged as by Chan et al. 1979, so data far from zero lose nothing (mean 1e4 and std 0.1 as well as
    0 and 1).

    It differs from scikit-learn's in what comes out (float32), and in NaN, which raises in `fit` (there:
    ignored). scikit-learn also takes a column for constant whose std is within rounding of float64.

    >>> import numpy as np
    >>> from fastnn.preprocessing import StandardScaler
    >>> X = np.array([[0, 1], [4, 1]], np.uint8)
    >>> StandardScaler().fit(X).transform(X)
    array([[-1.,  0.],
           [ 1.,  0.]], dtype=float32)
    >>> streamed = StandardScaler().partial_fit(X[:1]).partial_fit(X[1:])
    >>> streamed.mean_, streamed.var_
    (array([2., 1.]), array([4., 0.]))
    """

    _names = ("mean", "squares")
    mean_: Float64
    var_: Float64
    scale_: Float64

    def __init__(self, *, with_mean: bool = True, with_std: bool = True) -> None:
        self.with_mean = check_flag(with_mean, "StandardScaler: with_mean")
        self.with_std = check_flag(with_std, "StandardScaler: with_std")

    def _arguments(self) -> dict[str, Any]:
        return {"with_mean": self.with_mean, "with_std": self.with_std}

    def _learn(self, X: Array) -> State:
        mean, squares = column_moments(X)
        return {"mean": mean, "squares": squares}

    def _merge(self, rows: int, old: State, new_rows: int, new: State) -> State:
        mean, gap = merged_mean(rows, old, new_rows, new)
        squares = old["squares"] + new["squares"] + gap**2 * (rows * (new_rows / (rows + new_rows)))
        return {"mean": mean, "squares": squares}

    def _prepare(self) -> None:
        assert self._learned is not None
        self.mean_ = self._learned["mean"]
        self.var_ = self._learned["squares"] / self.n_samples_seen_
        self.scale_ = _divisor(np.sqrt(self.var_)) if self.with_std else np.ones(self._columns)
        zero = np.zeros(self._columns)
        shift = self.mean_ if self.with_mean else zero
        self._there = shift, 1 / self.scale_, zero
        self._back = zero, self.scale_, shift


class MinMaxScaler(ColumnScaler):
    """y = low + (x - min) / (max - min) * (high - low) for each column: `feature_range` = (low, high).

    Parameters
    ----------
    feature_range : (low, high), low < high
    clip : True puts what lies outside, in data that `fit` has not seen, onto the ends

    min and max are those of the rows of `fit`. A constant column has range 0: it is divided by 1, so it
    becomes `low`, as in scikit-learn. After `fit`: `data_min_`, `data_max_`, `data_range_` (float64),
    `n_samples_seen_`, `n_features_in_`. NaN raises in `fit` (scikit-learn ignores it). The maximum itself may
    come out one rounding above `high`; `clip=True` takes that away.

    >>> import numpy as np
    >>> from fastnn.preprocessing import MinMaxScaler
    >>> scaler = MinMaxScaler().fit(np.array([[0, 5], [10, 5]]))
    >>> scaler.transform(np.array([[5, 5], [20, 6]]))
    array([[0.5, 0. ],
           [2. , 1. ]], dtype=float32)
    """

    _names = ("low", "high")
    data_min_: Float64
    data_max_: Float64
    data_range_: Float64

    def __init__(self, feature_range: tuple[float, float] = (0.0, 1.0), *, clip: bool = False) -> None:
        if not isinstance(feature_range, (tuple, list)) or len(feature_range) != 2:
            raise TypeError(f"MinMaxScaler: feature_range must be a pair (low, high), got {feature_range!r}")
        low, high = (
            check_number(value, f"MinMaxScaler: feature_range[{i}]", -LARGEST, LARGEST)
            for i, value in enumerate(feature_range)
        )
        if low >= high:
            raise ValueError(f"MinMaxScaler: feature_range must rise, got {feature_range!r}")
        self.feature_range = low, high
        self.clip = check_flag(clip, "MinMaxScaler: clip")

    def _arguments(self) -> dict[str, Any]:
        return {"feature_range": self.feature_range, "clip": self.clip}

    def affine(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        if self.clip:
            raise ValueError("MinMaxScaler.affine: clip=True is no affine map; use clip=False")
        return super().affine()

    def _learn(self, X: Array) -> State:
        return {"low": X.min(axis=0).astype(np.float64), "high": X.max(axis=0).astype(np.float64)}

    def _merge(self, rows: int, old: State, new_rows: int, new: State) -> State:
        return {"low": np.minimum(old["low"], new["low"]), "high": np.maximum(old["high"], new["high"])}

    def _prepare(self) -> None:
        assert self._learned is not None
        low, high = self.feature_range
        self.data_min_, self.data_max_ = self._learned["low"], self._learned["high"]
        self.data_range_ = self.data_max_ - self.data_min_
        factor, lowest = (high - low) / _divisor(self.data_range_, high - low), np.full(self._columns, low)
        self._there = self.data_min_, factor, lowest
        self._back = lowest, 1 / factor, self.data_min_

    def _scaled(self, X: Array, out: FloatArray | None, inverse: bool) -> FloatArray:
        y = super()._scaled(X, out, inverse)
        return np.clip(y, *self.feature_range, out=y) if self.clip and not inverse else y
