"""python tests/cuda_shim/planted.py NAME FOLDER: runs a kernel that a sanitizer must report, or not.

The library is built in that folder, if it is not there.
"""

import ctypes
import sys
from pathlib import Path

import numpy as np
import shim

# Their numbers in planted.cu; the last is not for sanitizers.
KERNELS = {"clean": 0, "counted": 8, "warp": 10, "race": 1, "unfenced": 9, "shuffled": 11, "beyond": 6}
KERNELS |= {"endless": 12}

name, folder = sys.argv[1:]
library = shim.build(Path(folder), [shim.HERE / "planted.cu", shim.HERE / "shim.cpp"], name="planted")
out = np.zeros(65, np.uint32)
failure = ctypes.create_string_buffer(400)
library.planted_run(
    KERNELS[name], ctypes.c_void_p(out.ctypes.data), shim.MIXED, failure, ctypes.c_size_t(len(failure))
)
print(f"{name} ran {failure.value.decode()}")
