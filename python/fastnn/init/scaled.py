"""Initializers whose scale follows the fans of a layer, and the gain of an activation."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from fastnn._arrays import FloatArray, check_number
from fastnn.init._initializer import (
    LARGEST,
    Fans,
    Initializer,
    draw_normal,
    draw_truncated,
    draw_uniform,
    fan,
)

_DRAWS = {"normal": draw_normal, "truncated_normal": draw_truncated, "uniform": draw_uniform}


class VarianceScaling(Initializer):
    """Mean 0 and variance scale / fan, the fan and the distribution by name.

    Parameters
    ----------
    scale : at least 0; the gain squared
    mode : "fan_in", "fan_out", or "fan_avg" for their mean
    distribution : "normal", "truncated_normal" (cut off at two standard deviations and widened again, as
        `TruncatedNormal`) or "uniform"

    All initializers with a fan are cases of it: LeCun's is (1, "fan_in"), Xavier's (1, "fan_avg"), Kaiming's
    for ReLU (2, "fan_in"). Keras and JAX have `he_normal` and the like truncated:
    `VarianceScaling(2, "fan_in", "truncated_normal")`; MLX's `he_normal` has scale 1. Keras's "normal" is the
    truncated one. An unknown distribution raises: MindSpore 2.10 draws a uniform one for "truncated_normal".

    >>> w = VarianceScaling(2.0, "fan_in", "truncated_normal")((400, 300), rng=0, fan_in=400)
    >>> bool(abs(w.std() - (2 / 400) ** 0.5) < 5e-4)
    True
    """

    def __init__(
        self,
        scale: float,
        mode: Literal["fan_in", "fan_out", "fan_avg"],
        distribution: Literal["normal", "truncated_normal", "uniform"],
    ) -> None:
        self.scale = check_number(scale, "VarianceScaling: scale", 0)
        for name, value, choices in (
            ("mode", mode, ("fan_in", "fan_out", "fan_avg")),
            ("distribution", distribution, tuple(_DRAWS)),
        ):
            if value not in choices:
                raise ValueError(
                    f"VarianceScaling: {name} must be one of {', '.join(choices)}; got {value!r}"
                )
        self.mode = mode
        self.distribution = distribution

    def _fill(self, values: FloatArray, rng: np.random.Generator, fans: Fans) -> None:
        sides: tuple[Literal["fan_in", "fan_out"], ...] = (
            ("fan_in", "fan_out") if self.mode == "fan_avg" else (self.mode,)
        )
        mean_fan = sum(fan("VarianceScaling", fans, side) for side in sides) / len(sides)
        _DRAWS[self.distribution](values, rng, math.sqrt(self.scale / mean_fan))


class LecunNormal(Initializer):
    """Normal with mean 0 and variance 1 / fan_in: keeps the variance through linear layers, and with SELU.

    LeCun et al. 1998. Keras and JAX truncate it: `VarianceScaling(1, "fan_in", "truncated_normal")`.

    >>> w = LecunNormal()((400, 300), rng=0, fan_in=400)
    >>> bool(abs(w.std() - 400**-0.5) < 5e-4)
    True
    """

    def _fill(self, values: FloatArray, rng: np.random.Generator, fans: Fans) -> None:
        draw_normal(values, rng, 1 / math.sqrt(fan("LecunNormal", fans, "fan_in")))


class _Xavier(Initializer):
    def __init__(self, gain: float = 1.0) -> None:
        self.gain = check_number(gain, f"{type(self).__name__}: gain", 0)

    def _std(self, fans: Fans) -> float:
        name = type(self).__name__
        return self.gain * math.sqrt(2 / (fan(name, fans, "fan_in") + fan(name, fans, "fan_out")))


class XavierNormal(_Xavier):
    """Normal with mean 0 and variance gain**2 * 2 / (fan_in + fan_out); for tanh and linear layers.

    Glorot & Bengio 2010. It is the mean of what keeps the forward (1 / fan_in) and the backward variance
    (1 / fan_out). For ReLU see `KaimingNormal`. As PyTorch's `xavier_normal_`; Keras and JAX truncate it.

    >>> XavierNormal(gain("tanh"))((200, 100), rng=0, fan_in=200, fan_out=100).shape
    (200, 100)
    """

    def _fill(self, values: FloatArray, rng: np.random.Generator, fans: Fans) -> None:
        draw_normal(values, rng, self._std(fans))


class XavierUniform(_Xavier):
    """Uniform on [-r, r] with r = gain * sqrt(6 / (fan_in + fan_out)): the variance of `XavierNormal`.

    As PyTorch's `xavier_uniform_`; what Keras's and Paddle's Linear layers draw from.

    >>> w = XavierUniform()((200, 100), rng=0, fan_in=200, fan_out=100)
    >>> bool(abs(w).max() <= (6 / 300) ** 0.5)
    True
    """

    def _fill(self, values: FloatArray, rng: np.random.Generator, fans: Fans) -> None:
        draw_uniform(values, rng, self._std(fans))


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
        return gain(self.nonlinearity, self.a) / math.sqrt(fan(type(self).__name__, fans, self.mode))


class KaimingNormal(_Kaiming):
    """Normal with mean 0 and std gain(nonlinearity, a) / sqrt(fan): variance 2 / fan_in for ReLU.

    He et al. 2015. mode "fan_in" keeps the variance of the activations, "fan_out" that of the gradients.
    nonlinearity "linear" gives LeCun's 1 / fan_in. As PyTorch's `kaiming_normal_`; Keras and JAX truncate it.

    >>> w = KaimingNormal()((400, 300), rng=0, fan_in=400)
    >>> bool(abs(w.std() - (2 / 400) ** 0.5) < 5e-4)
    True
    """

    def _fill(self, values: FloatArray, rng: np.random.Generator, fans: Fans) -> None:
        draw_normal(values, rng, self._std(fans))


class KaimingUniform(_Kaiming):
    """Uniform on [-r, r] with r = gain(nonlinearity, a) * sqrt(3 / fan): sqrt(6 / fan_in) for ReLU.

    The default of `nn.Linear`. PyTorch's layers draw from r = 1 / sqrt(fan_in) instead:
    `KaimingUniform(nonlinearity="leaky_relu", a=5**0.5)`.

    >>> w = KaimingUniform()((400, 300), rng=0, fan_in=400)
    >>> bool(abs(w).max() <= (6 / 400) ** 0.5)
    True
    """

    def _fill(self, values: FloatArray, rng: np.random.Generator, fans: Fans) -> None:
        draw_uniform(values, rng, self._std(fans))


_GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}


def gain(nonlinearity: str, a: float = 0.0) -> float:
    """What a layer's standard deviation is multiplied by so that this activation keeps the variance.

    linear 1, sigmoid 1, tanh 5/3, relu sqrt(2), selu 3/4, leaky_relu sqrt(2 / (1 + a**2)) with `a` its slope
    below 0: the values of PyTorch's and Paddle's `calculate_gain`. ValueError for another name, or for an `a`
    that the activation does not have.

    >>> gain("leaky_relu", a=1.0)
    1.0
    """
    slope = check_number(a, "gain: a", 0, LARGEST)
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + slope**2))
    if not isinstance(nonlinearity, str) or nonlinearity not in _GAINS:
        raise ValueError(
            f"gain: nonlinearity must be one of leaky_relu, {', '.join(_GAINS)}; got {nonlinearity!r}"
        )
    if slope != 0:
        raise ValueError(f'gain: a is the slope of "leaky_relu", got a={a!r} with {nonlinearity!r}')
    return _GAINS[nonlinearity]
