"""The products of Trainer(precision="bfloat16"): of float32 arrays that are rounded to bfloat16 first."""

import sys

import fastnn
import guard
import layouts
import numpy as np
import pytest
import reference as ref
import shapes
from bounds import assert_bits, assert_within, gemm_bound, sum_factor
from fastnn import _core, ops

F32 = np.dtype(np.float32)
LAYERS = [
    *((n, i, o) for n in (1, 2, 49, 193) for i, o in ((5, 7), (17, 33))),
    *((9, 5, e) for e in shapes.EDGES),
    *((9, e, 5) for e in shapes.EDGES),
    *((e, 7, 6) for e in shapes.EDGES),
    *((128, 60, 10), (150, 515, 130), (7, 300, 200), (1100, 30, 40)),
]  # rows, in, out


def draw(rng, n, i, o):
    return tuple(rng.standard_normal(s, np.float32) for s in ((n, i), (i, o), (n, o)))


def check_forward(x, w, *, random=True, **arguments):
    got = _core.linear_bf16(x, w, **arguments)
    assert got.dtype == F32
    bound = {key: value for key, value in arguments.items() if key == "bias"}
    limit = gemm_bound(ref.bfloat16(x), ref.bfloat16(w), random=random, **bound)
    assert_within(got, ref.linear_bf16(x, w, **arguments), limit, f"{x.shape} {w.shape} {sorted(arguments)}")
    return got


def check_backward(dy, x, w, got, *, random=True):
    dx, dw, db = ref.linear_backward_bf16(dy, x, w)
    factor, rows, weights = map(ref.bfloat16, (dy, x, w))
    assert_within(got[0], dx, gemm_bound(factor, weights, trans_b=True, random=random), "dx")
    assert_within(got[1], dw, gemm_bound(rows, factor, trans_a=True, random=random), "dw")
    assert_within(got[2], db, sum_factor(len(dy), random=random) * np.abs(ref.f64(dy)).sum(0), "db")


def test_forward(isa, rng):
    for n, i, o in LAYERS:
        x, w, _ = draw(rng, n, i, o)
        check_forward(x, w)
        check_forward(x, w, bias=rng.standard_normal(o, np.float32), activation="relu")


def test_backward(isa, rng):
    for shape in LAYERS:
        x, w, dy = draw(rng, *shape)
        got = _core.linear_backward_bf16(dy, x, w)
        check_backward(dy, x, w, got)
        for need_dx, need_db in [(False, True), (True, False), (False, False)]:
            part = _core.linear_backward_bf16(dy, x, w, need_dx=need_dx, need_db=need_db)
            for one, all_of_it, needed in zip(part, got, (need_dx, True, need_db), strict=True):
                assert (one is not None) == needed
                if needed:
                    assert_bits(one, all_of_it)


def test_gradients_are_added_up(isa, rng):
    x, w, dy = draw(rng, 60, 17, 9)
    start = rng.standard_normal((17, 9), np.float32), rng.standard_normal(9, np.float32)
    dw, db = (array.copy() for array in start)
    _core.linear_backward_bf16(dy, x, w, out=(None, dw, db), accumulate=True)
    _, *want = ref.linear_backward_bf16(dy, x, w)
    assert_within(dw, want[0] + start[0], 1e-5 * (1 + np.abs(want[0])))
    assert_within(db, want[1] + start[1], 1e-5 * (1 + np.abs(want[1])))


def test_each_number_is_rounded_to_nearest_even(isa):
    """Each bfloat16, and the float32 numbers at and beside the middle to the next one, times 1."""
    upper = np.arange(2**16, dtype=np.uint32)[:, None] << 16
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    x = (upper | lower).view(np.float32).reshape(-1, 1)
    one = np.ones((1, 1), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        want = ref.bfloat16(x)
        want = np.where(np.abs(want) < np.finfo(F32).tiny, 0.0, want).astype(F32)
    nan = np.isnan(x)
    as_input, as_weight = _core.linear_bf16(x, one), _core.linear_bf16(one, np.ascontiguousarray(x.T)).T
    as_gradient = _core.linear_backward_bf16(x, np.ones_like(x), one)[0]
    for got in (as_input, as_weight, as_gradient):
        assert np.isnan(got[nan]).all()
        assert np.array_equal(got[~nan], want[~nan])


def test_the_bits_are_those_of_bfloat16_arrays(isa, rng):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for n, i, o in [(3, 5, 7), (65, 130, 300), (64, 1030, 40), (1, 64, 64)]:
        x, w, dy = draw(rng, n, i, o)
        rows, weights, slope = (a.astype(ml_dtypes.bfloat16) for a in (x, w, dy))
        bias = rng.standard_normal(o, np.float32)
        assert_bits(
            _core.linear_bf16(x, w, bias=bias, activation="tanh"),
            ops.gemm(rows, weights, bias=bias, activation="tanh", out_dtype=F32),
        )
        dx, dw, db = _core.linear_backward_bf16(dy, x, w)
        assert_bits(dx, ops.gemm(slope, weights, trans_b=True, out_dtype=F32))
        assert_bits(dw, ops.gemm(rows, slope, trans_a=True, out_dtype=F32))
        assert_bits(db, ops.linear_backward(dy, x, w)[2])


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_layouts(isa, rng, layout):
    make = layouts.LAYOUTS[layout]
    for shape in [(7, 19, 33), (50, 70, 40), (1, 5, 1), (14, 1100, 60)]:
        x, w, dy = map(make, draw(rng, *shape))
        random = layout in layouts.SAME_VALUES
        got = check_forward(x, w, random=random)
        assert_bits(got, _core.linear_bf16(np.array(x), np.array(w)), layout)
        check_backward(dy, x, w, _core.linear_backward_bf16(dy, x, w), random=random)


def test_the_same_bits_for_threads_and_instruction_sets(isas, restore_runtime, rng):
    """All but avx512bf16, which adds products in pairs."""
    x, w, dy = draw(rng, 300, 1100, 90)
    found = {}
    for isa in isas:
        fastnn.set_isa(isa)
        for threads in (1, 2, 3, 8):
            fastnn.set_num_threads(threads)
            results = _core.linear_bf16(x, w), *_core.linear_backward_bf16(dy, x, w)
            found.setdefault(isa == "avx512bf16", []).append(results)
    for group in found.values():
        for results in group[1:]:
            for got, want in zip(results, group[0], strict=True):
                assert_bits(got, want)


def guard_cases(isa):
    """Each array flush against a page that may not be touched."""
    fastnn.set_isa(isa)
    rng = np.random.default_rng(0)
    for shape in [(1, 1, 1), (7, 9, 17), (13, 33, 65), (31, 1025, 15)]:
        arrays = draw(rng, *shape)
        x, w, dy = arrays
        want = [_core.linear_bf16(x, w), *_core.linear_backward_bf16(dy, x, w)]
        for (where, x), (_, w), (_, dy) in zip(*map(guard.both_ends, arrays), strict=True):
            print(f"{shape}, page at the {where}", file=sys.stderr, flush=True)
            for one, other in zip(
                [_core.linear_bf16(x, w), *_core.linear_backward_bf16(dy, x, w)], want, strict=True
            ):
                assert_bits(one, other)


def test_guard_pages(isa):
    guard.run_isolated("test_bfloat16_products", "guard_cases", isa)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a: _core.linear_bf16(a(3, 4), a(5, 2)), ValueError, r"'w'.*shape"),
        (lambda a: _core.linear_bf16(a(3, 4).astype(float), a(4, 2)), TypeError, r"'x'.*float64"),
        (lambda a: _core.linear_bf16(a(3, 4), a(4, 2), bias=a(3)), ValueError, "'bias'"),
        (lambda a: _core.linear_bf16(a(3, 4), a(4, 2), activation="step"), ValueError, "'activation'"),
        (lambda a: _core.linear_backward_bf16(a(3, 2), a(3, 4), a(2, 4)), ValueError, r"'w'.*shape"),
        (
            lambda a: _core.linear_backward_bf16(a(3, 2), a(3, 4), a(4, 2), accumulate=True),
            ValueError,
            "accumulate",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call(lambda *shape: np.ones(shape, np.float32))
