"""Initializers: `f(shape, *, rng, fan_in=None, fan_out=None) -> float32 array`.

An initializer holds numbers only. The random numbers come from `rng`, never from global state: a
`numpy.random.Generator`, or a whole number that seeds one (None: a fresh seed).

fan_in is the number of inputs of one neuron, fan_out the number of neurons that one input feeds. The layer
says them, since a shape alone does not: fastnn and Paddle store weights as (in, out), PyTorch and MLX as
(out, in). An initializer that scales with them raises ValueError without them; those that fill a matrix
(`Orthogonal`, `Sparse`, `Identity`) take its shape as (fan_in, fan_out).

Normal distributions are not truncated, as in PyTorch and Paddle; Keras and JAX truncate at two standard
deviations. `TruncatedNormal` and `VarianceScaling(..., "truncated_normal")` do so and widen what is left, so
that the standard deviation asked for is the one that comes out.

"Random sampling initialization" of a fixed variance is `Normal(0, std)` or `Uniform.from_std(std)`: which of
the two matters little, the standard deviation much. It needs a std for each layer, or batch-norm behind it;
`model.reset_parameters(seed, init={"0.weight": Normal(0, 0.05), ...})` sets them.
"""

from __future__ import annotations

from fastnn.init._initializer import Initializer
from fastnn.init.matrices import Identity, Orthogonal, Sparse
from fastnn.init.scaled import (
    KaimingNormal,
    KaimingUniform,
    LecunNormal,
    VarianceScaling,
    XavierNormal,
    XavierUniform,
    gain,
)
from fastnn.init.simple import Constant, Normal, TruncatedNormal, Uniform, Zeros

__all__ = [
    "Constant",
    "Identity",
    "Initializer",
    "KaimingNormal",
    "KaimingUniform",
    "LecunNormal",
    "Normal",
    "Orthogonal",
    "Sparse",
    "TruncatedNormal",
    "Uniform",
    "VarianceScaling",
    "XavierNormal",
    "XavierUniform",
    "Zeros",
    "gain",
]
