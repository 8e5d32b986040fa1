"""Losses against their float64 formula, and every kind of target."""

import numpy as np
import pytest
import reference as ref
from bounds import assert_bits
from fastnn import losses


@pytest.fixture
def loss():
    return losses.CrossEntropyLoss()


def test_value_and_gradient_for_ids(isa, rng, loss):
    logits = 4 * rng.standard_normal((33, 10), np.float32)
    ids = rng.integers(0, 10, 33)
    value, gradient = loss(logits, ids)
    want, want_gradient = ref.softmax_cross_entropy(logits, ids)
    assert type(value) is float
    assert value == pytest.approx(want, rel=1e-6)
    np.testing.assert_allclose(gradient, want_gradient, atol=1e-7)
    assert gradient.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint32, np.int32, np.uint64, ">i8"])
def test_ids_of_any_integer_dtype(dtype, rng, loss):
    logits = rng.standard_normal((9, 5), np.float32)
    ids = rng.integers(0, 5, 9)
    value, gradient = loss(logits, ids)
    other, other_gradient = loss(logits, ids.astype(dtype))
    assert other == value
    assert_bits(other_gradient, gradient)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_probabilities_are_used_as_they_are(dtype, rng, loss):
    logits = rng.standard_normal((9, 5), np.float32)
    target = rng.random((9, 5)).astype(dtype)  # rows do not sum to 1
    value, gradient = loss(logits, target)
    want, want_gradient = ref.softmax_cross_entropy(logits, target.astype(np.float32))
    assert value == pytest.approx(want, rel=1e-6)
    np.testing.assert_allclose(gradient, want_gradient, atol=1e-7)


def test_one_hot_probabilities_equal_ids(rng, loss):
    logits = rng.standard_normal((9, 5), np.float32)
    ids = rng.integers(0, 5, 9)
    value, gradient = loss(logits, ids)
    other, other_gradient = loss(logits, np.eye(5)[ids])
    assert other == pytest.approx(value, rel=1e-7)
    np.testing.assert_allclose(other_gradient, gradient, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_sample_weights(dtype, rng, loss):
    logits = rng.standard_normal((9, 5), np.float32)
    ids = rng.integers(0, 5, 9)
    weight = rng.integers(0, 4, 9).astype(dtype)
    value, gradient = loss(logits, ids, weight)
    want, want_gradient = ref.softmax_cross_entropy(logits, ids, weight)
    assert value == pytest.approx(want, rel=1e-6)
    np.testing.assert_allclose(gradient, want_gradient, atol=1e-7)
    repeated = np.repeat(np.arange(9), weight.astype(int))
    assert value == pytest.approx(loss(logits[repeated], ids[repeated])[0], rel=1e-6)


def test_logits_of_other_dtypes_are_converted(rng, loss):
    logits = rng.integers(-3, 3, (4, 3))
    ids = np.array([0, 1, 2, 0])
    assert_bits(loss(logits, ids)[1], loss(logits.astype(np.float32), ids)[1])


def test_large_logits_stay_finite(loss):
    value, gradient = loss(np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32), np.array([0, 0]))
    assert value == pytest.approx(1e4)
    np.testing.assert_array_equal(gradient, [[0, 0], [-0.5, 0.5]])


def test_probabilities_classes_and_accuracy(rng, loss):
    logits = 50 * rng.standard_normal((20, 4), np.float32)
    probabilities = loss.probabilities(logits)
    exact = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    np.testing.assert_allclose(probabilities, exact / exact.sum(1, keepdims=True), rtol=1e-5, atol=1e-30)
    assert probabilities.dtype == np.float32
    np.testing.assert_array_equal(loss.classes(logits), np.argmax(logits, 1))
    target = np.argmax(logits, 1)
    target[:5] = (target[:5] + 1) % 4
    assert loss.metrics(logits, target) == {"accuracy": 0.75}
    assert loss.metrics(logits, np.eye(4)[target]) == {"accuracy": 0.75}
    weight = np.zeros(20)
    weight[4:6] = [3, 1]
    assert loss.metrics(logits, target, weight) == {"accuracy": 0.25}
