"""Dropout: the mask is the reference's bit for bit, so comparisons are of equality; then its statistics."""

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

BLOCK = 16384  # elements that share one key
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-30, 3e38, -3e38], np.float32)


def assert_dropped(got, x, p, seed, step):
    """got is x times float32(1 / (1 - p)), rounded once, where the reference keeps, and +0 elsewhere."""
    scale = np.float32(1.0 / (1.0 - p)) if p < 1 else np.float32(0)
    with np.errstate(all="ignore"):
        assert_bits(got, np.where(ref.dropout_mask(x.shape, p, seed, step), x * scale, np.float32(0)))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.75, 0.999, 1.0])
def test_lengths(isa, rng, p):
    for n in (*shapes.LENGTHS, 5 * BLOCK + 7):
        x = rng.standard_normal(n, np.float32)
        assert_dropped(ops.dropout(x, p, seed=3, step=n), x, p, 3, n)


@pytest.mark.parametrize("shape", [(), (1,), (3, 4), (2, 0, 5), (2, 3, 4, 5), (1, 1, 1, 1, 7)], ids=str)
def test_any_number_of_dimensions(isa, rng, shape):
    x = np.array(rng.standard_normal(shape), np.float32)
    y = ops.dropout(x, 0.4, seed=1, step=0)
    assert y.shape == shape
    assert_dropped(y, x, 0.4, 1, 0)


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**63 - 1])
@pytest.mark.parametrize("step", [0, 1, 2**32, 2**63 - 1])
def test_seeds_and_steps(isa, seed, step):
    x = np.ones(2 * BLOCK + 5, np.float32)
    assert_dropped(ops.dropout(x, 0.3, seed=seed, step=step), x, 0.3, seed, step)
    assert_dropped(ops.dropout(x, 0.3, seed=np.int64(seed), step=np.uint64(step)), x, 0.3, seed, step)


@pytest.mark.parametrize("p", [2.0**-32, 2.0**-33, 2.0**-34, 1 - 2.0**-32, 1 - 2.0**-40, 1e-300])
def test_probabilities_next_to_0_and_1(isa, rng, p):
    """p counts in steps of 2**-32: rounded, and never off by one step at the ends."""
    x = rng.standard_normal(3000, np.float32)
    assert_dropped(ops.dropout(x, p, seed=5, step=5), x, p, 5, 5)


def test_bits_are_a_permutation_of_the_starts_of_a_key():
    """So an element's chance to be kept is exact; here on every 2^16th start."""
    starts = np.arange(2**16, dtype=np.uint32) << np.uint32(16)
    for middle in (0, 0x12345678, 0xFFFFFFFF):
        bits = ref.dropout_bits(starts, np.uint32(middle))
        assert len(np.unique(bits)) == len(starts)


def test_the_gradient_is_the_same_call(isa, rng):
    x, dy = rng.standard_normal((2, 50_000), np.float32)
    y, dx = (ops.dropout(a, 0.5, seed=9, step=4) for a in (x, dy))
    np.testing.assert_array_equal(dx, np.where(y == 0, 0, 2 * dy))


def test_special_values(isa):
    """Dropping selects: a dropped NaN or infinity is +0, a kept one stays."""
    for shift in range(17):  # every place in a register
        x = np.concatenate([np.ones(shift, np.float32), SPECIAL, SPECIAL, SPECIAL])
        for p in (0.0, 0.5, 1.0):
            y = ops.dropout(x, p, seed=shift, step=1)
            keep = ref.dropout_mask(x.shape, p, shift, 1)
            assert not y[~keep].view(np.uint32).any()
            with np.errstate(all="ignore"):
                want = x[keep] * np.float32(1.0 / (1.0 - p) if p < 1 else 1)
            np.testing.assert_array_equal(y[keep], want)


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_input_layouts(isa, rng, layout):
    for shape in [(7, 19), (50, 1), (1, 65), (130, 140)]:
        x = layouts.LAYOUTS[layout](rng.standard_normal(shape, np.float32))
        assert_dropped(ops.dropout(x, 0.5, seed=2, step=3), x, 0.5, 2, 3)


def test_in_place_and_out(isa, rng):
    x = rng.standard_normal((33, 700), np.float32)
    want = ops.dropout(x, 0.2, seed=0, step=8)
    for make in layouts.OUTPUTS.values():
        out = make(np.full_like(x, np.nan))
        if out.flags.c_contiguous:
            assert ops.dropout(x, 0.2, seed=0, step=8, out=out) is out
            assert_bits(out, want)
    assert ops.dropout(x, 0.2, seed=0, step=8, out=x) is x
    assert_bits(x, want)


def test_every_number_of_threads(isa, threads, rng):
    x = rng.standard_normal(20 * BLOCK + 1, np.float32)
    assert_dropped(ops.dropout(x, 0.5, seed=6, step=7), x, 0.5, 6, 7)


def guard_cases(isa):
    fastnn.set_isa(isa)
    for n in (1, 7, 8, 9, 15, 16, 17, 31, 33, 100, 1025, BLOCK + 1):
        x = np.random.default_rng(n).standard_normal(n, np.float32)
        for (where, x_), (_, out) in zip(guard.both_ends(x), guard.both_ends(x), strict=True):
            print(f"dropout {n}, page at the {where}", file=sys.stderr, flush=True)
            for p in (0.5, 1.0):
                assert_dropped(ops.dropout(x_, p, seed=1, step=1, out=out), x, p, 1, 1)


def test_guard_pages(isa):
    guard.run_isolated("test_dropout", "guard_cases", isa)


# ---- statistics: each within five standard deviations of independent draws, on 2^22 elements

N = 1 << 22
ONES = np.ones(N, np.float32)


def kept(p, seed, step):
    return ops.dropout(ONES, p, seed=seed, step=step) != 0


def within_five_sigma(value, expected, sigma):
    assert abs(value - expected) < 5 * sigma, f"{(value - expected) / sigma:.1f} standard deviations"


@pytest.mark.parametrize("p", [0.01, 0.1, 1 / 3, 0.5, 0.9])
def test_mean_and_variance(p):
    """The share of kept elements, and the variance of the number of them among 256 neighbours."""
    q, v = 1 - p, p * (1 - p)
    mask = kept(p, 1, 2)
    within_five_sigma(mask.mean(), q, np.sqrt(v / N))
    sums = mask.reshape(-1, 256).sum(1)
    fourth = 3 * (256 * v) ** 2 + 256 * v * (1 - 6 * v)  # of the binomial distribution
    sigma = np.sqrt((fourth - (256 * v) ** 2) / len(sums))
    within_five_sigma(np.mean((sums - 256 * q) ** 2), 256 * v, sigma)


def test_bytes_of_eight_neighbours():
    """Chi-square over the 256 patterns of eight elements in a row, at p = 1/2."""
    counts = np.bincount(np.packbits(kept(0.5, 3, 4)), minlength=256)
    expected = N / 8 / 256
    within_five_sigma(((counts - expected) ** 2 / expected).sum(), 255, np.sqrt(2 * 255))


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_neighbours_are_uncorrelated(p):
    """At distances from 1 to 64, at widths of layers and powers of two, up to beyond a block."""
    v = p * (1 - p)
    centred = kept(p, 5, 6) - np.float32(1 - p)
    for lag in (*range(1, 65), 100, 128, 256, 512, 784, 1000, 1024, 4096, 8192, BLOCK, 2 * BLOCK):
        both = np.dot(centred[:-lag], centred[lag:])
        within_five_sigma(both / v, 0, np.sqrt(N - lag))


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_steps_and_seeds_are_uncorrelated(p):
    v = p * (1 - p)
    one = kept(p, 7, 8) - np.float32(1 - p)
    for seed, step in ((7, 9), (7, 8 + 2**32), (8, 8), (8, 7), (7 + 2**32, 8), (0, 0)):
        other = kept(p, seed, step) - np.float32(1 - p)
        for shift in (0, 1, BLOCK):  # nor is one mask the other one, moved
            within_five_sigma(np.dot(one[shift:], other[: N - shift]) / v, 0, np.sqrt(N))


def test_these_statistics_see_a_correlation():
    mask = kept(0.5, 1, 1)
    mask[1:][::200] = mask[:-1][::200]
    centred = mask - np.float32(0.5)
    with pytest.raises(AssertionError, match="standard deviations"):
        within_five_sigma(np.dot(centred[:-1], centred[1:]) / 0.25, 0, np.sqrt(N))
