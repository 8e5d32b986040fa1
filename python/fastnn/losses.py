"""Losses: `loss(pred, target, sample_weight=None) -> (value, dpred)`, value and gradient in one call.

Every value is a mean over rows, with weights sum(w * l) / sum(w); `sample_weight` is (n,), at least 0 and not
all 0. Arrays of other real dtypes are converted to float32, never rescaled, and nothing broadcasts. Of arrays
on a GPU gradients, classes and probabilities are CuPy's, metrics are numbers (docs/cuda.md).

`scores()` begins the metrics that a `Trainer` reports: `add` a batch, another, then read `result`.

>>> import numpy as np
>>> from fastnn import losses
>>> loss = losses.MSELoss()
>>> loss(np.array([1.0, 3.0]), np.array([1.0, 1.0]))
(2.0, array([0., 2.], dtype=float32))
>>> scores = loss.scores()
>>> scores.add(np.array([1.0, 3.0]), np.array([1.0, 1.0]))
>>> scores.add(np.array([6.0]), np.array([6.0]))
>>> {name: round(score, 3) for name, score in scores.result().items()}
{'rmse': 1.155, 'mae': 0.667, 'r2': 0.76}
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from fastnn import ops
from fastnn._arrays import Array, FloatArray, as_array, as_rows, check_int, check_number
from fastnn._device import as_floats, rows, through_host, together_on_host
from fastnn._scores import Accuracy, RegressionScores, Scores, columns, largest, sides, softmax

__all__ = ["BCEWithLogitsLoss", "CrossEntropyLoss", "HuberLoss", "MSELoss", "QuadraticCost"]


class _Loss(ABC):
    """What all losses share: how they are called and scored."""

    @abstractmethod
    def __call__(
        self, pred: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[float, FloatArray]: ...

    @abstractmethod
    def scores(self) -> Scores:
        """Begin the metrics of this loss: `.add(pred, target, sample_weight=None)`, `.result() -> dict`."""

    def metrics(self, pred: Array, target: Array, sample_weight: Array | None = None) -> dict[str, float]:
        """The scores of one batch.

        >>> CrossEntropyLoss().metrics(np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([1, 0]))
        {'accuracy': 0.5}
        """
        scores = self.scores()
        scores.add(pred, target, sample_weight)
        return scores.result()

    def total_weight(self, target: Array, sample_weight: Array | None = None) -> float:
        """What the mean over the rows of a batch divides by: how many they are, or the sum of their weights.

        >>> CrossEntropyLoss(ignore_index=-1).total_weight(np.array([0, -1, 2]))
        2.0
        """
        if sample_weight is None:
            return float(len(target))
        (weight,) = together_on_host(type(self).__name__, sample_weight=sample_weight)
        return float(np.sum(weight, dtype=np.float64))

    def _weight(self, sample_weight: Array | None) -> FloatArray | None:
        if sample_weight is None:
            return None
        return as_floats(sample_weight, f"{type(self).__name__}: sample_weight")


class CrossEntropyLoss(_Loss):
    """Softmax and cross-entropy of logits: the mean over rows of -sum_c t_c * log softmax(logits)_c.

    `loss(pred, target, sample_weight=None) -> (value, dpred)`

    pred : logits (n, C), never probabilities
    target : class ids (n,) of any integer dtype, or probabilities (n, C) of any float dtype, used as they are
    sample_weight : (n,), at least 0, not all 0; the value is then sum(w * l) / sum(w)
    value : float, summed in float64
    dpred : (n, C) float32, w / sum(w) * (softmax * sum_c t_c - t)

    label_smoothing : s in [0, 1]; targets become (1 - s) * t + s / C
    ignore_index : rows with this class id count neither in the sum nor in the mean, and their gradient is 0

    Stable for logits of any size. As PyTorch's `CrossEntropyLoss`, except that sample weights are one per
    row, that nothing is ignored unless asked for (there: -100), and that a batch of nothing but ignored rows
    raises a ValueError (there: the value is NaN, which a training would only show later).

    Raises TypeError for a target that is neither, ValueError for other shapes, for an id outside 0..C-1, and
    for probabilities beside `ignore_index`.

    >>> import numpy as np
    >>> from fastnn import losses
    >>> loss = losses.CrossEntropyLoss()
    >>> value, dpred = loss(np.zeros((1, 4), np.float32), np.array([2]))
    >>> round(value, 6), dpred.tolist()
    (1.386294, [[0.25, 0.25, -0.75, 0.25]])
    >>> losses.CrossEntropyLoss(label_smoothing=0.5)(np.zeros((1, 4)), np.array([2]))[1].tolist()
    [[0.125, 0.125, -0.375, 0.125]]
    """

    takes_labels = True  # class ids, which a training program reads in another way than values

    def __init__(self, *, label_smoothing: float = 0.0, ignore_index: int | None = None) -> None:
        self.label_smoothing = check_number(
            label_smoothing, "CrossEntropyLoss: label_smoothing", 0, 1, closed=True
        )
        self.ignore_index = (
            None
            if ignore_index is None
            else check_int(ignore_index, "CrossEntropyLoss: ignore_index", -(2**63))
        )

    def __call__(
        self, pred: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[float, FloatArray]:
        logits = as_floats(pred, "CrossEntropyLoss: pred")
        return ops.softmax_cross_entropy(
            logits,
            self._labels(target, logits.shape),
            sample_weight=self._weight(sample_weight),
            label_smoothing=self.label_smoothing,
            ignore_index=self.ignore_index,
        )

    def _lower(self, lowering: Any, pred: Any, dpred: Any) -> None:
        if len(pred.shape) != 1:
            got = lowering.full(pred)
            raise ValueError(f"CrossEntropyLoss: pred must have shape (n, classes), got {got}")
        options = self.label_smoothing, self.ignore_index
        lowering.emit("cross_entropy", pred, dpred, lowering.target(pred), pred.size, *options)

    def _target(self, target: Array, shape: tuple[int, ...]) -> Array:
        return as_rows(self._labels(target, shape), "CrossEntropyLoss: target")

    def _labels(self, target: Array, shape: tuple[int, ...]) -> Array:
        if len(shape) != 2:
            raise ValueError(f"CrossEntropyLoss: pred must have shape (n, classes), got {shape}")
        labels = _labels(target, shape)
        if labels.ndim == 2 and self.ignore_index is not None:
            raise ValueError("CrossEntropyLoss: ignore_index needs class ids, got probabilities")
        return labels

    def probabilities(self, pred: Array) -> FloatArray:
        """The softmax of each row of logits.

        >>> CrossEntropyLoss().probabilities(np.zeros((1, 2), np.float32)).tolist()
        [[0.5, 0.5]]
        """
        return through_host(softmax, pred, "CrossEntropyLoss.probabilities: pred")

    def classes(self, pred: Array) -> Array:
        """The id of the largest logit of each row (int64).

        >>> CrossEntropyLoss().classes(np.array([[0.5, 2.0, 1.0]])).tolist()
        [1]
        """
        return through_host(largest, pred, "CrossEntropyLoss.classes: pred")

    def scores(self) -> Scores:
        """`accuracy`: the share of rows (of weight, when given) whose largest logit is the target's class."""
        return Accuracy(self._add_hits)

    def total_weight(self, target: Array, sample_weight: Array | None = None) -> float:
        target, weight = together_on_host(type(self).__name__, target=target, sample_weight=sample_weight)
        weight = np.ones(len(target)) if weight is None else weight
        if self.ignore_index is not None:
            weight = weight * (target != self.ignore_index)
        return float(np.sum(weight, dtype=np.float64))

    def _add_hits(self, pred: Array, target: Array, sample_weight: Array | None, sums: Array) -> None:
        logits = as_floats(pred, "CrossEntropyLoss: pred")
        labels = self._labels(target, logits.shape)
        weight = self._weight(sample_weight)
        ops._score_hits(logits, labels, sums, sample_weight=weight, ignore_index=self.ignore_index)


class _ElementwiseLoss(_Loss):
    """A loss of every output by itself: `_value` is the native call."""

    @abstractmethod
    def _value(
        self, pred: FloatArray, target: FloatArray, sample_weight: FloatArray | None
    ) -> tuple[float, FloatArray]: ...

    def __call__(
        self, pred: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[float, FloatArray]:
        return self._value(*self._pair(pred, target), self._weight(sample_weight))

    def _pair(self, pred: Array, target: Array) -> tuple[FloatArray, FloatArray]:
        """Both in float32 and of one shape."""
        name = type(self).__name__
        pred, target = as_floats(pred, f"{name}: pred"), as_floats(target, f"{name}: target")
        if pred.ndim == 0:
            raise ValueError(f"{name}: pred must have rows, got a single value")
        return pred, _like(pred.shape, target, name)

    # Of the native program: the kind of loss, its factor, whether the mean is over outputs too.
    _native: ClassVar[tuple[str, float, bool]]

    def _lower(self, lowering: Any, pred: Any, dpred: Any) -> None:
        numbers = (*self._native[1:], getattr(self, "delta", 0.0))
        lowering.emit(self._native[0], pred, dpred, lowering.target(pred), pred.size, *numbers)

    def _target(self, target: Array, shape: tuple[int, ...]) -> Array:
        name = type(self).__name__
        return _like(shape, as_rows(target, f"{name}: target"), name)


class _RegressionLoss(_ElementwiseLoss):
    def scores(self) -> Scores:
        """`rmse` and `mae` over rows and outputs; `r2`, the mean over outputs, as scikit-learn's."""
        return RegressionScores(self._add_squares)

    def _add_squares(self, pred: Array, target: Array, sample_weight: Array | None, sums: Array) -> None:
        # In float64 unless all is float32, or small integers beside it.
        given = [pred, target] if sample_weight is None else [pred, target, sample_weight]
        dtype = np.float32 if np.result_type(*given) == np.float32 else np.float64
        pair = columns(pred, dtype), columns(_like(pred.shape, target, type(self).__name__), dtype)
        weight = None if sample_weight is None else np.require(sample_weight, dtype, ("C", "A"))
        ops._score_squares(*pair, sums, sample_weight=weight)


class MSELoss(_RegressionLoss):
    """Mean squared error: the mean over rows and outputs of (pred - target)**2.

    `loss(pred, target, sample_weight=None) -> (value, dpred)`

    pred : (n,), (n, k), or more axes, of which the first counts rows
    target : shaped like pred, or (n,) for a pred of (n, 1); nothing else broadcasts
    sample_weight : (n,), at least 0, not all 0; the value is then sum(w * l) / sum(w), l the mean of a row
    dpred : shaped like pred, float32, 2 * w / (k * sum(w)) * (pred - target)

    As PyTorch's `MSELoss`, whose broadcast of (n,) against (n, 1) to (n, n) is no error there.

    Raises TypeError for anything but arrays of real numbers, ValueError for other shapes and bad weights.

    >>> import numpy as np
    >>> from fastnn import losses
    >>> value, dpred = losses.MSELoss()(np.array([[1.0], [4.0]]), np.array([0, 2]))
    >>> value, dpred.tolist()
    (2.5, [[1.0], [2.0]])
    """

    _native = "squared", 2.0, True

    def _value(
        self, pred: FloatArray, target: FloatArray, sample_weight: FloatArray | None
    ) -> tuple[float, FloatArray]:
        return ops.mse(pred, target, sample_weight=sample_weight)


class QuadraticCost(_RegressionLoss):
    """Quadratic cost, as the textbooks have it: 1 / (2n) times the sum over rows and outputs of
    (pred - target)**2.

    Arguments, shapes and errors as in `MSELoss`; dpred is w / sum(w) * (pred - target). For k outputs it is
    k / 2 times the mean squared error. There is no such loss in PyTorch.

    >>> import numpy as np
    >>> from fastnn import losses
    >>> value, dpred = losses.QuadraticCost()(np.array([[1.0], [4.0]]), np.array([0, 2]))
    >>> value, dpred.tolist()
    (1.25, [[0.5], [1.0]])
    """

    _native = "squared", 1.0, False

    def _value(
        self, pred: FloatArray, target: FloatArray, sample_weight: FloatArray | None
    ) -> tuple[float, FloatArray]:
        return ops.quadratic_cost(pred, target, sample_weight=sample_weight)


class HuberLoss(_RegressionLoss):
    """Huber loss: the mean over rows and outputs of d**2 / 2 where |d| <= delta, else
    delta * (|d| - delta / 2), with d = pred - target: outliers pull with a force of at most delta.

    Arguments, shapes and errors as in `MSELoss`; dpred is w / (k * sum(w)) * clip(d, -delta, delta).
    As PyTorch's `HuberLoss` (not its `SmoothL1Loss`, which divides by its beta).

    >>> import numpy as np
    >>> from fastnn import losses
    >>> value, dpred = losses.HuberLoss()(np.array([0.5, 3.0]), np.zeros(2))
    >>> value, dpred.tolist()
    (1.3125, [0.25, 0.5])
    """

    _native = "huber", 1.0, True

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = check_number(delta, "HuberLoss: delta", 0)
        if self.delta == 0.0:
            raise ValueError("HuberLoss: delta must be above 0, got 0")

    def _value(
        self, pred: FloatArray, target: FloatArray, sample_weight: FloatArray | None
    ) -> tuple[float, FloatArray]:
        return ops.huber(pred, target, delta=self.delta, sample_weight=sample_weight)


class BCEWithLogitsLoss(_ElementwiseLoss):
    """Sigmoid and binary cross-entropy of logits: the mean over rows and outputs of
    -(t * log p + (1 - t) * log(1 - p)) with p = sigmoid(pred).

    `loss(pred, target, sample_weight=None) -> (value, dpred)`

    pred : logits, never probabilities: (n,), (n, k), or more axes, of which the first counts rows
    target : probabilities of class 1 (0 and 1, or between), shaped like pred, or (n,) for a pred of (n, 1);
        nothing else broadcasts. Values outside 0..1 are not looked for.
    sample_weight : (n,), at least 0, not all 0; the value is then sum(w * l) / sum(w), l the mean of a row
    dpred : shaped like pred, float32, w / (k * sum(w)) * (p - target)

    Computed as max(x, 0) * (1 - t) + max(-x, 0) * t + log(1 + exp(-|x|)), so that nothing saturates or
    cancels: a logit of 20 costs 20 where the target is 0, not the 100 of a clipped logarithm. As PyTorch's
    `BCEWithLogitsLoss`, except that weights are one per row.

    Raises TypeError for anything but arrays of real numbers, ValueError for other shapes and bad weights.

    >>> import numpy as np
    >>> from fastnn import losses
    >>> value, dpred = losses.BCEWithLogitsLoss()(np.array([[20.0], [0.0]]), np.array([0, 1]))
    >>> round(value, 4), dpred.round(4).tolist()
    (10.3466, [[0.5], [-0.25]])
    """

    _native = "logistic", 1.0, True

    def _value(
        self, pred: FloatArray, target: FloatArray, sample_weight: FloatArray | None
    ) -> tuple[float, FloatArray]:
        return ops.sigmoid_cross_entropy(pred, target, sample_weight=sample_weight)

    def probabilities(self, pred: Array) -> FloatArray:
        """The sigmoid of each logit: the probability of class 1, shaped like pred.

        >>> BCEWithLogitsLoss().probabilities(np.zeros((1, 2), np.float32)).tolist()
        [[0.5, 0.5]]
        """
        logits = as_floats(pred, "BCEWithLogitsLoss.probabilities: pred")
        return ops.activation(logits, "sigmoid")

    def classes(self, pred: Array) -> Array:
        """1 where the logit is above 0, else 0 (int64): (n,) for a pred of (n, 1), else shaped like pred.

        >>> BCEWithLogitsLoss().classes(np.array([[0.5], [-2.0]])).tolist()
        [1, 0]
        """
        return through_host(sides, pred, "BCEWithLogitsLoss.classes: pred")

    def scores(self) -> Scores:
        """`accuracy`: the share of outputs (by the weight of their rows) on the target's side of 1/2."""
        return Accuracy(self._add_sides)

    def _add_sides(self, pred: Array, target: Array, sample_weight: Array | None, sums: Array) -> None:
        logits, truth = (columns(array, np.float32) for array in self._pair(pred, target))
        ops._score_sides(logits, truth, sums, sample_weight=self._weight(sample_weight))


def _like(shape: tuple[int, ...], target: FloatArray, name: str) -> FloatArray:
    """`target` in the shape of pred: (n,) becomes (n, 1), every other difference is an error."""
    if target.shape == shape:
        return target
    column = len(shape) == 2 and shape[1] == 1
    if column and target.shape == shape[:1]:
        return target.reshape(shape)
    also = f" or {shape[:1]}" if column else ""
    raise ValueError(
        f"{name}: target must have the shape of pred, {shape}{also}, got {target.shape}; nothing broadcasts"
    )


def _labels(target: Array, shape: tuple[int, ...]) -> Array:
    """`target` as the kernel takes it: class ids in native byte order, or float32 probabilities."""
    where = "CrossEntropyLoss: target"
    if not isinstance(target, np.ndarray):
        target = as_array(rows(where, target, True), where, on_device=True)
    n, kind = shape[0], target.dtype.kind
    if kind in "iu" and target.shape == (n,):
        return target.astype(target.dtype.newbyteorder("="), copy=False)
    if kind == "f" and target.shape == shape:
        return as_floats(target, where)
    cure = ""
    error: type[Exception] = TypeError
    if kind == "f" and target.ndim == 1:
        cure = "; for class ids pass target.astype(np.int64)"
    elif kind in "iuf":
        cure = "; for a column of ids pass target.ravel(), for one-hot rows target.astype(np.float32)"
        error = ValueError
    raise error(
        f"{where} must hold integer class ids of shape ({n},) or float probabilities of shape "
        f"{shape}, got {target.dtype} of shape {target.shape}{cure}"
    )
