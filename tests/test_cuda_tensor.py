"""The products of tensor cores over shapes at each edge of their tiles, run by the shim (tests/cuda_shim)."""

import cuda_tensor_checks as checks
import numpy as np
import pytest
from cuda_checks import KINDS, draw, empty
from cuda_shim import shim
from test_cuda_kernels import BESIDE, STATISTICS, drawn, each, run_beside, run_statistics
from test_cuda_kernels import schedule as schedule

pytestmark = pytest.mark.ci

# Tiles of 64 by 64; a stage has 32 terms of bfloat16 and 16 of TF32, and there are three stages.
SHAPES = [(1, 1, 0), (1, 1, 1), (3, 2, 5), (16, 8, 8), (17, 9, 16), (31, 32, 17), (33, 31, 32), (64, 64, 33)]
SHAPES += [(65, 66, 31), (8, 72, 48), (40, 8, 64), (5, 7, 65), (2, 130, 96), (130, 1, 97), (24, 16, 128)]
SHAPES += [(16, 24, 200), (1, 33, 100), (48, 40, 160), (7, 5, 129), (63, 65, 15), (72, 8, 24)]


@pytest.mark.parametrize("precision", checks.PRECISIONS)
def test_products(cuda_kernels, schedule, precision):
    for (m, n, k), i in each(schedule, drawn(SHAPES, 140, 140, 200)):
        for trans_a, trans_b in [(False, False), (False, True), (True, False), (True, True)]:
            gap = checks.EACH[precision] * (i % 2)
            checks.gemm(
                cuda_kernels, schedule, precision, m, n, k, trans_a=trans_a, trans_b=trans_b,
                alpha=(1.0, -0.5)[i % 2], beta=(0.0, 2.0, 0.0)[i // 3 % 3], bias=i // 2 % 2 == 1,
                kind=KINDS[(i + trans_a) % 11], narrow=precision == "bfloat16" and trans_a == trans_b,
                gaps=(gap, gap, i % 3), whole=False,
            )  # fmt: skip


@pytest.mark.parametrize("precision", checks.PRECISIONS)
def test_integers_are_exact(cuda_kernels, precision):
    for i, (m, n, k) in enumerate([(33, 70, 100), (40, 64, 72), (5, 3, 129)]):
        checks.gemm(
            cuda_kernels, i, precision, m, n, k, trans_a=i == 1, trans_b=i > 0, bias=False, whole=True
        )


@pytest.mark.parametrize(("trans_a", "trans_b"), [(False, True), (True, False)])
@pytest.mark.parametrize("precision", checks.PRECISIONS)
def test_large_tiles(cuda_kernels, precision, trans_a, trans_b):
    """132 tiles of 128 by 128 are the fewest for which the large tile is chosen, where both operands can be
    copied 16 bytes at a time."""
    few = checks.EACH[precision]
    m, n = (120, 131 * 128 + few) if trans_b else (131 * 128 + few, 120)
    checks.gemm(cuda_kernels, 0, precision, m, n, few, trans_a=trans_a, trans_b=trans_b)


@pytest.mark.parametrize("precision", checks.PRECISIONS)
def test_nan_and_infinity_stay_in_their_row(cuda_kernels, precision):
    for bad in (np.nan, np.inf, -np.inf):
        a, b, c = draw(5, 20), draw(20, 6), empty(5, 6)
        a[2, 3] = bad
        g = {"a_row": 20, "a_col": 1, "b_row": 6, "b_col": 1, "c": c, "c_row": 6, "m": 5, "n": 6, "k": 20}
        g |= {"k_end": 20, "alpha": 1.0}
        if precision == "tf32":
            cuda_kernels.run(shim.GEMM_TF32, g=shim.filled(shim.GEMM, {**g, "a": a, "b": b}))
        else:
            a, b = checks.bits16(a), checks.bits16(b)
            cuda_kernels.run(shim.GEMM_BF16, g=shim.filled(shim.GEMM, g), a=a, b=b)
        assert not np.isfinite(c[2]).any()
        assert np.isfinite(np.delete(c, 2, 0)).all()


@pytest.mark.parametrize("precision", checks.PRECISIONS)
def test_what_a_product_does_beside(cuda_kernels, schedule, precision):
    run_beside(cuda_kernels, schedule, precision, BESIDE)


@pytest.mark.parametrize("precision", checks.PRECISIONS)
def test_sums_of_batch_norm_beside_a_product(cuda_kernels, schedule, precision):
    run_statistics(cuda_kernels, schedule, precision, STATISTICS)
