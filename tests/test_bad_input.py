"""Every row of the bad_input tables raises what it says and changes no array."""

import inspect

import bad_input
import bad_input_activation
import bad_input_flags
import bad_input_losses
import layouts
import numpy as np
import pytest
from bad_input import F32, array, good
from fastnn import ops
from native import NATIVE

ROWS = [*bad_input.ROWS, *bad_input_activation.ROWS, *bad_input_flags.ROWS, *bad_input_losses.ROWS]


def snapshot(value):
    """Bytes of every array in an argument, deep."""
    if isinstance(value, (list, tuple)):
        return [snapshot(item) for item in value]
    return value.tobytes() if isinstance(value, np.ndarray) else None


def assert_refused(row):
    """The call raises the row's error and has changed no array."""
    arguments = row.change(good(row.function))
    before = snapshot(list(arguments.values()))
    with pytest.raises(row.error, match="(?s)" + row.pattern) as raised:
        getattr(ops, row.function)(**arguments)
    assert type(raised.value) is row.error
    assert snapshot(list(arguments.values())) == before, "an array changed before the error"


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_bad_input(row):
    assert_refused(row)


def test_the_good_arguments_are_good():
    for function in NATIVE:
        getattr(ops, function)(**good(function))


def test_only_the_steps_of_batch_norm_are_not_compiled():
    """They have rows of their own, in test_bad_input_batch_norm.py."""
    assert set(ops.__all__) - set(NATIVE) == {"batch_norm_steps"}


def test_every_function_has_forty_rows():
    for function in NATIVE:
        assert sum(row.function == function for row in ROWS) >= 40, function


def test_every_argument_has_a_row():
    """One in which it alone, or it among others, is wrong."""
    for function in NATIVE:
        given = good(function)
        changed = {
            name
            for row in ROWS
            if row.function == function
            for name, value in row.change(given).items()
            if value is not given.get(name)
        }
        assert set(inspect.signature(getattr(ops, function)).parameters) <= changed, function


def test_too_many_positional_arguments():
    for function in NATIVE:
        with pytest.raises(TypeError, match=rf"^{function}\(\) takes"):
            getattr(ops, function)(*[array(2, 2)] * 12)


def test_an_argument_given_twice():
    with pytest.raises(TypeError, match=r"^gemm\(\) got multiple values for argument 'a'"):
        ops.gemm(array(2, 2), array(2, 2), a=array(2, 2))


def test_results_too_large_for_any_memory():
    """Sizes are checked before anything is allocated; arrays of one element pretend to be huge."""
    one = np.ones((1, 1), F32)
    for size in (2**22, 2**31, 2**40):
        huge = np.broadcast_to(one, (size, 1))
        with pytest.raises((MemoryError, ValueError)):
            ops.gemm(huge, huge, trans_b=True)
    with pytest.raises((MemoryError, ValueError)):
        ops.activation(np.broadcast_to(one, (2**40, 2**10)), "relu")


def test_a_subclass_that_is_an_array_of_float32_is_one():
    """numpy.matrix and memmap only lay out memory; a masked array means more, and is refused."""
    a, b = array(3, 4), array(4, 2)
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix(a)
    assert np.array_equal(ops.gemm(matrix, b), ops.gemm(a, b))
    assert np.array_equal(ops.gemm(layouts.memmap(a), b), ops.gemm(a, b))
