"""What the scalers say to a wrong argument: rows of test_bad_input_python.py."""

from functools import partial

import numpy as np
from fastnn.preprocessing import MinMaxScaler, StandardScaler, Whitening

X = np.arange(12.0).reshape(6, 2)
MASKED = np.ma.masked_array(X, mask=X == 0)
KINDS = (StandardScaler, MinMaxScaler, Whitening)


def of_every_kind():
    for kind in KINDS:
        name, state = kind.__name__, kind().fit(X).state_dict()
        first = kind._names[0]
        for method in ("fit", "partial_fit"):
            for case, value, error, text in (
                ("list", X.tolist(), TypeError, "X must be a NumPy array, got list"),
                ("none", None, TypeError, "X must be a NumPy array, got NoneType"),
                ("text", X.astype(str), TypeError, "X must hold real numbers, got dtype <U"),
                ("complex", X.astype(complex), TypeError, "X must hold real numbers, got dtype complex128"),
                ("objects", X.astype(object), TypeError, "X must hold real numbers, got dtype object"),
                ("masked", MASKED, TypeError, r"X is a masked array .* pass \.filled\(value\)"),
                ("vector", X[0], ValueError, r"X must be \(rows, columns\), got shape \(2,\)"),
                ("images", X.reshape(3, 2, 2), ValueError, r".*pass X\.reshape\(len\(X\), -1\)"),
                ("empty", X[:0], ValueError, "X must have at least one row and one column"),
                ("no-columns", X[:, :0], ValueError, "X must have at least one row and one column"),
                ("wide", np.array([[1, -3e38], [1, 3e38]]), ValueError, "column 1 of X has values too large"),
            ):
                call = partial(getattr(kind(), method), value)
                yield f"{name}-{method}-{case}", call, error, rf"{name}\.{method}: {text}"
        for method in ("transform", "inverse_transform"):
            for case, value, error, text in (
                ("list", X.tolist(), TypeError, "X must be a NumPy array, got list"),
                ("text", X.astype(str), TypeError, "X must hold real numbers"),
                ("vector", X[0], ValueError, r"X must be \(rows, columns\)"),
                ("columns", X[:, :1], ValueError, r"X must have 2 columns as in fit, got \(6, 1\)"),
            ):
                call = partial(getattr(kind().fit(X), method), value)
                yield f"{name}-{method}-{case}", call, error, rf"{name}\.{method}: {text}"
            call = partial(getattr(kind(), method), X)
            text = rf"{name}\.{method}: nothing was learned yet; call {name}\.fit first"
            yield f"{name}-{method}-unfitted", call, RuntimeError, text
        for case, value, error, text in (
            ("list", [], TypeError, "expected a mapping of names to arrays, got list"),
            ("names", {}, ValueError, r"names must be \[.*'n_samples_seen'.*\], got \[\]"),
            ("rows", {**state, "n_samples_seen": 0}, ValueError, "n_samples_seen must be at least 1, got 0"),
            ("rows-float", {**state, "n_samples_seen": 1.5}, TypeError, "must be a whole number, got 1.5"),
            ("text", {**state, first: "a"}, TypeError, f"'{first}' must hold numbers, got 'a'"),
            ("none", {**state, first: None}, ValueError, f"'{first}' has NaN or infinities"),
            ("nan", {**state, first: np.array([np.nan, 1])}, ValueError, f"'{first}' has NaN or infinities"),
            (
                "shape",
                {**state, next(reversed(state)): np.zeros(5)},
                ValueError,
                r"has shape \(5,\), must be",
            ),
        ):
            call = partial(kind().load_state_dict, value)
            yield f"{name}-state-{case}", call, error, rf"{name}\.load_state_dict: .*{text}"


PREPROCESSING = [
    *of_every_kind(),
    (
        "mean-number",
        lambda: StandardScaler(with_mean=1),
        TypeError,
        "StandardScaler: with_mean must be True or",
    ),
    (
        "std-text",
        lambda: StandardScaler(with_std="no"),
        TypeError,
        "StandardScaler: with_std must be True or",
    ),
    (
        "features",
        lambda: StandardScaler().n_features_in_,
        RuntimeError,
        r"StandardScaler\.n_features_in_: noth",
    ),
    ("matrix", lambda: Whitening().matrix_, RuntimeError, r"Whitening\.matrix_: nothing was learned"),
    (
        "range-number",
        lambda: MinMaxScaler(1.0),
        TypeError,
        r"feature_range must be a pair \(low, high\), got 1",
    ),
    ("range-three", lambda: MinMaxScaler((0, 1, 2)), TypeError, "MinMaxScaler: feature_range must be a pair"),
    ("range-falls", lambda: MinMaxScaler((1, 0)), ValueError, r"feature_range must rise, got \(1, 0\)"),
    ("range-nan", lambda: MinMaxScaler((0, np.nan)), ValueError, r"feature_range\[1\] must be in .*got nan"),
    (
        "range-text",
        lambda: MinMaxScaler(("0", 1)),
        TypeError,
        r"feature_range\[0\] must be a number, got '0'",
    ),
    (
        "clip",
        lambda: MinMaxScaler(clip=None),
        TypeError,
        "MinMaxScaler: clip must be True or False, got None",
    ),
    ("method", lambda: Whitening("cholesky"), ValueError, 'method must be "pca" or "zca", got \'cholesky\''),
    ("eps", lambda: Whitening(eps=-1), ValueError, "Whitening: eps must be at least 0 .*got -1"),
    ("eps-text", lambda: Whitening(eps="0"), TypeError, "Whitening: eps must be a number, got '0'"),
]
