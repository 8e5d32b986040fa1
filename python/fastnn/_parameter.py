"""Parameter: trainable numbers and their gradient, in memory that never moves.

It is public as `nn.Parameter` and stands here because layers hold it, optimizers update it, and neither
imports the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import _device
from fastnn._arrays import Array, FloatArray, aligned_zeros, as_array, as_float32, check_flag

Initializer = Callable[..., FloatArray]


class Parameter:
    """A float32 array and its gradient, in memory that is allocated once and never rebound.

    Parameters
    ----------
    value : array of real numbers; copied
    name : set by the model that holds the parameter ("0.weight", "1.gamma")
    decay : False keeps weight decay away (biases, gamma, beta)
    trainable : False makes optimizers leave the parameter as it is
    init : initializer `f(shape, *, rng, fan_in, fan_out) -> array` that `Module.reset_parameters` draws from;
        None keeps the value
    fan_in, fan_out : passed to `init`; by default the two sides of a matrix

    `data` and `grad` start on 64-byte boundaries. Assigning to them (`p.data = a`) copies into the same
    memory after checking kind (TypeError) and shape (ValueError: nothing broadcasts); integers and float64
    are rounded to float32. So an array taken from `p.data` stays the parameter, as in PyTorch after
    `p.copy_`. `model.to("cuda")` alone moves them: they are then CuPy arrays.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> p = nn.Parameter(np.zeros((2, 3)))
    >>> before = p.data
    >>> p.data = np.ones((2, 3))
    >>> before is p.data, before[0, 0].item()
    (True, 1.0)
    """

    __slots__ = ("_data", "_grad", "decay", "fan_in", "fan_out", "init", "name", "trainable")

    def __init__(
        self,
        value: Array,
        *,
        name: str = "",
        decay: bool = True,
        trainable: bool = True,
        init: Initializer | None = None,
        fan_in: int | None = None,
        fan_out: int | None = None,
    ) -> None:
        values = as_float32(value, "Parameter: value")
        self._data = aligned_zeros(values.shape)
        self._grad = aligned_zeros(values.shape)
        self._data[...] = values
        self.name = name
        self.decay = check_flag(decay, "Parameter: decay")
        self.trainable = check_flag(trainable, "Parameter: trainable")
        self.init = init
        matrix = values.ndim == 2
        self.fan_in = values.shape[0] if fan_in is None and matrix else fan_in
        self.fan_out = values.shape[1] if fan_out is None and matrix else fan_out

    @property
    def data(self) -> FloatArray:
        return self._data

    @data.setter
    def data(self, value: Array) -> None:
        _device.put(self._data, self._checked(value, "data"))

    @property
    def grad(self) -> FloatArray:
        return self._grad

    @grad.setter
    def grad(self, value: Array) -> None:
        _device.put(self._grad, self._checked(value, "grad"))

    def _move(self, device: str) -> None:
        self._data, self._grad = (_device.moved(a, device) for a in (self._data, self._grad))

    def _checked(self, value: Array, what: str) -> FloatArray:
        what = f"Parameter {self.name!r}: {what}"
        if not (_device.is_on_device(value) and _device.is_on_device(self._data)):
            value = as_array(_device.on_host(value), what)
        if value.shape != self._data.shape:
            raise ValueError(f"{what} must have shape {self._data.shape}, got {value.shape}")
        return _device.as_floats(value, what)

    def draw(self, rng: np.random.Generator, init: Initializer | None = None) -> FloatArray:
        """New values from `init` or the parameter's own initializer; the present ones without either."""
        init = self.init if init is None else init
        if init is None:
            return _device.on_host(self._data)
        if isinstance(init, type) or not callable(init):
            raise TypeError(
                f"Parameter {self.name!r}: init must be an initializer such as init.Normal(), got {init!r}"
            )
        return self._checked(
            init(self._data.shape, rng=rng, fan_in=self.fan_in, fan_out=self.fan_out), "data"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy of the arrays alone would lose their alignment, and a default copy the slots.
        options = (self.name, self.decay, self.trainable, self.init, self.fan_in, self.fan_out)
        return _rebuild, (self._data, self._grad, *options)

    def __repr__(self) -> str:
        flags = ("" if self.decay else ", decay=False") + ("" if self.trainable else ", trainable=False")
        return f"Parameter({self.name!r}, shape={self._data.shape}{flags})"


def _rebuild(
    data: FloatArray,
    grad: FloatArray,
    name: str,
    decay: bool,
    trainable: bool,
    init: Initializer | None,
    fan_in: int | None,
    fan_out: int | None,
) -> Parameter:
    parameter = Parameter(
        _device.on_host(data),
        name=name,
        decay=decay,
        trainable=trainable,
        init=init,
        fan_in=fan_in,
        fan_out=fan_out,
    )
    parameter.grad = grad
    parameter._move("cuda" if _device.is_on_device(data) else "cpu")
    return parameter
