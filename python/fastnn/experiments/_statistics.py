"""The paired difference of two arms, its bootstrap interval and the verdict on a claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

NEVER = 1e9
"""Stands for a number of steps, epochs or seconds after which a run had not arrived."""

FEWEST_PAIRS = 6
"""Fewer decide nothing: n equal signs by chance have probability 2 / 2^n, which is below 5 % from six on."""


@dataclass(frozen=True)
class Claim:
    """`text`, and what decides it: the number of the arm `first` is above (or `below`) that of `second`.

    Where `second` is a number, that of `first` is compared with it.
    """

    text: str
    first: str
    second: str | float
    number: str
    below: bool = False


def interval(differences: Sequence[float], *, draws: int = 10_000) -> tuple[float, float, float]:
    """The median of the differences and the 95 % percentile bootstrap interval of it; the same at each call.

    >>> interval([1.0, 1.0, 1.0])
    (1.0, 1.0, 1.0)
    """
    values = np.asarray(differences, np.float64)
    rng = np.random.default_rng(0)
    medians = np.median(values[rng.integers(len(values), size=(draws, len(values)))], axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(np.median(values)), float(low), float(high)


def verdict(low: float, high: float, pairs: int, *, below: bool = False, exact: bool = False) -> str:
    """Held where the whole interval lies on the claimed side of 0, reversed on the other, else undecided.

    >>> verdict(0.1, 0.3, 10), verdict(-0.3, -0.1, 10), verdict(-0.1, 0.3, 10), verdict(0.1, 0.3, 5)
    ('held', 'reversed', 'undecided', 'undecided')
    """
    if pairs < FEWEST_PAIRS and not exact:
        return "undecided"
    if low <= 0 <= high:
        return "undecided"
    return "held" if (high < 0) == below else "reversed"


def judged(claim: Claim, arms: Mapping[str, dict[str, Any]], *, exact: bool = False) -> dict[str, Any]:
    """The claim with the difference of each pair of runs (equal seeds), interval and verdict."""
    first = arms[claim.first]["runs"]
    if isinstance(claim.second, str):
        second = arms[claim.second]["runs"]
        if [run["seed"] for run in first] != [run["seed"] for run in second]:
            raise ValueError(f"judged: {claim.first} and {claim.second} were not run with the same seeds")
        others = [run[claim.number] for run in second]
    else:
        others = [claim.second] * len(first)
    differences = [run[claim.number] - other for run, other in zip(first, others, strict=True)]
    middle, low, high = interval(differences)
    return {
        "claim": claim.text,
        "first": claim.first,
        "second": claim.second,
        "number": claim.number,
        "below": claim.below,
        "exact": exact,
        "differences": differences,
        "median": middle,
        "low": low,
        "high": high,
        "verdict": verdict(low, high, len(differences), below=claim.below, exact=exact),
    }


def band(curves: Sequence[Sequence[float | None]]) -> tuple[Any, Any, Any]:
    """10 %, median and 90 % of the curves at each point; a run that had ended there (None) is not in it."""
    longest = max(map(len, curves))
    table = np.full((len(curves), longest), np.nan)
    for row, curve in zip(table, curves, strict=True):
        row[: len(curve)] = [np.nan if value is None else value for value in curve]
    columns = [column[~np.isnan(column)] for column in table.T]
    found = [np.percentile(c, [10, 50, 90]) if len(c) else np.full(3, np.nan) for c in columns]
    low, middle, high = np.array(found).T
    return low, middle, high
