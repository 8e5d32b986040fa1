"""Whether an NVIDIA GPU can be used, and if not, why.

>>> from fastnn import cuda
>>> cuda.is_available() == (cuda.why_not() is None)
True

docs/cuda.md says what runs on a GPU, and what was verified on which.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import threading
from types import ModuleType
from typing import Any, NamedTuple

from fastnn._core import build_info, check_cuda

__all__ = ["CudaError", "TransferBytes", "device_info", "is_available", "transfer_bytes", "why_not"]


class CudaError(RuntimeError):
    """The GPU cannot do what was asked for; the text says why."""


class TransferBytes(NamedTuple):
    """Bytes that fastnn moved between host and device since it was imported."""

    to_host: int
    to_device: int


_by_cupy = TransferBytes(0, 0)  # the rest is counted where it is moved, in `_cuda`
_counting = threading.Lock()


@functools.cache
def _native() -> ModuleType | None:
    """The extension with the kernels, or None where it was not built; ImportError where it does not fit."""
    try:
        import fastnn._cuda as native
    except ModuleNotFoundError:
        return None
    check_cuda(native.kernels)
    return native


def why_not() -> str | None:
    """Return why no GPU can be used, in a sentence, or None if one can.

    Raises ImportError where the extension with the kernels belongs to another build of fastnn.
    """
    native = _native()
    if native is None:
        return (
            f"this build of fastnn has no CUDA kernels ({build_info()['cuda'].removeprefix('not built: ')})"
        )
    return native.why_not() or None


def is_available() -> bool:
    """Return whether CUDA kernels were built and a GPU is there that runs them."""
    return why_not() is None


def device_info() -> dict[str, Any]:
    """Return the current GPU as a dict.

    `name`, `index`, `compute_capability` (major, minor), `multiprocessors`, `memory_bytes`, and the versions
    of CUDA that the `driver` knows and that fastnn was built with (`runtime`). `large_products` says who
    forms large products of bfloat16 and TF32: cuBLASLt and its version, or fastnn and why. Raises `CudaError`
    where no GPU can be used.
    """
    native = usable()
    if isinstance(native, str):
        raise CudaError(f"device_info(): {native}")
    info: dict[str, Any] = native.device()
    return info


def transfer_bytes() -> TransferBytes:
    """Return the bytes that fastnn has copied to the host and to the device, CuPy's copies for it included.

    >>> import fastnn
    >>> fastnn.cuda.transfer_bytes().to_host
    0
    """
    native = _native()
    if native is None:
        return TransferBytes(0, 0)
    to_host, to_device = native.transfer_bytes()
    return TransferBytes(to_host + _by_cupy.to_host, to_device + _by_cupy.to_device)


def count(*, to_host: int = 0, to_device: int = 0) -> None:
    """Add what CuPy copies for fastnn to `transfer_bytes`."""
    global _by_cupy
    with _counting:
        _by_cupy = TransferBytes(_by_cupy.to_host + to_host, _by_cupy.to_device + to_device)


def refuse(where: str) -> None:
    """Raise CudaError with the reason where no GPU can be used."""
    reason = why_not()
    if reason is not None:
        raise CudaError(f'{where}: device "cuda" cannot be used: {reason}; stay on "cpu"')


@functools.cache
def _load_cublaslt() -> None:
    """Load cuBLASLt from where wheels put it, if CuPy's finder is there: the kernels ask for it by name."""
    with contextlib.suppress(ImportError, RuntimeError):  # there is none, or it finds none
        importlib.import_module("cuda.pathfinder").load_nvidia_dynamic_lib("cublasLt")


_usable: Any = None  # the extension that was found usable


def usable() -> Any:
    """The extension with the kernels, or the reason why they cannot run; the device is looked at once."""
    global _usable
    native = _native()
    if native is None or native is not _usable:
        reason = why_not()
        if reason is not None:
            return reason
        _load_cublaslt()
        _usable = native
    return native


def kernels() -> Any:
    """The capsule with the kernels, for a program; CudaError where no GPU can be used."""
    refuse("Trainer")
    return usable().kernels
