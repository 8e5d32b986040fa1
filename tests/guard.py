"""Arrays that end, or begin, at a page no one may touch; and a process of its own for what may crash or hang.

A stray read of one float past such an array is a SIGSEGV at once, at full speed, in an ordinary build.
"""

import contextlib
import ctypes
import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

PAGE = mmap.PAGESIZE
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def _forbid(address):
    if _LIBC.mprotect(address, PAGE, 0) != 0:  # 0: PROT_NONE
        raise OSError(ctypes.get_errno(), "mprotect failed")


def guarded(x, *, at_end=True):
    """A C-ordered copy of x whose last byte (or, with at_end=False, first byte) touches a forbidden page."""
    x = np.ascontiguousarray(x)
    body = -(-max(x.nbytes, 1) // PAGE) * PAGE
    memory = mmap.mmap(-1, body + 2 * PAGE)
    base = np.frombuffer(memory, np.uint8).ctypes.data
    _forbid(base)
    _forbid(base + PAGE + body)
    offset = PAGE + (body - x.nbytes if at_end else 0)
    view = np.frombuffer(memory, x.dtype, x.size, offset).reshape(x.shape)
    view[...] = x
    return view


# ---- NumPy's own allocations between forbidden pages -------------------------------------------------------

_MALLOC = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_CALLOC = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
_REALLOC = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_FREE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class _Handler(ctypes.Structure):
    """PyDataMem_Handler of ndarraytypes.h, the allocator inlined."""

    _fields_ = [
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("context", ctypes.c_void_p),
        ("malloc", _MALLOC),
        ("calloc", _CALLOC),
        ("realloc", _REALLOC),
        ("free", _FREE),
    ]


class _Allocator:
    """Each block in a mapping of its own, flush against a forbidden page. Lives as long as the process."""

    def __init__(self, at_end):
        self.at_end = at_end
        self.maps = {}  # address -> (mapping, size)
        self.handler = _Handler(
            b"guarded",
            1,
            None,
            _MALLOC(self.malloc),
            _CALLOC(self.calloc),
            _REALLOC(self.realloc),
            _FREE(self.free),
        )
        new = ctypes.pythonapi.PyCapsule_New
        new.restype = ctypes.py_object
        new.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        self.capsule = new(ctypes.addressof(self.handler), b"mem_handler", None)

    def malloc(self, _, size):
        body = -(-max(size, 1) // PAGE) * PAGE
        memory = mmap.mmap(-1, body + 2 * PAGE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        _forbid(base)
        _forbid(base + PAGE + body)
        address = base + PAGE + (body - size if self.at_end else 0)
        ctypes.memset(address, 0xFF, size)  # NaN: an element that nobody writes is seen
        self.maps[address] = memory, size
        return address

    def calloc(self, context, count, size):
        address = self.malloc(context, count * size)
        ctypes.memset(address, 0, count * size)
        return address

    def realloc(self, context, old, size):
        address = self.malloc(context, size)
        if old:
            ctypes.memmove(address, old, min(size, self.maps[old][1]))
            self.free(context, old, 0)
        return address

    def free(self, _, address, __):
        if address:
            del self.maps[address]


_ALLOCATORS = {"end": _Allocator(True), "start": _Allocator(False)}
ENDS = tuple(_ALLOCATORS)


@contextlib.contextmanager
def allocations(where):
    """NumPy arrays made inside, by whomever, end (or begin) at a forbidden page; results of kernels too."""
    multiarray = sys.modules.get("numpy._core.multiarray") or sys.modules["numpy.core.multiarray"]
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype = ctypes.c_void_p
    pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
    table = ctypes.cast(pointer(multiarray._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))
    set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(table[304])  # PyDataMem_SetHandler
    before = set_handler(_ALLOCATORS[where].capsule)
    try:
        yield
    finally:
        set_handler(before)


def both_ends(x):
    """The two guarded copies of x, with names for messages."""
    return (("end", guarded(x)), ("start", guarded(x, at_end=False)))


def run_isolated(module, function, *args, env=None, timeout=120.0):
    """Call <module>.<function>(*args) in a new interpreter: its stdout, or AssertionError with its stderr.

    What the function prints to stderr last (the case it works on) is the message when the process dies.
    """
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); import {module}; {module}.{function}(*{args!r})"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        how = f"exit {done.returncode}"
        if done.returncode < 0:
            how = signal.Signals(-done.returncode).name
        raise AssertionError(f"{module}.{function}{args} ended with {how}\n{done.stderr[-4000:]}")
    return done.stdout
