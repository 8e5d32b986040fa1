"""The kernels that cuBLASLt proposes for a product, each to be timed by itself (gpu_kernels.py).

cuBLASLt counts columns first, so it is asked for the transpose of c = a @ b: c' = b' @ a'. Constants and
structs are those of cublasLt.h of CUDA 12 and 13.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

_WORKSPACE_ATTRIBUTE = 1  # CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES
_REAL_32F, _BFLOAT16 = 0, 14  # cudaDataType


class Kind(NamedTuple):
    """Of the numbers of a and b, of those of c, and how they are multiplied."""

    operands: int
    result: int
    compute: int


KINDS = {
    "float32": Kind(_REAL_32F, _REAL_32F, 68),  # CUBLAS_COMPUTE_32F
    "tf32": Kind(_REAL_32F, _REAL_32F, 77),  # CUBLAS_COMPUTE_32F_FAST_TF32
    "bfloat16": Kind(_BFLOAT16, _BFLOAT16, 68),
}


class Algorithm(ctypes.Structure):
    """cublasLtMatmulAlgo_t."""

    _fields_ = [("data", ctypes.c_uint64 * 8)]


class Found(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = [
        ("algorithm", Algorithm),
        ("workspace", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    ]


Launch = Callable[[int, int, int, int, int], None]  # pointers to a, b, c and the workspace, and the stream


class CublasLt:
    """The library of this name.

    Errors: OSError where it cannot be loaded, RuntimeError with the number of a call's status.
    """

    def __init__(self, name: str) -> None:
        self._library = ctypes.CDLL(name)
        self._handle = self._made("cublasLtCreate")

    def _call(self, function: str, *given: Any) -> None:
        status = getattr(self._library, function)(*given)
        if status:
            raise RuntimeError(f"{function}: status {status}")

    def _made(self, function: str, *given: Any) -> ctypes.c_void_p:
        made = ctypes.c_void_p()
        self._call(function, ctypes.byref(made), *given)
        return made

    def candidates(
        self, kind: Kind, m: int, n: int, k: int, *, most: int, workspace: int
    ) -> Iterator[tuple[int, Launch]]:
        """The workspace in bytes and the launch of each kernel for contiguous a (m, k) and b (k, n)."""
        layouts = [
            self._made(
                "cublasLtMatrixLayoutCreate",
                ctypes.c_int(number),
                ctypes.c_uint64(cols),
                ctypes.c_uint64(rows),
                ctypes.c_int64(cols),
            )
            for number, rows, cols in ((kind.operands, k, n), (kind.operands, m, k), (kind.result, m, n))
        ]
        first, second, result = layouts
        product = self._made("cublasLtMatmulDescCreate", ctypes.c_int(kind.compute), ctypes.c_int(_REAL_32F))
        wish, size = self._made("cublasLtMatmulPreferenceCreate"), ctypes.c_size_t(workspace)
        self._call(
            "cublasLtMatmulPreferenceSetAttribute",
            wish,
            ctypes.c_int(_WORKSPACE_ATTRIBUTE),
            ctypes.byref(size),
            ctypes.c_size_t(ctypes.sizeof(size)),
        )
        found, count = (Found * most)(), ctypes.c_int()
        self._call(
            "cublasLtMatmulAlgoGetHeuristic",
            *(self._handle, product, first, second, result, result, wish),
            *(ctypes.c_int(most), found, ctypes.byref(count)),
        )
        one, zero = ctypes.c_float(1.0), ctypes.c_float(0.0)
        for each in found[: count.value]:
            if each.state:
                continue

            def launch(a: int, b: int, c: int, memory: int, stream: int, each: Found = each) -> None:
                pointer = ctypes.c_void_p
                self._call(
                    "cublasLtMatmul",
                    *(self._handle, product, ctypes.byref(one)),
                    *(pointer(b), first, pointer(a), second),
                    *(ctypes.byref(zero), pointer(c), result, pointer(c), result),
                    *(ctypes.byref(each.algorithm), pointer(memory)),
                    *(ctypes.c_size_t(each.workspace), pointer(stream)),
                )

            yield each.workspace, launch
