"""Initializers whose scale is given in numbers: constants, normal, uniform, truncated normal."""

from __future__ import annotations

import math

import numpy as np

from fastnn._arrays import FloatArray, check_number
from fastnn.init._initializer import LARGEST, Fans, Initializer, draw_normal, draw_truncated


class Zeros(Initializer):
    """All zeros: the default of biases. As hidden weights they keep all neurons equal for ever.

    >>> Zeros()((2, 3), rng=0)
    array([[0., 0., 0.],
           [0., 0., 0.]], dtype=float32)
    """

    def _fill(self, values: FloatArray, rng: np.random.Generator, fans: Fans) -> None:
        values[...] = 0


class Constant(Initializer):
    """Every element `value`; draws nothing. As weights it keeps all neurons equal for ever.

    >>> Constant(0.5)(3, rng=0)
    array([0.5, 0.5, 0.5], dtype=float32)
    """

    def __init__(self, value: float) -> None:
        self.value = check_number(value, "Constant: value", -LARGEST, LARGEST, closed=True)

    def _fill(self, values: FloatArray, rng: np.random.Generator, fans: Fans) -> None:
        values[...] = self.value


class Normal(Initializer):
    """Independent draws from a normal distribution; `std` is the standard deviation, not the variance.

    PyTorch's `normal_` has a std of 1 by default, MindSpore's `Normal` 0.01 too.

    >>> w = Normal(std=0.02)((784, 256), rng=0)
    >>> w.shape, w.dtype, bool(abs(w.std() - 0.02) < 1e-4)
    ((784, 256), dtype('float32'), True)
    """

    def __init__(self, mean: float = 0.0, std: float = 0.01) -> None:
        self.mean = check_number(mean, "Normal: mean", -LARGEST, LARGEST)
        self.std = check_number(std, "Normal: std", 0)

    def _fill(self, values: FloatArray, rng: np.random.Generator, fans: Fans) -> None:
        draw_normal(values, rng, self.std)
        values += np.float32(self.mean)


class TruncatedNormal(Initializer):
    """Normal draws without the tails: nothing lies further than 2.27 `std` from `mean`.

    A normal distribution of standard deviation s = std / 0.8796 is cut off at mean - 2 s and mean + 2 s, so
    `std` is the standard deviation of what comes out. In PyTorch, Paddle, Keras and JAX it is that of the
    distribution before the cut: `TruncatedNormal(std=1)` gives 0.88 there (Keras and JAX correct this inside
    `VarianceScaling` alone).

    >>> w = TruncatedNormal(std=0.02)((784, 256), rng=0)
    >>> bool(abs(w.std() - 0.02) < 1e-4), bool(abs(w).max() <= 0.02 * 2.2738)
    (True, True)
    """

    def __init__(self, mean: float = 0.0, std: float = 0.01) -> None:
        self.mean = check_number(mean, "TruncatedNormal: mean", -LARGEST, LARGEST)
        self.std = check_number(std, "TruncatedNormal: std", 0)

    def _fill(self, values: FloatArray, rng: np.random.Generator, fans: Fans) -> None:
        draw_truncated(values, rng, self.std)
        values += np.float32(self.mean)


class Uniform(Initializer):
    """Independent draws from the uniform distribution on [low, high]; variance (high - low)**2 / 12.

    `Uniform.from_std(std)` is the one of mean 0 with this standard deviation: from -r to r with
    r = sqrt(3) * std. PyTorch's `uniform_` is on [0, 1) by default.

    >>> w = Uniform(-0.1, 0.3)((50, 40), rng=0)
    >>> bool(w.min() >= np.float32(-0.1)), bool(w.max() <= np.float32(0.3))
    (True, True)
    >>> Uniform.from_std(1.0).high
    1.7320508075688772
    """

    def __init__(self, low: float, high: float) -> None:
        # Half of the range of float32, so that the width is a float32 too.
        self.low = check_number(low, "Uniform: low", -LARGEST / 2, LARGEST / 2, closed=True)
        self.high = check_number(high, "Uniform: high", -LARGEST / 2, LARGEST / 2, closed=True)
        if self.low > self.high:
            raise ValueError(f"Uniform: low must not be above high, got {low} and {high}")

    @classmethod
    def from_std(cls, std: float) -> Uniform:
        """Mean 0 and standard deviation `std`."""
        bound = math.sqrt(3) * check_number(std, "Uniform.from_std: std", 0)
        return cls(-bound, bound)

    def _fill(self, values: FloatArray, rng: np.random.Generator, fans: Fans) -> None:
        rng.random(dtype=np.float32, out=values)
        values *= np.float32(self.high - self.low)
        values += np.float32(self.low)
        np.clip(values, self.low, self.high, out=values)  # the sum may round past high
