"""The few names of PyTorch that `fastnn.ops` uses for tensors on a device, over memory of the host."""

import types

import numpy as np
from producers import CUDA, READ_ONLY, Producer


class Tensor(Producer):
    requires_grad = False

    def __init__(self, array, device=0):
        flags = 0 if array.flags.writeable else READ_ONLY
        super().__init__(array, device=(CUDA, device), flags=flags)

    def __len__(self):
        return len(self.array)

    def __getitem__(self, key):
        return Tensor(self.array[key])

    @property
    def __cuda_array_interface__(self):
        return {
            "shape": self.array.shape,
            "typestr": self.array.dtype.str,
            "data": (self.array.ctypes.data, False),
            "strides": self.array.strides,
            "version": 2,
        }

    def is_neg(self):
        return False


def __getattr__(name):
    if name != "bfloat16":
        raise AttributeError(name)
    import ml_dtypes  # which is not there where PyTorch is

    return np.dtype(ml_dtypes.bfloat16)


def empty(shape, *, dtype, device):
    assert device == "cuda"
    return Tensor(np.full(shape, np.nan, dtype))


float32 = np.float32
stream = types.SimpleNamespace(cuda_stream=0)  # the current one
device = types.SimpleNamespace(index=0)
cuda = types.SimpleNamespace(current_stream=lambda: stream, current_device=lambda: device.index)
