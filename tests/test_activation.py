"""Activations and their gradients: values, derivatives, layouts, chunks, and the bits with and without y."""

import sys

import fastnn
import guard
import layouts
import numpy as np
import pytest
import reference as ref
import shapes
from bounds import (
    TINY,
    activation_backward_bound,
    activation_bound,
    assert_bits,
    assert_within,
)
from fastnn import ops

KINDS = list(ref.ACTIVATIONS)
OF_RESULT = ("relu", "leaky_relu", "sigmoid", "tanh", "elu", "selu")
LIMITS = {  # kind -> values at -infinity and infinity, then those of the derivative
    "relu": (0.0, np.inf, 0.0, 1.0),
    "leaky_relu": (-np.inf, np.inf, 0.01, 1.0),
    "sigmoid": (0.0, 1.0, 0.0, 0.0),
    "tanh": (-1.0, 1.0, 0.0, 0.0),
    "gelu": (0.0, np.inf, 0.0, 1.0),
    "gelu_tanh": (0.0, np.inf, 0.0, 1.0),
    "silu": (0.0, np.inf, 0.0, 1.0),
    "elu": (-1.0, np.inf, 0.0, 1.0),
    "selu": (-1.7580993, np.inf, 0.0, 1.0507010),
    "softplus": (0.0, np.inf, 0.0, 1.0),
}

kinds = pytest.mark.parametrize("kind", KINDS)


def check(x, kind, got, alpha=None):
    want = ref.activation(x, kind, alpha)
    assert got.dtype == np.float32
    assert_within(got, want, activation_bound(kind, x, want), kind)


def check_backward(dy, x, kind, got, alpha=None):
    want = ref.activation_backward(dy, x, kind, alpha)
    assert got.dtype == np.float32
    assert_within(got, want, activation_backward_bound(dy, kind, alpha), kind)


def draw(rng, *shape):
    """Values on both sides of every kink and bend, dense around zero."""
    return (6.0 * rng.standard_normal(shape) ** 3).astype(np.float32)


@kinds
def test_lengths(isa, rng, kind):
    for n in shapes.LENGTHS:
        x, dy = draw(rng, n), rng.standard_normal(n, np.float32)
        check(x, kind, ops.activation(x, kind))
        check_backward(dy, x, kind, ops.activation_backward(dy, x, kind))


@kinds
@pytest.mark.parametrize("shape", [(), (1,), (3, 4), (2, 0, 5), (2, 3, 4, 5), (1, 1, 1, 1, 7)], ids=str)
def test_any_number_of_dimensions(isa, rng, shape, kind):
    x, dy = np.array(draw(rng, *shape), np.float32), np.array(rng.standard_normal(shape), np.float32)
    assert ops.activation(x, kind).shape == shape
    check(x, kind, ops.activation(x, kind))
    check_backward(dy, x, kind, ops.activation_backward(dy, x, kind))


@kinds
def test_limits(isa, kind):
    """Infinities give the limits, in every place of a register, and so do the largest numbers."""
    low, high, slope_low, slope_high = np.array(LIMITS[kind], np.float32)
    for shift in range(17):
        x = np.r_[np.ones(shift), -np.inf, np.inf].astype(np.float32)
        assert ops.activation(x, kind)[shift:].tolist() == [low, high]
        dy = np.full(x.shape, 2.0, np.float32)
        assert ops.activation_backward(dy, x, kind)[shift:].tolist() == [2 * slope_low, 2 * slope_high]
    x = np.array([-3e38, 3e38, -1000.0, 1000.0], np.float32)
    check(x, kind, ops.activation(x, kind))
    check_backward(np.ones(4, np.float32), x, kind, ops.activation_backward(np.ones(4, np.float32), x, kind))


@kinds
def test_nan_passes(isa, kind):
    """Forward in every place of a register; backward in dy, and in x for the kinds without a kink."""
    for place in range(33):
        x = np.ones(33, np.float32)
        x[place] = np.nan
        assert np.flatnonzero(np.isnan(ops.activation(x, kind))).tolist() == [place]
        dx = ops.activation_backward(x, np.ones_like(x), kind)
        assert np.flatnonzero(np.isnan(dx)).tolist() == [place]
    dx = ops.activation_backward(np.full(1, 3.0, np.float32), np.full(1, np.nan, np.float32), kind)
    kinked = {"relu": 3.0, "leaky_relu": 3.0, "elu": 3.0, "selu": 3.0 * np.float32(1.0507010)}
    assert np.array_equal(dx, np.full(1, kinked.get(kind, np.nan), np.float32), equal_nan=True)


@kinds
def test_zeros_and_denormals(isa, kind):
    """A denormal counts as zero, whichever its sign, or is passed on; the kink belongs to the left."""
    zero = np.zeros(20, np.float32)
    at_zero = ops.activation(zero, kind)
    check(zero, kind, at_zero)
    tiny = np.where(np.arange(20) % 2, 1, -1).astype(np.float32) * np.float32(1e-40)
    assert (np.abs(ops.activation(tiny, kind) - at_zero) <= TINY).all()
    ones = np.ones(20, np.float32)
    slopes = ops.activation_backward(ones, zero, kind)
    check_backward(ones, zero, kind, slopes)
    assert_bits(ops.activation_backward(ones, -zero, kind), slopes)
    assert_bits(ops.activation_backward(ones, tiny, kind), slopes)


def test_denormal_results_are_zero_and_the_last_normal_ones_are_there(isa):
    x = np.array([-87.33, -87.34, -95.0, -104.0], np.float32)
    for kind in ("sigmoid", "softplus"):
        got = ops.activation(x, kind)
        assert got[0] == pytest.approx(np.exp(np.float64(x[0])), rel=5e-7)
        assert not got[1:].any()
    assert not ops.activation(x[2:], "silu").any()


@pytest.mark.parametrize("kind", ["tanh", "sigmoid"])
def test_symmetry(isa, rng, kind):
    x = draw(rng, 5000)
    y, mirrored = ops.activation(x, kind), ops.activation(-x, kind)
    if kind == "tanh":
        assert_bits(mirrored, -y)
    else:
        assert np.abs(mirrored + y - 1.0).max() <= 2e-7


@pytest.mark.parametrize("alpha", [None, 0.0, 0.3, 2.5])
@pytest.mark.parametrize("kind", ["leaky_relu", "elu"])
def test_alpha(isa, rng, kind, alpha):
    x, dy = draw(rng, 3000), rng.standard_normal(3000, np.float32)
    y = ops.activation(x, kind, alpha=alpha)
    check(x, kind, y, alpha)
    dx = ops.activation_backward(dy, x, kind, alpha=alpha)
    check_backward(dy, x, kind, dx, alpha)
    assert_bits(ops.activation_backward(dy, x, kind, alpha=alpha, y=y), dx)
    default = {"leaky_relu": 0.01, "elu": 1.0}[kind]
    assert_bits(ops.activation(x, kind, alpha=default), ops.activation(x, kind))


@kinds
def test_the_bits_are_the_same_with_and_without_y(isa, rng, kind):
    """Where the derivative is a function of y, even x may be y: all that a fused backward pass has."""
    x, dy = draw(rng, 5000), rng.standard_normal(5000, np.float32)
    x[:8] = 0.0, -0.0, np.inf, -np.inf, 1e-40, -1e-40, -200.0, 200.0
    y = ops.activation(x, kind)
    dx = ops.activation_backward(dy, x, kind)
    assert_bits(ops.activation_backward(dy, x, kind, y=y), dx)
    if kind in OF_RESULT:
        assert_bits(ops.activation_backward(dy, y, kind, y=y), dx)


@kinds
@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_input_layouts(isa, rng, layout, kind):
    for shape in [(7, 19), (50, 1), (1, 65), (130, 140)]:
        x, dy = (layouts.LAYOUTS[layout](rng.standard_normal(shape, np.float32)) for _ in range(2))
        check(x, kind, ops.activation(x, kind))
        check_backward(dy, x, kind, ops.activation_backward(dy, x, kind))


@kinds
def test_in_place_and_out(isa, rng, kind):
    x, dy = draw(rng, 33, 70), rng.standard_normal((33, 70), np.float32)
    want, dwant = ops.activation(x, kind), ops.activation_backward(dy, x, kind)
    out = layouts.off_by_one_element(np.full_like(x, np.nan))
    assert ops.activation(x, kind, out=out) is out
    assert_bits(out, want)
    out.fill(np.nan)
    assert ops.activation_backward(dy, x, kind, out=out) is out
    assert_bits(out, dwant)
    assert ops.activation_backward(dy, x, kind, out=dy) is dy
    assert_bits(dy, dwant)
    assert ops.activation(x, kind, out=x) is x
    assert_bits(x, want)


@kinds
def test_every_number_of_threads(isa, threads, rng, kind):
    x, dy = draw(rng, 100_001), rng.standard_normal(100_001, np.float32)
    check(x, kind, ops.activation(x, kind))
    check_backward(dy, x, kind, ops.activation_backward(dy, x, kind))


@kinds
def test_reference_derivative_by_central_differences(rng, kind):
    """The derivatives the kernels are measured with are themselves those of the functions."""
    x = np.sort(3.0 * rng.standard_normal(200))
    x = x[np.abs(x) > 1e-3]
    h = 1e-5
    difference = (ref.activation(x + h, kind) - ref.activation(x - h, kind)) / (2.0 * h)
    np.testing.assert_allclose(ref.activation_backward(1.0, x, kind), difference, rtol=1e-8, atol=1e-9)


def guard_cases(isa):
    fastnn.set_isa(isa)
    rng = np.random.default_rng(0)
    for n in (1, 7, 8, 9, 15, 16, 17, 31, 33, 100, 1025, 16385):
        x, dy = rng.standard_normal((2, n), np.float32)
        for (where, x_), (_, dy_), (_, out) in zip(*map(guard.both_ends, (x, dy, x)), strict=True):
            for kind in KINDS:
                print(f"{kind} {n}, page at the {where}", file=sys.stderr, flush=True)
                check(x, kind, ops.activation(x_, kind, out=out))
                y = guard.guarded(out)
                check_backward(dy, x, kind, ops.activation_backward(dy_, x_, kind, out=out))
                check_backward(dy, x, kind, ops.activation_backward(dy_, x_, kind, y=y, out=out))


def test_guard_pages(isa):
    guard.run_isolated("test_activation", "guard_cases", isa)
