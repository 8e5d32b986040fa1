"""python tests/cuda_shim/planted.py NAME: runs a kernel that a sanitizer must report, or not."""

import ctypes
import sys
import tempfile
from pathlib import Path

import numpy as np
import shim

KERNELS = {"clean": 0, "counted": 8, "race": 1, "unfenced": 9, "beyond": 6}  # their numbers in planted.cu

name = sys.argv[1]
with tempfile.TemporaryDirectory() as folder:
    library = shim.build(Path(folder), [shim.HERE / "planted.cu", shim.HERE / "shim.cpp"], name="planted")
out = np.zeros(65, np.uint32)
failure = ctypes.create_string_buffer(400)
library.planted_run(
    KERNELS[name], ctypes.c_void_p(out.ctypes.data), shim.CONCURRENT, failure, ctypes.c_size_t(len(failure))
)
print(f"{name} ran {failure.value.decode()}")
