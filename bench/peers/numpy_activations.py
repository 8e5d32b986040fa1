"""The activations in NumPy, each as few passes over memory as in-place ufuncs allow; `t` is scratch memory.

NumPy has no erf, so the exact GELU is missing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cases.activations import GELU_A, GELU_B, SELU_ALPHA, SELU_SCALE, SLOPE
from cases.case import Array

# ---- forward: x, y, t


def sigmoid(x: Array, y: Array, t: Array) -> None:
    np.negative(x, out=y)
    np.exp(y, out=y)
    np.add(y, 1, out=y)
    np.reciprocal(y, out=y)


def leaky_relu(x: Array, y: Array, t: Array) -> None:
    np.multiply(x, SLOPE, out=y)
    np.maximum(x, y, out=y)


def _gelu_inner(x: Array, t: Array) -> None:
    np.multiply(x, x, out=t)
    np.multiply(t, GELU_A * GELU_B, out=t)
    np.add(t, GELU_A, out=t)
    np.multiply(t, x, out=t)
    np.tanh(t, out=t)


def gelu_tanh(x: Array, y: Array, t: Array) -> None:
    _gelu_inner(x, t)
    np.add(t, 1, out=t)
    np.multiply(x, 0.5, out=y)
    np.multiply(y, t, out=y)


def silu(x: Array, y: Array, t: Array) -> None:
    sigmoid(x, y, t)
    np.multiply(x, y, out=y)


def elu(x: Array, y: Array, t: Array) -> None:
    np.minimum(x, 0, out=y)
    np.expm1(y, out=y)
    np.maximum(x, 0, out=t)
    np.add(y, t, out=y)


def selu(x: Array, y: Array, t: Array) -> None:
    np.minimum(x, 0, out=y)
    np.expm1(y, out=y)
    np.multiply(y, SELU_ALPHA, out=y)
    np.maximum(x, 0, out=t)
    np.add(y, t, out=y)
    np.multiply(y, SELU_SCALE, out=y)


def softplus(x: Array, y: Array, t: Array) -> None:
    np.abs(x, out=y)
    np.negative(y, out=y)
    np.exp(y, out=y)
    np.log1p(y, out=y)
    np.maximum(x, 0, out=t)
    np.add(y, t, out=y)


FORWARD: dict[str, Callable[[Array, Array, Array], object]] = {
    "relu": lambda x, y, t: np.maximum(x, 0, out=y),
    "leaky_relu": leaky_relu,
    "sigmoid": sigmoid,
    "tanh": lambda x, y, t: np.tanh(x, out=y),
    "gelu_tanh": gelu_tanh,
    "silu": silu,
    "elu": elu,
    "selu": selu,
    "softplus": softplus,
}

# ---- backward: dy, x, y, dx, t


def relu_backward(dy: Array, x: Array, y: Array, dx: Array, t: Array) -> None:
    np.greater(y, 0, out=t)
    np.multiply(dy, t, out=dx)


def leaky_relu_backward(dy: Array, x: Array, y: Array, dx: Array, t: Array) -> None:
    np.greater(x, 0, out=t)
    np.maximum(t, SLOPE, out=t)
    np.multiply(dy, t, out=dx)


def sigmoid_backward(dy: Array, x: Array, y: Array, dx: Array, t: Array) -> None:
    np.subtract(1, y, out=t)
    np.multiply(t, y, out=t)
    np.multiply(dy, t, out=dx)


def tanh_backward(dy: Array, x: Array, y: Array, dx: Array, t: Array) -> None:
    np.multiply(y, y, out=t)
    np.subtract(1, t, out=t)
    np.multiply(dy, t, out=dx)


def gelu_tanh_backward(dy: Array, x: Array, y: Array, dx: Array, t: Array) -> None:
    """With h = tanh(u): (1 + h) / 2 + x (1 - h) (1 + h) / 2 * u'."""
    _gelu_inner(x, t)
    np.multiply(x, x, out=dx)
    np.multiply(dx, 3 * GELU_A * GELU_B, out=dx)
    np.add(dx, GELU_A, out=dx)
    np.multiply(dx, x, out=dx)
    half = np.subtract(1, t)
    np.multiply(dx, half, out=dx)
    np.add(dx, 1, out=dx)
    np.add(t, 1, out=t)
    np.multiply(dx, t, out=dx)
    np.multiply(dx, 0.5, out=dx)
    np.multiply(dx, dy, out=dx)


def silu_backward(dy: Array, x: Array, y: Array, dx: Array, t: Array) -> None:
    """s + y (1 - s)."""
    sigmoid(x, t, dx)
    np.subtract(1, t, out=dx)
    np.multiply(dx, y, out=dx)
    np.add(dx, t, out=dx)
    np.multiply(dx, dy, out=dx)


def elu_backward(dy: Array, x: Array, y: Array, dx: Array, t: Array) -> None:
    """1 where y is positive, y + 1 elsewhere."""
    np.minimum(y, 0, out=t)
    np.add(t, 1, out=t)
    np.multiply(dy, t, out=dx)


def selu_backward(dy: Array, x: Array, y: Array, dx: Array, t: Array) -> None:
    """SELU_SCALE where y is positive, y + SELU_SCALE SELU_ALPHA elsewhere."""
    np.add(y, SELU_SCALE * SELU_ALPHA, out=t)
    np.copyto(t, SELU_SCALE, where=y > 0)
    np.multiply(dy, t, out=dx)


def softplus_backward(dy: Array, x: Array, y: Array, dx: Array, t: Array) -> None:
    sigmoid(x, t, dx)
    np.multiply(dy, t, out=dx)


BACKWARD: dict[str, Callable[[Array, Array, Array, Array, Array], object]] = {
    "relu": relu_backward,
    "leaky_relu": leaky_relu_backward,
    "sigmoid": sigmoid_backward,
    "tanh": tanh_backward,
    "gelu_tanh": gelu_tanh_backward,
    "silu": silu_backward,
    "elu": elu_backward,
    "selu": selu_backward,
    "softplus": softplus_backward,
}
