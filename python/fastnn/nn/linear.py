"""Linear: y = x W + b."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import ops
from fastnn._arrays import Array, FloatArray, as_generator, check_flag, check_int
from fastnn._device import as_floats
from fastnn._parameter import Initializer, Parameter
from fastnn._precision import linear_backward_bf16, linear_bf16, on_thread
from fastnn.init import KaimingUniform, Zeros
from fastnn.nn.module import Fusable


class Linear(Fusable):
    """y = x @ weight + bias, for x of shape (..., in_features) and y of shape (..., out_features).

    Parameters
    ----------
    in_features, out_features : sizes, at least 1
    bias : False leaves the bias out (in front of batch-norm, which would take it away again)
    weight_init : initializer of `weight` (in_features, out_features); default `init.KaimingUniform()` for
        ReLU
    bias_init : initializer of `bias` (out_features,); default `init.Zeros()`
    rng : NumPy generator or integer seed to draw from; None takes fresh entropy (`Sequential(seed=...)` draws
        all layers again)

    All axes but the last are rows. Gradients: dW = x' dy, db = the column sums of dy, dx = dy W'. The weight
    is (in, out), as in Keras and PaddlePaddle; PyTorch stores the transpose and draws weight and bias from
    U(-1/sqrt(in), 1/sqrt(in)).

    Raises TypeError or ValueError for a wrong argument, and ValueError for an x of another shape, also for a
    single row of shape (in_features,), which PyTorch takes: it may as well be a column.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> layer = nn.Linear(3, 2, rng=0)
    >>> layer.weight.data = np.array([[1, 0], [0, 1], [1, 1]])
    >>> layer(np.array([[1, 2, 3]])).tolist()
    [[4.0, 5.0]]
    >>> layer.backward(np.array([[1, 0]])).tolist(), layer.bias.grad.tolist()
    ([[1.0, 0.0, 1.0]], [1.0, 0.0])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        weight_init: Initializer | None = None,
        bias_init: Initializer | None = None,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        self.in_features = check_int(in_features, "Linear: in_features", 1)
        self.out_features = check_int(out_features, "Linear: out_features", 1)
        shape = (self.in_features, self.out_features)
        self.weight = Parameter(
            np.empty(shape, np.float32),
            name="weight",
            init=KaimingUniform() if weight_init is None else weight_init,
        )
        self.bias: Parameter | None = None
        if check_flag(bias, "Linear: bias"):
            self.bias = Parameter(
                np.empty(self.out_features, np.float32),
                name="bias",
                decay=False,
                init=Zeros() if bias_init is None else bias_init,
                fan_in=self.in_features,
                fan_out=self.out_features,
            )
        self.reset_parameters(as_generator(rng, "Linear: rng"))

    def forward_activated(self, x: Array, activation: Any) -> FloatArray:
        weight = self.weight.data
        x = as_floats(x, "Linear: x", weight)
        if x.ndim < 2 or x.shape[-1] != self.in_features:
            raise ValueError(self._wrong(x.shape))
        self._saved = None
        bias = None if self.bias is None else self.bias.data
        rows = x if x.ndim == 2 else x.reshape(-1, self.in_features)
        fused = self._in_kernel(activation)
        rounded = on_thread.bfloat16
        multiply = linear_bf16 if rounded else ops.gemm
        before = y = multiply(rows, weight, bias=bias, activation=fused)
        if fused != activation:
            y = ops.activation(before, activation)
        if self.training:
            kept = before if activation else None, y if fused else None
            self._saved = (rows, x.shape, activation, *kept, rounded)
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], self.out_features)

    def _wrong(self, shape: tuple[Any, ...]) -> str:
        return (
            f"Linear: x must have shape (..., {self.in_features}) and at least two axes, got {shape}; "
            f"pass x.reshape(-1, {self.in_features}) if its rows hold that many values"
        )

    def backward(self, dy: Array, *, accumulate: bool = False, input_grad: bool = True) -> FloatArray | None:
        x, shape, activation, before, y, rounded = self._take_saved()
        dy = as_floats(dy, "Linear.backward: dy", x)
        if dy.shape != (*shape[:-1], self.out_features):
            raise ValueError(
                f"Linear.backward: dy must have shape {(*shape[:-1], self.out_features)}, got {dy.shape}"
            )
        if dy.ndim != 2:
            dy = dy.reshape(-1, self.out_features)
        if activation:
            dy = ops.activation_backward(dy, before, activation, y=y)
        bias = self.bias
        gradients = linear_backward_bf16 if rounded else ops.linear_backward
        dx, _, _ = gradients(
            dy,
            x,
            self.weight.data,
            need_dx=input_grad,
            need_db=bias is not None,
            out=(None, self.weight.grad, None if bias is None else bias.grad),
            accumulate=accumulate,
        )
        return dx if dx is None or dx.shape == shape else dx.reshape(shape)

    def _lower_activated(self, lowering: Any, x: Any, activation: Any) -> Any:
        if not x.shape or x.shape[-1] != self.in_features:
            raise ValueError(self._wrong(lowering.full(x)))
        size = self.in_features, self.out_features
        weight, bias = self.weight, self.bias
        fused = self._in_kernel(activation)
        before = y = lowering.value((*x.shape[:-1], self.out_features))
        factor, factors = lowering.rounded(x), lowering.rounded_weight(weight.data)
        to = None if bias is None else bias.data
        panels = lowering.packed_weight(weight.data)
        lowering.emit("linear", factor, y, x.rows, *size, weight.data, factors, panels, to, fused)
        if fused != activation:
            y = lowering.value(y.shape)
            lowering.emit("activation", before, y, y.size, activation, None)

        def backward(dy: Any, wanted: bool) -> Any:
            if activation:
                dpre = lowering.value(y.shape)
                kept = y if fused else lowering.NONE
                lowering.emit("activation_backward", dy, before, kept, dpre, y.size, activation, None)
                dy = dpre
            slope = lowering.rounded(dy)
            rounded = factors != lowering.NONE
            lowering.emit("linear_weight", slope, factor, x.rows, *size, weight.grad, rounded)
            if bias is not None:
                lowering.emit("linear_bias", dy, x.rows, self.out_features, bias.grad)
            if not wanted:
                return None
            dx = lowering.value(x.shape)
            panels = lowering.packed_weight(weight.data, transposed=True)
            lowering.emit("linear_input", slope, dx, x.rows, *size, weight.data, factors, panels)
            return dx

        return y, backward

    def _as_pytorch(self, name: str, array: FloatArray) -> tuple[str, FloatArray]:
        return name, array.T if name == "weight" else array

    def _config(self) -> dict[str, Any]:
        parameters = {"weight_init": self.weight, "bias_init": self.bias}
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias is not None,
            **{name: _of_fastnn(parameter) for name, parameter in parameters.items()},
        }

    def _arguments(self) -> str:
        return f"{self.in_features}, {self.out_features}" + ("" if self.bias else ", bias=False")


def _of_fastnn(parameter: Parameter | None) -> Initializer | None:
    """The parameter's initializer; None where it is a function of the user's own, which no file can hold."""
    found = None if parameter is None else parameter.init
    return found if type(found).__module__.startswith("fastnn.") else None
