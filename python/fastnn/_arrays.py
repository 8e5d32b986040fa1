"""Small array helpers shared by the layers, losses, optimizers and the trainer (NumPy only)."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Array = npt.NDArray[Any]

_ALIGNMENT = 64  # bytes: one cache line, and one AVX-512 register


def aligned_zeros(shape: tuple[int, ...]) -> FloatArray:
    """Return zeroed float32 memory on a 64-byte boundary, which NumPy's own allocator does not promise."""
    count = int(np.prod(shape, dtype=np.int64))
    raw = np.zeros(4 * count + _ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + 4 * count].view(np.float32).reshape(shape)


def is_on_device(array: object) -> bool:
    """Whether an array lies in the memory of a CUDA device."""
    return not isinstance(array, np.ndarray) and hasattr(array, "__cuda_array_interface__")


def as_array(x: Any, what: str, *, on_device: bool = False) -> Array:
    """Return `x` itself when it is an ndarray, else one made of a tensor or a data frame, over its memory.

    What is no ndarray must have `__array__` or speak DLPack (PyTorch, JAX, pandas); a library that cannot
    share its memory copies. Lists and numbers are refused: what they would become is the caller's to say.
    `on_device`: an array on a device is returned as it is.
    """
    if isinstance(x, np.ndarray) or (on_device and is_on_device(x)):
        return cast(Array, x)
    try:
        if hasattr(x, "__array__") and not isinstance(x, (np.generic, type)):
            return np.asarray(x)
        if hasattr(x, "__dlpack__") and not isinstance(x, type):
            return np.from_dlpack(x)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        # A tensor that requires grad, or on another device: the library says what to do.
        raise TypeError(f"{what} cannot be read as a NumPy array: {error}") from error
    raise TypeError(f"{what} must be a NumPy array, got {type(x).__name__}; pass np.asarray(...)")


def as_float32(x: Any, what: str) -> FloatArray:
    """Return `as_array(x)` if that is native float32, else a float32 copy; `what` names it in errors."""
    x = as_array(x, what)
    if x.dtype == np.float32:
        return cast(FloatArray, x)
    refuse_mask(x, what)
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{what} must hold real numbers, got dtype {x.dtype}; pass .astype(np.float32)")
    return cast(FloatArray, x.astype(np.float32))


def refuse_mask(x: Array, what: str) -> None:
    """Raise for a masked array: its mask would be lost."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{what} is a masked array and its mask would be lost; pass .filled(value)")


def as_rows(x: Any, what: str) -> Array:
    """Return `as_array(x)` if the native program can read its rows, else a float32 copy.

    It reads integers, bool, float32 and float64, native and aligned, where each row is contiguous.
    On a device nothing is converted.
    """
    x = as_array(x, what, on_device=True)
    if is_on_device(x):
        return _rows_on_device(x, what)
    refuse_mask(x, what)
    if type(x) is not np.ndarray:
        x = x.view(np.ndarray)
    kind = x.dtype.kind
    if not (x.dtype.isnative and (kind in "biu" or (kind == "f" and x.itemsize in (4, 8)))):
        x = as_float32(x, what)
    rows = x.ndim == 0 or (len(x) > 0 and x[0].flags.c_contiguous and x.strides[0] % x.itemsize == 0)
    return cast(Array, x if rows and x.flags.aligned else np.require(x, requirements=("C", "A")))


def _rows_on_device(x: Any, what: str) -> Array:
    if x.dtype.kind not in "biuf" or x.dtype == np.float16:
        raise TypeError(
            f"{what} must hold integers, float32 or float64 on a device, got {x.dtype}; convert it to float32"
        )
    if x.ndim > 0 and len(x) > 0 and not x[0].flags.c_contiguous:
        raise ValueError(f"{what} must have contiguous rows on a device; pass cupy.ascontiguousarray(...)")
    return cast(Array, x)


def check_ids(ids: Array, what: str, classes: int, ignored: int | None, rows: Array | None = None) -> None:
    """Raise for a class id outside 0..classes - 1; `rows`: the numbers by which the caller knows these."""
    wrong = (ids < 0) | (ids >= classes)
    if ignored is not None:
        wrong &= ids != ignored
    _refuse_first(wrong, ids, rows, f"{what}[{{}}] is {{}}, must be in 0..{classes - 1}")


def check_weights(weight: Array, what: str, rows: Array | None = None) -> None:
    """Raise for a weight that is negative or not finite; `rows` as in `check_ids`."""
    wrong = ~(np.isfinite(weight) & (weight >= 0))
    _refuse_first(wrong, weight, rows, f"{what}[{{}}] must be finite and at least 0, got {{}}")


def _refuse_first(wrong: Array, values: Array, rows: Array | None, message: str) -> None:
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(message.format(i if rows is None else int(rows[i]), values[i]))


def as_generator(rng: np.random.Generator | int | None, what: str) -> np.random.Generator:
    """Return a NumPy generator for an integer seed (None: fresh entropy), or the given generator itself."""
    if isinstance(rng, np.random.Generator):
        return rng
    return np.random.default_rng(None if rng is None else check_int(rng, what, 0))


def check_int(value: int, what: str, least: int) -> int:
    """Return `value` as an int when it is a whole number (Python's or NumPy's) of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{what} must be a whole number, got {value!r} ({type(value).__name__})")
    if value < least:
        raise ValueError(f"{what} must be at least {least}, got {value}")
    return int(value)


def check_flag(value: bool, what: str) -> bool:
    """Return `value` as a bool when it is True or False (Python's or NumPy's)."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{what} must be True or False, got {value!r}")
    return bool(value)


def check_number(value: float, what: str, low: float, high: float = np.inf, *, closed: bool = False) -> float:
    """Return `value` as a float when it is a finite number with low <= value < high (`closed`: <= high)."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{what} must be a number, got {value!r} ({type(value).__name__})")
    if not (low <= value < high or (closed and value == high)):
        bound = (
            f"at least {low:g} and finite"
            if high == np.inf
            else f"in [{low:g}, {high:g}{']' if closed else ')'}"
        )
        raise ValueError(f"{what} must be {bound}, got {value}")
    return float(value)
