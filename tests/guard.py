"""Arrays that end, or begin, at a page no one may touch; and a process of its own for what may crash or hang.

A stray read of one float past such an array is a SIGSEGV at once, at full speed, in an ordinary build.
"""

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
