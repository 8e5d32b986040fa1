"""The preloaded library (scarce.c) that makes an allocation fail, or the start of a thread."""

import ctypes
import functools
import os
import shutil
import subprocess
from pathlib import Path

import guard

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
LIBRARY = "FASTNN_TEST_SCARCE"


def build(path):
    """Compile the library to this path."""
    source = Path(__file__).with_name("scarce.c")
    subprocess.run([COMPILER, "-O1", "-shared", "-fPIC", "-o", path, source, "-ldl"], check=True)


def isolated(library, module, case, *arguments):
    """`guard.run_isolated` with the library at hand; objects of Python count too."""
    env = {"LD_PRELOAD": library, LIBRARY: library, "PYTHONMALLOC": "malloc"}
    return guard.run_isolated(module, case, *arguments, env=env, timeout=600.0)


@functools.cache
def scarce():
    """The functions of the library, inside such a process."""
    found = ctypes.CDLL(os.environ[LIBRARY])
    found.scarce_arm.argtypes = (ctypes.c_long,)
    found.scarce_arm_anywhere.argtypes = (ctypes.c_long, ctypes.c_size_t)
    found.scarce_left_anywhere.restype = found.scarce_own.restype = ctypes.c_long
    found.scarce_disarm.restype = ctypes.c_long
    return found
