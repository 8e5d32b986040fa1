"""Losses against their float64 formula, and every kind of target."""

import numpy as np
import pytest
import reference as ref
from bounds import assert_bits
from device_places import There, few
from fastnn import losses

pytestmark = pytest.mark.usefixtures("place")
INTEGERS = [np.int8, np.uint8, np.int16, np.uint32, np.int32, np.uint64, ">i8"]


@pytest.fixture
def loss():
    return There(losses.CrossEntropyLoss())


def test_value_and_gradient_for_ids(isa, rng, loss):
    logits = 4 * rng.standard_normal((33, 10), np.float32)
    ids = rng.integers(0, 10, 33)
    value, gradient = loss(logits, ids)
    want, want_gradient = ref.softmax_cross_entropy(logits, ids)
    assert type(value) is float
    assert value == pytest.approx(want, rel=1e-6)
    np.testing.assert_allclose(gradient, want_gradient, atol=1e-7)
    assert gradient.dtype == np.float32


@pytest.mark.parametrize("dtype", few(INTEGERS, 6))
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


def test_cross_entropies_at_ten_thousand(isa):
    """The closed forms, exactly: exp(-1e4) is 0 in float64 too, so nothing but sums of logits remains."""
    big = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)
    value, gradient = There(losses.CrossEntropyLoss())(big, np.array([1, 1]))
    assert value == (2e4 + 0) / 2
    assert gradient.tolist() == [[0.5, -0.5], [0, 0]]
    value, gradient = There(losses.CrossEntropyLoss())(big, np.array([[0.25, 0.75], [0.25, 0.75]]))
    assert value == (0.75 * 2e4 + 0.25 * 2e4) / 2
    assert gradient.tolist() == [[0.375, -0.375], [-0.125, 0.125]]
    value, _ = There(losses.CrossEntropyLoss(label_smoothing=0.5))(big, np.array([1, 1]))
    assert value == (0.75 * 2e4 + 0.25 * 2e4) / 2

    column = np.array([[1e4], [-1e4]], np.float32)
    for target, want, slopes in (
        ((0, 1), 1e4, [[0.5], [-0.5]]),
        ((1, 0), 0, [[0], [0]]),
        ((0.25, 0.25), (0.75e4 + 0.25e4) / 2, [[0.375], [-0.125]]),
    ):
        value, gradient = There(losses.BCEWithLogitsLoss())(column, np.array(target))
        assert value == want
        assert gradient.tolist() == slopes


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


def test_smoothing_and_ignored_rows(rng):
    logits, ids = rng.standard_normal((12, 5), np.float32), rng.integers(0, 5, 12)
    ids[[2, 7]] = 99
    weight = rng.random(12)
    loss = There(losses.CrossEntropyLoss(label_smoothing=0.2, ignore_index=99))
    value, gradient = loss(logits, ids, weight)
    want, want_gradient = ref.softmax_cross_entropy(
        *(logits, ids, weight.astype(np.float32)), label_smoothing=0.2, ignore_index=99
    )
    assert value == pytest.approx(want, rel=1e-6)
    np.testing.assert_allclose(gradient, want_gradient, atol=1e-7)
    kept = ids != 99
    right = np.argmax(logits, 1) == ids
    assert loss.metrics(logits, ids) == {"accuracy": right[kept].mean()}
    assert loss.total_weight(ids) == 10
    assert loss.total_weight(ids, weight) == pytest.approx(weight[kept].sum())
    ids[:] = 99
    with pytest.raises(ValueError, match="skip the batch"):
        loss(logits, ids)


# ---- losses of every output

ELEMENTWISE = {
    "mse": There(losses.MSELoss()),
    "quadratic_cost": There(losses.QuadraticCost()),
    "huber": There(losses.HuberLoss()),
    "sigmoid_cross_entropy": There(losses.BCEWithLogitsLoss()),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_value_and_gradient(isa, rng, name):
    pred, target, weight = 2 * rng.standard_normal((30, 4), np.float32), rng.random((30, 4)), rng.random(30)
    for given in (None, weight):
        value, gradient = ELEMENTWISE[name](pred, target, given)
        want, want_gradient = getattr(ref, name)(pred, target, given)
        assert type(value) is float
        assert value == pytest.approx(want, rel=2e-6)
        np.testing.assert_allclose(gradient, want_gradient, atol=1e-7)
        assert gradient.dtype == np.float32


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("dtype", few([np.float64, np.float16, np.int64, np.uint8, bool, ">f4"], 5))
def test_targets_are_converted_and_never_rescaled(name, dtype, rng):
    pred = rng.integers(-3, 4, (20, 3))
    target = rng.integers(0, 2, (20, 3)).astype(dtype)
    value, gradient = ELEMENTWISE[name](pred, target)
    want = ELEMENTWISE[name](pred.astype(np.float32), target.astype(np.float32))
    assert value == want[0]
    assert_bits(gradient, want[1])


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_column_takes_a_flat_target(name, rng):
    pred, target = rng.standard_normal((20, 1), np.float32), rng.random(20, np.float32)
    flat, column = ELEMENTWISE[name](pred, target), ELEMENTWISE[name](pred, target[:, None])
    assert flat[0] == column[0]
    assert flat[1].shape == (20, 1)
    assert_bits(flat[1], column[1])
    assert ELEMENTWISE[name](pred[:, 0], target)[1].shape == (20,)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_weights_repeat_rows(name, rng):
    pred, target = rng.standard_normal((9, 5), np.float32), rng.random((9, 5))
    weight = rng.integers(0, 4, 9)
    repeated = np.repeat(np.arange(9), weight)
    want = ELEMENTWISE[name](pred[repeated], target[repeated])[0]
    assert ELEMENTWISE[name](pred, target, weight)[0] == pytest.approx(want, rel=1e-6)


def test_the_quadratic_cost_is_half_of_k_mean_squares(rng):
    """J = 1 / (2n) sum (y - h)^2: half of the mean squared error for one output, k / 2 times it for k."""
    pred, target = rng.standard_normal((2, 30, 4), np.float32)
    assert There(losses.QuadraticCost())(pred, target)[0] == pytest.approx(
        2 * There(losses.MSELoss())(pred, target)[0]
    )
    one = pred[:, :1], target[:, 0]
    assert There(losses.QuadraticCost())(*one)[0] == pytest.approx(0.5 * There(losses.MSELoss())(*one)[0])
    n = len(pred)
    assert There(losses.QuadraticCost())(pred, target)[0] == pytest.approx(
        ((pred - target) ** 2).sum() / (2 * n)
    )


def test_a_sure_wrong_logit_costs_its_size(isa):
    """Golden: 20 at z = 20, y = 0, where a clipped cross-entropy of probabilities says 100."""
    value, gradient = There(losses.BCEWithLogitsLoss())(np.array([20.0]), np.array([0]))
    assert value == pytest.approx(20, rel=1e-7)
    assert gradient[0] == pytest.approx(1, rel=1e-6)


# ---- metrics


def test_regression_metrics(rng):
    pred, target = rng.standard_normal((2, 40, 3))
    target += 100  # far from zero
    pred += 100
    weight = rng.random(40)
    for given, w in ((None, np.ones(40)), (weight, weight)):
        share = (w / w.sum())[:, None]
        gap = pred - target
        residual, mean = (share * gap**2).sum(0), (share * target).sum(0)
        want = {
            "rmse": np.sqrt(residual.mean()),
            "mae": (share * np.abs(gap)).sum(0).mean(),
            "r2": (1 - residual / (share * (target - mean) ** 2).sum(0)).mean(),
        }
        for loss in (There(losses.MSELoss()), There(losses.QuadraticCost()), There(losses.HuberLoss())):
            assert loss.metrics(pred, target, given) == pytest.approx(want, rel=1e-10)
            scores = loss.scores()
            for rows in (slice(0, 1), slice(1, 7), slice(7, 40)):
                scores.add(pred[rows], target[rows], None if given is None else given[rows])
            assert scores.result() == pytest.approx(want, rel=1e-10)


def test_r2_is_that_of_scikit_learn(rng):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    pred, target, weight = rng.standard_normal((40, 3)), rng.standard_normal((40, 3)), rng.random(40)
    target[:, 1] = 2.0
    pred[:, 2] = target[:, 2] = 0.1
    for given in (None, weight):
        want = metrics.r2_score(target, pred, sample_weight=given)
        assert There(losses.MSELoss()).metrics(pred, target, given)["r2"] == pytest.approx(want, rel=1e-10)


def test_metrics_of_a_column_with_a_flat_target(rng):
    pred, target = rng.standard_normal((20, 1)), rng.standard_normal(20)
    assert There(losses.MSELoss()).metrics(pred, target) == There(losses.MSELoss()).metrics(
        pred, target[:, None]
    )
    hits = (pred[:, 0] > 0) == (target > 0.5)
    assert There(losses.BCEWithLogitsLoss()).metrics(pred, target) == {"accuracy": hits.mean()}


def test_binary_probabilities_classes_and_accuracy(rng):
    loss = There(losses.BCEWithLogitsLoss())
    logits = 30 * rng.standard_normal((20, 3), np.float32)
    logits[0] = 200.0, -200.0, 0.0
    exact = 1 / (1 + np.exp(-logits.astype(np.float64)))
    np.testing.assert_allclose(loss.probabilities(logits), exact, rtol=1e-5, atol=1e-37)
    assert loss.probabilities(logits).dtype == np.float32
    np.testing.assert_array_equal(loss.classes(logits), logits > 0)
    assert loss.classes(logits).dtype == np.int64
    assert loss.classes(logits[:, :1]).shape == (20,)
    target = (logits > 0).astype(int)
    target[0, :2] = 1 - target[0, :2]
    assert loss.metrics(logits, target) == {"accuracy": pytest.approx(58 / 60)}
    weight = np.zeros(20)
    weight[:2] = 1
    assert loss.metrics(logits, target, weight) == {"accuracy": pytest.approx(4 / 6)}
