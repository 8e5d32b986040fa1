"""Arrays whose offsets need more than 32 bits: `pytest -m slow tests/test_large.py`.

More than 2^31 elements for gemm, also of bfloat16, batch_norm and sgd_, more than 2^31 bytes for every other
function. What is only read is zero but for a few rows, and costs no memory: the system maps one page of zeros
for all others.
"""

import mmap
from pathlib import Path

import fastnn
import numpy as np
import pytest
import reference as ref
from bounds import EPS, assert_bits, assert_within, batch_norm_bound, mean_bound, softmax_bounds
from conftest import ISAS
from fastnn import ops
from native import NATIVE
from reference_dropout import dropout_mask

GIGABYTE = 1 << 30


def needs(gigabytes):
    """Skips where the system has less memory to give."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pytest.skip("the system does not tell how much memory it has")
    if available < gigabytes * GIGABYTE:
        pytest.skip(f"needs {gigabytes} GB of memory, {available / GIGABYTE:.1f} are available")


def zeros(*shape, dtype=np.float32):
    """Zeros in small pages (np.zeros may ask for huge ones, and a single row makes such a page real)."""
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(memory, dtype).reshape(shape)


def integers(rng, *shape):
    """Small integers: their products and sums are exact."""
    return rng.integers(-8, 9, shape).astype(np.float32)


# ---- more than 2^31 elements -------------------------------------------------------------------------------

ROWS, COLUMNS = 2**21 + 3, 1024
PIECE = 1 << 12  # rows that are compared at a time


def some_rows(rng):
    """Numbers of rows on both sides of every border."""
    return np.unique([0, 1, 2**20, 2**21 - 1, 2**21, 2**21 + 1, 2**21 + 2, *rng.integers(0, ROWS, 100)])


@pytest.mark.slow
def test_gemm_reads_more_than_two_to_the_31_elements(rng):
    needs(2)
    a, b, filled = zeros(ROWS, COLUMNS), integers(rng, COLUMNS, 5), some_rows(rng)
    a[filled] = integers(rng, len(filled), COLUMNS)
    c = ops.gemm(a, b)
    assert_bits(c[filled], a[filled] @ b)
    c[filled] = 0
    assert not c.any()


@pytest.mark.slow
def test_gemm_writes_more_than_two_to_the_31_elements_over_nan(rng):
    """beta = 0 overwrites what was there, NaN included, to the last element."""
    needs(10)
    a, b = integers(rng, ROWS, 1), integers(rng, 1, COLUMNS)
    c = np.full((ROWS, COLUMNS), np.nan, np.float32)
    assert ops.gemm(a, b, out=c, beta=0.0) is c
    for at in range(0, ROWS, PIECE):
        assert np.array_equal(c[at : at + PIECE], a[at : at + PIECE] * b), at


# Of bfloat16 each instruction set has a way of its own; the scalar one would take minutes.
FAST = pytest.mark.parametrize("name", [isa for isa in ISAS if isa != "scalar"])


@pytest.mark.slow
@FAST
def test_gemm_reads_more_than_two_to_the_31_bfloat16_numbers(restore_runtime, rng, name):
    needs(2)
    dtype = pytest.importorskip("ml_dtypes").bfloat16
    fastnn.set_isa(name)
    a, b, filled = zeros(ROWS, COLUMNS, dtype=dtype), integers(rng, COLUMNS, 5), some_rows(rng)
    values = integers(rng, len(filled), COLUMNS)
    a[filled] = values.astype(dtype)
    c = ops.gemm(a, b.astype(dtype), out_dtype=np.float32)
    assert_bits(c[filled], values @ b)
    c[filled] = 0
    assert not c.any()


@pytest.mark.slow
@FAST
def test_gemm_writes_more_than_two_to_the_31_bfloat16_numbers_over_nan(restore_runtime, rng, name):
    needs(6)
    dtype = pytest.importorskip("ml_dtypes").bfloat16
    fastnn.set_isa(name)
    a, b = integers(rng, ROWS, 1), integers(rng, 1, COLUMNS)  # whose products are bfloat16 numbers too
    c = np.full((ROWS, COLUMNS), np.nan, dtype)
    assert ops.gemm(a.astype(dtype), b.astype(dtype), out=c, beta=0.0) is c
    for at in range(0, ROWS, PIECE):
        assert np.array_equal(c[at : at + PIECE], (a[at : at + PIECE] * b).astype(dtype)), at


@pytest.mark.slow
def test_batch_norm_of_more_than_two_to_the_31_elements(rng):
    needs(11)
    x, y = zeros(ROWS, COLUMNS), np.empty((ROWS, COLUMNS), np.float32)
    gamma, beta = rng.standard_normal((2, COLUMNS), np.float32)
    every = 64
    values = rng.standard_normal((len(x[::every]), COLUMNS), np.float32)
    x[::every] = values
    got, mean, rstd = ops.batch_norm(x, gamma, beta, out=y)
    assert got is y
    want_mean = values.sum(0, dtype=np.float64) / ROWS
    var = np.einsum("ij,ij->j", values, values, dtype=np.float64) / ROWS - want_mean**2
    assert_within(mean, want_mean, mean_bound(want_mean, np.sqrt(var)), "mean")
    want_rstd = 1 / np.sqrt(var + 1e-5)
    assert_within(rstd, want_rstd, 6e-7 * want_rstd, "rstd")
    for rows in (slice(0, 2 * every), slice(2**21 - every, ROWS)):
        want, _, _, xhat = ref.batch_norm(x[rows], gamma, beta, mean=want_mean, var=var)
        bound = batch_norm_bound(gamma, beta, xhat, want_mean, np.sqrt(var))
        assert_within(y[rows], want, bound, f"y {rows}")
    for at in range(0, ROWS, PIECE):  # all other rows are those of zeros
        piece = np.delete(y[at : at + PIECE], np.s_[::every], axis=0)
        assert np.array_equal(piece, np.broadcast_to(y[1], piece.shape)), at


@pytest.mark.slow
def test_sgd_of_more_than_two_to_the_31_elements(rng):
    needs(10)
    n = 2**31 + 37
    param, grad = zeros(n), zeros(n)
    places = [slice(0, 1000), slice(2**31 - 1000, 2**31 + 1), slice(n - 20, n)]
    for place in places:
        param[place], grad[place] = 100, integers(rng, place.stop - place.start)
    ops.sgd_(param, grad, lr=0.5)
    for place in places:
        assert_bits(param[place], 100 - np.float32(0.5) * grad[place])
        param[place] = 0
    assert np.count_nonzero(param) == 0


# ---- more than 2^31 bytes ----------------------------------------------------------------------------------

SHAPE = (2**22 + 1, 128)  # float32: 2^31 + 512 bytes
HELD = [slice(0, 40), slice(2**22 - 30, 2**22 + 1)]  # rows that are not zero, on both sides of the border


def sparse(rng, low=-1.0):
    """An array of SHAPE, zero but for the rows HELD, which are drawn from [low, 1)."""
    x = zeros(*SHAPE)
    for rows in HELD:
        x[rows] = rng.uniform(low, 1.0, x[rows].shape)
    return x


def held(x):
    """The rows HELD as one small array."""
    return np.concatenate([x[rows] for rows in HELD])


def check_elementwise(call, *arrays):
    """call(*arrays) gives or changes arrays; the rows HELD must be those of the same call on them alone."""
    small = [held(x) for x in arrays]
    got, want = call(*arrays), call(*small)
    if got is None:  # an update
        got, want = arrays, small
    for g, w in zip(got, want, strict=True):
        assert_bits(held(g), w)


def activation(rng):
    check_elementwise(lambda x: [ops.activation(x, "gelu")], sparse(rng))


def activation_backward(rng):
    check_elementwise(lambda dy, x: [ops.activation_backward(dy, x, "silu")], sparse(rng), sparse(rng))


def dropout(rng):
    x, block = zeros(SHAPE[0] * SHAPE[1]), 16384  # the elements with one key
    last = x.size // block  # the last block, which is not a whole one
    x[:block] = x[last * block :] = 1
    y = ops.dropout(x, 0.5, seed=3, step=4)
    for at, n in ((0, block), (last, x.size - last * block)):
        mask = dropout_mask((n,), 0.5, 3, 4, first_block=at)
        assert_bits(y[at * block : at * block + n], 2 * mask.astype(np.float32))


def linear_backward(rng):
    x, dy, w = sparse(rng), zeros(SHAPE[0], 3), integers(rng, SHAPE[1], 3)
    for rows in HELD:
        x[rows], dy[rows] = np.round(8 * x[rows]), integers(rng, rows.stop - rows.start, 3)
    dx, dw, db = ops.linear_backward(dy, x, w)
    for got, want in zip((held(dx), dw, db), ref.linear_backward(held(dy), held(x), w), strict=True):
        assert_bits(got, want.astype(np.float32))
    assert not dx[HELD[0].stop : HELD[1].start].any()


def batch_norm_backward(rng):
    dy, x = sparse(rng), sparse(rng)
    gamma, mean, rstd = rng.uniform(0.5, 1.5, (3, SHAPE[1])).astype(np.float32)
    dx, dgamma, dbeta = ops.batch_norm_backward(dy, x, gamma, mean, rstd)
    small, xhat = ref.f64(held(dy)), (ref.f64(held(x)) - mean) * rstd
    sums = small.sum(0), (small * xhat).sum(0)
    size = np.abs(small).sum(0), np.abs(small * xhat).sum(0)
    for got, want, bound in zip((dbeta, dgamma), sums, size, strict=True):
        assert_within(got, want, (len(small) + 2) * EPS * bound)
    want = gamma * rstd * (small - sums[0] / SHAPE[0] - xhat * sums[1] / SHAPE[0])
    terms = np.abs(small) + size[0] / SHAPE[0] + np.abs(xhat) * size[1] / SHAPE[0]
    assert_within(held(dx), want, 6e-7 * gamma * rstd * terms)


def softmax_cross_entropy(rng):
    logits, labels = sparse(rng), np.zeros(SHAPE[0], np.int64)
    for rows in HELD:
        labels[rows] = rng.integers(0, SHAPE[1], rows.stop - rows.start)
    value, dlogits = ops.softmax_cross_entropy(logits, labels)
    small = held(logits), held(labels)
    share = len(small[0]) / SHAPE[0]
    want, gradient = ref.softmax_cross_entropy(*small)
    _, bound = softmax_bounds(*small)
    assert_within(held(dlogits), gradient * share, bound * share)
    assert value == pytest.approx(want * share + np.log(SHAPE[1]) * (1 - share), rel=1e-6)


def elementwise_loss(name, of_zeros=0.0):
    def check(rng):
        pred, target = sparse(rng), sparse(rng, low=0.0)
        value, dpred = getattr(ops, name)(pred, target)
        share = len(held(pred)) / SHAPE[0]
        want, gradient = getattr(ref, name)(held(pred), held(target))
        assert_within(held(dpred), gradient * share, 8 * EPS * np.max(np.abs(gradient)) * share)
        assert value == pytest.approx(want * share + of_zeros * (1 - share), rel=1e-6)

    return check


def update(name, states, **numbers):
    def check(rng):
        arrays = [sparse(rng), sparse(rng), *(sparse(rng, low=0.0) for _ in range(states))]
        check_elementwise(lambda *a: getattr(ops, name)(*a, **numbers), *arrays)

    return check


PAST_TWO_TO_THE_31_BYTES = {
    "activation": activation,
    "activation_backward": activation_backward,
    "dropout": dropout,
    "linear_backward": linear_backward,
    "batch_norm_backward": batch_norm_backward,
    "softmax_cross_entropy": softmax_cross_entropy,
    "sigmoid_cross_entropy": elementwise_loss("sigmoid_cross_entropy", np.log(2)),
    "mse": elementwise_loss("mse"),
    "quadratic_cost": elementwise_loss("quadratic_cost"),
    "huber": elementwise_loss("huber"),
    "momentum_": update("momentum_", 1, lr=0.1),
    "rmsprop_": update("rmsprop_", 1, lr=0.1),
    "adagrad_": update("adagrad_", 1, lr=0.1),
    "adam_": update("adam_", 2, step=3, lr=0.1),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PAST_TWO_TO_THE_31_BYTES)
def test_more_than_two_to_the_31_bytes(name, rng):
    needs(8)
    PAST_TWO_TO_THE_31_BYTES[name](rng)


def test_every_function_is_run():
    assert PAST_TWO_TO_THE_31_BYTES.keys() | {"gemm", "batch_norm", "sgd_"} == set(NATIVE)
