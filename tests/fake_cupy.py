"""The few names of CuPy that fastnn uses, over memory of the host, for what the shim runs.

It covers how fastnn calls CuPy, not CuPy: no device, no pool, no stream of its own. Like CuPy's, its arrays
refuse to become NumPy's without `get`, and take no NumPy array in an assignment. Unlike CuPy's they do not
speak DLPack, so that arrays with nothing but `__cuda_array_interface__` are tested.
"""

import threading
import types

import numpy as np


def catch_up():
    """For a shim that puts work off: called before numbers are read or written."""


class ndarray:
    def __init__(self, memory):
        self._memory = memory

    @property
    def _numbers(self):
        catch_up()
        return self._memory

    shape = property(lambda self: self._memory.shape)
    dtype = property(lambda self: self._memory.dtype)
    ndim = property(lambda self: self._memory.ndim)
    size = property(lambda self: self._memory.size)
    flags = property(lambda self: self._memory.flags)
    nbytes = property(lambda self: self._memory.nbytes)
    T = property(lambda self: ndarray(self._memory.T))

    def __len__(self):
        return len(self._memory)

    @property
    def __cuda_array_interface__(self):
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self._memory.ctypes.data if self.size else 0, not self._memory.flags.writeable),
            "strides": None if self._memory.flags.c_contiguous else self._memory.strides,
            "version": 3,
            "stream": cuda.get_current_stream().ptr or 1,
        }

    def __array__(self, *_args, **_options):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def get(self):
        return self._numbers.copy()

    def copy(self):
        return ndarray(self._numbers.copy())

    def astype(self, dtype, copy=True):
        return ndarray(self._numbers.astype(dtype, copy=copy))

    def reshape(self, *shape):
        return ndarray(self._memory.reshape(*shape))

    def sum(self, axis=None):
        return ndarray(np.asarray(self._numbers.sum(axis)))

    def take(self, indices, axis):
        return ndarray(self._numbers.take(indices._memory, axis))

    def fill(self, value):
        self._numbers.fill(value)

    def __getitem__(self, key):
        return ndarray(self._memory[key])

    def __setitem__(self, key, value):
        if isinstance(value, np.ndarray):
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        self._numbers[key] = value._memory if isinstance(value, ndarray) else value

    def __eq__(self, other):
        return ndarray(self._numbers == getattr(other, "_memory", other))

    __hash__ = None

    def __float__(self):
        return float(self._memory)

    def __bool__(self):
        if self.size != 1:
            raise ValueError("The truth value of an array with more than one element is ambiguous")
        return bool(self._numbers)


def _operator(name):
    def apply(self, other):
        if isinstance(other, np.ndarray):
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        return ndarray(np.asarray(getattr(self._memory, name)(getattr(other, "_memory", other))))

    return apply


for _name in ("add", "sub", "mul", "truediv"):
    for _kind in ("__{}__", "__r{}__", "__i{}__"):
        setattr(ndarray, _kind.format(_name), _operator(_kind.format(_name)))
ndarray.__array_ufunc__ = None  # NumPy's operators leave it to those above


def asarray(array):
    if isinstance(array, ndarray):
        return array
    if hasattr(array, "__cuda_array_interface__"):  # the same memory
        return ndarray(array.array)
    return ndarray(np.array(array, order="K"))


def empty(shape, dtype):
    return ndarray(np.full(shape, np.nan, dtype))


def concatenate(arrays):
    return ndarray(np.concatenate([array._numbers for array in arrays]))


class Stream:
    def __init__(self, ptr):
        self.ptr = ptr

    def use(self):
        _current.stream = self


stream = Stream(0)  # the default one


class Device:
    def __init__(self, number=None):
        self.id = _current.device if number is None else number

    def use(self):
        _current.device = self.id


class _Current(threading.local):
    """Each thread begins with the first device and the default stream."""

    device = 0
    stream = stream


_current = _Current()
cuda = types.SimpleNamespace(
    Device=Device,
    get_current_stream=lambda: _current.stream,
    runtime=types.SimpleNamespace(getDevice=lambda: _current.device, memGetInfo=lambda: (2**30, 2**31)),
)
