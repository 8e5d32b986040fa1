"""Losses: `loss(pred, target, sample_weight=None) -> (value, dpred)`, value and gradient in one call."""

from __future__ import annotations

import numpy as np

from fastnn import ops
from fastnn._arrays import Array, FloatArray, as_array, as_float32

__all__ = ["CrossEntropyLoss"]


class CrossEntropyLoss:
    """Softmax and cross-entropy of logits: the mean over rows of -sum_c t_c * log softmax(logits)_c.

    `loss(pred, target, sample_weight=None) -> (value, dpred)`

    pred : logits (n, C), never probabilities
    target : class ids (n,) of any integer dtype, or probabilities (n, C) of any float dtype, used as they are
    sample_weight : (n,), at least 0, not all 0; the value is then sum(w * l) / sum(w)
    value : float, summed in float64
    dpred : (n, C) float32, w / sum(w) * (softmax * sum_c t_c - t)

    Stable for logits of any size. As PyTorch's `CrossEntropyLoss`, except that sample weights are one per
    row.

    Raises TypeError for a target that is neither, ValueError for other shapes and for an id outside 0..C-1.

    >>> import numpy as np
    >>> from fastnn import losses
    >>> loss = losses.CrossEntropyLoss()
    >>> value, dpred = loss(np.zeros((1, 4), np.float32), np.array([2]))
    >>> round(value, 6), dpred.tolist()
    (1.386294, [[0.25, 0.25, -0.75, 0.25]])
    """

    def __call__(
        self, pred: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[float, FloatArray]:
        logits = as_float32(pred, "CrossEntropyLoss: pred")
        if logits.ndim != 2:
            raise ValueError(f"CrossEntropyLoss: pred must have shape (n, classes), got {logits.shape}")
        weight = (
            None if sample_weight is None else as_float32(sample_weight, "CrossEntropyLoss: sample_weight")
        )
        return ops.softmax_cross_entropy(logits, _labels(target, logits), sample_weight=weight)

    def probabilities(self, pred: Array) -> FloatArray:
        """The softmax of each row of logits.

        >>> CrossEntropyLoss().probabilities(np.zeros((1, 2), np.float32)).tolist()
        [[0.5, 0.5]]
        """
        logits = as_float32(pred, "CrossEntropyLoss.probabilities: pred")
        powers: FloatArray = np.exp(logits - logits.max(axis=-1, keepdims=True))
        powers /= powers.sum(axis=-1, keepdims=True)
        return powers

    def classes(self, pred: Array) -> Array:
        """The id of the largest logit of each row (int64).

        >>> CrossEntropyLoss().classes(np.array([[0.5, 2.0, 1.0]])).tolist()
        [1]
        """
        return np.asarray(np.argmax(pred, axis=-1))

    def metrics(self, pred: Array, target: Array, sample_weight: Array | None = None) -> dict[str, float]:
        """`accuracy`: the share of rows (of weight, when given) whose largest logit is the target's class.

        >>> CrossEntropyLoss().metrics(np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([1, 0]))
        {'accuracy': 0.5}
        """
        hits = np.argmax(pred, axis=-1) == (target if target.ndim == 1 else np.argmax(target, axis=-1))
        if sample_weight is None:
            return {"accuracy": float(np.count_nonzero(hits) / len(hits))}
        return {"accuracy": float(np.average(hits, weights=sample_weight))}


def _labels(target: Array, logits: FloatArray) -> Array:
    """`target` as the kernel takes it: class ids in native byte order, or float32 probabilities."""
    where = "CrossEntropyLoss: target"
    target = as_array(target, where)
    n, kind = len(logits), target.dtype.kind
    if kind in "iu" and target.shape == (n,):
        return target.astype(target.dtype.newbyteorder("="), copy=False)
    if kind == "f" and target.shape == logits.shape:
        return as_float32(target, where)
    cure = ""
    error: type[Exception] = TypeError
    if kind == "f" and target.ndim == 1:
        cure = "; for class ids pass target.astype(np.int64)"
    elif kind in "iuf":
        cure = "; for a column of ids pass target.ravel(), for one-hot rows target.astype(np.float32)"
        error = ValueError
    raise error(
        f"{where} must hold integer class ids of shape ({n},) or float probabilities of shape "
        f"{logits.shape}, got {target.dtype} of shape {target.shape}{cure}"
    )
