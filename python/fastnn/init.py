"""Initializers: `f(shape, *, rng, fan_in=None, fan_out=None) -> float32 array`.

An initializer holds numbers only. The random numbers come from `rng`, never from global state: a
`numpy.random.Generator`, or a whole number that seeds one (None: a fresh seed).

fan_in is the number of inputs of one neuron, fan_out the number of neurons that one input feeds. The layer
says them, since a shape alone does not: fastnn and Paddle store weights as (in, out), PyTorch and MLX as
(out, in). An initializer that scales with them raises ValueError without them.

Normal distributions are not truncated, as in PyTorch and Paddle; Keras and JAX truncate at two standard
deviations.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from fastnn._arrays import FloatArray, as_generator, check_int, check_number

__all__ = [
    "Initializer",
    "KaimingNormal",
    "KaimingUniform",
    "Normal",
    "XavierNormal",
    "XavierUniform",
    "Zeros",
    "gain",
]

_LARGEST = float(np.finfo(np.float32).max)


class Fans(NamedTuple):
    """Inputs of one neuron, and neurons that one input feeds; None where the caller did not say."""

    fan_in: int | None
    fan_out: int | None


class Initializer(ABC):
    """Base of all initializers: a subclass gives `_fill(values, rng, fans)`, this class checks."""

    def __call__(
        self,
        shape: int | Sequence[int],
        *,
        rng: np.random.Generator | int | None,
        fan_in: int | None = None,
        fan_out: int | None = None,
    ) -> FloatArray:
        """A new C-contiguous float32 array of this shape, drawn from `rng`."""
        name = type(self).__name__
        sizes = shape if isinstance(shape, Sequence) else (shape,)
        values = np.empty([check_int(size, f"{name}: each size in shape", 0) for size in sizes], np.float32)
        self._fill(values, as_generator(rng, f"{name}: rng"), Fans(fan_in, fan_out))
        return values

    @abstractmethod
    def _fill(self, values: FloatArray, rng: np.random.Generator, fans: Fans) -> None: ...

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({fields})"


class Zeros(Initializer):
    """All zeros: the default of biases. As hidden weights they keep all neurons equal for ever.

    >>> Zeros()((2, 3), rng=0)
    array([[0., 0., 0.],
           [0., 0., 0.]], dtype=float32)
    """

    def _fill(self, values: FloatArray, rng: np.random.Generator, fans: Fans) -> None:
        values[...] = 0


class Normal(Initializer):
    """Independent draws from a normal distribution; `std` is the standard deviation, not the variance.

    >>> w = Normal(std=0.02)((784, 256), rng=0)
    >>> w.shape, w.dtype, bool(abs(w.std() - 0.02) < 1e-4)
    ((784, 256), dtype('float32'), True)
    """

    def __init__(self, mean: float = 0.0, std: float = 0.01) -> None:
        self.mean = check_number(mean, "Normal: mean", -_LARGEST, _LARGEST)
        self.std = check_number(std, "Normal: std", 0)

    def _fill(self, values: FloatArray, rng: np.random.Generator, fans: Fans) -> None:
        _draw_normal(values, rng, self.std)
        values += np.float32(self.mean)


class _Xavier(Initializer):
    def __init__(self, gain: float = 1.0) -> None:
        self.gain = check_number(gain, f"{type(self).__name__}: gain", 0)

    def _std(self, fans: Fans) -> float:
        name = type(self).__name__
        return self.gain * math.sqrt(2 / (_fan(name, fans, "fan_in") + _fan(name, fans, "fan_out")))


class XavierNormal(_Xavier):
    """Normal with mean 0 and variance gain**2 * 2 / (fan_in + fan_out); for tanh and linear layers.

    Glorot & Bengio 2010. It is the mean of what keeps the forward (1 / fan_in) and the backward variance
    (1 / fan_out). For ReLU see `KaimingNormal`.

    >>> XavierNormal(gain("tanh"))((200, 100), rng=0, fan_in=200, fan_out=100).shape
    (200, 100)
    """

    def _fill(self, values: FloatArray, rng: np.random.Generator, fans: Fans) -> None:
        _draw_normal(values, rng, self._std(fans))


class XavierUniform(_Xavier):
    """Uniform on [-r, r] with r = gain * sqrt(6 / (fan_in + fan_out)): the variance of `XavierNormal`.

    >>> w = XavierUniform()((200, 100), rng=0, fan_in=200, fan_out=100)
    >>> bool(abs(w).max() <= (6 / 300) ** 0.5)
    True
    """

    def _fill(self, values: FloatArray, rng: np.random.Generator, fans: Fans) -> None:
        _draw_uniform(values, rng, self._std(fans))


class _Kaiming(Initializer):
    def __init__(
        self, mode: Literal["fan_in", "fan_out"] = "fan_in", nonlinearity: str = "relu", a: float = 0.0
    ) -> None:
        name = type(self).__name__
        if mode not in ("fan_in", "fan_out"):
            raise ValueError(f'{name}: mode must be "fan_in" or "fan_out", got {mode!r}')
        gain(nonlinearity, a)  # refuses a wrong name here, not at the first draw
        self.mode = mode
        self.nonlinearity = nonlinearity
        self.a = a

    def _std(self, fans: Fans) -> float:
        return gain(self.nonlinearity, self.a) / math.sqrt(_fan(type(self).__name__, fans, self.mode))


class KaimingNormal(_Kaiming):
    """Normal with mean 0 and std gain(nonlinearity, a) / sqrt(fan): variance 2 / fan_in for ReLU.

    He et al. 2015. mode "fan_in" keeps the variance of the activations, "fan_out" that of the gradients.
    nonlinearity "linear" gives LeCun's 1 / fan_in.

    >>> w = KaimingNormal()((400, 300), rng=0, fan_in=400)
    >>> bool(abs(w.std() - (2 / 400) ** 0.5) < 5e-4)
    True
    """

    def _fill(self, values: FloatArray, rng: np.random.Generator, fans: Fans) -> None:
        _draw_normal(values, rng, self._std(fans))


class KaimingUniform(_Kaiming):
    """Uniform on [-r, r] with r = gain(nonlinearity, a) * sqrt(3 / fan): sqrt(6 / fan_in) for ReLU.

    The default of `nn.Linear`. PyTorch's layers draw from r = 1 / sqrt(fan_in) instead:
    `KaimingUniform(nonlinearity="leaky_relu", a=5**0.5)`.

    >>> w = KaimingUniform()((400, 300), rng=0, fan_in=400)
    >>> bool(abs(w).max() <= (6 / 400) ** 0.5)
    True
    """

    def _fill(self, values: FloatArray, rng: np.random.Generator, fans: Fans) -> None:
        _draw_uniform(values, rng, self._std(fans))


_GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}


def gain(nonlinearity: str, a: float = 0.0) -> float:
    """What a layer's standard deviation is multiplied by so that this activation keeps the variance.

    linear 1, sigmoid 1, tanh 5/3, relu sqrt(2), selu 3/4, leaky_relu sqrt(2 / (1 + a**2)) with `a` its slope
    below 0: the values of PyTorch's and Paddle's `calculate_gain`. ValueError for another name, or for an `a`
    that the activation does not have.

    >>> gain("leaky_relu", a=1.0)
    1.0
    """
    slope = check_number(a, "gain: a", 0)
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        raise ValueError(
            f"gain: nonlinearity must be one of leaky_relu, {', '.join(_GAINS)}; got {nonlinearity!r}"
        )
    if slope != 0:
        raise ValueError(f'gain: a is the slope of "leaky_relu", got a={a!r} with {nonlinearity!r}')
    return _GAINS[nonlinearity]


def _draw_normal(values: FloatArray, rng: np.random.Generator, std: float) -> None:
    rng.standard_normal(dtype=np.float32, out=values)
    values *= np.float32(std)


def _draw_uniform(values: FloatArray, rng: np.random.Generator, std: float) -> None:
    """Uniform on [-r, r] with this standard deviation: r = sqrt(3) * std."""
    rng.random(dtype=np.float32, out=values)
    bound = math.sqrt(3) * std
    values *= np.float32(2 * bound)
    values -= np.float32(bound)


def _fan(name: str, fans: Fans, which: Literal["fan_in", "fan_out"]) -> int:
    fan = fans.fan_in if which == "fan_in" else fans.fan_out
    if fan is None:
        raise ValueError(
            f"{name}: needs {which}, which a shape alone does not tell; pass {which}= "
            "(a fastnn weight of shape (n, m) has fan_in=n and fan_out=m)"
        )
    return check_int(fan, f"{name}: {which}", 1)
