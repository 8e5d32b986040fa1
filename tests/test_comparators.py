"""The comparators can fail: each is shown a planted error, of the kind a kernel might really have."""

import math
from fractions import Fraction
from pathlib import Path

import bounds
import guard
import layouts
import numpy as np
import pytest
import reference as ref
from bounds import assert_bits, assert_within

F32 = np.float32


def fails(got, want, bound):
    """Whether assert_within finds got wrong."""
    try:
        assert_within(got, want, bound)
    except AssertionError:
        return True
    return False


# ---- figures -----------------------------------------------------------------------------------------------


def test_the_bounds_are_those_of_the_page():
    """docs/numerics.md's, at numbers that show each term."""
    eps = 2.0**-23
    a, b = np.full((1, 400), 2.0, F32), np.full((400, 1), -3.0, F32)
    far, near = (bounds.batch_norm_bound(2.0, -3.0, -0.5, mean, 1.0) for mean in (-9.0, 8.0))
    found = {
        r"| `2 sqrt(K) eps (\|A\|\|B\|)` |": (bounds.gemm_bound(a, b, random=True), 40 * eps * 2400),
        r"| `K eps (\|A\|\|B\|)` |": (bounds.gemm_bound(a, b, random=False), 400 * eps * 2400),
        r"| `6e-7 (\|gamma\| (1 + \|xhat\|) + \|beta\|)` for \|mean\| <= 8 std |": (near, 6e-7 * 6),
        r"| the same, \|mean\| > 8 std | `eps \|gamma\| \|mean\| / std` more |": (far - near, eps * 18),
        "| updates, a step | 2 ULP of the largest term of each sum |": (
            bounds.sgd_bounds(F32(1.5), F32(8.0), lr=0.5)[0],
            2 * eps * 4,
        ),
        "| other activations | 4 ULP of y where y is a normal number |": (bounds.MAX_ULP, 4),
    }
    page = (Path(__file__).parents[1] / "docs" / "numerics.md").read_text()
    for line, (bound, figure) in found.items():
        assert line in page
        assert float(np.squeeze(bound)) == pytest.approx(figure, rel=1e-9), line


# ---- elements ----------------------------------------------------------------------------------------------


def test_one_wrong_element_among_many_is_seen():
    """A norm would hide it: element for element nothing does."""
    want = np.full((1000, 1000), 1e6)
    got = want.astype(F32)
    assert not fails(got, want, 1.0)
    got[700, 3] += F32(2.0)
    assert fails(got, want, 1.0)
    with pytest.raises(AssertionError, match=r"^sums: 1 of 1000000 .*worst at \(700, 3\)"):
        assert_within(got, want, 1.0, "sums")


@pytest.mark.parametrize(
    ("got", "want", "wrong"),
    [
        *((np.nan, 1.0, True), (1.0, np.nan, True), (np.nan, np.nan, False)),
        *((np.inf, np.inf, False), (np.inf, -np.inf, True), (np.inf, 1.0, True), (3e38, np.inf, True)),
        *((0.0, -0.0, False), (1e-39, 0.0, False), (1e-30, 0.0, True)),
    ],
)
def test_special_values(got, want, wrong):
    assert fails(np.array([1.0, got], F32), np.array([1.0, want]), 0.0) == wrong


def test_shapes_must_agree():
    assert fails(np.zeros((2, 3), F32), np.zeros((3, 2)), 1.0)
    assert fails(np.zeros(3, F32), np.zeros((1, 3)), 1.0)


def test_bits_see_the_last_one_and_the_sign_of_zero():
    x = np.ones(50, F32)
    y = x.copy()
    assert_bits(x, y)
    y[20] = np.nextafter(F32(1.0), F32(0.0))
    with pytest.raises(AssertionError, match=r"1 of 50 .*first at \(20,\)"):
        assert_bits(x, y)
    with pytest.raises(AssertionError, match="differ"):
        assert_bits(np.array([0.0], F32), np.array([-0.0], F32))
    with pytest.raises(AssertionError, match="dtypes"):
        assert_bits(x, x.astype(float))


# ---- the fused multiply-add and the bits of gemm -----------------------------------------------------------


def exact_fma(a, b, c):
    """The float32 nearest to a * b + c, ties to even, by rational numbers."""
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    guess = F32(float(exact))
    near = {guess, np.nextafter(guess, F32(np.inf)), np.nextafter(guess, F32(-np.inf))}
    return min(near, key=lambda x: (abs(Fraction(float(x)) - exact), int(x.view(np.int32)) & 1))


def test_fma_is_correctly_rounded(rng):
    """On random numbers, and where rounding twice goes wrong: just beside the middle of two float32."""
    a, b, c = rng.standard_normal((3, 2000), F32)
    c[::2] *= F32(2.0**-20)
    a[:8], b[:8] = F32(2.0**-12 + 2.0**-30), F32(2.0**-12 - 2.0**-30)  # a * b = 2**-24 - 2**-60
    c[:8] = 1.0 + np.arange(8) * 2.0**-23
    got = ref.fma(a, b, c)
    twice = (a.astype(float) * b.astype(float) + c.astype(float)).astype(F32)
    want = np.array([exact_fma(*t) for t in zip(a, b, c, strict=True)])
    assert_bits(got, want)
    assert (twice != want).any(), "the cases do not separate one rounding from two"


def chains(a, b, order):
    """Products summed by fused multiply-adds in the order of each list of indices, the lists in order."""
    total = np.zeros((len(a), b.shape[1]), F32)
    for i, part in enumerate(order):
        chain = np.zeros_like(total)
        for k in part:
            chain = ref.fma(a[:, k : k + 1], b[k : k + 1], chain)
        total = chain if i == 0 else total + chain
    return total


def rounded_products(a, b):
    """Multiply, round, add, round: what a compiler without FMA does."""
    total = np.zeros((len(a), b.shape[1]), F32)
    for k in range(a.shape[1]):
        total = total + a[:, k : k + 1] * b[k : k + 1]
    return total


BLOCKS = [range(s, min(s + 512, 1100)) for s in range(0, 1100, 512)]
WRONG_ORDERS = {
    "one long chain": [range(1100)],
    "blocks of 256": [range(s, min(s + 256, 1100)) for s in range(0, 1100, 256)],
    "blocks last to first": BLOCKS[::-1],
    "terms last to first": [b[::-1] for b in BLOCKS],
    "eight lanes": [range(lane, 1100, 8) for lane in range(8)],
    "a tail of its own": [range(512), range(512, 1024), range(1024, 1096), range(1096, 1100)],
}


def test_the_emulation_is_its_own_definition(rng):
    a, b = rng.standard_normal((5, 1100), F32), rng.standard_normal((1100, 9), F32)
    assert_bits(ref.gemm_bits(a, b), chains(a, b, BLOCKS))


@pytest.mark.parametrize("name", WRONG_ORDERS)
def test_another_order_has_other_bits(rng, name):
    a, b = rng.standard_normal((5, 1100), F32), rng.standard_normal((1100, 9), F32)
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_bits(chains(a, b, WRONG_ORDERS[name]), ref.gemm_bits(a, b))


def test_multiplication_without_fma_has_other_bits(rng):
    a, b = rng.standard_normal((5, 30), F32), rng.standard_normal((30, 9), F32)
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_bits(rounded_products(a, b), ref.gemm_bits(a, b))


def rounded_to(x, bits):
    """x with only so many bits of the mantissa: 11 is TF32 and float16, 8 is bfloat16."""
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.round(mantissa * 2.0**bits) / 2.0**bits, exponent).astype(F32)


@pytest.mark.parametrize("terms", [1, 3, 64, 512, 2000])
def test_gemm_bound(rng, terms):
    """Honest float32 arithmetic passes; narrower inputs and a lost term do not."""
    a, b = rng.standard_normal((20, terms), F32), rng.standard_normal((terms, 30), F32)
    want = ref.gemm(a, b)
    for random in (True, False):
        assert not fails(rounded_products(a, b), want, bounds.gemm_bound(a, b, random=random))
    bound = bounds.gemm_bound(a, b, random=True)
    assert fails(rounded_products(rounded_to(a, 11), rounded_to(b, 11)), want, bound)
    assert fails(rounded_products(a[:, 1:], b[1:]), want, bound)


# ---- batch-norm --------------------------------------------------------------------------------------------


def float32_batch_norm(x, gamma, beta, *, eps=1e-5, centred=True, eps_outside=False, rows=None):
    """Batch-norm in float32 NumPy, with switches for the mistakes one makes."""
    mean = x.mean(0, dtype=float).astype(F32)
    squares = np.square(x - mean).sum(0, dtype=float) / (rows or len(x))
    var = squares.astype(F32) if centred else np.square(x).mean(0) - mean * mean
    rstd = F32(1.0) / (np.sqrt(var) + F32(eps) if eps_outside else np.sqrt(var + F32(eps)))
    return (x - mean) * rstd * gamma + beta


def test_batch_norm_bound(rng):
    x = (rng.standard_normal((200, 30)) + 5.0).astype(F32)
    gamma, beta = rng.standard_normal((2, 30), F32)
    want, mean, var, xhat = ref.batch_norm(x, gamma, beta)
    bound = bounds.batch_norm_bound(gamma, beta, xhat, mean, np.sqrt(var + 1e-5))
    assert not fails(float32_batch_norm(x, gamma, beta), want, bound)
    assert fails(float32_batch_norm(x, gamma, beta, centred=False), want, bound)
    assert fails(float32_batch_norm(x, gamma, beta, eps_outside=True), want, bound)
    assert fails(float32_batch_norm(x, gamma, beta, eps=1e-6), want, bound)
    assert fails(float32_batch_norm(x, gamma, beta, rows=199), want, bound)


def test_batch_norm_backward_bounds(rng):
    """A missing term, the other variance or xhat formed without the mean is seen."""
    x, dy = rng.standard_normal((2, 100, 20), F32)
    gamma = rng.standard_normal(20, F32)
    _, mean, var, _ = ref.batch_norm(x, gamma, gamma)
    mean, rstd = mean.astype(F32), (1.0 / np.sqrt(var + 1e-5)).astype(F32)
    want = ref.batch_norm_backward(dy, x, gamma, mean, rstd)
    limits = bounds.batch_norm_backward_bounds(dy, x, gamma, mean, rstd)
    xhat = (x - mean) * rstd
    dbeta, dgamma = dy.sum(0), (dy * xhat).sum(0)

    def dx(n=100.0, centre=True):
        return gamma * rstd * (dy - (dbeta / F32(n) if centre else F32(0.0)) - xhat * dgamma / F32(n))

    for got, w, limit in zip((dx(), dgamma, dbeta), want, limits, strict=True):
        assert not fails(got, w, limit)
    assert fails(dx(n=99.0), want[0], limits[0])
    assert fails(dx(centre=False), want[0], limits[0])
    assert fails((dy * x * rstd).sum(0), want[1], limits[1])
    assert fails(dy[:-1].sum(0), want[2], limits[2])


# ---- loss --------------------------------------------------------------------------------------------------


def test_softmax_bounds(rng):
    """The bound is of each element, so an error in a small probability is seen as well as in a large one."""
    logits = (4.0 * rng.standard_normal((30, 50))).astype(F32)
    labels = rng.integers(0, 50, 30)
    value, want = ref.softmax_cross_entropy(logits, labels)
    value_bound, bound = bounds.softmax_bounds(logits, labels)
    e = np.exp(logits - logits.max(1, keepdims=True))
    got = (e / e.sum(1, keepdims=True) - np.eye(50, dtype=F32)[labels]) / F32(30.0)
    assert not fails(got, want, bound)
    smallest = np.unravel_index(np.abs(want).argmin(), want.shape)
    got[smallest] *= F32(1.00005)
    assert fails(got, want, bound)
    assert fails(want * (1.0 + 1e-5), want, bound)
    assert fails(value * (1.0 + 1e-5), value, value_bound)


# ---- updates -----------------------------------------------------------------------------------------------


def float32_adam(p, g, m, v, *, step, eps=1e-8, beta2=0.999, rounded_betas=False, correct=True, inside=False):
    """Adam in float32 NumPy, with switches for the mistakes one makes."""
    one = F32(1.0) - F32(beta2) if rounded_betas else F32(1.0 - beta2)
    m = ref.fma(F32(0.9), m, F32(1.0 - 0.9) * g)
    v = ref.fma(F32(beta2), v, one * (g * g))
    rate = F32(1e-3 / (1.0 - 0.9**step)) if correct else F32(1e-3)
    scale = F32(1.0 / math.sqrt(1.0 - beta2**step)) if correct else F32(1.0)
    root = np.sqrt(v + F32(eps)) * scale if inside else np.sqrt(v) * scale + F32(eps)
    return p - rate * m / root, m, v


def adam_differs(rng, **mistake):
    """Whether any of 30 steps in float32 leaves the bounds of a step."""
    p = np.full(300, 0.02, F32)
    m, v = np.zeros((2, 300), F32)
    for step in range(1, 31):
        g = (rng.standard_normal(300) * 10.0 ** rng.uniform(-7, 1)).astype(F32)
        want = ref.adam(p, g, m, v, step=step)
        limits = bounds.adam_bounds(p, g, m, v, step=step)
        p, m, v = got = float32_adam(p, g, m, v, step=step, **mistake)
        if any(fails(*triple) for triple in zip(got, want, limits, strict=True)):
            return True
    return False


@pytest.mark.parametrize(
    "mistake",
    [{"eps": 1e-7}, {"rounded_betas": True}, {"correct": False}, {"inside": True}, {"beta2": 0.99}],
    ids=str,
)
def test_adam_bounds_see(rng, mistake):
    assert adam_differs(rng, **mistake)


def test_adam_bounds_let_honest_arithmetic_pass(rng):
    assert not adam_differs(rng)


def test_three_ulp_are_too_many(rng):
    p, g = rng.standard_normal((2, 100), F32)
    (want,), (limit,) = ref.sgd(p, g, lr=0.1), bounds.sgd_bounds(p, g, lr=0.1)
    assert not fails(p - F32(0.1) * g, want, limit)
    assert fails(want + 3.0 * np.spacing(np.maximum(np.abs(p), np.abs(F32(0.1) * g))), want, limit)


def test_the_styles_of_momentum_are_told_apart(rng):
    """With a constant rate their parameters agree; the velocity does not."""
    arrays = rng.standard_normal((3, 100), F32)
    for nesterov in (False, True):
        want = ref.momentum(*arrays, lr=0.1, nesterov=nesterov)
        limits = bounds.momentum_bounds(*arrays, lr=0.1, nesterov=nesterov)
        other = ref.momentum(*arrays, lr=0.1, nesterov=nesterov, style="velocity")
        assert fails(other[1], want[1], limits[1])
        assert fails(ref.momentum(*arrays, lr=0.1, nesterov=not nesterov)[0], want[0], limits[0])


# ---- tools -------------------------------------------------------------------------------------------------


def read_at(index, at_end):
    """For a subprocess: read one float of a guarded array, perhaps one beside it."""
    x = guard.guarded(np.arange(5, dtype=F32), at_end=at_end)
    print("reading")
    print(np.lib.stride_tricks.as_strided(x, (1,), (4,))[0] + x[4])
    address = x.ctypes.data + 4 * index
    import ctypes

    print(ctypes.c_float.from_address(address).value)


def test_a_stray_read_dies_at_the_guard_page():
    for at_end, inside, outside in ((True, 4, 5), (False, 0, -1)):
        guard.run_isolated("test_comparators", "read_at", inside, at_end)
        with pytest.raises(AssertionError, match="SIGSEGV"):
            guard.run_isolated("test_comparators", "read_at", outside, at_end)


@pytest.mark.parametrize("name", layouts.LAYOUTS)
def test_layouts_are_what_they_say(rng, name):
    for shape in [(6,), (6, 5), (2, 3, 4), (1, 1), (0, 3), (3, 0)]:
        x = rng.standard_normal(shape, F32)
        view = layouts.LAYOUTS[name](x)
        assert view.shape == x.shape
        assert view.dtype == F32
        if name in layouts.SAME_VALUES:
            assert np.array_equal(view, x)
        if name in layouts.OUTPUTS:
            assert view.flags.writeable
            assert view.flags.aligned
    x = layouts.LAYOUTS[name](rng.standard_normal((6, 5), F32))
    properties = {
        "fortran": x.strides == (4, 24),
        "transposed": x.strides == (4, 24),
        "step2": x.strides == (80, 8),
        "reversed_rows": x.strides == (-20, 4),
        "reversed_columns": x.strides == (20, -4),
        "reversed_all": x.strides == (-20, -4),
        "broadcast_rows": x.strides == (0, 4),
        "broadcast_columns": x.strides[1] == 0,
        "misaligned": x.ctypes.data % 4 == 1 and not x.flags.aligned,
        "off_by_one_element": x.ctypes.data % 64 == 4,
        "cache_aligned": x.ctypes.data % 64 == 0,
        "padded": x.strides == (40, 4),
        "read_only": not x.flags.writeable,
        "memmap": isinstance(x, np.memmap) and not x.flags.writeable,
        "c_order": x.flags.c_contiguous and x.flags.writeable,
    }
    assert properties[name]
