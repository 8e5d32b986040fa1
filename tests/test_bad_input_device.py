"""Bad input on a device: refused by name, nothing changed. Arrays are stand-ins, the kernels the shim's."""

import ctypes
import re

import fake_cupy
import fake_torch
import ml_dtypes
import numpy as np
import pytest
import shimmed
from bad_input import OUTPUTS, ROWS, array, get, good, put
from bounds import assert_bits
from fastnn import _core, ops
from native import NATIVE
from producers import BFLOAT, CUDA, Producer, Wrapper
from test_dlpack import wrapped

F32 = np.float32
MAKERS = {"CuPy": fake_cupy.ndarray, "PyTorch": fake_torch.Tensor}


@pytest.fixture(autouse=True)
def kernels(monkeypatch, device):
    shimmed.install_torch(monkeypatch)
    yield device
    assert device.library.shim_borrowed() == 0


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


def on_device(arguments, make):
    return {name: wrapped(value, make, []) for name, value in arguments.items()}


def has_host_array(arguments):
    items = [
        x for value in arguments.values() for x in (value if isinstance(value, (list, tuple)) else [value])
    ]
    return any(isinstance(item, np.ndarray) for item in items)


def test_the_table_of_the_host(make):
    """A row in three: the same exceptions, which name the same argument."""
    for row in ROWS[:: 3 if make is fake_cupy.ndarray else 7]:
        if row.case == "tf32 on the CPU":
            continue
        arguments = on_device(row.change(good(row.function)), make)
        if has_host_array(arguments):  # of a dtype that no device has
            continue
        with pytest.raises(row.error) as raised:
            getattr(ops, row.function)(**arguments)
        named = re.search(r"'\w+(\[\d\])?'", row.pattern.replace("\\", ""))
        assert re.search("(?s)" + row.pattern, str(raised.value)) or (
            named and named[0] in str(raised.value)
        ), row


@pytest.mark.parametrize("function", NATIVE)
def test_what_is_written_must_be_writable(make, function):
    for name in OUTPUTS[function]:
        given = good(function)
        fixed = np.array(get(given, name))
        fixed.flags.writeable = False
        before = fixed.copy()
        label = re.escape(name)
        with pytest.raises(ValueError, match=rf"^{function}\(\): '{label}(\[0\])?' is read-only"):
            getattr(ops, function)(**on_device(put(given, name, fixed), make))
        assert_bits(fixed, before, name)


def relu(x, **given):
    return ops.activation(x, "relu", **given)


def test_layouts_that_kernels_lack_are_not_copied(make):
    x = array(6, 8)
    for view in (x.T, x[:, ::2], x[::2], x[::-1]):
        with pytest.raises(ValueError, match=r"^activation\(\): 'x' must be C-contiguous on a CUDA device"):
            relu(make(view))
        with pytest.raises(ValueError, match=r"'out' must be C-contiguous"):
            relu(make(view.copy()), out=make(view))
    with pytest.raises(ValueError, match=r"'x' must be C-contiguous"):
        ops.batch_norm(make(x.T), make(array(6)), make(array(6)))
    with pytest.raises(ValueError, match=r"'dy' must be C-contiguous"):
        ops.linear_backward(make(x.T), make(array(8, 2)), make(array(2, 6)))


def test_other_arrays_of_the_host_are_refused_too(make):
    for foreign in (Producer(array(3)), Wrapper(array(3))):
        for given in ((make(array(3)), foreign), (foreign, make(array(3)))):
            with pytest.raises(TypeError, match=r"'\w+' lies in host memory and '\w+' on a CUDA device"):
                ops.sgd_(*given, lr=0.1)


def test_arrays_of_another_device():
    x = fake_torch.Tensor(array(3), device=1)
    with pytest.raises(
        ValueError, match=r"'x' lies on CUDA device 1, and device 0 is current.*torch\.cuda\.device"
    ):
        relu(x)
    with pytest.raises(ValueError, match=r"'grad' lies on CUDA device 1"):
        ops.sgd_(fake_torch.Tensor(array(3)), x, lr=0.1)


def test_two_streams_are_refused(monkeypatch):
    monkeypatch.setattr(fake_torch.stream, "cuda_stream", 96)
    with pytest.raises(ValueError, match=r"'grad' is ordered on another stream than 'param'"):
        ops.sgd_(fake_cupy.ndarray(array(3)), fake_torch.Tensor(array(3)), lr=0.1)


class Interface:
    """An array of a library that is not known, with what it says changed."""

    def __init__(self, x, **changes):
        self.x = x
        said = fake_cupy.ndarray(x).__cuda_array_interface__ | changes
        self.__cuda_array_interface__ = {name: value for name, value in said.items() if value != "left out"}


BROKEN = {
    "a mask": (TypeError, r"'x' has a mask", {"mask": 1}),
    "no data": (TypeError, r"'x' has a broken __cuda_array_interface__", {"data": "left out"}),
    "one stride": (TypeError, r"'x' has a broken __cuda_array_interface__", {"strides": (4,)}),
    "a shape that is none": (TypeError, r"'x' has a broken __cuda_array_interface__", {"shape": "wide"}),
    "float64": (TypeError, r"'x' must have dtype float32, got float64.*\.float\(\)", {"typestr": "<f8"}),
    "big-endian": (TypeError, r"'x' must have native byte order", {"typestr": ">f4"}),
    "an unknown type": (TypeError, r"'x' has type !?9.*unknown", {"typestr": "!9"}),
    "a null pointer": (ValueError, r"'x' has a broken export: elements and no data", {"data": (0, False)}),
    "a huge shape": (ValueError, r"'x'.*beyond all memory", {"shape": (2**40, 2**40), "strides": None}),
    "huge strides": (ValueError, r"'x'.*beyond all memory", {"strides": (2**62, 2**62)}),
    "half a float": (ValueError, r"'x' must be C-contiguous", {"strides": (6, 2)}),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_an_interface_must_not_say(case):
    error, pattern, changes = BROKEN[case]
    with pytest.raises(error, match=pattern):
        relu(Interface(array(3, 4), **changes), out=Interface(nans(3, 4)))


def nans(*shape):
    return np.full(shape, np.nan, F32)


def test_arrays_of_any_library(kernels):
    """Without `stream` on the default one; new arrays can be made for CuPy and PyTorch only."""
    x, out = Interface(array(3, 4) - F32(1), stream="left out"), Interface(nans(3, 4), stream="left out")
    assert relu(x, out=out) is out
    assert_bits(out.x, np.maximum(x.x, 0), "relu")
    with pytest.raises(TypeError, match=r"'x' is neither CuPy's nor PyTorch's.*'out'; pass memory for it"):
        relu(x)
    param, grad = Producer(array(5), device=(CUDA, 0)), Producer(array(5, seed=1), device=(CUDA, 0))
    want = param.array.copy()
    ops.adam_(want, grad.array, *(np.zeros(5, F32) for _ in range(2)), step=1)
    ops.adam_(param, grad, *(Producer(np.zeros(5, F32), device=(CUDA, 0)) for _ in range(2)), step=1)
    assert_bits(param.array, want, "param")
    assert param.arguments == [{"max_version": (1, 3), "stream": 1}]
    with pytest.raises(ValueError, match=r"'out' is ordered on another stream than 'x'"):
        relu(x, out=Interface(nans(3, 4), stream=96))


def test_the_callers_stream(monkeypatch, kernels):
    """That of the library; DLPack's producers are told."""
    memory = ctypes.c_void_p()  # a stream of the shim that captures nothing
    number = ctypes.addressof(memory)
    kernels.library.shim_last_stream.restype = ctypes.c_void_p
    monkeypatch.setattr(fake_cupy.stream, "ptr", number)
    relu(fake_cupy.ndarray(array(3)))
    assert kernels.library.shim_last_stream() == number
    relu(fake_torch.Tensor(array(3)))
    assert kernels.library.shim_last_stream() is None
    monkeypatch.setattr(fake_torch.stream, "cuda_stream", number)
    x = fake_torch.Tensor(array(3))
    relu(x)
    assert kernels.library.shim_last_stream() == number
    assert x.arguments == [{"max_version": (1, 3), "stream": number}]
    relu(Interface(array(3), stream=number), out=Interface(nans(3), stream=number))
    assert kernels.library.shim_last_stream() == number


def test_what_has_no_kernel_there(make):
    x, w = make(array(3, 4)), make(array(4, 2))
    refused = r"^column_moments\(\): 'x' lies on a CUDA device, where column_moments\(\) has"
    with pytest.raises(TypeError, match=refused):
        _core.column_moments(x)
    rounded = Producer(np.zeros((3, 4), np.uint16), device=(CUDA, 0), code=BFLOAT)
    with pytest.raises(TypeError, match=r"'x' has dtype bfloat16.*x\.float\(\)"):
        ops.activation(rounded, "relu")
    with pytest.raises(TypeError, match=r"'b' has dtype float32 and 'a' has bfloat16"):
        ops.gemm(rounded, w)
    with pytest.raises(TypeError, match=r"'out_dtype' is bfloat16, but 'a' and 'b' are float32"):
        ops.gemm(x, w, out_dtype=ml_dtypes.bfloat16)
    with pytest.raises(ValueError, match=r"'tf32' rounds float32 arrays, and 'a' and 'b' are bfloat16"):
        ops.gemm(rounded, rounded, trans_b=True, tf32=True)


def test_a_tensor_that_requires_grad(monkeypatch):
    monkeypatch.setattr(fake_torch.Tensor, "requires_grad", True)
    with pytest.raises(TypeError, match=r"'param' is a tensor that requires grad.*p\.detach\(\)"):
        ops.sgd_(fake_torch.Tensor(array(3)), fake_torch.Tensor(array(3)), lr=0.1)
