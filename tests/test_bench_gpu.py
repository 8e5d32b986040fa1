"""What the benchmark for a GPU can show without one: the calls of cuBLASLt, on a stand-in, and its reading of
tables."""

from __future__ import annotations

import ctypes
import doctest
import sys
from pathlib import Path

import layouts
import numpy as np
import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
if not BENCH.is_dir():
    pytest.skip("the benchmark is not in this tree", allow_module_level=True)
sys.path.insert(0, str(BENCH))

import gpu_cublaslt  # noqa: E402


@pytest.fixture(scope="module")
def library(kernels_with_cublaslt):
    """The stand-in of the kernels' tests."""
    return gpu_cublaslt.CublasLt(kernels_with_cublaslt.library._name)


def aligned(x):
    """A copy that begins where the device's memory would."""
    return layouts.beginning(x, 0, 256)


def candidates(library, kind, most=8, workspace=1 << 10):
    found = library.candidates(gpu_cublaslt.KINDS[kind], 3, 5, 4, most=most, workspace=workspace)
    return list(found)


def test_each_kernel_of_cublaslt_forms_the_product(library):
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-4, 5, shape).astype(np.float32) for shape in ((3, 4), (4, 5)))
    memory = np.full(64, 7, np.uint8)
    a, b = aligned(a), aligned(b)
    found = candidates(library, "float32")
    assert [bytes for bytes, _ in found] == [64, 0]  # the second of three has no kernel
    for _, launch in found:
        c = aligned(np.full((3, 5), np.nan, np.float32))
        launch(*(x.ctypes.data for x in (a, b, c, memory)), 0)
        np.testing.assert_array_equal(c, a @ b)
    assert not memory.any()


def test_kernels_of_cublaslt_keep_to_the_workspace_and_the_number_asked_for(library):
    assert [bytes for bytes, _ in candidates(library, "float32", workspace=63)] == [0]
    assert [bytes for bytes, _ in candidates(library, "float32", most=1)] == [64]


def test_status_of_cublaslt_is_an_error(library):
    scaled = gpu_cublaslt.KINDS["float32"]._replace(
        operands=gpu_cublaslt.KINDS["bfloat16"].operands, compute=77
    )
    with pytest.raises(RuntimeError, match=r"cublasLtMatmulAlgoGetHeuristic: status 15"):
        list(library.candidates(scaled, 3, 5, 4, most=1, workspace=0))
    with pytest.raises(OSError, match="no-such-library"):
        gpu_cublaslt.CublasLt("no-such-library.so")


def test_structs_are_those_of_the_header():
    assert ctypes.sizeof(gpu_cublaslt.Found) == 96  # cublasLtMatmulHeuristicResult_t


@pytest.fixture
def gpu_kernels(monkeypatch):
    """The cases of the benchmark with small arrays of PyTorch on the host."""
    pytest.importorskip("torch")
    import gpu_kernels

    monkeypatch.setattr(gpu_kernels, "DEVICE", "cpu")
    monkeypatch.setattr(gpu_kernels, "SQUARES", (64, 32))
    monkeypatch.setattr(gpu_kernels, "ROWS", ((96, 24),))
    monkeypatch.setattr(gpu_kernels, "PARAMETERS", 1000)
    return gpu_kernels


def test_both_sides_of_each_case_compute_the_same(gpu_kernels):
    torch, names = gpu_kernels.torch, []
    for case in (*gpu_kernels.products(), *gpu_kernels.updates(), *gpu_kernels.batch_norm()):
        if case.peak == "tf32":  # which the host does not have
            continue
        given = tuple(map(torch.as_tensor, case.make()))  # results of fastnn are NumPy's here
        want = case.torch(*(x.clone() for x in given)).double()
        assert gpu_kernels.error_of(case.fastnn, given, want) <= case.tolerance, case.name
        wrong = want + 2 * case.tolerance * want.abs().max()
        assert gpu_kernels.error_of(case.fastnn, given, wrong) > case.tolerance, case.name
        names.append(case.name)
    assert len(names) == len(set(names)) == 6 + 3 + 4


def test_times_of_a_table_are_read():
    pytest.importorskip("torch")
    import gpu_backward

    assert doctest.testmod(gpu_backward) == (0, 1)
