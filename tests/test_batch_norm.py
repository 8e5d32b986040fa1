"""batch_norm and batch_norm_backward against the float64 reference, in the bounds of docs/numerics.md."""

import sys

import fastnn
import guard
import layouts
import numpy as np
import pytest
import reference as ref
import shapes
from bounds import EPS, assert_bits, assert_within, batch_norm_backward_bounds, batch_norm_bound, mean_bound
from fastnn import ops

SHAPES = [*shapes.BATCHES, (4, 3, 7), (2, 3, 5, 9), (30, 1, 17)]
# Mean of the data in standard deviations: beyond 8 the bound has a share of the mean.
OFFSETS = {"centred": 0.0, "8 std": 7.5, "100 std": 100.0, "10,000 std": 1e4}


def draw(rng, shape, offset=0.0):
    """x with that mean, gamma and beta of both signs and sizes."""
    c = shape[-1]
    x = (rng.standard_normal(shape) + offset * rng.choice([-1.0, 1.0], c)).astype(np.float32)
    return x, rng.standard_normal(c, np.float32), rng.standard_normal(c, np.float32)


def check_forward(x, gamma, beta, got, *, eps=1e-5, activation=None):
    y, mean, rstd = got
    want, want_mean, var, xhat = ref.batch_norm(x, gamma, beta, eps=eps, activation=activation)
    std = np.sqrt(var + np.float32(eps))
    assert_within(y, want, batch_norm_bound(gamma, beta, xhat, want_mean, std), f"y {x.shape}")
    assert_within(mean, want_mean, mean_bound(want_mean, std), f"mean {x.shape}")
    assert_within(rstd, 1.0 / std, 6e-7 / std, f"rstd {x.shape}")


def backward_inputs(rng, shape, offset=0.0):
    x, gamma, beta = draw(rng, shape, offset)
    y, mean, rstd = ops.batch_norm(x, gamma, beta, activation="relu")
    return rng.standard_normal(shape, np.float32), x, gamma, mean, rstd, y


def check_backward(dy, x, gamma, mean, rstd, got, y=None):
    want = ref.batch_norm_backward(dy, x, gamma, mean, rstd, y=y)
    limits = batch_norm_backward_bounds(dy, x, gamma, mean, rstd, y=y)
    for g, w, limit, name in zip(got, want, limits, ("dx", "dgamma", "dbeta"), strict=True):
        assert_within(g, w, limit, f"{name} {x.shape}")


@pytest.mark.parametrize("offset", OFFSETS)
def test_training(isa, rng, offset):
    for shape in SHAPES:
        x, gamma, beta = draw(rng, shape, OFFSETS[offset])
        check_forward(x, gamma, beta, ops.batch_norm(x, gamma, beta))


@pytest.mark.parametrize("period", [2, 3, 12, 48, 192, 1000])
def test_rows_that_lie_far_from_the_others(isa, rng, period):
    """A block's sums are taken about the mean of some rows: outliers among them must not cost accuracy."""
    for rows in (17, 100, 192, 700):
        x, gamma, beta = draw(rng, (rows, 33))
        for first in {0, period // 2, min(7, period - 1)}:
            far = x.copy()
            far[first::period] += 1e4
            check_forward(far, gamma, beta, ops.batch_norm(far, gamma, beta))


@pytest.mark.parametrize("offset", OFFSETS)
def test_backward(isa, rng, offset):
    for shape in SHAPES:
        dy, x, gamma, mean, rstd, y = backward_inputs(rng, shape, OFFSETS[offset])
        check_backward(dy, x, gamma, mean, rstd, ops.batch_norm_backward(dy, x, gamma, mean, rstd))
        fused = ops.batch_norm_backward(dy, x, gamma, mean, rstd, activation="relu", y=y)
        check_backward(dy, x, gamma, mean, rstd, fused, y)


@pytest.mark.parametrize("kind", ref.ACTIVATIONS)
def test_fused_equals_unfused_bit_for_bit(isa, rng, kind):
    for shape in [(50, 33), (97, 8), (4, 3, 17), (521, 64), (700, 520)]:
        dy, x, gamma, *_ = backward_inputs(rng, shape)
        beta = rng.standard_normal(shape[-1], np.float32)
        pre, mean, rstd = plain = ops.batch_norm(x, gamma, beta)
        fused = ops.batch_norm(x, gamma, beta, activation=kind)
        y = ops.activation(pre, kind)
        assert_bits(fused[0], y, "y")
        assert_bits(fused[1], plain[1], "mean")
        assert_bits(fused[2], plain[2], "rstd")
        evaluated = [
            ops.batch_norm(x, gamma, beta, mean, rstd, training=False, activation=a)[0] for a in (None, kind)
        ]
        assert_bits(evaluated[1], ops.activation(evaluated[0], kind), "evaluation")
        if kind in ("gelu", "gelu_tanh", "silu", "softplus"):
            continue
        masked = ops.activation_backward(dy, pre, kind)
        for a, b in zip(
            ops.batch_norm_backward(dy, x, gamma, mean, rstd, activation=kind, y=y),
            ops.batch_norm_backward(masked, x, gamma, mean, rstd),
            strict=True,
        ):
            assert_bits(a, b)


@pytest.mark.parametrize("columns", [32, 48, 64, 80, 128, 144, 272, 512])
def test_same_bits_wherever_rows_begin(isa, rng, columns):
    """Rows and slabs of columns are cut at the borders of the cache lines of what is read and written."""

    def at(offset, shape):
        padded = np.full(np.prod(shape) + 32, np.nan, np.float32)
        return padded, padded[offset : offset + np.prod(shape)].reshape(shape)

    for rows in (2, 37, 192, 300):
        dy, x, gamma, *_ = backward_inputs(rng, (rows, columns))
        beta = rng.standard_normal(columns, np.float32)
        want = ops.batch_norm(x, gamma, beta, activation="relu")
        back = ops.batch_norm_backward(dy, x, gamma, *want[1:], activation="relu", y=want[0])
        for offset in range(16):
            whole, y = at(offset, x.shape)
            moved = at(5 * offset % 16, x.shape)[1]
            moved[...] = x
            got = ops.batch_norm(moved, gamma, beta, activation="relu", out=y)
            whole_dx, dx = at(offset, x.shape)
            outs = (dx, np.empty_like(gamma), np.empty_like(gamma))
            got_back = ops.batch_norm_backward(
                dy, moved, gamma, *got[1:], activation="relu", y=got[0], out=outs
            )
            for a, b in zip((*got, *got_back), (*want, *back), strict=True):
                assert_bits(a, b, f"{x.shape} {offset} floats further on")
            for memory in (whole, whole_dx):
                assert np.isnan(memory).sum() == 32


def test_constant_columns(isa):
    """Variance 0: the result is beta, rstd is 1/sqrt(eps), whatever the constant."""
    for constant in (0.0, 1.0, -3.7, 1e6, 1e-20):
        x = np.full((100, 9), constant, np.float32)
        gamma, beta = np.full(9, 2.0, np.float32), np.arange(9, dtype=np.float32)
        y, mean, rstd = ops.batch_norm(x, gamma, beta)
        assert (mean == np.float32(constant)).all()
        assert_within(rstd, np.full(9, 1.0 / np.sqrt(np.float64(np.float32(1e-5)))), 2 * EPS / np.sqrt(1e-5))
        assert np.array_equal(y, np.broadcast_to(beta, y.shape))


def test_offset_of_a_million_keeps_the_variance(isa, rng):
    """No E[x^2] - E[x]^2: with a standard deviation of 1 around 1e6 the variance is good to 1e-4."""
    x = (1e6 + rng.standard_normal((500, 19))).astype(np.float32)
    _, _, rstd = ops.batch_norm(x, np.ones(19, np.float32), np.zeros(19, np.float32))
    var = ref.f64(x).var(0)
    assert np.abs(1.0 / ref.f64(rstd) ** 2 / (var + 1e-5) - 1.0).max() <= 1e-4


def test_running_statistics(isa, rng):
    """The weight of the new batch is momentum; the running variance is as asked for."""
    for shape in [(2, 5), (50, 33), (4, 3, 7), (200, 16)]:
        x, gamma, beta = draw(rng, shape, 1.0)
        rows = x.size // shape[-1]
        old_mean, old_var = rng.standard_normal(shape[-1], np.float32), rng.random(shape[-1], np.float32)
        for momentum, unbiased in ((0.1, True), (0.0, True), (1.0, False), (0.7, True), (0.7, False)):
            running_mean, running_var = old_mean.copy(), old_var.copy()
            ops.batch_norm(x, gamma, beta, running_mean, running_var, momentum=momentum, unbiased=unbiased)
            _, mean, var, _ = ref.batch_norm(x, gamma, beta)
            var = ref.unbiased(var, rows) if unbiased else var
            limit = 2 * EPS * (np.abs(old_mean) + np.abs(mean) + 2 * np.sqrt(var))
            assert_within(running_mean, ref.running(old_mean, mean, momentum), limit, f"{shape} {momentum}")
            limit = 2 * EPS * old_var + 1.2e-6 * var
            assert_within(running_var, ref.running(old_var, var, momentum), limit, f"{shape} {momentum}")
            if momentum == 0.0:
                assert_bits(running_mean, old_mean)
                assert_bits(running_var, old_var)


def test_running_statistics_do_not_change_the_result(isa, rng):
    x, gamma, beta = draw(rng, (60, 20))
    running_mean, running_var = np.zeros(20, np.float32), np.ones(20, np.float32)
    for a, b in zip(
        ops.batch_norm(x, gamma, beta, running_mean, running_var), ops.batch_norm(x, gamma, beta), strict=True
    ):
        assert_bits(a, b)


def test_evaluation(isa, rng):
    """The running statistics are used and left alone; one row and no row will do."""
    for shape in [(0, 5), (1, 7), (50, 33), (4, 3, 17), *((9, c) for c in shapes.EDGES)]:
        x, gamma, beta = draw(rng, shape, 2.0)
        mean, var = rng.standard_normal(shape[-1], np.float32), rng.random(shape[-1], np.float32) + 0.1
        kept = mean.copy(), var.copy()
        y, got_mean, rstd = ops.batch_norm(x, gamma, beta, mean, var, training=False)
        want, _, _, xhat = ref.batch_norm(x, gamma, beta, mean=mean, var=var)
        std = np.sqrt(ref.f64(var) + np.float32(1e-5))
        assert_within(y, want, batch_norm_bound(gamma, beta, xhat, ref.f64(mean), std), f"{shape}")
        assert_bits(got_mean, mean)
        assert_within(rstd, 1.0 / std, 6e-7 / std)
        assert_bits(mean, kept[0])
        assert_bits(var, kept[1])


def test_one_row_raises_before_anything_changes(isa):
    running = np.zeros(3, np.float32), np.ones(3, np.float32)
    out = np.full((1, 3), 7.0, np.float32)
    for shape in ((1, 3), (1, 1, 3), (0, 3)):
        with pytest.raises(ValueError, match=r"batch_norm.*row"):
            ops.batch_norm(np.ones(shape, np.float32), *np.ones((2, 3), np.float32), *running)
    with pytest.raises(ValueError, match=r"batch_norm.*row"):
        ops.batch_norm(np.ones((1, 3), np.float32), *np.ones((2, 3), np.float32), *running, out=out)
    assert not running[0].any()
    assert (running[1] == 1.0).all()
    assert (out == 7.0).all()


def test_eps(isa, rng):
    x, gamma, beta = draw(rng, (70, 18))
    for eps in (0.0, 1e-3, 1.0):
        check_forward(x, gamma, beta, ops.batch_norm(x, gamma, beta, eps=eps), eps=eps)


def test_nan_and_infinity_stay_in_their_column(isa, rng):
    x, gamma, beta = draw(rng, (60, 20))
    x[13, 4], x[50, 9] = np.nan, np.inf
    y, mean, rstd = ops.batch_norm(x, gamma, beta)
    bad = np.isin(np.arange(20), (4, 9))
    assert np.array_equal(np.isnan(y).any(0), bad)
    assert np.array_equal(~np.isfinite(mean), bad)
    assert np.isnan(rstd[4])


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_input_layouts(isa, rng, layout):
    make = layouts.LAYOUTS[layout]
    for shape in [(60, 17), (7, 40), (97, 1), (5, 6, 7), (100, 130)]:
        x, gamma, beta = (make(v) for v in draw(rng, shape))
        dy = make(rng.standard_normal(shape, np.float32))
        got = ops.batch_norm(x, gamma, beta)
        check_forward(np.array(x), np.array(gamma), np.array(beta), got)
        plain = ops.batch_norm(np.array(x), np.array(gamma), np.array(beta))
        for a, b in zip(got, plain, strict=True):
            assert_bits(a, b, layout)
        mean, rstd = make(got[1]), make(got[2])
        got = ops.batch_norm_backward(dy, x, gamma, mean, rstd)
        plain = ops.batch_norm_backward(*(np.array(v) for v in (dy, x, gamma, mean, rstd)))
        for a, b in zip(got, plain, strict=True):
            assert_bits(a, b, layout)


@pytest.mark.parametrize("layout", layouts.OUTPUTS)
def test_outputs(isa, rng, layout):
    make = layouts.OUTPUTS[layout]
    dy, x, gamma, mean, rstd, y = backward_inputs(rng, (60, 17))
    beta = rng.standard_normal(17, np.float32)
    out = make(np.full((60, 17), np.nan, np.float32))
    plain = ops.batch_norm(x, gamma, beta)
    assert ops.batch_norm(x, gamma, beta, out=out)[0] is out
    assert_bits(np.array(out), plain[0])

    dplain = ops.batch_norm_backward(dy, x, gamma, mean, rstd, activation="relu", y=y)
    start = rng.standard_normal((2, 17), np.float32)
    for accumulate in (False, True):
        given = (make(np.full((60, 17), np.nan, np.float32)), *(layouts.off_by_one_element(s) for s in start))
        got = ops.batch_norm_backward(
            dy, x, gamma, mean, rstd, activation="relu", y=y, out=given, accumulate=accumulate
        )
        assert all(g is o for g, o in zip(got, given, strict=True))
        assert_bits(np.array(got[0]), dplain[0], "dx is overwritten")
        for g, p, s in zip(got[1:], dplain[1:], start, strict=True):
            assert_bits(g, p + s if accumulate else p)


def test_every_number_of_threads(isa, threads, rng):
    dy, x, gamma, mean, rstd, y = backward_inputs(rng, (500, 70))
    check_backward(
        dy, x, gamma, mean, rstd, ops.batch_norm_backward(dy, x, gamma, mean, rstd, activation="relu", y=y), y
    )
    beta = rng.standard_normal(70, np.float32)
    check_forward(x, gamma, beta, ops.batch_norm(x, gamma, beta))


def test_reference_gradient_by_central_differences(rng):
    """The formula the kernels are measured with is itself the derivative."""
    x, gamma, beta = (ref.f64(v) for v in draw(rng, (6, 3), 0.5))
    dy = rng.standard_normal((6, 3))
    _, mean, var, _ = ref.batch_norm(x, gamma, beta)
    rstd = 1.0 / np.sqrt(var + np.float32(1e-5))

    def loss(x=x, gamma=gamma, beta=beta):
        return float((ref.batch_norm(x, gamma, beta)[0] * dy).sum())

    dx, dgamma, dbeta = ref.batch_norm_backward(dy, x, gamma, mean, rstd)
    assert np.abs(dx - ref.numerical_gradient(lambda v: loss(x=v), x)).max() <= 1e-6
    assert np.abs(dgamma - ref.numerical_gradient(lambda v: loss(gamma=v), gamma)).max() <= 1e-6
    assert np.abs(dbeta - ref.numerical_gradient(lambda v: loss(beta=v), beta)).max() <= 1e-6


def guard_cases(isa):
    fastnn.set_isa(isa)
    rng = np.random.default_rng(0)
    for shape in [(2, 1), (49, 17), (7, 65), (100, 15), (50, 32)]:
        dy, x, gamma, mean, rstd, y = backward_inputs(rng, shape)
        want = ops.batch_norm(x, gamma, gamma)
        dwant = ops.batch_norm_backward(dy, x, gamma, mean, rstd, activation="relu", y=y)
        ends = zip(*map(guard.both_ends, (dy, x, gamma, mean, rstd, y, *dwant)), strict=True)
        for (where, dy_), (_, x_), (_, gamma_), (_, mean_), (_, rstd_), (_, y_), *outs in ends:
            print(f"batch_norm {shape}, page at the {where}", file=sys.stderr, flush=True)
            out = tuple(o for _, o in outs)
            running = guard.guarded(mean), guard.guarded(rstd)
            assert_bits(ops.batch_norm(x_, gamma_, gamma_, *running, out=out[0])[0], want[0])
            got = ops.batch_norm_backward(dy_, x_, gamma_, mean_, rstd_, activation="relu", y=y_, out=out)
            for g, p in zip(got, dwant, strict=True):
                assert_bits(g, p)


def test_guard_pages(isa):
    guard.run_isolated("test_batch_norm", "guard_cases", isa)
