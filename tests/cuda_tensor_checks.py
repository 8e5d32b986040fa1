"""Products on tensor cores, run by the shim, against float64 of the numbers as they were rounded."""

import bounds
import numpy as np
import reference as ref
from bounds import assert_within
from cuda_checks import KINDS, draw, place
from cuda_shim import shim

PRECISIONS = ["bfloat16", "tf32"]
EACH = {"bfloat16": 8, "tf32": 4}  # numbers of 16 bytes


def bits16(x):
    """The upper halves of numbers whose lower ones are zero."""
    return (np.ascontiguousarray(x).view(np.uint32) >> 16).astype(np.uint16)


def values16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def tf32(x):
    """Rounded to 10 bits of fraction, away from zero in the middle."""
    return ((x.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


def operand(x, precision, trans, gap):
    """Memory for x or its transpose (`gap` NaN between rows), the strides of x there, what is read of it."""
    if precision == "bfloat16":
        x = read = ref.bfloat16(x).astype(np.float32)
    else:
        read = tf32(x)
    kept = x.T if trans else x
    wide = np.full((kept.shape[0], kept.shape[1] + gap), np.nan, np.float32)
    wide[:, : kept.shape[1]] = kept
    memory = place(bits16(wide) if precision == "bfloat16" else wide)
    return memory, *((1, wide.shape[1]) if trans else (wide.shape[1], 1)), read


def gemm(
    kernels, schedule, precision, m, n, k, *, trans_a=False, trans_b=False, alpha=1.0, beta=0.0, bias=False,
    kind="none", narrow=False, gaps=(0, 0, 0), whole=False,
):  # fmt: skip
    """`narrow`: the result is bfloat16. `whole`: small integers, whose product is exact."""
    numbers = [draw(m, k, scale=max(k, 1) ** -0.5), draw(k, n, seed=1), draw(m, n, seed=2)]
    if whole:
        numbers = [np.round(8 * x) for x in numbers]
    a, a_row, a_col, read_a = operand(numbers[0], precision, trans_a, gaps[0])
    b, b_row, b_col, read_b = operand(numbers[1], precision, trans_b, gaps[1])
    before = ref.bfloat16(numbers[2]).astype(np.float32) if narrow else numbers[2]
    start = np.full((m, n + gaps[2]), np.nan, np.float32)
    if beta != 0.0:
        start[:, :n] = before
    c = place(bits16(start) if narrow else start)
    row = place(draw(n, seed=3)) if bias else None
    g = {
        "a_row": a_row, "a_col": a_col, "b_row": b_row, "b_col": b_col, "c_row": n + gaps[2], "bias": row,
        "m": m, "n": n, "k": k, "k_end": k, "alpha": alpha, "beta": beta, "activation": KINDS.index(kind),
    }  # fmt: skip
    if precision == "tf32":
        kernels.run(shim.GEMM_TF32, schedule, g=shim.filled(shim.GEMM, {**g, "a": a, "b": b, "c": c}))
    else:
        g = shim.filled(shim.GEMM, g if narrow else {**g, "c": c})
        kernels.run(shim.GEMM_BF16, schedule, g=g, a=a, b=b, c=c if narrow else None)
    got = values16(c) if narrow else c
    assert np.isnan(got[:, n:]).all(), "written between the rows"
    got = got[:, :n]
    epilogue = {"alpha": alpha, "beta": beta, "bias": row, "out": before}
    want = ref.gemm(read_a, read_b, activation=None if kind == "none" else kind, **epilogue)
    what = f"{precision} {(m, n, k)} {trans_a} {trans_b}"
    if whole:
        assert np.array_equal(got, want), what
        return
    # No activation here is steeper than 1.2.
    bound = 1.2 * bounds.gemm_bf16_bound(read_a, read_b, want, rounded=narrow, random=True, **epilogue)
    assert_within(got, want, bound + bounds.EPS * np.abs(want), what)


SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-41, 1.00390625, 1.01171875, 3.3961775e38]


def rounded(kernels, schedule, rows, cols, gap):
    """Every kind of number, at random places."""
    x = draw(rows, cols + gap, scale=1e3)
    places = np.random.default_rng(rows).integers(0, max(x.size, 1), len(SPECIAL))
    if x.size:
        x.flat[places] = SPECIAL
    x, y = place(x), place(np.full(rows * cols, 7, np.uint16))
    kernels.run(shim.ROUND, schedule, x=x, x_row=cols + gap, rows=rows, cols=cols, y=y)
    given = x[:, :cols].ravel()
    want, got = np.where(np.isnan(given), np.nan, ref.bfloat16(given)), values16(y)
    assert np.array_equal(got, want, equal_nan=True), (rows, cols)
    sure = ~np.isnan(want)
    assert np.array_equal(np.signbit(got[sure]), np.signbit(want[sure])), (rows, cols)
