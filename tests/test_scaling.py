"""The native passes of the scalers: sums of columns, and (x - shift) * scale + offset."""

import sys

import fastnn
import guard
import layouts
import numpy as np
import pytest
import reference_scaling as ref
import shapes
from bounds import assert_bits, assert_within
from fastnn._columns import column_moments, samples, scale_columns
from test_floating_point_environment import denormals_work

DTYPES = (np.float32, np.float64, np.uint8)
SHAPES = [*shapes.BATCHES, (1, 1), (1, 40), (193, 1), (6, 0)]


def draw(rng, shape, dtype, offset=0.0):
    """Columns of different sizes and distances from zero, constant ones among them."""
    if dtype == np.uint8:
        x = rng.integers(0, 256, shape)
    else:
        x = rng.standard_normal(shape) * 10.0 ** rng.uniform(-3, 3, shape[1]) + offset
    x[:, ::7] = x[:1, ::7]
    return x.astype(dtype)


def numbers(rng, columns):
    """shift, scale, offset."""
    return [rng.standard_normal(columns), *rng.standard_normal((2, columns), np.float32)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_column_moments(isa, rng, dtype, offset):
    for shape in SHAPES:
        x = draw(rng, shape, dtype, offset)
        got = column_moments(x)
        for g, want, bound in zip(got, ref.column_moments(x), ref.column_moments_bounds(x), strict=True):
            assert g.dtype == np.float64
            assert np.all(np.abs(g - want) <= bound), shape
        assert not got[1][::7].any(), "a constant column has a variance"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_not_finite_reaches_its_column_alone(isa, rng, value, dtype):
    for rows, columns, at in [(5, 20, (0, 3)), (700, 20, (699, 19)), (700, 600, (192, 0))]:
        x = draw(rng, (rows, columns), dtype)
        x[at] = value
        for found in column_moments(x):
            wrong = ~np.isfinite(found)
            assert np.flatnonzero(wrong).tolist() == [at[1]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_scale_columns(isa, rng, dtype):
    for shape in [*SHAPES, (0, 5), (3, 20_000)]:
        x = draw(rng, shape, dtype)
        given = numbers(rng, shape[1])
        y = scale_columns(x, *given)
        assert y.dtype == np.float32
        assert_within(y, ref.scale_columns(x, *given), ref.scale_columns_bound(x, *given), f"{shape}")
        out = np.full(shape, np.nan, np.float32)
        assert scale_columns(x, *given, out=out) is out
        assert_bits(out, y)
        if dtype == np.float32:
            again = x.copy()
            assert_bits(scale_columns(again, *given, out=again), y)


def test_float64_keeps_the_digits_that_float32_lacks(isa):
    """Of x and of the shift, until they cancel."""
    one, zero = np.ones(2, np.float32), np.zeros(2, np.float32)
    x = 1e8 + np.arange(40.0).reshape(20, 2)
    y = scale_columns(x, np.full(2, 1e8), one, zero)
    assert np.array_equal(y, np.arange(40.0).reshape(20, 2))
    x = np.full((3, 2), 1e4, np.float32)
    assert np.array_equal(scale_columns(x, np.full(2, 1e4 - 2**-20), one, zero), np.full((3, 2), 2**-20))


def test_what_is_not_given_changes_nothing(isa, rng):
    """Neither a bit nor the sign of a zero; a shift in float32 is widened."""
    x = draw(rng, (50, 33), np.float32)
    x[3] = -0.0
    shift, scale, offset = numbers(rng, 33)
    narrow = shift.astype(np.float32)
    one = np.ones(33, np.float32)
    assert_bits(scale_columns(x, None, one, None), x)
    assert_bits(scale_columns(x, None, scale, None), x * scale)
    zeros = np.zeros(33, np.float32)
    assert_bits(scale_columns(x, None, scale, offset), scale_columns(x, zeros, scale, offset))
    wide = scale_columns(x, narrow.astype(np.float64), scale, offset)
    assert_bits(scale_columns(x, narrow, scale, offset), wide)


def test_nan_passes_through(isa, rng):
    x = draw(rng, (50, 20), np.float32)
    x[7, 3], x[8, 4] = np.nan, np.inf
    y = scale_columns(x, *numbers(rng, 20))
    assert np.argwhere(~np.isfinite(y)).tolist() == [[7, 3], [8, 4]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", [n for n in layouts.SAME_VALUES if n != "padded"])
def test_layouts(isa, rng, dtype, layout):
    """What cannot be read where it lies is copied first; the bits are the same."""
    x = draw(rng, (400, 33), dtype)
    given = numbers(rng, 33)
    with np.errstate(invalid="ignore"):  # NaN between the elements, where they can hold it
        placed = samples(layouts.SAME_VALUES[layout](x), "X")
    for got, want in zip(column_moments(placed), column_moments(x), strict=True):
        assert np.array_equal(got, want)
    assert_bits(scale_columns(placed, *given), scale_columns(x, *given))


def test_rows_with_gaps_are_read_where_they_lie(isa, rng):
    big = draw(rng, (400, 50), np.float32)
    for view in (big[:, :33], big[::2, 5:38], big[::-1, :33]):
        assert samples(view, "X") is view
        given = numbers(rng, 33)
        assert_bits(scale_columns(view, *given), scale_columns(view.copy(), *given))
        for got, want in zip(column_moments(view), column_moments(view.copy()), strict=True):
            assert np.array_equal(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_everywhere(restore_runtime, isas, dtype):
    for shape in [(5000, 70), (150, 33), (20_000, 3), (400, 1100)]:
        x = draw(np.random.default_rng(1), shape, dtype)
        given = numbers(np.random.default_rng(2), shape[1])
        found = []
        for isa in isas:
            for threads in (1, 2, 3, 8):
                fastnn.set_isa(isa)
                fastnn.set_num_threads(threads)
                found.append([a.tobytes() for a in (*column_moments(x), scale_columns(x, *given))])
        assert all(other == found[0] for other in found)


def test_denormals_work_after_a_call(isa, threads, rng):
    x = draw(rng, (3000, 70), np.float32)
    column_moments(x)
    scale_columns(x, *numbers(rng, 70))
    assert denormals_work()


def test_denormals_count_as_zero_everywhere(restore_runtime, isas, rng):
    x = (rng.standard_normal((500, 40)) * 10.0 ** rng.uniform(-44, -36, (500, 40))).astype(np.float32)
    given = [a * a.dtype.type(1e-40 if i == 0 else 1e-3) for i, a in enumerate(numbers(rng, 40))]
    found = []
    for isa in isas:
        fastnn.set_isa(isa)
        found.append([a.tobytes() for a in (*column_moments(x), scale_columns(x, *given))])
    assert all(other == found[0] for other in found)


def guarded_cases(isa):
    """For a subprocess: every array and result beside a forbidden page."""
    fastnn.set_isa(isa)
    rng = np.random.default_rng(0)
    for dtype in DTYPES:
        for shape in [(1, 1), (3, 5), (7, 17), (200, 33), (193, 16), (400, 70)]:
            x = draw(rng, shape, dtype)
            given = numbers(rng, shape[1])
            want = *column_moments(x), scale_columns(x, *given)
            for where in guard.ENDS:
                print(f"{dtype.__name__} {shape}, page at the {where}", file=sys.stderr, flush=True)
                with guard.allocations(where):
                    arrays = [np.array(a) for a in (x, *given)]
                    got = *column_moments(arrays[0]), scale_columns(*arrays)
                for g, w in zip(got, want, strict=True):
                    assert g.tobytes() == w.tobytes()


def test_guard_pages(isa):
    guard.run_isolated("test_scaling", "guarded_cases", isa)


X = np.ones((6, 4), np.float32)
V, W = np.ones(4, np.float32), np.ones(4)
BIG = np.ones((6, 8), np.float32)
BYTES = X.view(np.uint8)[:, :4]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: column_moments([[1.0]]),
            TypeError,
            r"^column_moments\(\).*'x' must be .* got list",
        ),
        (lambda: column_moments(X.astype(np.int64)), TypeError, r"'x'.*uint8.*got int64"),
        (lambda: column_moments(X.astype(">f4")), TypeError, r"'x'.*native byte order"),
        (lambda: column_moments(np.ma.masked_array(X)), TypeError, r"'x'.*masked"),
        (lambda: column_moments(V), ValueError, r"'x'.*two dimensions"),
        (lambda: column_moments(X[None]), ValueError, r"'x'.*\(rows, columns\)"),
        (lambda: column_moments(X[:0]), ValueError, r"'x'.*at least one row"),
        (lambda: column_moments(X[:, ::2]), ValueError, r"'x'.*contiguous"),
        (lambda: column_moments(layouts.misaligned(X)), ValueError, r"'x'.*aligned"),
        (lambda: scale_columns(X, W[:3], V, V), ValueError, r"'shift'.*shape"),
        (lambda: scale_columns(X, BYTES[0], V, V), TypeError, r"'shift'.*float32, got uint8"),
        (lambda: scale_columns(X, V[:3], V, V), ValueError, r"'shift'.*shape"),
        (lambda: scale_columns(X, np.ones(8)[::2], V, V), ValueError, r"'shift'.*contiguous"),
        (lambda: scale_columns(X, W, W, V), TypeError, r"'scale'.*float64"),
        (lambda: scale_columns(X, W, None, V), TypeError, r"'scale'"),
        (lambda: scale_columns(X, W, V, W), TypeError, r"'offset'.*float64"),
        (lambda: scale_columns(X, W, V, V, out=X[:5].copy()), ValueError, r"'out'.*shape"),
        (lambda: scale_columns(X, W, V, V, out=X.astype("f8")), TypeError, r"'out'.*float64"),
        (lambda: scale_columns(BIG[:, :4], W, V, V, out=BIG[:, 2:6]), ValueError, r"'out'.*memory"),
        (lambda: scale_columns(X, W, X[0], V, out=X), ValueError, r"'out'.*memory"),
        (lambda: scale_columns(BYTES, W, V, V, out=X), ValueError, r"'out'.*memory"),
    ],
)
def test_bad_input(call, error, message):
    before = X.tobytes()
    with pytest.raises(error, match="(?s)" + message):
        call()
    assert X.tobytes() == before
