"""What an initializer is, and the draws and checks that several share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from fastnn._arrays import FloatArray, as_generator, check_int

LARGEST = float(np.finfo(np.float32).max)

# A normal distribution cut off at two standard deviations has this standard deviation itself:
# sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)), phi and Phi density and distribution function.
CUT = 2.0
STD_OF_CUT = math.sqrt(
    1 - 2 * CUT * math.exp(-(CUT**2) / 2) / math.sqrt(2 * math.pi) / math.erf(CUT / math.sqrt(2))
)


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
        """A new C-contiguous float32 array of this shape, drawn from `rng`.

        Raises ValueError for a scale whose draws are beyond float32.
        """
        name = type(self).__name__
        sizes = shape if isinstance(shape, Sequence) else (shape,)
        values = np.empty([check_int(size, f"{name}: each size in shape", 0) for size in sizes], np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            self._fill(values, as_generator(rng, f"{name}: rng"), Fans(fan_in, fan_out))
        if not np.isfinite(values).all():
            raise ValueError(f"{self!r}: draws are beyond float32; choose a smaller scale")
        return values

    @abstractmethod
    def _fill(self, values: FloatArray, rng: np.random.Generator, fans: Fans) -> None: ...

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({fields})"


def draw_normal(values: FloatArray, rng: np.random.Generator, std: float) -> None:
    rng.standard_normal(dtype=np.float32, out=values)
    values *= np.float32(std)


def draw_truncated(values: FloatArray, rng: np.random.Generator, std: float) -> None:
    """Normal draws within CUT standard deviations of their own (those beyond are drawn again), whose
    standard deviation after the cut is `std`.
    """
    rng.standard_normal(dtype=np.float32, out=values)
    flat = values.reshape(-1)
    while (beyond := np.flatnonzero(np.abs(flat) > CUT)).size:
        flat[beyond] = rng.standard_normal(beyond.size, dtype=np.float32)
    values *= np.float32(std / STD_OF_CUT)


def draw_uniform(values: FloatArray, rng: np.random.Generator, std: float) -> None:
    """Uniform on [-r, r] with this standard deviation: r = sqrt(3) * std."""
    rng.random(dtype=np.float32, out=values)
    bound = math.sqrt(3) * std
    values *= np.float32(2 * bound)
    values -= np.float32(bound)


def fan(name: str, fans: Fans, which: Literal["fan_in", "fan_out"]) -> int:
    given = fans.fan_in if which == "fan_in" else fans.fan_out
    if given is None:
        raise ValueError(
            f"{name}: needs {which}, which a shape alone does not tell; pass {which}= "
            "(a fastnn weight of shape (n, m) has fan_in=n and fan_out=m)"
        )
    return check_int(given, f"{name}: {which}", 1)


def check_matrix(name: str, values: FloatArray) -> tuple[int, int]:
    """(inputs, neurons) of a weight matrix."""
    if values.ndim != 2:
        raise ValueError(f"{name}: shape must be that of a matrix (fan_in, fan_out), got {values.shape}")
    return values.shape[0], values.shape[1]
