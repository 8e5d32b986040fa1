"""Scalers of inputs: learn numbers for each column from training data, then apply them to any data.

`StandardScaler` (mean 0, variance 1), `MinMaxScaler` (a range) and `Whitening` (uncorrelated columns). `fit`
and `partial_fit` read float32, float64 and uint8 as they are, in native passes; `transform` gives float32.
What was learned from the training data is applied to the test data too: keep the scaler, or put it into the
model as `nn.Standardize(scaler)`. docs/preprocessing.md has the whole story.

>>> import numpy as np
>>> from fastnn import preprocessing
>>> X = np.array([[1, 10], [3, 10], [5, 10]])
>>> scaler = preprocessing.StandardScaler().fit(X)
>>> scaler.mean_, scaler.scale_.round(3)
(array([ 3., 10.]), array([1.633, 1.   ]))
>>> scaler.transform(X).round(3)
array([[-1.225,  0.   ],
       [ 0.   ,  0.   ],
       [ 1.225,  0.   ]], dtype=float32)
"""

from __future__ import annotations

from fastnn.preprocessing._scaler import ColumnScaler, Scaler
from fastnn.preprocessing.columns import MinMaxScaler, StandardScaler
from fastnn.preprocessing.whitening import Whitening

__all__ = ["ColumnScaler", "MinMaxScaler", "Scaler", "StandardScaler", "Whitening"]
