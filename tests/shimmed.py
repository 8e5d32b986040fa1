"""fastnn with a device: the kernels of the shim, and CuPy's stand-in. Tests train on "cuda" without a GPU."""

import ctypes
import sys
import types

import fake_cupy
import fake_torch
from cuda_shim import shim
from fastnn import cuda


def capsule(library):
    """The shim's table as `_cuda` would hand it over."""
    library.shim_table.restype = ctypes.c_void_p
    make = ctypes.pythonapi.PyCapsule_New
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return make(library.shim_table(), NAME, None)


NAME = b"fastnn._cuda.kernels"  # the capsule keeps the pointer


def install(monkeypatch, library):
    """Until the test ends `fastnn.cuda` finds a GPU."""
    library.shim_schedule(shim.FORWARD)
    library.shim_order(shim.DRAWN)
    moved = library.shim_to_host, library.shim_to_device
    for count in moved:
        count.restype = ctypes.c_uint64
    native = types.SimpleNamespace(
        kernels=capsule(library), why_not=lambda: "", transfer_bytes=lambda: [count() for count in moved]
    )
    monkeypatch.setattr(cuda, "_native", lambda: native)
    monkeypatch.setattr(cuda, "_by_cupy", cuda.TransferBytes(0, 0))  # until the test ends
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy)


def install_torch(monkeypatch):
    """PyTorch's tensors on that GPU."""
    monkeypatch.setitem(sys.modules, "torch", fake_torch)
