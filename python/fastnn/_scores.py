"""What predictions say: classes, probabilities, and the metrics of losses, which are summed batch by batch so
that those of an epoch are exact."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastnn import _device
from fastnn._arrays import Array, FloatArray, as_float32

# Adds a batch of (pred, target, sample_weight) to sums as csrc/core/scores.h has them.
AddTo = Callable[[Array, Array, Array | None, npt.NDArray[np.float64]], None]


def columns(array: Array, dtype: npt.DTypeLike) -> Array:
    """(rows, outputs), contiguous."""
    return np.require(array, dtype, ("C", "A")).reshape(len(array), math.prod(array.shape[1:]))


def softmax(pred: Array) -> FloatArray:
    """Of each row of logits."""
    logits = as_float32(pred, "CrossEntropyLoss.probabilities: pred")
    powers: FloatArray = np.exp(logits - logits.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def largest(pred: Array) -> Array:
    """The index of the largest number of each row."""
    return np.asarray(np.argmax(pred, axis=-1))


def sides(pred: Array) -> Array:
    """1 where a logit is above 0, else 0."""
    pred = pred[:, 0] if pred.ndim == 2 and pred.shape[1] == 1 else pred
    return np.asarray(pred > 0, np.int64)


class Scores(ABC):
    """Metrics of all rows added so far."""

    names: ClassVar[tuple[str, ...]]  # of the metrics in `result`

    def __init__(self, add_to: AddTo) -> None:
        self._add_to = add_to

    def add(self, pred: Array, target: Array, sample_weight: Array | None = None) -> None:
        """Count the rows of another batch; of arrays on a device NumPy's copies."""
        pred, target, sample_weight = _device.together_on_host(
            "metrics", pred=pred, target=target, sample_weight=sample_weight
        )
        sums = self.sums(math.prod(pred.shape[1:]))
        self._add_to(pred, target, sample_weight, sums)
        self.take(sums)

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

    def __init__(self, add_to: AddTo) -> None:
        super().__init__(add_to)
        self._sum = self._weight = 0.0

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

    def __init__(self, add_to: AddTo) -> None:
        super().__init__(add_to)
        self._weight = 0.0
        self._residual: Array | float = 0.0  # by output, as the other three
        self._absolute: Array | float = 0.0
        self._mean: Array | float = 0.0
        self._total: Array | float = 0.0  # squares of targets about their mean

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
