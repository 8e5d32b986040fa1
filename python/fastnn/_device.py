"""Arrays on the device: moved there and back, and counted (`cuda.transfer_bytes`): what CuPy copies between
host and device for fastnn goes through `copied` and `on_host`. CuPy holds their memory, and is imported here
when needed.

A device array is whatever has `__cuda_array_interface__`; what computes with it are the kernels of `ops` and
native programs.
"""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import numpy as np

from fastnn import cuda
from fastnn._arrays import Array, FloatArray, aligned_zeros, as_array, as_float32, refuse_mask
from fastnn._arrays import is_on_device as is_on_device
from fastnn._libraries import is_cupy, stream_of

# `_queue.Queue`s with steps that nobody has waited for, by id; other threads may add some meanwhile.
queues: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
moves = 0  # of arrays so far: whoever keeps arrays looks whether it still has the right ones


def cupy(where: str) -> Any:
    """The module CuPy; CudaError without it."""
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise cuda.CudaError(
            f'{where}: device "cuda" needs CuPy, which is not there ({error}); '
            'pip install "fastnn-kernels[cuda]"'
        ) from error


def check(where: str, device: object) -> None:
    """Raise for a device that cannot be used: fastnn never trains on the CPU what was meant for the GPU."""
    if device not in ("cpu", "cuda"):
        raise ValueError(f'{where}: device must be "cpu" or "cuda", got {device!r}')
    if device == "cuda":
        cuda.refuse(where)
        cupy(where)


def copied(array: Array) -> Any:
    """A copy on the device, row behind row, of what is there already a view."""
    if isinstance(array, np.ndarray):
        array = np.asarray(array, order="C")
        cuda.count(to_device=array.nbytes)
    return cupy("fastnn").asarray(array)


def placed(what: str, array: Any) -> Any:
    """What is there already as it is; a copy there of an array of the host with numbers of any kind."""
    if is_on_device(array):
        return array
    array = as_array(array, what)
    refuse_mask(array, what)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{what} must hold numbers on a device, got dtype {array.dtype}")
    return copied(np.asarray(array, array.dtype.newbyteorder("=")))


def concatenated(parts: list[Any]) -> Any:
    """One array of the rows of all, where they are."""
    return cupy("fastnn").concatenate(parts) if is_on_device(parts[0]) else np.concatenate(parts)


def moved(array: Any, device: str) -> Any:
    """The array itself where it is on the device (or "cpu") already, else a copy there."""
    if is_on_device(array) == (device == "cuda"):
        return array
    global moves
    moves += 1
    if device == "cuda":
        return copied(array)
    values = on_host(array)
    if values.dtype != np.float32:
        return values
    copy = aligned_zeros(values.shape)
    copy[...] = values
    return copy


def holds(model: Any) -> bool:
    """Whether the parameters of a module are on the device: they are all in one place."""
    first = next(model.named_parameters(), None)
    return first is not None and is_on_device(first[1].data)


def refuse_model(where: str, model: Any) -> None:
    """Raise for a model on the device: what is called computes on the CPU."""
    if holds(model):
        raise cuda.CudaError(
            f'{where}: the model is on the device, this is for the CPU; call model.to("cpu")'
        )


def check_one_place(where: str, parameters: Iterable[Any]) -> None:
    """Raise where some are on the device and some are not."""
    if len({is_on_device(parameter.data) for parameter in parameters}) > 1:
        raise cuda.CudaError(
            f"{where}: some of its parameters are on the CPU, some on the device; move the whole model "
            'with "to"'
        )


def beside(other: object, array: Any) -> Any:
    """The array, moved to where the other one is."""
    return moved(array, "cuda" if is_on_device(other) else "cpu")


def as_floats(x: Any, what: str, own: object = None) -> FloatArray:
    """`as_float32`; on a device CuPy's array, which converts what is not float32.

    `own`: an array of the model, which must lie in the same place: nothing is moved in silence.
    """
    if type(x) is np.ndarray and x.dtype == np.float32 and (own is None or type(own) is np.ndarray):
        return x
    on_device = not isinstance(own, np.ndarray)  # or wherever x lies
    if not (on_device and is_cupy(x)):  # CuPy's own arrays need no further look, which takes microseconds
        if not is_on_device(x):
            if own is not None and on_device:
                raise TypeError(
                    f"{what} lies in host memory and the model on a CUDA device; pass cupy.asarray(...), or "
                    'call model.to("cpu")'
                )
            return as_float32(x, what)
        x = rows(what, x, on_device)
    if not x.flags.c_contiguous:
        raise ValueError(f"{what} must be C-contiguous on a device; pass cupy.ascontiguousarray(...)")
    if x.dtype == np.float32:
        return cast(FloatArray, x)
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{what} must hold real numbers, got dtype {x.dtype}")
    return cast(FloatArray, x.astype(np.float32))


def rows(what: str, array: Any, on_device: bool) -> Any:
    """What a model is given, on the device as CuPy's array over the same memory, else as it is.

    `on_device`: the model is there. Its steps run on CuPy's stream.
    """
    if not is_on_device(array):
        return array
    if not on_device:
        raise TypeError(f'{what} lies on a CUDA device and the model on the CPU; call model.to("cuda")')
    if stream_of(array) != stream():
        raise ValueError(f"{what} is ordered on another stream than CuPy's current one; make them one")
    return copied(array)


def on_host(array: Any) -> Array:
    """A NumPy array of the same numbers, the array itself where it is one."""
    if is_on_device(array):
        cuda.count(to_host=array.nbytes)
        array = array.get()
    return cast(Array, array)


def number(value: Any) -> float:
    """A lone number, wherever it lies."""
    return float(on_host(value) if is_cupy(value) and value.size == 1 else value)


def together_on_host(where: str, **given: Any) -> list[Any]:
    """NumPy arrays of the same numbers as these of one place; what is on the host already as it is."""
    on_device = {name: is_on_device(array) for name, array in given.items() if array is not None}
    if not any(on_device.values()):
        return list(given.values())
    if not all(on_device.values()):
        host, device = (next(name for name in on_device if on_device[name] == at) for at in (False, True))
        raise TypeError(
            f"{where}: {host} lies in host memory and {device} on a CUDA device; pass arrays of one place, "
            f"such as cupy.asarray({host})"
        )
    return [None if x is None else on_host(rows(f"{where}: {name}", x, True)) for name, x in given.items()]


def through_host(function: Callable[[Any], Array], x: Any, what: str) -> Array:
    """`function(x)` by NumPy; of an array on the device a result that is there too."""
    if not is_on_device(x):
        return function(x)
    return cast(Array, copied(function(on_host(rows(what, x, True)))))


def copies(arrays: Mapping[str, Any]) -> dict[str, Array]:
    """NumPy copies, by name."""
    return {name: on_host(array).copy() for name, array in arrays.items()}


def put(to: Any, values: FloatArray) -> None:
    """Copy values into an array, wherever it lies; values on a device go to one there."""
    to[...] = copied(values) if is_on_device(to) else values


def free_bytes() -> int:
    """Memory of the device that nobody has taken."""
    return int(cupy("fastnn").cuda.runtime.memGetInfo()[0])


class Resident:
    """Arrays of a fit, and what was made of them on the device: they do not change until it ends."""

    def __init__(self) -> None:
        self._copies: dict[int, tuple[Any, Any]] = {}  # beside the arrays, which keep their ids

    def begin(self, *arrays: Any) -> None:
        """A fit of these begins, or (of none) has ended."""
        self._copies = {id(array): (array, None) for array in arrays if array is not None}

    def __contains__(self, array: Any) -> bool:
        return id(array) in self._copies

    def copy(self, given: Any, array: Any, make: Callable[[Any], Any] = copied) -> Any:
        """`array`, made of one of the fit's, on the device, where `make` puts it once."""
        if given is None:
            return None
        if self._copies[id(given)][1] is None:
            self._copies[id(given)] = given, make(array)
        return self._copies[id(given)][1]


def settle(owner: object) -> None:
    """Wait for queued steps that change a module or an optimizer; raise what kept one from being done."""
    for queue in [reference() for reference in queues.valuerefs()]:
        if queue is not None and queue.changes(owner):
            queue.settle()


def for_threads() -> Callable[[], None]:
    """What makes this thread's device and stream those of the thread that calls it: CuPy's are each
    thread's own."""
    device, stream = cupy("fastnn").cuda.Device(), cupy("fastnn").cuda.get_current_stream()

    def use() -> None:
        device.use()
        stream.use()

    return use


def stream() -> int:
    """The caller's stream, a cudaStream_t as a number."""
    return int(cupy("fastnn").cuda.get_current_stream().ptr)
