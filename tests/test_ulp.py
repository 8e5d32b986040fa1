"""Accuracy of the activations over NumPy's tables of hard inputs and over a sweep of all float32 values."""

import csv
from pathlib import Path

import numpy as np
import pytest
import reference as ref
import ulp
from bounds import MAX_ULP, SLOPE_ERROR, TINY, assert_within, ulp_of
from fastnn import ops

TABLES = Path(np.__file__).parent / "_core" / "tests" / "data"
if not TABLES.is_dir():
    TABLES = Path(np.__file__).parent / "core" / "tests" / "data"  # NumPy 1


def table(name):
    """(x, f(x)) of the float32 rows of one of NumPy's tables, as float32."""
    path = TABLES / f"umath-validation-set-{name}.csv"
    if not path.is_file():
        pytest.skip(f"this NumPy came without {path.name}")
    with open(path, encoding="utf-8") as lines:
        rows = csv.DictReader(line for line in lines if not line.startswith("#") and line.strip())
        words = [(row["input"], row["output"]) for row in rows if row["dtype"] == "np.float32"]
    bits = np.array([[int(word, 16) for word in row] for row in words], np.uint32)
    return bits[:, 0].copy().view(np.float32), bits[:, 1].copy().view(np.float32)


def assert_ulp(got, want):
    """Within MAX_ULP of a table's values; denormal ones may be zero."""
    bound = MAX_ULP * ulp_of(want.astype(np.float64))
    assert_within(got, want, np.where(np.abs(want) < TINY, TINY, bound))


def test_tanh_over_numpys_table(isa):
    x, want = table("tanh")
    assert x.size > 500
    assert_ulp(ops.activation(x, "tanh"), want)


def test_expm1_over_numpys_table(isa):
    """elu with alpha 1 is expm1 left of zero."""
    x, want = table("expm1")
    left = x < 0.0
    assert left.sum() > 100
    assert_ulp(ops.activation(x[left], "elu"), want[left])


@pytest.mark.parametrize("kind", ["sigmoid", "softplus"])
def test_exp_over_numpys_table(isa, kind):
    """Left of -17 both differ from exp by less than a quarter of an ULP."""
    x, want = table("exp")
    left = x < -17.0
    assert left.sum() > 20
    assert_ulp(ops.activation(x[left], kind), want[left])


@pytest.mark.parametrize("kind", ref.ACTIVATIONS)
def test_inputs_of_all_tables(isa, kind):
    """What is hard for one function may be for another: all inputs of five tables, both signs."""
    x = np.concatenate([table(name)[0] for name in ("exp", "expm1", "log", "log1p", "tanh")])
    histogram = ulp.Histogram(kind)
    histogram.add(np.concatenate([x, -x]))
    assert not histogram.wrong
    assert histogram.largest <= MAX_ULP


@pytest.mark.parametrize("kind", ref.ACTIVATIONS)
def test_a_sample_of_all_values(isa, kind):
    histogram = ulp.sweep(kind, step=9973)
    assert not histogram.wrong
    assert histogram.largest <= MAX_ULP


@pytest.mark.parametrize("kind", ref.ACTIVATIONS)
def test_derivatives_of_a_sample(isa, kind):
    for x in ulp.chunks(9973):
        x = x[~np.isnan(x) & ~((x != 0.0) & (np.abs(x) < TINY))]
        ones = np.ones_like(x)
        want = ref.activation_backward(ones, x, kind)
        assert_within(ops.activation_backward(ones, x, kind), want, SLOPE_ERROR[kind], kind)


def test_the_histogram_sees_what_is_wrong(monkeypatch):
    """Off by five ULP in one value, or a NaN lost: both are found."""
    right = ops.activation
    x = np.linspace(-3.0, 3.0, 1000, dtype=np.float32)

    def found(change):
        def altered(x, kind):
            y = right(x, kind)
            change(y)
            return y

        monkeypatch.setattr(ops, "activation", altered)
        histogram = ulp.Histogram("tanh")
        histogram.add(np.r_[x, np.float32(np.nan)])
        return bool(histogram.wrong)

    def move(y):
        y[100] *= 1.0 + 5.0 * 2.0**-23

    def lose(y):
        y[-1] = 0.0

    assert not found(lambda y: None)
    assert found(move)
    assert found(lose)


def test_an_infinity_is_the_number_beyond_the_largest(monkeypatch):
    """The truth at the first x lies 0.1 ULP above the largest float32, and the result is infinite."""
    x = np.array([3.2386221e38, np.inf, -np.inf], np.float32)
    assert np.isinf(ops.activation(x, "selu")[0])
    histogram = ulp.Histogram("selu")
    histogram.add(x)
    assert not histogram.wrong
    monkeypatch.setattr(ops, "activation", lambda x, kind: np.full_like(x, np.inf))
    histogram.add(np.array([3.2386e38], np.float32))
    assert histogram.wrong


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ref.ACTIVATIONS)
def test_all_values(kind):
    histogram = ulp.sweep(kind)
    print(histogram.row())
    assert not histogram.wrong
    assert histogram.largest <= MAX_ULP
