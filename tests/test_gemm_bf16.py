"""gemm of bfloat16 arrays: float32 arithmetic on exact values, one rounding where the result is bfloat16."""

import sys

import fastnn
import guard
import layouts
import numpy as np
import pytest
import reference as ref
import shapes
from bounds import assert_bits, assert_within, gemm_bf16_bound
from fastnn import ops

ml_dtypes = pytest.importorskip("ml_dtypes")
BF16 = np.dtype(ml_dtypes.bfloat16)
F32 = np.dtype(np.float32)

TRANSPOSES = [(False, False), (False, True), (True, False), (True, True)]


def operands(rng, m, n, k, trans_a=False, trans_b=False):
    a, b = ((k, m) if trans_a else (m, k)), ((n, k) if trans_b else (k, n))
    return rng.standard_normal(a, np.float32).astype(BF16), rng.standard_normal(b, np.float32).astype(BF16)


def has_own_products():
    """Whether the active instruction set multiplies bfloat16 pairs; the others widen to float32."""
    return fastnn.get_isa() == "avx512bf16"


def widened(arguments):
    return {key: x.astype(F32) if isinstance(x, np.ndarray) else x for key, x in arguments.items()}


def check(a, b, *, result=BF16, random=True, **arguments):
    """Against float64, and against gemm of the same values in float32 where the bits are promised."""
    given = {**arguments, "out": arguments["out"].copy()} if "out" in arguments else arguments
    got = ops.gemm(a, b, **given, **({} if "out" in arguments else {"out_dtype": result}))
    assert got.dtype == result
    a, b, arguments = a.astype(F32), b.astype(F32), widened(arguments)
    want = ref.gemm(a, b, **arguments)
    bound = gemm_bf16_bound(a, b, want, rounded=result == BF16, random=random, **arguments)
    what = f"{a.shape} {b.shape} {result} {sorted(arguments)}"
    assert_within(got, want, bound, what)
    if not has_own_products():
        assert_bits(got, ops.gemm(a, b, **arguments).astype(result), what)
    return got


@pytest.mark.parametrize("result", [BF16, F32], ids=str)
@pytest.mark.parametrize(("trans_a", "trans_b"), TRANSPOSES)
@pytest.mark.parametrize(
    "group",
    ["gemm_small", "gemm_edges", "gemm_tiles", "gemm_blocks", "gemm_few_rows", "gemm_large"],
    ids=lambda g: g[5:],
)
def test_shapes(isa, rng, group, trans_a, trans_b, result):
    for m, n, k in getattr(shapes, group)():
        a, b = operands(rng, m, n, k, trans_a, trans_b)
        check(a, b, trans_a=trans_a, trans_b=trans_b, result=result)


def test_more_sums_than_a_thread_keeps(isa, rng):
    """A chunk that ends in bfloat16 keeps its float32 sums until K is done, a block of rows at a time."""
    for m, n, k in [(700, 130, 1030), (1500, 64, 20), (3, 2000, 1), (1, 70000, 2)]:
        check(*operands(rng, m, n, k), out=rng.standard_normal((m, n), np.float32).astype(BF16), beta=0.5)


def test_integers_are_exact(isa, rng):
    for m, n, k in [(33, 70, 100), (7, 65, 1031), (5, 3, 511)]:
        for trans_a, trans_b in TRANSPOSES:
            a = rng.integers(-4, 5, (k, m) if trans_a else (m, k)).astype(BF16)
            b = rng.integers(-4, 5, (n, k) if trans_b else (k, n)).astype(BF16)
            got = ops.gemm(a, b, trans_a=trans_a, trans_b=trans_b, out_dtype=F32)
            assert np.array_equal(got, ref.gemm(a, b, trans_a=trans_a, trans_b=trans_b)), (m, n, k)


EPILOGUES = {
    "bias": {"bias": True},
    "bias and relu": {"bias": True, "activation": "relu"},
    "alpha": {"alpha": -0.7},
    "beta": {"beta": 0.3},
    "alpha, beta, bias, relu": {"alpha": 1.7, "beta": -2.5, "bias": True, "activation": "relu"},
}


@pytest.mark.parametrize("result", [BF16, F32], ids=str)
@pytest.mark.parametrize("name", EPILOGUES)
def test_epilogues(isa, rng, name, result):
    for m, n, k in [(0, 3, 2), (4, 5, 0), (7, 70, 513), (30, 40, 1030), (65, 300, 64), (13, 17, 5)]:
        for trans_a, trans_b in TRANSPOSES:
            arguments = dict(EPILOGUES[name])
            if "bias" in arguments:
                arguments["bias"] = rng.standard_normal(n, np.float32)
            if "beta" in arguments:
                arguments["out"] = rng.standard_normal((m, n), np.float32).astype(result)
            a, b = operands(rng, m, n, k, trans_a, trans_b)
            check(a, b, trans_a=trans_a, trans_b=trans_b, result=result, **arguments)


@pytest.mark.parametrize("kind", ref.ACTIVATIONS)
def test_activations_come_before_the_rounding(isa, rng, kind):
    for m, n, k in [(65, 130, 300), (7, 17, 1030), (33, 40, 0)]:
        a, b = operands(rng, m, n, k)
        bias = rng.standard_normal(n, np.float32)
        unfused = ops.activation(ops.gemm(a, b, bias=bias, out_dtype=F32), kind)
        assert_bits(ops.gemm(a, b, bias=bias, activation=kind, out_dtype=F32), unfused)
        assert_bits(ops.gemm(a, b, bias=bias, activation=kind), unfused.astype(BF16))


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_input_layouts(isa, rng, layout):
    make = layouts.LAYOUTS[layout]
    for m, n, k in [(7, 19, 33), (50, 70, 40), (1, 1, 5), (14, 260, 1100)]:
        for trans_a, trans_b in TRANSPOSES:
            a, b = map(make, operands(rng, m, n, k, trans_a, trans_b))
            got = check(a, b, trans_a=trans_a, trans_b=trans_b, random=layout in layouts.SAME_VALUES)
            assert_bits(got, ops.gemm(np.array(a), np.array(b), trans_a=trans_a, trans_b=trans_b), layout)


@pytest.mark.parametrize("layout", layouts.OUTPUTS)
def test_output_layouts(isa, rng, layout):
    """The result goes into the caller's memory, between the rows nothing changes."""
    for m, n, k in [(7, 19, 33), (50, 64, 40), (1, 1, 5), (20, 100, 600)]:
        a, b = operands(rng, m, n, k)
        start = rng.standard_normal((m, n), np.float32).astype(BF16)
        out = layouts.OUTPUTS[layout](start)
        assert ops.gemm(a, b, out=out, beta=0.5) is out
        assert_bits(np.array(out), ops.gemm(a, b, out=start.copy(), beta=0.5))
        if layout == "padded":
            assert np.isnan(out.base[:, n:].astype(F32)).all()


def test_the_result_has_the_dtype_that_is_asked_for(isa, rng):
    a, b = operands(rng, 3, 5, 4)
    assert ops.gemm(a, b).dtype == BF16
    assert ops.gemm(a, b, out_dtype=F32).dtype == F32
    assert ops.gemm(a, b, out_dtype=ml_dtypes.bfloat16).dtype == BF16
    for dtype in (F32, BF16):
        out = np.empty((3, 5), dtype)
        assert ops.gemm(a, b, out=out) is out
        assert ops.gemm(a, b, out=out, out_dtype=dtype) is out
    assert ops.gemm(a.astype(F32), b.astype(F32), out_dtype=F32).dtype == F32


def test_rounding_is_to_nearest_even_and_keeps_nan(isa):
    """Each bfloat16, and the float32 numbers at and beside the middle to the next one: the bias alone."""
    upper = np.arange(2**16, dtype=np.uint32)[:, None] << 16
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    x = (upper | lower).view(np.float32).ravel()
    got = ops.gemm(np.ones((1, 0), BF16), np.ones((0, x.size), BF16), bias=x)[0]
    with np.errstate(invalid="ignore"):
        want = np.where(np.abs(x) < np.finfo(F32).tiny, np.float32(0.0), x).astype(BF16)
    nan = np.isnan(x)
    assert nan.any()
    assert np.isnan(got[nan].astype(F32)).all()
    assert np.array_equal(got[~nan].astype(F32), want[~nan].astype(F32))


def test_nan_and_infinity_propagate(isa, rng):
    a, b = operands(rng, 13, 37, 31)
    a[2, 3], a[4, 5], b[7, 11], b[30, 0] = np.nan, np.inf, np.nan, -np.inf
    with np.errstate(invalid="ignore"):
        want = a.astype(np.float64) @ b.astype(np.float64)
        for got in (ops.gemm(a, b), ops.gemm(a, b, out_dtype=F32)):
            got = got.astype(np.float64)
            assert np.array_equal(np.isnan(got), np.isnan(want))
            assert np.array_equal(np.isposinf(got), np.isposinf(want))
            assert np.array_equal(np.isneginf(got), np.isneginf(want))


def test_beta_zero_overwrites_nan(isa, rng):
    a, b = operands(rng, 20, 70, 530)
    assert_bits(ops.gemm(a, b, out=np.full((20, 70), np.nan, BF16)), ops.gemm(a, b))


def test_the_same_bits_for_every_number_of_threads(restore_runtime, isa, rng):
    a, b = operands(rng, 200, 150, 1100)
    for arguments in (
        {},
        {"out_dtype": F32},
        {"bias": rng.standard_normal(150, np.float32), "activation": "tanh"},
    ):
        fastnn.set_num_threads(1)
        alone = ops.gemm(a, b, **arguments)
        for threads in (2, 3, 8):
            fastnn.set_num_threads(threads)
            assert_bits(ops.gemm(a, b, **arguments), alone)


def test_a_row_has_the_same_bits_in_any_batch(isa, rng):
    a, b = operands(rng, 130, 70, 1100)
    full = ops.gemm(a, b, out_dtype=F32)
    for rows in (slice(0, 1), slice(3, 17), slice(50, 130)):
        assert_bits(ops.gemm(a[rows], b, out_dtype=F32), full[rows])
    for columns in (slice(69, 70), slice(20, 70)):
        assert_bits(ops.gemm(a, b[:, columns], out_dtype=F32), full[:, columns])


def guard_cases(isa):
    """Each operand flush against a page that may not be touched."""
    fastnn.set_isa(isa)
    rng = np.random.default_rng(0)
    for m, n, k in [(1, 1, 1), (7, 17, 9), (13, 65, 33), (31, 15, 1025), (50, 130, 64)]:
        for trans_a, trans_b in TRANSPOSES:
            a, b = operands(rng, m, n, k, trans_a, trans_b)
            out = rng.standard_normal((m, n), np.float32).astype(BF16)
            want = ops.gemm(a, b, trans_a=trans_a, trans_b=trans_b, beta=0.5, out=out.copy())
            for (where, x), (_, y), (_, o) in zip(*map(guard.both_ends, (a, b, out)), strict=True):
                print(
                    f"{m}x{n}x{k} trans {trans_a} {trans_b}, page at the {where}", file=sys.stderr, flush=True
                )
                got = ops.gemm(x, y, trans_a=trans_a, trans_b=trans_b, beta=0.5, out=o)
                assert_bits(got, want)


def test_guard_pages(isa):
    guard.run_isolated("test_gemm_bf16", "guard_cases", isa)


# ---- ml_dtypes is needed only where there are such arrays --------------------------------------------------


def train_without_ml_dtypes():
    sys.modules["ml_dtypes"] = None  # as if it were not installed
    a = np.ones((2, 3), np.float32)
    ops.gemm(a, a, trans_b=True)
    with pytest.raises(
        TypeError, match=r"gemm\(\): 'out_dtype' must be None, np.float32 or ml_dtypes.bfloat16"
    ):
        ops.gemm(a, a, trans_b=True, out_dtype="bfloat16")


def test_float32_needs_no_ml_dtypes():
    guard.run_isolated("test_gemm_bf16", "train_without_ml_dtypes")


def multiply_tensors_without_ml_dtypes():
    torch = pytest.importorskip("torch")
    sys.modules["ml_dtypes"] = None
    a = torch.ones(2, 2, dtype=torch.bfloat16)
    with pytest.raises(ImportError, match=r"gemm\(\): 'a' needs bfloat16 arrays.*pip install ml_dtypes"):
        ops.gemm(a, a)


def test_tensors_without_ml_dtypes():
    pytest.importorskip("torch")
    guard.run_isolated("test_gemm_bf16", "multiply_tensors_without_ml_dtypes")


# ---- PyTorch -----------------------------------------------------------------------------------------------


def test_tensors_are_used_where_they_lie(isa, rng):
    torch = pytest.importorskip("torch")
    a, b = operands(rng, 30, 20, 70)
    x, y = (torch.from_numpy(m.astype(F32)).bfloat16() for m in (a, b))
    out = torch.empty(30, 20, dtype=torch.bfloat16)
    assert ops.gemm(x, y, out=out) is out
    assert_bits(out.float().numpy(), ops.gemm(a, b).astype(F32))
    assert_bits(ops.gemm(x, y.T.contiguous().T), ops.gemm(a, b))
    assert ops.gemm(x, y, out=torch.empty(30, 20)).dtype == torch.float32


def test_agrees_with_pytorch(isa, rng):
    """Both are within the bound of float64, so within two of them of one another."""
    torch = pytest.importorskip("torch")
    for m, n, k in [(64, 64, 64), (33, 70, 515)]:
        a, b = operands(rng, m, n, k)
        x, y = (torch.from_numpy(m.astype(F32)).bfloat16() for m in (a, b))
        want = ref.gemm(a, b)
        bound = gemm_bf16_bound(a.astype(F32), b.astype(F32), want, rounded=True, random=True)
        assert_within(ops.gemm(a, b).astype(F32), torch.mm(x, y).double().numpy(), 2.0 * bound)
