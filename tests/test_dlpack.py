"""Arrays of other libraries through DLPack: the same bits, in the caller's memory, and nothing leaks."""

import numpy as np
import pytest
from bad_input import INPUTS, OUTPUTS, ROWS, array, get, good
from bounds import assert_bits
from fastnn import ops
from native import NATIVE
from producers import (
    CUDA_HOST,
    IS_COPY,
    READ_ONLY,
    ROCM_HOST,
    OldWrapper,
    Producer,
    Wrapper,
    assert_released,
    exchange_type,
)

F32 = np.float32


def flags_of(a):
    return 0 if a.flags.writeable else READ_ONLY


MAKERS = {
    "versioned": lambda a: Producer(a, flags=flags_of(a)),
    "unversioned": lambda a: Producer(a, versioned=False),
    "C functions": lambda a: exchange_type()(a, flags=flags_of(a)),
    "failing C functions": lambda a: exchange_type(fails=True)(a, flags=flags_of(a)),
    "C functions of version 2": lambda a: exchange_type((2, 0))(a, flags=flags_of(a)),
    "NumPy": Wrapper,
    "NumPy, old signature": OldWrapper,
}
try:
    import torch
except ImportError:
    torch = None
else:
    MAKERS["PyTorch"] = torch.from_numpy


def exportable(value):
    return type(value) is np.ndarray and value.dtype.kind in "iufcb" and value.dtype.isnative


def wrapped(value, make, made):
    """`value` with `make(array)` in place of every array of it; the wrappers are appended to `made`."""
    if isinstance(value, (list, tuple)):
        return type(value)(wrapped(item, make, made) for item in value)
    if not exportable(value):
        return value
    made.append(make(value))
    return made[-1]


def wrap_all(arguments, make):
    made = []
    return {name: wrapped(value, make, made) for name, value in arguments.items()}, made


def arrays_of(result):
    items = result if isinstance(result, tuple) else (result,)
    return [item.array if hasattr(item, "array") else item for item in items]


@pytest.mark.parametrize("function", NATIVE)
@pytest.mark.parametrize("kind", MAKERS)
def test_every_function_takes_it_everywhere(kind, function):
    """Inputs, outputs and labels: the same bits as with ndarrays, in the memory that was given."""
    plain, given = good(function), good(function)
    arguments, made = wrap_all(given, MAKERS[kind])
    assert made
    want, got = getattr(ops, function)(**plain), getattr(ops, function)(**arguments)
    for name in OUTPUTS[function]:
        assert_bits(get(given, name), get(plain, name), name)
    for one, other in zip(arrays_of(got), arrays_of(want), strict=True):
        if isinstance(other, np.ndarray):
            assert_bits(np.asarray(one), other, function)
        else:
            assert one == other  # None, or the value of a loss
    assert_released(made)


@pytest.mark.parametrize("kind", MAKERS)
def test_out_comes_back_as_it_was_given(kind):
    out = MAKERS[kind](np.zeros((3, 2), F32))
    assert ops.gemm(array(3, 4), array(4, 2), out=out) is out
    dx = MAKERS[kind](np.zeros((6, 4), F32))
    results = ops.linear_backward(array(6, 5), array(6, 4), array(4, 5), out=(dx, None, None))
    assert results[0] is dx
    assert type(results[1]) is type(results[2]) is np.ndarray
    assert type(ops.activation(MAKERS[kind](array(3)), "relu")) is np.ndarray


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_bad_input_through_dlpack(row):
    """Every row of the table raises the same for exports, changes nothing and leaks nothing."""
    plain = row.change(good(row.function))
    arguments, made = wrap_all(plain, MAKERS["versioned"])
    before = [producer.array.tobytes() for producer in made]
    with pytest.raises(row.error, match="(?s)" + row.pattern) as raised:
        getattr(ops, row.function)(**arguments)
    assert type(raised.value) is row.error
    assert [producer.array.tobytes() for producer in made] == before
    assert_released(made)


# ---- what an export may be -------------------------------------------------------------------------------


def relu_of(values, **fields):
    producer = Producer(values, **fields)
    try:
        return ops.activation(producer, "relu")
    finally:
        assert_released([producer])


def test_strides_null_is_compact():
    x = array(3, 4)
    assert_bits(relu_of(x, strides=None), x, "compact")


def test_byte_offset():
    x = array(3, 4)
    assert_bits(relu_of(x, byte_offset=16, shape=(2, 4)), x[1:], "offset")


def test_no_dimensions():
    assert relu_of(np.array(1.5, F32), shape=None, strides=None) == F32(1.5)


@pytest.mark.parametrize("data", [None, 8])
def test_no_elements(data):
    assert relu_of(np.zeros((0, 3), F32), data=data).shape == (0, 3)
    assert relu_of(np.zeros((0, 3), F32), data=data, strides=None).shape == (0, 3)


def test_an_empty_output_may_have_no_data():
    out = Producer(np.zeros((0, 2), F32), data=None)
    assert ops.gemm(np.zeros((0, 3), F32), array(3, 2), out=out) is out
    assert_released([out])


@pytest.mark.parametrize("stride", [-1, 2, 0])
def test_any_strides_of_an_input(stride):
    x = array(40)
    view = np.lib.stride_tricks.as_strided(x[19:] if stride < 0 else x, (20,), (4 * stride,))
    assert_bits(relu_of(view), view.copy(), "strides")


def test_strides_of_axes_of_length_one_mean_nothing():
    x = array(1, 4)
    assert_bits(relu_of(x, strides=(2**62, 1)), x, "one row")


@pytest.mark.parametrize("device", [CUDA_HOST, ROCM_HOST])
def test_pinned_memory_is_host_memory(device):
    x = array(3)
    assert_bits(relu_of(x, device=(device, 0)), x, "pinned")


def test_an_export_without_deleter():
    x = array(3)
    producer = Producer(x, no_deleter=True)
    assert_bits(ops.activation(producer, "relu"), x, "no deleter")
    assert (producer.exported, producer.deleted) == (1, 0)


@pytest.mark.parametrize("versioned", [True, False])
def test_memory_lives_until_the_kernel_is_done(versioned):
    """The deleter of the parameter sees the parameter after the update."""
    seen = []

    class Watched(Producer):
        def _delete(self, address):
            seen.append(self.array.copy())
            super()._delete(address)

    p = Watched(np.ones(100_000, F32), versioned=versioned)
    ops.sgd_(p, Producer(np.ones(100_000, F32)), lr=0.25)
    assert len(seen) == 1
    assert (seen[0] == F32(0.75)).all()


def test_max_version_is_asked_for():
    p = Producer(array(3))
    ops.activation(p, "relu")
    assert p.arguments == [{"max_version": (1, 3)}]


def test_the_c_functions_are_used():
    fast = exchange_type()(array(3))
    ops.activation(fast, "relu")
    assert type(fast).calls == 1
    assert fast.arguments == []


def test_a_copy_may_be_read():
    x = array(3)
    assert_bits(relu_of(x, flags=IS_COPY | READ_ONLY), x, "copy")


def test_overlap_between_exports():
    memory = array(10)
    for kind in MAKERS.values():
        for g in (memory[3:9], memory[:6], memory[5::-1]):
            before = memory.copy()
            if torch is not None and kind is MAKERS.get("PyTorch") and g.strides[0] < 0:
                continue  # PyTorch has no negative strides
            with pytest.raises(ValueError, match=r"'(param|grad)' shares memory with"):
                ops.sgd_(kind(memory[:6]), kind(g), lr=0.1)
            assert_bits(memory, before, "unchanged")
        ops.sgd_(kind(memory[:5]), kind(memory[5:]), lr=0.1)


def test_lists_of_every_kind_together():
    """One list may mix them; each export of a long list is deleted once."""
    values = [array(n + 1, seed=n) for n in range(50)]
    params, grads = [v.copy() for v in values], [v[::-1].copy() for v in values]
    want = [v - F32(0.5) * g for v, g in zip(params, grads)]
    makers = [lambda a: a, *MAKERS.values()]
    made = [makers[i % len(makers)](p) for i, p in enumerate(params)]
    ops.sgd_(made, grads, lr=0.5)
    for got, expected in zip(params, want):
        assert_bits(got, expected, "param")
    assert_released(made)


def test_every_input_name_is_covered():
    assert set(INPUTS) == set(OUTPUTS) == set(NATIVE)
