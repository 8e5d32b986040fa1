"""BatchNorm1d: every column at mean 0 and variance 1 over the batch, then scaled and shifted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from fastnn import ops
from fastnn._arrays import Array, FloatArray, aligned_zeros, check_flag, check_int, check_number
from fastnn._device import as_floats, number
from fastnn._parameter import Parameter
from fastnn.init import Zeros
from fastnn.nn.module import Fusable


def _ones(shape: tuple[int, ...], **_: Any) -> FloatArray:
    return np.ones(shape, np.float32)


class BatchNorm1d(Fusable):
    """y = gamma * (x - mean) / sqrt(var + eps) + beta, for x of shape (..., num_features).

    In training mode mean and (biased) variance are those of the batch, taken over all axes but the last, and
    running_mean = (1 - momentum) * running_mean + momentum * mean; `running_var` likewise. In evaluation mode
    the running statistics are used; `nn.recalibrate_bn` replaces them by those of a whole data set.

    Parameters
    ----------
    num_features : columns, at least 1
    eps : inside the root, at least 0
    momentum : weight of the new batch in the running statistics, 0 <= momentum <= 1. As in PyTorch and MLX;
        Keras, PaddlePaddle and ONNX give the weight of the old value (their 0.9 is 0.1 here)
    running_var : the variance that is averaged: "unbiased" divides by n - 1, as PyTorch, MindSpore and MLX;
        "biased" by n, as Keras and PaddlePaddle. y itself always has the biased one
    debias : True makes the running statistics means of the batches seen, with weights that fade by
        1 - momentum: batch t counts with momentum / (1 - (1 - momentum)^t), so they are exact after one batch
        (as in Haiku). With False they begin at 0 and 1, which fade only slowly. Needs momentum > 0; the
        buffer `updates` counts the batches

    `gamma` (ones) and `beta` (zeros) are the parameters; PyTorch calls them weight and bias. Put the layer
    before the activation, as in Ioffe and Szegedy 2015, or behind it: both work, and `Sequential` applies an
    activation behind it while storing the result. The arrays it averages are `layer.running_mean` and
    `layer.running_var`; `layer.unbiased` and `layer.debias` hold the two choices.

    Raises ValueError for one row in training mode, before anything changes: it has no variance.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> layer = nn.BatchNorm1d(2, eps=0)
    >>> layer(np.array([[1, 0], [3, 8]])).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    >>> layer.running_mean.round(3), layer.running_var.round(3)
    (array([0.2, 0.4], dtype=float32), array([1.1, 4.1], dtype=float32))
    >>> layer = nn.BatchNorm1d(2, running_var="biased", debias=True)
    >>> y = layer(np.array([[1, 0], [3, 8]]))
    >>> layer.running_mean, layer.running_var
    (array([2., 4.], dtype=float32), array([ 1., 16.], dtype=float32))
    """

    buffers: Mapping[str, float] = {"running_mean": 0.0, "running_var": 1.0}
    # `recalibrate_bn` looks at what comes in.
    _observe: Callable[[FloatArray], None] | None = None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        *,
        running_var: Literal["unbiased", "biased"] = "unbiased",
        debias: bool = False,
    ) -> None:
        self.num_features = check_int(num_features, "BatchNorm1d: num_features", 1)
        self.eps = check_number(eps, "BatchNorm1d: eps", 0)
        self.momentum = check_number(momentum, "BatchNorm1d: momentum", 0, 1, closed=True)
        if running_var not in ("unbiased", "biased"):
            error = ValueError if isinstance(running_var, str) else TypeError
            raise error(f'BatchNorm1d: running_var must be "unbiased" or "biased", got {running_var!r}')
        self.debias = check_flag(debias, "BatchNorm1d: debias")
        if debias and self.momentum == 0:
            raise ValueError("BatchNorm1d: debias needs momentum above 0, got 0: no batch would ever count")
        self.unbiased = running_var == "unbiased"
        if self.debias:
            self.buffers = {**self.buffers, "updates": 0.0}
            self.updates = aligned_zeros(())
        shape = (self.num_features,)
        self.gamma = Parameter(np.ones(shape), name="gamma", decay=False, init=_ones)
        self.beta = Parameter(np.zeros(shape), name="beta", decay=False, init=Zeros())
        self.running_mean = aligned_zeros(shape)
        self.running_var = aligned_zeros(shape)
        self.running_var[...] = 1

    def forward_activated(self, x: Array, activation: Any) -> FloatArray:
        gamma = self.gamma.data
        x = as_floats(x, "BatchNorm1d: x", gamma)
        if x.ndim < 2 or x.shape[-1] != self.num_features:
            raise ValueError(f"BatchNorm1d: x must have shape (..., {self.num_features}), got {x.shape}")
        if self._observe is not None:
            self._observe(x)
        self._saved = None
        fused = self._in_kernel(activation)
        weight = self.momentum
        if self.debias and self.training:
            weight = ops._debiased_weight(weight, number(self.updates))
        y, mean, rstd = ops.batch_norm(
            x,
            gamma,
            self.beta.data,
            self.running_mean,
            self.running_var,
            training=self.training,
            momentum=weight,
            eps=self.eps,
            activation=fused,
            unbiased=self.unbiased,
        )
        if not self.training:
            return y
        if self.debias:
            self.updates += 1
        before = y
        if fused != activation:
            y = ops.activation(before, activation)
        self._saved = (x, mean, rstd, activation, before if activation else None, y if fused else None)
        return y

    def backward(self, dy: Array, *, accumulate: bool = False, input_grad: bool = True) -> FloatArray | None:
        x, mean, rstd, activation, before, y = self._take_saved()
        dy = as_floats(dy, "BatchNorm1d.backward: dy", x)
        if dy.shape != x.shape:
            raise ValueError(f"BatchNorm1d.backward: dy must have shape {x.shape}, got {dy.shape}")
        if activation and y is None:
            dy, activation = ops.activation_backward(dy, before, activation), None
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

    def _lower_activated(self, lowering: Any, x: Any, activation: Any) -> Any:
        if not x.shape or x.shape[-1] != self.num_features:
            shape = lowering.full(x)
            raise ValueError(f"BatchNorm1d: x must have shape (..., {self.num_features}), got {shape}")
        columns = self.num_features
        fused = self._in_kernel(activation)
        statistics = lowering.fixed(2 * ((columns + 15) // 16 * 16))
        before = y = lowering.value(x.shape)
        lowering.emit(
            "batch_norm",
            x,
            y,
            statistics,
            x.rows,
            columns,
            self.gamma.data,
            self.beta.data,
            self.running_mean,
            self.running_var,
            self.updates if self.debias else None,
            self.momentum,
            self.eps,
            self.unbiased,
            self.training,
            fused,
        )
        if fused != activation:
            y = lowering.value(y.shape)
            lowering.emit("activation", before, y, y.size, activation, None)

        def backward(dy: Any, wanted: bool) -> Any:
            inside = fused
            if activation and not fused:
                dpre = lowering.value(y.shape)
                lowering.emit(
                    "activation_backward", dy, before, lowering.NONE, dpre, y.size, activation, None
                )
                dy = dpre
            dx = lowering.value(x.shape)
            grads = self.gamma.data, self.gamma.grad, self.beta.grad
            kept = y if inside else lowering.NONE
            lowering.emit("batch_norm_backward", dy, x, kept, statistics, dx, x.rows, columns, *grads, inside)
            return dx if wanted else None

        return y, backward

    def _as_pytorch(self, name: str, array: FloatArray) -> tuple[str, FloatArray]:
        names = {"gamma": "weight", "beta": "bias", "updates": "num_batches_tracked"}
        return names.get(name, name), array

    def _config(self) -> dict[str, Any]:
        return {
            "num_features": self.num_features,
            "eps": self.eps,
            "momentum": self.momentum,
            "running_var": "unbiased" if self.unbiased else "biased",
            "debias": self.debias,
        }

    def _arguments(self) -> str:
        shown = [str(self.num_features)]
        shown += [f"eps={self.eps:g}"] * (self.eps != 1e-5)
        shown += [f"momentum={self.momentum:g}"] * (self.momentum != 0.1)
        shown += ["running_var='biased'"] * (not self.unbiased)
        shown += ["debias=True"] * self.debias
        return ", ".join(shown)
