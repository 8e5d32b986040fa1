"""The ten activations, forward and backward, on what a layer of 1024 units gives for 512 rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cases.case import Array, Arrays, Case, Stream, random_array

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
GELU_A, GELU_B = math.sqrt(2 / math.pi), 0.044715
SLOPE = 0.01  # leaky ReLU

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _normal(x: Array) -> Array:
    """The cumulative normal distribution."""
    return 0.5 * (1 + _erf(x / math.sqrt(2)))


def _gelu_slope(x: Array) -> Array:
    return _normal(x) + x * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _gelu_tanh_slope(x: Array) -> Array:
    t = np.tanh(GELU_A * (x + GELU_B * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * GELU_A * (1 + 3 * GELU_B * x * x)


def _silu_slope(x: Array) -> Array:
    s = _sigmoid(x)
    return s + x * s * (1 - s)


@dataclass(frozen=True)
class Kind:
    """The function and its slope in float64, and the operations of each an element."""

    function: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    flops: int
    slope_flops: int


KINDS = {
    "relu": Kind(lambda x: np.maximum(x, 0), lambda x: 1.0 * (x > 0), 1, 1),
    "leaky_relu": Kind(lambda x: np.where(x > 0, x, SLOPE * x), lambda x: np.where(x > 0, 1, SLOPE), 2, 2),
    "sigmoid": Kind(_sigmoid, lambda x: _sigmoid(x) * (1 - _sigmoid(x)), 4, 3),
    "tanh": Kind(np.tanh, lambda x: 1 - np.tanh(x) ** 2, 5, 3),
    "gelu": Kind(lambda x: x * _normal(x), _gelu_slope, 5, 10),
    "gelu_tanh": Kind(
        lambda x: 0.5 * x * (1 + np.tanh(GELU_A * (x + GELU_B * x**3))), _gelu_tanh_slope, 9, 18
    ),
    "silu": Kind(lambda x: x * _sigmoid(x), _silu_slope, 5, 8),
    "elu": Kind(lambda x: np.where(x > 0, x, np.expm1(x)), lambda x: np.where(x > 0, 1, np.exp(x)), 3, 3),
    "selu": Kind(
        lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(x)),
        lambda x: SELU_SCALE * np.where(x > 0, 1, SELU_ALPHA * np.exp(x)),
        5,
        4,
    ),
    "softplus": Kind(lambda x: np.logaddexp(x, 0), _sigmoid, 4, 5),
}


def forward_case(kind: str, shape: tuple[int, int], *, name: str = "", group: str = "activation") -> Case:
    """x is read once and y written once."""
    size = 4.0 * math.prod(shape)
    return Case(
        name=name or f"{kind} forward {shape}",
        group=group,
        op="activation",
        arrays=lambda rng: {"x": random_array(rng, *shape)},
        expected=lambda v: {"y": KINDS[kind].function(v["x"])},
        tolerance=1e-6,
        flops=float(KINDS[kind].flops * math.prod(shape)),
        sizes={"kind": kind},
        stream=Stream("copy", read=size, written=size, footprint=2 * size),
        full_only=True,
    )


def backward_case(kind: str, shape: tuple[int, int]) -> Case:
    """dy and what forward saw are read once and dx written once. Inputs: x, and y as forward left it."""
    size = 4.0 * math.prod(shape)

    def arrays(rng: np.random.Generator) -> Arrays:
        x = random_array(rng, *shape)
        y = KINDS[kind].function(x.astype(np.float64)).astype(np.float32)
        return {"x": x, "y": y, "dy": random_array(rng, *shape)}

    return Case(
        name=f"{kind} backward {shape}",
        group="activation",
        op="activation_backward",
        arrays=arrays,
        expected=lambda v: {"dx": v["dy"] * KINDS[kind].slope(v["x"])},
        tolerance=1e-6,
        flops=float(KINDS[kind].slope_flops * math.prod(shape)),
        sizes={"kind": kind},
        stream=Stream("copy", read=2 * size, written=size, footprint=3 * size),
        full_only=True,
    )


SHAPE = (512, 1024)
CASES = [case(kind, SHAPE) for kind in KINDS for case in (forward_case, backward_case)]
CASES += [forward_case("relu", (4, 4), name="relu of 16 numbers (the call)", group="call")]
