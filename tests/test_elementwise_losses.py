"""The elementwise losses of ops against the float64 reference: value, gradient, weights."""

import sys

import fastnn
import guard
import layouts
import numpy as np
import pytest
import reference as ref
import shapes
from bounds import EPS, assert_bits, assert_within, elementwise_loss_bounds
from fastnn import ops

LOSSES = {
    "mse": ("mse", {}),
    "quadratic_cost": ("quadratic_cost", {}),
    "huber": ("huber", {}),
    "huber 0.3": ("huber", {"delta": 0.3}),
    "sigmoid_cross_entropy": ("sigmoid_cross_entropy", {}),
}


@pytest.fixture(params=LOSSES)
def loss(request):
    return LOSSES[request.param]


def draw(rng, name, shape, scale=1.0):
    pred, target = (scale * rng.standard_normal((2, *shape))).astype(np.float32)
    if name == "sigmoid_cross_entropy":
        target = rng.choice(np.array([0, 1, 0.3], np.float32), shape)
    return pred, target


def check(loss, pred, target, sample_weight=None):
    name, numbers = loss
    value, dpred = got = getattr(ops, name)(pred, target, sample_weight=sample_weight, **numbers)
    want_value, want = getattr(ref, name)(pred, target, sample_weight, **numbers)
    value_bound, bound = elementwise_loss_bounds(name, pred, target, sample_weight, **numbers)
    assert type(value) is float
    assert_within(dpred, want, bound, f"dpred {pred.shape}")
    assert_within(value, want_value, value_bound, f"value {pred.shape}")
    return got


def test_shapes(isa, rng, loss):
    for n in shapes.LENGTHS:
        if n > 0:
            for shape in ((n,), (n, 1), (1, n)):
                check(loss, *draw(rng, loss[0], shape))
    for shape in shapes.CLASSES:
        check(loss, *draw(rng, loss[0], shape))
    check(loss, *draw(rng, loss[0], (3, 4, 5, 2)))


def test_weights(isa, rng, loss):
    """Rows of many lengths; a single column goes another way than several."""
    for shape in ((1,), (17,), (40_001, 1), (50, 2), (33, 16), (20, 17), (7, 1025), (3000, 9), (2, 3, 4)):
        weight = rng.random(shape[0], np.float32)
        if len(weight) > 5:
            weight[::5] = 0.0
        check(loss, *draw(rng, loss[0], shape), weight)


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1.0, 1e4, 1e12])
def test_scales(isa, rng, loss, scale):
    check(loss, *draw(rng, loss[0], (60, 7), scale))
    check(loss, *draw(rng, loss[0], (60, 7), scale), rng.random(60, np.float32))


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_only_the_shares_of_weights_count(isa, rng, loss, size):
    pred, target = draw(rng, loss[0], (50, 3))
    weight = rng.random(50, np.float32)
    value, dpred = check(loss, pred, target, weight)
    scaled, dscaled = check(loss, pred, target, weight * np.float32(size))
    assert scaled == pytest.approx(value, rel=4 * EPS)
    np.testing.assert_allclose(dscaled, dpred, rtol=4 * EPS)


def test_weights_of_one_are_no_weights(isa, rng, loss):
    for shape in ((70_001, 1), (700, 9)):
        pred, target = draw(rng, loss[0], shape)
        ones = check(loss, pred, target, np.ones(len(pred), np.float32))
        none = check(loss, pred, target)
        assert_bits(ones[1], none[1])
        assert ones[0] == pytest.approx(none[0], rel=20 * EPS)


def test_known_values(isa):
    pred, target = np.array([[1, 5], [2, 2]], np.float32), np.array([[0, 2], [2, 1]], np.float32)
    weight = np.array([3, 1], np.float32)
    assert ops.mse(pred, target)[0] == 11 / 4
    assert ops.quadratic_cost(pred, target)[0] == 11 / 4  # k / 2 of the mean squared error, k = 2
    assert ops.huber(pred, target)[0] == (0.5 + 2.5 + 0.5) / 4
    assert ops.mse(pred, target, sample_weight=weight)[0] == (3 * 5 + 0.5) / 4
    assert ops.quadratic_cost(pred, target, sample_weight=weight)[0] == (3 * 5 + 0.5) / 4
    assert ops.mse(pred, target)[1].tolist() == [[0.5, 1.5], [0, 0.5]]
    assert ops.quadratic_cost(pred, target)[1].tolist() == [[0.5, 1.5], [0, 0.5]]
    assert ops.huber(pred, target)[1].tolist() == [[0.25, 0.25], [0, 0.25]]
    assert ops.huber(pred, target, delta=2)[1].tolist() == [[0.25, 0.5], [0, 0.25]]


def test_a_sure_wrong_logit_costs_its_size(isa):
    """Not log(1e-44) of a clipped or saturated probability."""
    x = np.array([20, -20, 90, -1000, 3e38], np.float32)
    wrong = (x < 0).astype(np.float32)
    for i in range(len(x)):
        value, dlogits = ops.sigmoid_cross_entropy(x[i : i + 1], wrong[i : i + 1])
        assert value == abs(x[i])
        assert abs(dlogits[0]) == 1
    value, dlogits = ops.sigmoid_cross_entropy(x, 1 - wrong)
    assert 0 < value < 2e-9
    assert np.abs(dlogits).max() < 1e-9


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_input_layouts(isa, rng, loss, layout):
    make = layouts.LAYOUTS[layout]
    for shape in ((60, 10), (1, 65), (7, 19)):
        pred, target = (make(a) for a in draw(rng, loss[0], shape))
        weight = make(rng.random(shape[0], np.float32) + np.float32(0.1))
        got = check(loss, pred, target, weight)
        plain = check(loss, np.array(pred), np.array(target), np.array(weight))
        assert got[0] == plain[0]
        assert_bits(got[1], plain[1])


def test_nan_and_infinity(isa, rng, loss):
    pred, target = draw(rng, loss[0], (40, 5))
    pred[3, 2], target[20, 0] = np.nan, np.nan
    value, dpred = getattr(ops, loss[0])(pred, target, **loss[1])
    assert np.isnan(value)
    assert np.argwhere(np.isnan(dpred)).tolist() == [[3, 2], [20, 0]]
    pred, target = draw(rng, loss[0], (40, 5))
    pred[0, 0], target[0, 0] = np.inf, 0.0
    value, dpred = getattr(ops, loss[0])(pred, target, **loss[1])
    assert np.isposinf(value)
    assert dpred[0, 0] > 0
    assert np.isfinite(dpred.ravel()[1:]).all()


def test_every_number_of_threads(isa, threads, rng, loss):
    check(loss, *draw(rng, loss[0], (700, 100)))
    check(loss, *draw(rng, loss[0], (700, 100)), rng.random(700, np.float32))


def test_the_inputs_are_only_read(isa, rng, loss):
    arrays = [*draw(rng, loss[0], (20, 3)), rng.random(20, np.float32)]
    before = [a.copy() for a in arrays]
    getattr(ops, loss[0])(*arrays[:2], sample_weight=arrays[2])
    for a, b in zip(arrays, before, strict=True):
        assert_bits(a, b)


@pytest.mark.parametrize("name", ["mse", "quadratic_cost", "huber", "sigmoid_cross_entropy"])
@pytest.mark.parametrize("weighted", [False, True])
def test_reference_gradient_by_central_differences(rng, name, weighted):
    pred, target = 3 * rng.standard_normal((4, 5)), rng.random((4, 5))
    weight = rng.random(4) + 0.1 if weighted else None
    loss = getattr(ref, name)
    numerical = ref.numerical_gradient(lambda p: loss(p, target, weight)[0], pred)
    assert np.abs(loss(pred, target, weight)[1] - numerical).max() <= 1e-8


def guard_cases(isa):
    fastnn.set_isa(isa)
    rng = np.random.default_rng(0)
    for name, numbers in LOSSES.values():
        loss = getattr(ops, name)
        for shape in ((1,), (7, 9), (17, 1), (33, 3), (5, 1025)):
            arrays = [*draw(rng, name, shape), rng.random(shape[0], np.float32)]
            want = loss(*arrays[:2], sample_weight=arrays[2], **numbers)[1]
            for ends in zip(*map(guard.both_ends, arrays), strict=True):
                print(f"{name} {shape}, page at the {ends[0][0]}", file=sys.stderr, flush=True)
                pred, target, weight = (a for _, a in ends)
                assert_bits(loss(pred, target, sample_weight=weight, **numbers)[1], want)
                loss(pred, target, **numbers)


def test_guard_pages(isa):
    guard.run_isolated("test_elementwise_losses", "guard_cases", isa)
