"""Any shape, stride, alignment and value: every function of `ops` against its reference, by hypothesis.

The same examples in every run (the profile `short` is derandomized). `pytest tests/test_properties.py
--hypothesis-profile=long` searches a hundred times as many, others in each run; docs/reliability.md.
"""

import fastnn
import numpy as np
import pytest
from bounds import assert_bits, assert_within
from conftest import ISAS
from draws import Source
from hypothesis import given
from hypothesis import strategies as st
from kernel_rows import ROWS
from native import NATIVE


def test_every_function_has_a_row():
    assert sorted(ROWS) == sorted(NATIVE)


def copies(arrays):
    return {name: np.array(a, order="C") for name, a in arrays.items()}


def call_on(example, arrays, isa, threads):
    fastnn.set_isa(isa)
    fastnn.set_num_threads(threads)
    return example.call(**arrays)


@pytest.mark.usefixtures("restore_runtime")
@pytest.mark.parametrize("name", ROWS)
@given(data=st.data())
def test_against_the_reference(name, data):
    """Within the bounds, inputs unchanged, with the bits of plain copies on one thread of the scalar path."""
    source = Source(lambda low, high: data.draw(st.integers(low, high)))
    example = ROWS[name](source)
    isa, threads = source.choose(*ISAS), source.integer(1, 3)
    arrays = {**example.inputs, **example.outputs}
    before = copies(arrays)
    want = example.want(**before)
    plain = call_on(example, copies(arrays), ISAS[-1], 1)
    got = call_on(example, arrays, isa, threads)
    assert len(got) == len(want)
    for i, (g, p, (value, bound)) in enumerate(zip(got, plain, want, strict=True)):
        assert_within(g, value, bound, f"{name} result {i}")
        assert_bits(g, p, f"{name} result {i}")
    for array in example.inputs:
        assert_bits(arrays[array], before[array], f"{name} changed its input {array}")


@pytest.mark.usefixtures("restore_runtime")
@pytest.mark.parametrize("name", ROWS)
@given(data=st.data())
def test_nan_reaches_what_it_should(name, data):
    """One NaN anywhere: exactly the elements that are NaN in the reference are NaN in the result."""
    source = Source(lambda low, high: data.draw(st.integers(low, high)))
    example = ROWS[name](source)
    arrays = copies({**example.inputs, **example.outputs})
    candidates = [a for a in arrays if arrays[a].size and a not in example.quiet]
    if candidates:
        poisoned = arrays[source.choose(*candidates)].reshape(-1)
        poisoned[source.integer(0, poisoned.size - 1)] = np.nan
    with np.errstate(invalid="ignore"):
        want = example.want(**copies(arrays))
    got = call_on(example, arrays, source.choose(*ISAS), source.integer(1, 3))
    for i, (g, (value, _)) in enumerate(zip(got, want, strict=True)):
        assert np.array_equal(np.isnan(g), np.isnan(value)), f"{name} result {i}"
