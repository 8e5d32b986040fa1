"""BatchNorm1d: every column at mean 0 and variance 1 over the batch, then scaled and shifted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from fastnn import ops
from fastnn._arrays import Array, FloatArray, aligned_zeros, as_float32, check_int, check_number
from fastnn._parameter import Parameter
from fastnn.init import Zeros
from fastnn.nn.module import Fusable


def _ones(shape: tuple[int, ...], **_: Any) -> FloatArray:
    return np.ones(shape, np.float32)


class BatchNorm1d(Fusable):
    """y = gamma * (x - mean) / sqrt(var + eps) + beta, for x of shape (..., num_features).

    In training mode mean and (biased) variance are those of the batch, taken over all axes but the last, and
    running_mean = (1 - momentum) * running_mean + momentum * mean; `running_var` likewise, with the unbiased
    variance. In evaluation mode the running statistics are used.

    Parameters
    ----------
    num_features : columns, at least 1
    eps : inside the root, at least 0
    momentum : weight of the new batch in the running statistics, 0 <= momentum <= 1. As in PyTorch and MLX;
        Keras, PaddlePaddle and ONNX give the weight of the old value (their 0.9 is 0.1 here), and Keras and
        PaddlePaddle keep the biased variance

    `gamma` (ones) and `beta` (zeros) are the parameters; PyTorch calls them weight and bias.

    Raises ValueError for one row in training mode, before anything changes: it has no variance.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> layer = nn.BatchNorm1d(2, eps=0)
    >>> layer(np.array([[1, 0], [3, 8]])).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    >>> layer.running_mean.round(3), layer.running_var.round(3)
    (array([0.2, 0.4], dtype=float32), array([1.1, 4.1], dtype=float32))
    """

    buffers: ClassVar[Mapping[str, float]] = {"running_mean": 0.0, "running_var": 1.0}

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        self.num_features = check_int(num_features, "BatchNorm1d: num_features", 1)
        self.eps = check_number(eps, "BatchNorm1d: eps", 0)
        self.momentum = check_number(momentum, "BatchNorm1d: momentum", 0, 1, closed=True)
        shape = (self.num_features,)
        self.gamma = Parameter(np.ones(shape), name="gamma", decay=False, init=_ones)
        self.beta = Parameter(np.zeros(shape), name="beta", decay=False, init=Zeros())
        self.running_mean = aligned_zeros(shape)
        self.running_var = aligned_zeros(shape)
        self.running_var[...] = 1

    def forward_activated(self, x: Array, activation: Any) -> FloatArray:
        x = as_float32(x, "BatchNorm1d: x")
        if x.ndim < 2 or x.shape[-1] != self.num_features:
            raise ValueError(f"BatchNorm1d: x must have shape (..., {self.num_features}), got {x.shape}")
        self._saved = None
        y, mean, rstd = ops.batch_norm(
            x,
            self.gamma.data,
            self.beta.data,
            self.running_mean,
            self.running_var,
            training=self.training,
            momentum=self.momentum,
            eps=self.eps,
            activation=activation,
        )
        if self.training:
            self._saved = (x, mean, rstd, activation, y if activation else None)
        return y

    def backward(self, dy: Array, *, accumulate: bool = False, input_grad: bool = True) -> FloatArray | None:
        x, mean, rstd, activation, y = self._take_saved()
        dy = as_float32(dy, "BatchNorm1d.backward: dy")
        if dy.shape != x.shape:
            raise ValueError(f"BatchNorm1d.backward: dy must have shape {x.shape}, got {dy.shape}")
        dx, _, _ = ops.batch_norm_backward(
            dy,
            x,
            self.gamma.data,
            mean,
            rstd,
            activation=activation,
            y=y,
            out=(None, self.gamma.grad, self.beta.grad),
            accumulate=accumulate,
        )
        return dx if input_grad else None

    def _as_pytorch(self, name: str, array: FloatArray) -> tuple[str, FloatArray]:
        return {"gamma": "weight", "beta": "bias"}.get(name, name), array

    def _arguments(self) -> str:
        eps = "" if self.eps == 1e-5 else f", eps={self.eps:g}"
        return f"{self.num_features}{eps}" + ("" if self.momentum == 0.1 else f", momentum={self.momentum:g}")
