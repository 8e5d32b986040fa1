"""python call.py LIBRARY NAME: call one function of planted.cpp on a NumPy array."""

import ctypes
import sys

import numpy as np


def main(library, name):
    data = np.zeros(200, np.float32)
    function = getattr(ctypes.CDLL(library), name)
    function.argtypes = (ctypes.c_void_p, ctypes.c_int64)
    function(data.ctypes.data, data.size)
    print(f"{name} returned")


if __name__ == "__main__":
    main(*sys.argv[1:])
