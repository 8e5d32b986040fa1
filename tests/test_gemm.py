"""gemm against the float64 reference, and against the float32 bits that docs/numerics.md promises."""

import sys

import fastnn
import guard
import layouts
import numpy as np
import pytest
import reference as ref
import shapes
from bounds import assert_bits, assert_within, gemm_bound
from fastnn import ops

TRANSPOSES = [(False, False), (False, True), (True, False), (True, True)]


def operands(rng, m, n, k, trans_a=False, trans_b=False, draw="normal"):
    """a and b as they are passed, so that op(a) is (m, k) and op(b) is (k, n)."""
    kinds = {
        "normal": lambda s: rng.standard_normal(s, np.float32),
        "positive": lambda s: rng.random(s, np.float32),
        "integer": lambda s: rng.integers(-4, 5, s).astype(np.float32),
    }
    new = kinds[draw]
    return new((k, m) if trans_a else (m, k)), new((n, k) if trans_b else (k, n))


def check(a, b, *, random=True, **arguments):
    """Call gemm and compare; `out`, where given, is the value before the call and receives the result."""
    want = ref.gemm(a, b, **arguments)
    bound = gemm_bound(a, b, random=random, **{k: v for k, v in arguments.items() if k != "activation"})
    got = ops.gemm(a, b, **arguments)
    assert got.dtype == np.float32
    assert_within(got, want, bound, f"gemm {a.shape} {b.shape} {sorted(arguments)}")
    return got


@pytest.mark.parametrize(("trans_a", "trans_b"), TRANSPOSES)
@pytest.mark.parametrize(
    "group",
    ["gemm_small", "gemm_edges", "gemm_tiles", "gemm_blocks", "gemm_few_rows", "gemm_large"],
    ids=lambda g: g[5:],
)
def test_shapes(isa, rng, group, trans_a, trans_b):
    for m, n, k in getattr(shapes, group)():
        a, b = operands(rng, m, n, k, trans_a, trans_b)
        check(a, b, trans_a=trans_a, trans_b=trans_b)


@pytest.mark.parametrize(("trans_a", "trans_b"), TRANSPOSES)
def test_positive_data_and_small_integers(isa, rng, trans_a, trans_b):
    for m, n, k in [*shapes.gemm_blocks(), (33, 70, 100)]:
        check(*operands(rng, m, n, k, trans_a, trans_b, "positive"), trans_a=trans_a, trans_b=trans_b)
        a, b = operands(rng, m, n, k, trans_a, trans_b, "integer")
        got = ops.gemm(a, b, trans_a=trans_a, trans_b=trans_b)
        assert np.array_equal(got, ref.gemm(a, b, trans_a=trans_a, trans_b=trans_b)), (m, n, k)


def test_constant_data_keeps_the_bound_that_always_holds(isa):
    """Equal terms round the same way again and again: the worst case of a chain."""
    for k in (1, 511, 513, 4097, 50176):
        a, b = np.full((2, k), 0.1, np.float32), np.full((k, 3), 1.1, np.float32)
        check(a, b, random=False)
        # Blocks of 512 keep the error at K = 50176 under 60 eps, far below K eps (51 when it was measured).
        relative = np.abs(ops.gemm(a, b) / ref.gemm(a, b) - 1.0)
        assert relative.max() <= 60 * np.finfo(np.float32).eps


def test_cancellation_keeps_the_bound_that_always_holds(isa, rng):
    """Terms that cancel: the result is small, the bound is of the magnitudes."""
    for k in (2, 700, 1400):
        a = rng.standard_normal((5, k), np.float32)
        b = rng.standard_normal((k, 20), np.float32)
        a[:, k // 2 :], b[k // 2 :] = a[:, : k // 2], -b[: k // 2]
        check(a, b, random=False)


EPILOGUES = {
    "bias": {"bias": True},
    "relu": {"activation": "relu"},
    "bias and relu": {"bias": True, "activation": "relu"},
    "alpha": {"alpha": -0.7},
    "alpha 0": {"alpha": 0.0},
    "beta": {"beta": 0.3},
    "beta 1": {"beta": 1.0},
    "alpha, beta, bias, relu": {"alpha": 1.7, "beta": -2.5, "bias": True, "activation": "relu"},
}


@pytest.mark.parametrize("name", EPILOGUES)
def test_epilogues(isa, rng, name):
    for m, n, k in [
        *shapes.gemm_tiles()[::7],
        (0, 3, 2),
        (4, 5, 0),
        (7, 70, 513),
        (8, 145, 40),
        (30, 40, 1030),
        (65, 300, 64),
    ]:
        arguments = dict(EPILOGUES[name])
        if "bias" in arguments:
            arguments["bias"] = rng.standard_normal(n, np.float32)
        if "beta" in arguments:
            arguments["out"] = rng.standard_normal((m, n), np.float32)
        for trans_a, trans_b in TRANSPOSES:
            a, b = operands(rng, m, n, k, trans_a, trans_b)
            given = {**arguments, "out": arguments["out"].copy()} if "out" in arguments else arguments
            got = check(a, b, trans_a=trans_a, trans_b=trans_b, **given)
            assert got is given["out"] if "out" in given else got.flags.c_contiguous


@pytest.mark.parametrize("name", ["plain", *EPILOGUES])
def test_bits_are_the_promised_ones(isa, rng, name):
    """Chains of 512 fused multiply-adds from zero, blocks in order, alpha and beta, bias, ReLU: just so."""
    for m, n, k in [
        (1, 1, 1),
        (3, 5, 7),
        (7, 17, 64),
        (5, 33, 511),
        (2, 3, 512),
        (9, 20, 513),
        (8, 113, 520),
        (3, 70, 1100),
        (4, 33, 45),
        (12, 40, 530),
    ]:
        for trans_a, trans_b in TRANSPOSES:
            a, b = operands(rng, m, n, k, trans_a, trans_b)
            arguments = {"trans_a": trans_a, "trans_b": trans_b, **EPILOGUES.get(name, {})}
            if "bias" in arguments:
                arguments["bias"] = rng.standard_normal(n, np.float32)
            if "beta" in arguments:
                arguments["out"] = rng.standard_normal((m, n), np.float32)
            want = ref.gemm_bits(a, b, **arguments)
            assert np.array_equal(ops.gemm(a, b, **arguments), want), (m, n, k, trans_a, trans_b)


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 10, 15, 16])
def test_few_columns_of_a_transposed_a(isa, rng, n):
    for m, k in [(63, 3), (64, 1), (65, 40), (511, 2), (512, 5), (513, 30), (1030, 9), (80, 1025)]:
        a, b = operands(rng, m, n, k, trans_a=True)
        around = np.full((m, n + 3), np.nan, np.float32)
        out = around[:, 1 : n + 1]
        ops.gemm(a, b, trans_a=True, out=out)
        assert np.array_equal(out, ref.gemm_bits(a, b, trans_a=True)), (m, n, k)
        assert np.isnan(around[:, [0, n + 1, n + 2]]).all()


@pytest.mark.parametrize("trans_a", [False, True])
def test_few_rows_of_a_transposed_b(isa, rng, trans_a):
    """Wherever in a cache line its rows begin, side by side or not, one block of K or two."""
    for m, n, k in [
        (3, 20, 9),
        (1, 33, 16),
        (2, 70, 37),
        (4, 50, 48),
        (5, 130, 128),
        (12, 40, 530),
        (13, 40, 530),
    ]:
        for begin, gap in [(0, 0), (0, -k % 16), (1, -k % 16), (15, -k % 16), (4, 3)]:
            a, plain = operands(rng, m, n, k, trans_a, True)
            memory = np.full(begin + n * (k + gap) + 16, np.nan, np.float32)
            memory = memory[-memory.ctypes.data % 64 // 4 + begin :][: n * (k + gap)]
            b = memory.reshape(n, k + gap)[:, :k]
            b[...] = plain
            around = np.full((m, n + 3), np.nan, np.float32)
            out = around[:, 1 : n + 1]
            ops.gemm(a, b, trans_a=trans_a, trans_b=True, out=out)
            assert np.array_equal(out, ref.gemm_bits(a, b, trans_a=trans_a, trans_b=True)), (m, n, k, begin)
            assert np.isnan(around[:, [0, n + 1, n + 2]]).all()


@pytest.mark.parametrize("kind", ref.ACTIVATIONS)
def test_fused_equals_unfused_bit_for_bit(isa, rng, kind):
    for m, n, k in [(65, 130, 300), (7, 17, 1030), (1, 1, 3), (33, 40, 0)]:
        a, b = operands(rng, m, n, k)
        bias, out = rng.standard_normal(n, np.float32), rng.standard_normal((m, n), np.float32)
        fused = ops.gemm(a, b, bias=bias, activation=kind)
        assert_bits(fused, ops.activation(ops.gemm(a, b, bias=bias), kind))
        assert_bits(ops.gemm(a, b, bias=bias), ops.gemm(a, b) + bias)
        plain = ops.gemm(a, b, alpha=0.5, beta=-1.5, out=out.copy())
        fused = ops.gemm(a, b, alpha=0.5, beta=-1.5, out=out.copy(), activation=kind)
        assert_bits(fused, ops.activation(plain, kind))
        rows = layouts.off_by_one_element(np.full((m, n), np.nan, np.float32))
        ops.gemm(a, b, bias=bias, activation=kind, out=rows)
        assert_bits(np.array(rows), ops.activation(ops.gemm(a, b, bias=bias), kind))


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_input_layouts(isa, rng, layout):
    make = layouts.LAYOUTS[layout]
    for m, n, k in [(7, 19, 33), (50, 70, 40), (1, 1, 5), (3, 40, 33), (130, 65, 100), (14, 260, 520)]:
        for trans_a, trans_b in TRANSPOSES:
            plain_a, plain_b = operands(rng, m, n, k, trans_a, trans_b)
            bias = make(rng.standard_normal(n, np.float32))
            a, b = make(plain_a), make(plain_b)
            random = layout in layouts.SAME_VALUES
            got = check(a, b, bias=bias, trans_a=trans_a, trans_b=trans_b, random=random)
            plain = ops.gemm(np.array(a), np.array(b), bias=np.array(bias), trans_a=trans_a, trans_b=trans_b)
            assert_bits(got, plain, f"{layout} against C order")
            assert_bits(
                ops.gemm(a, np.array(b), bias=bias, trans_a=trans_a, trans_b=trans_b), plain, f"a {layout}"
            )


def test_anything_together(isa, rng):
    """Random sizes, layouts, transposes and epilogues at once: what no list of edges thought of."""
    names = list(layouts.SAME_VALUES)
    for _ in range(150):
        m, n, k = (int(x) for x in np.exp(rng.uniform(0.0, 5.2, 3)))
        trans_a, trans_b = (bool(x) for x in rng.integers(0, 2, 2))
        a, b = operands(rng, m, n, k, trans_a, trans_b)
        a, b = (layouts.LAYOUTS[rng.choice(names)](x) for x in (a, b))
        arguments = {"trans_a": trans_a, "trans_b": trans_b}
        if rng.integers(2):
            arguments["bias"] = layouts.LAYOUTS[rng.choice(names)](rng.standard_normal(n, np.float32))
        if rng.integers(2):
            arguments |= {"alpha": float(rng.normal()), "beta": float(rng.normal())}
            make = layouts.OUTPUTS[rng.choice(list(layouts.OUTPUTS))]
            arguments["out"] = make(rng.standard_normal((m, n), np.float32))
        check(a, b, activation=(None, "relu")[rng.integers(2)], **arguments)


@pytest.mark.parametrize("layout", layouts.OUTPUTS)
def test_output_layouts(isa, rng, layout):
    """The result goes into the caller's memory, between the rows nothing changes."""
    for m, n, k in [(7, 19, 33), (50, 64, 40), (1, 1, 5), (20, 100, 600)]:
        a, b = operands(rng, m, n, k)
        start = rng.standard_normal((m, n), np.float32)
        out = layouts.OUTPUTS[layout](start)
        before = None if out.base is None else out.base.copy()
        got = ops.gemm(a, b, out=out, beta=0.5)
        assert got is out
        assert_bits(np.array(out), ops.gemm(a, b, out=start.copy(), beta=0.5))
        if layout == "padded":
            assert np.isnan(out.base[:, n:]).all()
            assert np.isnan(before[:, n:]).all()


def test_single_column_output_may_have_any_row_stride(isa, rng):
    a, b = operands(rng, 9, 1, 5)
    big = np.zeros((9, 3), np.float32)
    assert_bits(np.array(ops.gemm(a, b, out=big[:, 1:2])), ops.gemm(a, b))
    assert not big[:, 0].any()
    assert not big[:, 2].any()


def test_beta_zero_overwrites_nan(isa, rng):
    a, b = operands(rng, 20, 70, 530)
    out = np.full((20, 70), np.nan, np.float32)
    assert_bits(ops.gemm(a, b, out=out, beta=0.0), ops.gemm(a, b))
    empty = np.full((3, 4), np.nan, np.float32)
    assert not ops.gemm(np.ones((3, 0), np.float32), np.ones((0, 4), np.float32), out=empty).any()


def test_no_terms_give_beta_out_plus_bias(isa):
    a, b = np.ones((3, 0), np.float32), np.ones((0, 4), np.float32)
    out, bias = np.full((3, 4), 2.0, np.float32), np.arange(4, dtype=np.float32)
    assert (ops.gemm(a, b, out=out, beta=-1.0, bias=bias) == bias - 2.0).all()
    assert (ops.gemm(a, b, bias=bias - 2.0, activation="relu") == np.maximum(bias - 2.0, 0.0)).all()


def test_nan_and_infinity_propagate(isa, rng):
    """A NaN or an infinity reaches exactly the elements it takes part in, through ReLU too."""
    a, b = operands(rng, 13, 37, 30)
    a[2, 3], a[4, 5], b[7, 11], b[8, 0] = np.nan, np.inf, np.nan, -np.inf
    with np.errstate(invalid="ignore"):
        want = a.astype(np.float64) @ b.astype(np.float64)
        got = ops.gemm(a, b)
        assert np.array_equal(np.isnan(got), np.isnan(want))
        assert np.array_equal(np.isposinf(got), np.isposinf(want))
        assert np.array_equal(np.isneginf(got), np.isneginf(want))
    assert np.array_equal(np.isnan(ops.gemm(a, b, activation="relu")), np.isnan(want))
    zero = ops.gemm(np.zeros((2, 2), np.float32), np.full((2, 2), np.inf, np.float32))
    assert np.isnan(zero).all()


def test_overflow_gives_infinity(isa):
    a = np.full((2, 4), 1e38, np.float32)
    assert np.isposinf(ops.gemm(a, np.full((4, 3), 1.0, np.float32))).all()
    assert np.isneginf(ops.gemm(a, np.full((4, 3), -1.0, np.float32))).all()


def test_same_array_twice(isa, rng):
    a = rng.standard_normal((40, 40), np.float32)
    for trans_a, trans_b in TRANSPOSES:
        check(a, a, trans_a=trans_a, trans_b=trans_b)


def test_interleaved_views_of_one_buffer_are_no_overlap(isa, rng):
    """a and out share a base but no byte."""
    big = rng.standard_normal((10, 20), np.float32)
    a, out = big[:, :8], big[:, 8:16]
    b = rng.standard_normal((8, 8), np.float32)
    want = ops.gemm(a.copy(), b)
    assert_bits(np.array(ops.gemm(a, b, out=out)), want)


def test_every_number_of_threads(isa, threads, rng):
    a, b = operands(rng, 160, 300, 520)
    check(a, b, bias=rng.standard_normal(300, np.float32), activation="relu")


def guard_cases(isa):
    """Each operand flush against a page that may not be touched."""
    fastnn.set_isa(isa)
    rng = np.random.default_rng(0)
    for m, n, k in [
        (1, 1, 1),
        (7, 17, 9),
        (13, 65, 33),
        (8, 97, 40),
        (70, 10, 33),
        (31, 15, 513),
        (3, 33, 45),
        (8, 150, 112),
        (50, 130, 64),
        (64, 64, 64),
    ]:
        for trans_a, trans_b in TRANSPOSES:
            a, b = operands(rng, m, n, k, trans_a, trans_b)
            bias, out = rng.standard_normal(n, np.float32), rng.standard_normal((m, n), np.float32)
            want = ops.gemm(a, b, bias=bias, trans_a=trans_a, trans_b=trans_b, beta=0.5, out=out.copy())
            for (where, x), (_, y), (_, z), (_, o) in zip(
                *map(guard.both_ends, (a, b, bias, out)), strict=True
            ):
                print(
                    f"gemm {m}x{n}x{k} trans {trans_a} {trans_b}, page at the {where}",
                    file=sys.stderr,
                    flush=True,
                )
                assert_bits(ops.gemm(x, y, bias=z, trans_a=trans_a, trans_b=trans_b, beta=0.5, out=o), want)


def test_guard_pages(isa):
    guard.run_isolated("test_gemm", "guard_cases", isa)


@pytest.mark.slow
@pytest.mark.parametrize("size", [512, 1000, 1025])
def test_large(isa, rng, size):
    check(*operands(rng, size, size, size))


@pytest.mark.slow
def test_more_than_two_to_the_31_terms():
    """Offsets need 64 bits; the operands are one element each, repeated with stride 0."""
    k = 2**31 + 5
    one = np.ones((1, 1), np.float32)
    got = ops.gemm(np.broadcast_to(one, (1, k)), np.broadcast_to(one, (k, 1)))
    assert got[0, 0] == np.float32(k)
