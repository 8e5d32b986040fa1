"""The libraries whose arrays on a device `ops` are given: the compiled module asks here.

Any array on a device can be read and updated. The caller's stream, the current device and new arrays are
known of CuPy and PyTorch. Neither is imported here: whoever has their arrays has imported them.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from fastnn import cuda


class Place(NamedTuple):
    """Where a call runs."""

    kernels: Any  # the capsule of `_cuda`
    stream: int  # a cudaStream_t as a number
    device: int  # the current one; -1: unknown


def _library(array: object) -> tuple[str, Any]:
    """("cupy" or "torch", the module), or ("", None)."""
    for name, kind in (("cupy", "ndarray"), ("torch", "Tensor")):
        module = sys.modules.get(name)
        if module is not None and isinstance(array, getattr(module, kind)):
            return name, module
    return "", None


def is_cupy(array: object) -> bool:
    return _library(array)[0] == "cupy"


def stream_of(array: object) -> int:
    """The caller's stream: the current one of the array's library, or else the one that the array names."""
    name, module = _library(array)
    if name == "cupy":
        return int(module.cuda.get_current_stream().ptr)
    if name == "torch":
        return int(module.cuda.current_stream().cuda_stream)
    stream = getattr(array, "__cuda_array_interface__", {}).get("stream")
    return 0 if stream in (None, 1) else int(stream)  # 1 is the default stream too


def place_of(array: object) -> Place | str:
    """Where a call whose first array on a device this is runs, or why it cannot run there."""
    native = cuda.usable()
    if isinstance(native, str):
        return native
    name, module = _library(array)
    device = -1
    if name == "cupy":
        device = module.cuda.runtime.getDevice()
    elif name == "torch":
        device = module.cuda.current_device()
    return Place(native.kernels, stream_of(array), device)


def empty_beside(array: object, shape: tuple[int, ...], dtype: str) -> Any:
    """A new array of the same library on the current device; None where that is not known.

    dtype: "float32", or "bfloat16" where `array` is that too.
    """
    name, module = _library(array)
    if name == "cupy":  # which has no name for the dtype of ml_dtypes
        return module.empty(shape, dtype if dtype == "float32" else array.dtype)  # type: ignore[attr-defined]
    if name == "torch":
        return module.empty(shape, dtype=getattr(module, dtype), device="cuda")
    return None
