"""ReLU and its gradient: exact, so every comparison is of equality."""

import sys

import fastnn
import guard
import layouts
import numpy as np
import pytest
import reference as ref
import shapes
from bounds import assert_bits
from fastnn import ops

NORMAL = np.finfo(np.float32).tiny
SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, NORMAL, -NORMAL, 3e38, -3e38, 1e-30], np.float32
)


def same(got, want):
    assert got.dtype == np.float32
    assert np.array_equal(got, want, equal_nan=True)


def test_lengths(isa, rng):
    for n in shapes.LENGTHS:
        x, dy = rng.standard_normal((2, n), np.float32)
        same(ops.activation(x, "relu"), ref.relu(x))
        same(ops.activation_backward(dy, x, "relu"), ref.relu_backward(dy, x))


@pytest.mark.parametrize("shape", [(), (1,), (3, 4), (2, 0, 5), (2, 3, 4, 5), (1, 1, 1, 1, 7)], ids=str)
def test_any_number_of_dimensions(isa, rng, shape):
    x, dy = np.array(rng.standard_normal(shape), np.float32), np.array(rng.standard_normal(shape), np.float32)
    assert ops.activation(x, "relu").shape == shape
    same(ops.activation(x, "relu"), ref.relu(x))
    same(ops.activation_backward(dy, x, "relu"), ref.relu_backward(dy, x))


def test_special_values(isa):
    """relu'(0) is 0; NaN passes; the largest and the infinite stay."""
    for shift in range(17):  # every place in a register
        x = np.concatenate([np.ones(shift, np.float32), SPECIAL])
        got = ops.activation(x, "relu")
        same(got, ref.relu(x))
        dy = np.full(x.shape, 2.0, np.float32)
        same(ops.activation_backward(dy, x, "relu"), ref.relu_backward(dy, x))
    dy = np.array([np.nan, np.inf, -np.inf], np.float32)
    same(ops.activation_backward(dy, np.ones(3, np.float32), "relu"), dy)


def test_y_may_stand_in_for_x(isa, rng):
    """The sign of y = relu(x) says what x's does, so the gradient is the same."""
    x, dy = rng.standard_normal((2, 5000), np.float32)
    y = ops.activation(x, "relu")
    assert_bits(ops.activation_backward(dy, x, "relu", y=y), ops.activation_backward(dy, x, "relu"))


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_input_layouts(isa, rng, layout):
    for shape in [(7, 19), (50, 1), (1, 65), (130, 140)]:
        x, dy = (layouts.LAYOUTS[layout](rng.standard_normal(shape, np.float32)) for _ in range(2))
        same(ops.activation(x, "relu"), ref.relu(x))
        same(ops.activation_backward(dy, x, "relu"), ref.relu_backward(dy, x))


def test_in_place_and_out(isa, rng):
    x, dy = rng.standard_normal((2, 33, 70), np.float32)
    want, dwant = ref.relu(x), ref.relu_backward(dy, x)
    out = layouts.off_by_one_element(np.full_like(x, np.nan))
    assert ops.activation(x, "relu", out=out) is out
    same(out, want)
    out.fill(np.nan)
    assert ops.activation_backward(dy, x, "relu", out=out) is out
    same(out, dwant)
    assert ops.activation_backward(dy, x, "relu", out=dy) is dy
    same(dy, dwant)
    assert ops.activation(x, "relu", out=x) is x
    same(x, want)


def test_every_number_of_threads(isa, threads, rng):
    x, dy = rng.standard_normal((2, 200_001), np.float32)
    same(ops.activation(x, "relu"), ref.relu(x))
    same(ops.activation_backward(dy, x, "relu"), ref.relu_backward(dy, x))


def guard_cases(isa):
    fastnn.set_isa(isa)
    rng = np.random.default_rng(0)
    for n in (1, 7, 8, 9, 15, 16, 17, 31, 33, 100, 1025, 16385):
        x, dy = rng.standard_normal((2, n), np.float32)
        for (where, x_), (_, dy_), (_, out) in zip(*map(guard.both_ends, (x, dy, x)), strict=True):
            print(f"activation {n}, page at the {where}", file=sys.stderr, flush=True)
            same(ops.activation(x_, "relu", out=out), ref.relu(x))
            same(ops.activation_backward(dy_, x_, "relu", out=out), ref.relu_backward(dy, x))


def test_guard_pages(isa):
    guard.run_isolated("test_activation", "guard_cases", isa)
