"""What DLPack may bring and no kernel takes: devices, dtypes, broken exports, odd producers."""

import sys

import numpy as np
import pytest
from bad_input import OUTPUTS, array, get, good, put
from bounds import assert_bits
from fastnn import ops
from producers import (
    BFLOAT,
    CPU,
    CUDA,
    FLOAT,
    IS_COPY,
    METAL,
    READ_ONLY,
    ROCM,
    OldWrapper,
    Producer,
    Wrapper,
    assert_released,
    exchange_type,
)

F32 = np.float32

BAD_EXPORTS = {
    "CUDA": (TypeError, r"'x' lies on a CUDA device.*x\.cpu\(\)", {"device": (CUDA, 0)}),
    "ROCm": (TypeError, r"'x' lies on a ROCm device", {"device": (ROCM, 0)}),
    "Metal": (TypeError, r"'x' lies on a Metal device", {"device": (METAL, 0)}),
    "another device": (TypeError, r"'x' lies on a device of DLPack type 14", {"device": (14, 0)}),
    "two devices": (TypeError, r"'x' lies on a CUDA device", {"device_type": CUDA}),
    "two lanes": (TypeError, r"'x' has dtype float32 in 2 lanes", {"lanes": 2}),
    "no lanes": (TypeError, r"'x' has dtype float32 in 0 lanes", {"lanes": 0}),
    "bfloat16": (TypeError, r"'x' has dtype bfloat16.*x\.float\(\)", {"code": BFLOAT, "bits": 16}),
    "float8": (TypeError, r"'x' has dtype float8", {"code": FLOAT, "bits": 8}),
    "an unknown dtype": (TypeError, r"'x' has dtype code 99 of 32", {"code": 99}),
    "float64": (TypeError, r"'x' must have dtype float32, got float64", {"bits": 64}),
    "version 2": (TypeError, r"'x' speaks DLPack 2\.1.*versions 1\.x", {"version": (2, 1)}),
    "version 0": (TypeError, r"'x' speaks DLPack 0\.8", {"version": (0, 8)}),
    "no data": (ValueError, r"'x'.*broken.*elements and no data", {"data": None}),
    "no shape": (ValueError, r"'x'.*broken.*ndim 2 and no shape", {"shape": None}),
    "negative ndim": (ValueError, r"'x'.*broken.*ndim -1", {"ndim": -1}),
    "65 dimensions": (ValueError, r"'x'.*broken.*ndim 65", {"ndim": 65}),
    "a negative dimension": (ValueError, r"'x'.*broken.*dimension of -1", {"shape": (-1, 4)}),
    "a huge shape": (ValueError, r"'x'.*beyond all memory", {"shape": (2**40, 2**40)}),
    "a huge shape, compact": (
        ValueError,
        r"'x'.*beyond all memory",
        {"shape": (2**61, 4), "strides": None},
    ),
    "2**63 bytes": (ValueError, r"'x'.*beyond all memory", {"shape": (2**61, 1), "strides": None}),
    "a huge stride": (ValueError, r"'x'.*beyond all memory", {"strides": (2**62, 1)}),
    "the least stride": (ValueError, r"'x'.*beyond all memory", {"strides": (-(2**63), 1)}),
    "a huge reach": (ValueError, r"'x'.*beyond all memory", {"strides": (2**60, 1)}),
    "below address 0": (ValueError, r"'x'.*beyond all memory", {"strides": (-(2**58), 1)}),
    "a huge offset": (ValueError, r"'x'.*beyond all memory", {"byte_offset": 2**64 - 64}),
}


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("case", BAD_EXPORTS)
def test_bad_exports(case, versioned):
    error, pattern, fields = BAD_EXPORTS[case]
    if "version" in fields and not versioned:
        return  # the unversioned struct has no such field
    producer = Producer(array(3, 4), versioned=versioned, **fields)
    with pytest.raises(error, match=r"^activation\(\): " + pattern):
        ops.activation(producer, "relu")
    assert_released([producer])
    device_alone = "device" in fields
    assert producer.exported == (0 if device_alone else 1)


@pytest.mark.parametrize("function", ["sgd_", "momentum_", "rmsprop_", "adam_"])
def test_read_only_and_copied_memory_is_not_written(function):
    for name in OUTPUTS[function]:
        for flags, pattern in ((READ_ONLY, "is read-only"), (IS_COPY, "as a copy.*lost")):
            arguments = good(function)
            producer = Producer(get(arguments, name), flags=flags)
            before = producer.array.copy()
            with pytest.raises(ValueError, match=rf"^{function}\(\): '{name}' .*{pattern}"):
                getattr(ops, function)(**put(arguments, name, producer))
            assert_bits(producer.array, before, name)
            assert_released([producer])


def test_read_only_numpy_arrays():
    """NumPy says read-only in a versioned capsule, and gives no other: none passes as writable."""
    p, g = array(4), array(4)
    p.flags.writeable = False
    with pytest.raises(ValueError, match="'param' is read-only"):
        ops.sgd_(Wrapper(p), g, lr=0.1)
    with pytest.raises((BufferError, TypeError), match="readonly"):
        ops.sgd_(OldWrapper(p), g, lr=0.1)
    assert_bits(ops.activation(Wrapper(p), "relu"), p, "reading is fine")


class Refuses(Exception):
    pass


def test_exceptions_of_the_producer_pass():
    class Broken(Producer):
        def __dlpack__(self, **arguments):
            raise Refuses("not today")

    class NoDevice(Producer):
        def __dlpack_device__(self):
            raise Refuses("nowhere")

    class NewTypeError(Producer):
        def __dlpack__(self, **arguments):
            raise TypeError("a TypeError of its own")

    for producer, error, text in (
        (Broken, Refuses, "not today"),
        (NoDevice, Refuses, "nowhere"),
        (NewTypeError, TypeError, "of its own"),
    ):
        with pytest.raises(error, match=text):
            ops.activation(producer(array(3)), "relu")


@pytest.mark.parametrize(
    "result", [None, 3, "capsule", np.ones(3, F32)], ids=["None", "3", "word", "ndarray"]
)
def test_what_is_no_capsule(result):
    class Odd(Producer):
        def __dlpack__(self, **arguments):
            return result

    with pytest.raises(TypeError, match=r"'x' must return a DLPack capsule from __dlpack__, got "):
        ops.activation(Odd(array(3)), "relu")


def test_a_capsule_of_another_kind():
    class Other(Producer):
        def __dlpack__(self, **arguments):
            return exchange_type().__dlpack_c_exchange_api__

    with pytest.raises(TypeError, match=r"'x' must return a DLPack capsule from __dlpack__, got PyCapsule"):
        ops.activation(Other(array(3)), "relu")


@pytest.mark.parametrize("device", [None, 1, (1,), (1, 0, 0), [1, 0], ("cpu", 0)], ids=repr)
def test_odd_devices(device):
    with pytest.raises(TypeError):
        ops.activation(Producer(array(3), device=device), "relu")


@pytest.mark.parametrize("versioned", [True, False])
def test_a_capsule_is_taken_once(versioned):
    class Repeats(Producer):
        capsule = None

        def __dlpack__(self, **arguments):
            self.capsule = self.capsule or super().__dlpack__()
            return self.capsule

    producer = Repeats(array(3), versioned=versioned)
    ops.activation(producer, "relu")
    with pytest.raises(ValueError, match=r"'x' returned a capsule from __dlpack__ that was used before"):
        ops.activation(producer, "relu")
    assert (producer.exported, producer.deleted) == (1, 1)


def test_what_does_not_speak_dlpack():
    class OnlyDevice:
        def __dlpack_device__(self):
            return CPU, 0

    class OnlyArray:
        def __dlpack__(self):
            return array(3).__dlpack__()

    capsule = array(3).__dlpack__()
    for thing in (OnlyDevice(), OnlyArray(), Producer, Wrapper, capsule):
        with pytest.raises(
            TypeError, match=r"'x' must be a float32 array \(NumPy, or one that speaks DLPack\)"
        ):
            ops.activation(thing, "relu")
    with pytest.raises(TypeError, match=r"got PyCapsule; pass the array itself, not its capsule"):
        ops.activation(capsule, "relu")


def test_a_deleter_that_raises_changes_no_result(monkeypatch):
    """ctypes prints what a callback raises; the call and its exception stay what they were."""
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda problem: seen.append(problem.exc_type))

    class Raises(Producer):
        def _delete(self, address):
            raise Refuses

    assert_bits(ops.activation(Raises(array(3)), "relu"), array(3), "result")
    with pytest.raises(ValueError, match=r"'a' must be 2-D"):
        ops.gemm(Raises(array(3)), array(3, 3))
    assert seen == [Refuses, Refuses]


def test_errors_in_lists_name_the_item():
    good_one, bad = Producer(array(3)), Producer(array(3), device=(CUDA, 0))
    with pytest.raises(TypeError, match=r"^sgd_\(\): 'grad\[1\]' lies on a CUDA device.*grad\[1\]\.cpu\(\)"):
        ops.sgd_([array(3), array(3)], [good_one, bad], lr=0.1)
    assert_released([good_one, bad])
