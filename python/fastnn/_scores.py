"""Metrics of losses that are summed batch by batch, so that those of an epoch are exact."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastnn._arrays import Array

# (what each row scored, its weight)
Hits = Callable[[Array, Array, Array | None], tuple[Array, Array]]


class Scores(ABC):
    """Metrics of all rows added so far."""

    names: ClassVar[tuple[str, ...]]  # of the metrics in `result`

    @abstractmethod
    def add(self, pred: Array, target: Array, sample_weight: Array | None = None) -> None:
        """Count the rows of another batch."""

    @abstractmethod
    def result(self) -> dict[str, float]:
        """The metrics by name."""

    @abstractmethod
    def sums(self, outputs: int) -> npt.NDArray[np.float64]:
        """All sums so far in one array, as csrc/core/scores.h has them."""

    @abstractmethod
    def take(self, sums: npt.NDArray[np.float64]) -> None:
        """Go on from such sums."""

    def state_dict(self) -> dict[str, Any]:
        """The sums so far."""
        return {name: value for name, value in vars(self).items() if not callable(value)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict()`."""
        vars(self).update(state)


class Accuracy(Scores):
    """`accuracy`: the weighted share of hits."""

    names = ("accuracy",)

    def __init__(self, hits: Hits) -> None:
        self._hits = hits
        self._sum = self._weight = 0.0

    def add(self, pred: Array, target: Array, sample_weight: Array | None = None) -> None:
        hits, weight = self._hits(pred, target, sample_weight)
        self._sum += float(np.dot(np.asarray(hits, np.float64), weight))
        self._weight += float(np.sum(weight, dtype=np.float64))

    def result(self) -> dict[str, float]:
        return {"accuracy": self._sum / self._weight}

    def sums(self, outputs: int) -> npt.NDArray[np.float64]:
        return np.array([self._sum, self._weight])

    def take(self, sums: npt.NDArray[np.float64]) -> None:
        self._sum, self._weight = map(float, sums)


class RegressionScores(Scores):
    """`rmse` and `mae` over rows and outputs; `r2`, the mean over outputs of 1 - residual / total squares.

    As in scikit-learn, an output whose targets are all the same has an r2 of 1 if it is met, else of 0.
    """

    names = ("rmse", "mae", "r2")

    def __init__(self) -> None:
        self._weight = 0.0
        self._residual: Array | float = 0.0  # by output, as the other three
        self._absolute: Array | float = 0.0
        self._mean: Array | float = 0.0
        self._total: Array | float = 0.0  # squares of targets about their mean

    def add(self, pred: Array, target: Array, sample_weight: Array | None = None) -> None:
        rows = len(pred)
        truth = target.reshape(rows, -1).astype(np.float64)
        gap = pred.reshape(rows, -1) - truth
        weight = np.ones(rows) if sample_weight is None else sample_weight.astype(np.float64)
        added = float(weight.sum())
        if added == 0.0:
            return
        self._residual = self._residual + weight @ gap**2
        self._absolute = self._absolute + weight @ np.abs(gap)
        mean = weight @ truth / added
        apart = mean - self._mean
        whole = self._weight + added
        self._total = self._total + weight @ (truth - mean) ** 2 + apart**2 * (self._weight * added / whole)
        self._mean = self._mean + apart * (added / whole)
        self._weight = whole

    def result(self) -> dict[str, float]:
        residual, total = np.asarray(self._residual), np.asarray(self._total)
        # Equal targets leave the rounding of their mean: nothing to divide by.
        rounding = 16 * np.finfo(np.float64).eps * np.abs(self._mean)
        varies = total > self._weight * rounding**2
        unexplained = np.divide(residual, total, out=np.sign(residual), where=varies)
        return {
            "rmse": float(np.sqrt(np.mean(residual) / self._weight)),
            "mae": float(np.mean(self._absolute) / self._weight),
            "r2": float(np.mean(1.0 - unexplained)),
        }

    def sums(self, outputs: int) -> npt.NDArray[np.float64]:
        parts = [self._residual, self._absolute, self._mean, self._total]
        return np.concatenate([[self._weight], *(np.broadcast_to(part, outputs) for part in parts)])

    def take(self, sums: npt.NDArray[np.float64]) -> None:
        self._weight = float(sums[0])
        self._residual, self._absolute, self._mean, self._total = sums[1:].reshape(4, -1).copy()
