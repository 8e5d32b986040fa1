"""linear_backward: both products are gemm's bit for bit, the column sums lie within their bound."""

import sys

import fastnn
import guard
import layouts
import numpy as np
import pytest
import reference as ref
import shapes
from bounds import assert_bits, assert_within, gemm_bound, sum_factor
from fastnn import ops

SHAPES = [
    *((n, i, o) for n in (0, 1, 2, 49, 191, 192, 193, 385) for i, o in ((5, 7), (17, 33))),
    *((50, 9, o) for o in shapes.EDGES),
    *((20, i, 11) for i in shapes.EDGES),
    *((128, 60, 10), (300, 64, 130), (7, 300, 200), (513, 30, 40)),
]  # rows, in, out


def draw(rng, n, i, o):
    return tuple(rng.standard_normal(s, np.float32) for s in ((n, o), (n, i), (i, o)))


def check(dy, x, w, got, *, random=True):
    dx, dw, db = ref.linear_backward(dy, x, w)
    factor = sum_factor(len(dy), random=random)
    assert_within(got[0], dx, gemm_bound(dy, w, trans_b=True, random=random), "dx")
    assert_within(got[1], dw, gemm_bound(x, dy, trans_a=True, random=random), "dw")
    assert_within(got[2], db, factor * np.abs(ref.f64(dy)).sum(0), "db")


def test_shapes(isa, rng):
    for shape in SHAPES:
        dy, x, w = draw(rng, *shape)
        got = ops.linear_backward(dy, x, w)
        check(dy, x, w, got)
        assert_bits(got[0], ops.gemm(dy, w, trans_b=True), f"dx {shape}")
        assert_bits(got[1], ops.gemm(x, dy, trans_a=True), f"dw {shape}")


def test_small_integers_are_exact(isa, rng):
    dy, x, w = (rng.integers(-4, 5, s).astype(np.float32) for s in ((100, 33), (100, 20), (20, 33)))
    for got, want in zip(ops.linear_backward(dy, x, w), ref.linear_backward(dy, x, w), strict=True):
        assert np.array_equal(got, want)


def test_parts_can_be_left_out(isa, rng):
    dy, x, w = draw(rng, 60, 17, 9)
    full = ops.linear_backward(dy, x, w)
    for need_dx in (False, True):
        for need_db in (False, True):
            part = ops.linear_backward(dy, x, w, need_dx=need_dx, need_db=need_db)
            for got, want, needed in zip(part, full, (need_dx, True, need_db), strict=True):
                assert (got is not None) == needed
                if needed:
                    assert_bits(got, want)


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_input_layouts(isa, rng, layout):
    for shape in [(60, 17, 9), (7, 40, 70), (100, 1, 1)]:
        dy, x, w = map(layouts.LAYOUTS[layout], draw(rng, *shape))
        got = ops.linear_backward(dy, x, w)
        plain = ops.linear_backward(np.array(dy), np.array(x), np.array(w))
        for a, b, name in zip(got, plain, ("dx", "dw", "db"), strict=True):
            assert_bits(a, b, f"{layout} {name}")
        check(dy, x, w, got, random=False)


@pytest.mark.parametrize("layout", layouts.OUTPUTS)
def test_out_and_accumulate(isa, rng, layout):
    """Given memory is used; accumulate adds to dw and db and overwrites dx."""
    make = layouts.OUTPUTS[layout]
    dy, x, w = draw(rng, 110, 20, 33)
    plain = ops.linear_backward(dy, x, w)
    start = [rng.standard_normal(p.shape, np.float32) for p in plain]
    out = (make(start[0]), make(start[1]), layouts.off_by_one_element(start[2]))
    got = ops.linear_backward(dy, x, w, out=out)
    for g, o, p in zip(got, out, plain, strict=True):
        assert g is o
        assert_bits(np.array(g), p)

    out = (make(start[0]), make(start[1]), layouts.off_by_one_element(start[2]))
    got = ops.linear_backward(dy, x, w, out=out, accumulate=True)
    assert_bits(np.array(got[0]), plain[0], "dx is overwritten")
    assert_bits(
        np.array(got[1]), ops.gemm(x, dy, trans_a=True, out=start[1].copy(), beta=1.0), "dw is added to"
    )
    assert_bits(np.array(got[2]), plain[2] + start[2], "db is added to")


def test_some_outputs_given(isa, rng):
    dy, x, w = draw(rng, 30, 8, 6)
    plain = ops.linear_backward(dy, x, w)
    dw = np.zeros((8, 6), np.float32)
    got = ops.linear_backward(dy, x, w, out=(None, dw, None))
    assert got[1] is dw
    for g, p in zip(got, plain, strict=True):
        assert_bits(g, p)


def test_nan_is_overwritten_and_propagates(isa, rng):
    dy, x, w = draw(rng, 60, 17, 9)
    plain = ops.linear_backward(dy, x, w)
    out = tuple(np.full(p.shape, np.nan, np.float32) for p in plain)
    for g, p in zip(ops.linear_backward(dy, x, w, out=out), plain, strict=True):
        assert_bits(g, p)
    dy[50, 3] = np.nan
    dx, dw, db = ops.linear_backward(dy, x, w)
    assert np.array_equal(np.isnan(dx).any(1), np.arange(60) == 50)
    assert np.array_equal(np.isnan(dw).any(0), np.arange(9) == 3)
    assert np.array_equal(np.isnan(db), np.arange(9) == 3)


def test_every_number_of_threads(isa, threads, rng):
    dy, x, w = draw(rng, 300, 120, 90)
    check(dy, x, w, ops.linear_backward(dy, x, w))


def guard_cases(isa):
    fastnn.set_isa(isa)
    rng = np.random.default_rng(0)
    for shape in [(1, 1, 1), (49, 17, 9), (7, 65, 33), (100, 15, 31)]:
        dy, x, w = draw(rng, *shape)
        want = ops.linear_backward(dy, x, w)
        ends = zip(*map(guard.both_ends, (dy, x, w, *want)), strict=True)
        for (where, dy_), (_, x_), (_, w_), *outs in ends:
            print(f"linear_backward {shape}, page at the {where}", file=sys.stderr, flush=True)
            out = tuple(o for _, o in outs)
            for o in out:
                o.fill(np.nan)
            for g, p in zip(ops.linear_backward(dy_, x_, w_, out=out), want, strict=True):
                assert_bits(g, p)


def test_guard_pages(isa):
    guard.run_isolated("test_linear_backward", "guard_cases", isa)
