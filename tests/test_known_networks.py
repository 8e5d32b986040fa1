"""Networks whose training is known beforehand: gradients by hand, symmetry, linear layers in a row."""

from itertools import pairwise

import numpy as np
import pytest
import reference as ref
from bounds import host
from device_places import There
from fastnn import losses, nn, optim

pytestmark = pytest.mark.usefixtures("place")


def one_step(model, loss, x, y, lr=0.1):
    there = There(model)
    value, grad = There(loss)(there(x), y)
    there.backward(grad, input_grad=False)
    optim.SGD(model.parameters(), lr=lr).step()
    return value


def test_the_rule_of_the_last_layer_by_hand(isa, rng):
    """w <- w - rate * delta * a with delta = -(y - a) f'(z), a mean over rows: quadratic cost, sigmoid."""
    x, y = rng.standard_normal((20, 3), np.float32), rng.random((20, 1), np.float32)
    model = nn.Sequential(nn.Linear(3, 1), nn.Sigmoid(), seed=0)
    weight, bias = (ref.f64(p.data) for p in model.parameters())
    z = ref.f64(x) @ weight + bias
    a = ref.sigmoid(z)
    delta = -(ref.f64(y) - a) * a * (1 - a)
    value = one_step(model, losses.QuadraticCost(), x, y, lr=0.5)
    assert value == pytest.approx(((y - a) ** 2).sum() / (2 * 20), rel=1e-6)
    np.testing.assert_allclose(
        host(model[0].weight.data), weight - 0.5 * ref.f64(x).T @ delta / 20, rtol=1e-5
    )
    np.testing.assert_allclose(host(model[0].bias.data), bias - 0.5 * delta.mean(0), rtol=1e-5)


def test_cross_entropy_takes_the_slope_of_the_sigmoid_away(isa, rng):
    """delta = -(y - a), without f'(z): a saturated neuron that is wrong learns as fast as it can."""
    x, y = rng.standard_normal((20, 3), np.float32), rng.integers(0, 2, 20)
    model = nn.Sequential(nn.Linear(3, 1), seed=0)
    model[0].bias.data = np.array([8.0])  # f' = 3e-4
    weight, bias = (ref.f64(p.data) for p in model.parameters())
    delta = -(y[:, None] - ref.sigmoid(ref.f64(x) @ weight + bias))
    one_step(model, losses.BCEWithLogitsLoss(), x, y, lr=0.5)
    np.testing.assert_allclose(
        host(model[0].weight.data), weight - 0.5 * ref.f64(x).T @ delta / 20, rtol=1e-5
    )


def test_many_linear_layers_are_one(isa, rng):
    widths = (5, 8, 3, 6, 2)
    layers = [nn.Linear(n, m) for n, m in pairwise(widths)]
    model = nn.Sequential(*layers, seed=0)
    weight, bias = np.eye(5), np.zeros(5)
    for layer in layers:
        weight = weight @ ref.f64(layer.weight.data)
        bias = bias @ ref.f64(layer.weight.data) + ref.f64(layer.bias.data)
    x, dy = rng.standard_normal((7, 5), np.float32), rng.standard_normal((7, 2), np.float32)
    there = There(model)
    np.testing.assert_allclose(there(x), ref.f64(x) @ weight + bias, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(there.backward(dy), ref.f64(dy) @ weight.T, rtol=1e-5, atol=1e-5)


def equal(value):
    return lambda shape, **_: np.full(shape, value, np.float32)


def trained(value, activation, steps=20):
    """A 3-3-1 network from equal weights, and the targets."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 3), np.float32), rng.random((30, 1), np.float32)
    model = nn.Sequential(
        nn.Linear(3, 3, weight_init=equal(value)), activation(), nn.Linear(3, 1, weight_init=equal(value))
    )
    for _ in range(steps):
        one_step(model, losses.QuadraticCost(), x, y, lr=1.0)
    return model, y


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid, nn.Tanh])
def test_equal_weights_stay_equal_between_neurons_but_not_between_inputs(activation):
    model, _ = trained(0.3, activation)
    weight, out = host(model[0].weight.data), host(model[2].weight.data)
    assert (weight == weight[:, :1]).all()  # one neuron a column
    assert len(set(weight[:, 0])) == 3
    assert len(set(out[:, 0])) == 1
    assert (weight != np.float32(0.3)).all()


def test_a_relu_network_from_zeros_learns_the_mean_alone():
    """The hidden gradients are 0 for ever; the output's bias becomes the mean of the targets."""
    model, y = trained(0.0, nn.ReLU)
    for parameter in model.parameters()[:-1]:
        assert not host(parameter.data).any()
    assert host(model[2].bias.data)[0] == pytest.approx(y.mean(), rel=1e-6)


def test_a_network_from_zeros_begins_without_hidden_gradients():
    model, _ = trained(0.0, nn.Sigmoid, steps=1)
    assert not host(model[0].weight.data).any()
    assert host(model[2].weight.data).all()
