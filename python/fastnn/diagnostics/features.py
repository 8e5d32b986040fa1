"""feature_report: whether the columns of a data set have about the same size."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fastnn._arrays import Array, as_array
from fastnn._columns import column_moments, samples
from fastnn.diagnostics._report import Report, Row
from fastnn.diagnostics._watch import Float64

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Largest range of a column over the smallest one from which inputs need scaling.
LARGEST_RATIO = 100.0

_BLOCK = 2**20  # numbers looked at at a time


class FeatureReport(Report):
    """What `feature_report` returns: `range_ratio` and `std_ratio` beside a row for each column."""

    title = "columns of the data"
    columns: ClassVar = {
        "column": "count",
        "min": "number",
        "max": "number",
        "mean": "number",
        "std": "number",
        "non_finite": "count",
    }

    def __init__(self, rows: list[Row]) -> None:
        varying = [row for row in rows if row["std"] is not None and row["max"] > row["min"]]
        self.range_ratio = _ratio([row["max"] - row["min"] for row in varying])
        self.std_ratio = _ratio([row["std"] for row in varying])
        self.constant = [row["column"] for row in rows if row["std"] is not None and row["max"] == row["min"]]
        summary = [f"largest / smallest: range {self.range_ratio:.3g}, deviation {self.std_ratio:.3g}"]
        warnings = []
        if self.range_ratio > LARGEST_RATIO:
            ranges = [row["max"] - row["min"] for row in varying]
            widest, narrowest = (varying[int(i)]["column"] for i in (np.argmax(ranges), np.argmin(ranges)))
            warnings.append(
                f"ranges differ by more than {LARGEST_RATIO:.0f} times (column {widest} is the widest, "
                f"{narrowest} the narrowest): scale them, preprocessing.StandardScaler or nn.Standardize"
            )
        if self.constant:
            warnings.append(f"constant columns tell nothing: {_listed(self.constant)}")
        if wrong := [row["column"] for row in rows if row["non_finite"]]:
            warnings.append(f"NaN or infinity in columns {_listed(wrong)}: fill them, or leave the rows out")
        super().__init__(rows, summary, warnings)

    def _draw(self, figure: Figure) -> None:
        reach, spread = figure.subplots(1, 2)
        columns = self.values("column")
        low, high = np.array(self.values("min")), np.array(self.values("max"))
        width = max(0.5, min(8.0, 240 / len(columns)))
        reach.vlines(columns, low, high, lw=width)
        reach.plot(columns, self.values("mean"), "k_", ms=width + 2, label="mean")
        reach.set(title="smallest to largest value", xlabel="column")
        reach.set_yscale("symlog", linthresh=1)
        reach.legend(fontsize=9)
        spread.plot(columns, self.values("std"), "o", ms=max(2.0, min(6.0, width)))
        if any(row["std"] for row in self.rows):
            spread.set_yscale("log")
        spread.set(title="standard deviation", xlabel="column")
        for axes in (reach, spread):
            axes.grid(alpha=0.3)
            axes.xaxis.get_major_locator().set_params(integer=True)


def feature_report(X: Array) -> FeatureReport:
    """Whether the columns of a data set have about the same size; a row for each column.

    X is (rows, columns) of any real dtype, also a memory map: it is read a block of rows at a time, never
    copied whole. Keys: min, max, mean, std (biased, as `preprocessing.StandardScaler`), all over the finite
    values (None where there are none), and non_finite, the number of others.

    `range_ratio` and `std_ratio` are the largest range (deviation) of a column over the smallest one,
    constant columns left out. A range ratio above 100 is warned of: with a column in 1..1000 beside one in
    0..1 gradient descent zigzags. Columns in 0..1, -1..1 or 1..2 need nothing, also where a few of them are
    nearly always 0 (pixels), which gives a large `std_ratio`.

    Raises TypeError for what holds no real numbers, ValueError unless X is (rows, columns) with one of each
    at least.

    >>> import numpy as np
    >>> from fastnn import diagnostics
    >>> rng = np.random.default_rng(0)
    >>> X = np.column_stack([rng.uniform(1, 1000, 500), rng.uniform(0, 1, 500)])
    >>> report = diagnostics.feature_report(X)
    >>> round(report.range_ratio), len(report.warnings)
    (997, 1)
    >>> diagnostics.feature_report(X / [1000, 1]).warnings
    []
    """
    where = "feature_report: X"
    X = as_array(X, where)
    if X.ndim != 2 or X.size == 0:
        raise ValueError(
            f"{where} must be (rows, columns) with one of each at least, got shape {X.shape}; "
            "pass X.reshape(len(X), -1)"
        )
    step = max(1, _BLOCK // X.shape[1])
    found = _Columns(X.shape[1])
    for start in range(0, len(X), step):
        found.add(samples(X[start : start + step], where))
    return FeatureReport(found.rows())


class _Columns:
    """Count, mean, squares and ends of the finite values of each column, over all blocks added so far."""

    def __init__(self, columns: int) -> None:
        self.n = np.zeros(columns)
        self.wrong = np.zeros(columns, np.int64)
        self.mean, self.squares = np.zeros(columns), np.zeros(columns)
        self.low, self.high = np.full(columns, np.inf), np.full(columns, -np.inf)

    def add(self, X: Array) -> None:
        finite = np.isfinite(X)
        n = finite.sum(axis=0).astype(np.float64)
        low, high = X.min(axis=0), X.max(axis=0)
        if finite.all():
            mean, squares = column_moments(X)
        else:
            low = np.where(finite, X, np.inf).min(axis=0)
            high = np.where(finite, X, -np.inf).max(axis=0)
            with np.errstate(invalid="ignore"):
                mean = np.where(finite, X, 0).sum(axis=0, dtype=np.float64) / np.maximum(n, 1)
                squares = np.square(np.where(finite, X - mean, 0)).sum(axis=0, dtype=np.float64)
            self.wrong += (~finite).sum(axis=0)
        self._merge(n, mean, squares)
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)

    def _merge(self, n: Float64, mean: Float64, squares: Float64) -> None:
        """As by Chan, Golub and LeVeque."""
        total = np.maximum(self.n + n, 1)
        gap = mean - self.mean
        self.squares += squares + gap**2 * (self.n * n / total)
        self.mean += gap * (n / total)
        self.n += n

    def rows(self) -> list[Row]:
        std = np.sqrt(self.squares / np.maximum(self.n, 1))
        rows = []
        for i, n in enumerate(self.n):
            numbers = {"min": self.low[i], "max": self.high[i], "mean": self.mean[i], "std": std[i]}
            shown = {key: float(value) if n else None for key, value in numbers.items()}
            rows.append({"column": i, **shown, "non_finite": int(self.wrong[i])})
        return rows


def _ratio(values: list[float]) -> float:
    return float(max(values) / min(values)) if values else 1.0


def _listed(columns: list[int]) -> str:
    """Column numbers, the first few of them."""
    shown = ", ".join(map(str, columns[:5]))
    return shown if len(columns) <= 5 else f"{shown} and {len(columns) - 5} more"
