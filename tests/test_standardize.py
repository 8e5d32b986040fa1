"""`nn.Standardize` as a layer of a model, and its folding into the Linear behind it."""

import copy
import pickle

import fastnn
import numpy as np
import pytest
from bounds import EPS, assert_bits
from fastnn import data, losses, nn, optim
from fastnn.preprocessing import MinMaxScaler, StandardScaler
from small import labelled_rows


def inputs(rng, rows=300, columns=6, distance=3.0):
    """Columns of different spreads; their means are `distance` of them away from zero."""
    spread = 10.0 ** rng.uniform(-2, 3, columns)
    return (spread * (rng.standard_normal((rows, columns)) + distance)).astype(np.float32)


def network(scaler, *, bias=True, seed=0, columns=6):
    hidden = nn.Linear(columns, 32, bias=bias), nn.BatchNorm1d(32), nn.ReLU()
    return nn.Sequential(nn.Standardize(scaler), *hidden, nn.Linear(32, 3), seed=seed)


@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler((-1, 1)), StandardScaler(with_mean=False)])
@pytest.mark.parametrize("distance", [0.0, 3.0, 1e5])
def test_the_layer_does_what_its_scaler_does(isa, rng, scaler, distance):
    X = inputs(rng, distance=distance)
    layer = nn.Standardize(copy.deepcopy(scaler).fit(X))
    want = copy.deepcopy(scaler).fit(X).transform(X)
    y = layer(X)
    assert np.abs(y - want).max() <= 2 * EPS * np.abs(want).max()
    assert_bits(layer.eval()(X), y)
    assert_bits(layer(X.reshape(100, 3, 6)), y.reshape(100, 3, 6))
    assert_bits(layer(X[:, ::-1][:, ::-1]), y)
    assert_bits(layer(X[7:9]), y[7:9])
    assert_bits(layer(X.astype(np.float64)), y)


def test_backward(isa, rng):
    X, dy = inputs(rng), rng.standard_normal((300, 6), np.float32)
    layer = nn.Standardize(StandardScaler().fit(X))
    kept, given = X.copy(), dy.copy()
    layer(X)
    dx = layer.backward(dy)
    # The map is affine, so a difference over any step is its derivative.
    step = (1 / layer.scale).astype(np.float64)
    slope = (layer.scale * (X + step) - layer.scale * X.astype(np.float64)) / step
    np.testing.assert_allclose(dx, dy * slope, rtol=1e-6)
    assert_bits(dx, dy * layer.scale)
    assert layer.backward(dy, input_grad=False) is None
    assert_bits(X, kept)
    assert_bits(dy, given)
    assert layer.parameters() == []


def test_gradients_of_a_model_are_those_behind_the_scaler(isa, rng):
    """Standardize in the model, or its rows given to the rest: the same loss and gradients, bit for bit."""
    X, Y = inputs(rng), rng.integers(0, 3, 300)
    model = network(StandardScaler().fit(X))
    rest = nn.Sequential(*copy.deepcopy(list(model)[1:]))
    loss = losses.CrossEntropyLoss()
    value, grad = loss(model(X), Y)
    other, same = loss(rest(nn.Standardize(StandardScaler().fit(X))(X)), Y)
    assert value == other
    dx, inner = model.backward(grad), rest.backward(same)
    for p, q in zip(model.parameters(), rest.parameters(), strict=True):
        assert_bits(p.grad, q.grad)
    assert_bits(dx, inner * model[0].scale)
    assert model.backward(grad, input_grad=False) is None


def test_it_is_saved_with_the_model_and_not_drawn_again(rng):
    X = inputs(rng)
    model = network(StandardScaler().fit(X), seed=4)
    before = model.state_dict()
    assert [name for name in before if name.startswith("0.")] == ["0.shift", "0.scale", "0.offset"]
    model.reset_parameters(4)
    assert_bits(model[0].scale, before["0.scale"])
    assert np.any(model[0].shift != 0)
    fresh = network(6, seed=9)
    assert_bits(fresh[0](X), X)  # nothing to do until a state is loaded
    fresh.load_state_dict(before)
    for other in (fresh, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_bits(other.eval()(X), model.eval()(X))
        other.train()
    assert model.to("cpu") is model
    assert "0: Standardize(6)" in repr(model)
    with pytest.raises(ValueError, match=r"'0\.shift' has shape \(6,\), must be \(5,\)"):
        network(5, columns=5).load_state_dict(before)


@pytest.mark.usefixtures("place")
def test_a_trainer_and_a_loop_learn_from_raw_inputs():
    """Rows whose columns lie between 1e-3 and 1e4: hopeless without the layer, learned with it."""
    X, Y = labelled_rows()
    raw = X * np.array([1e4, 1e-3, 50, 1, 3e3, 0.1], np.float32) + 7
    scaler = StandardScaler().fit(raw)
    for model, solved in (
        (network(scaler, bias=False), True),
        (nn.Sequential(nn.Linear(6, 3), seed=0), False),
    ):
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optimizer)
        trainer.fit(raw, Y, batch_size=10, epochs=20, progress=False)
        assert (trainer.evaluate(raw, Y)["accuracy"] > 0.95) == solved
    model = network(scaler, bias=False)
    optimizer, loss = optim.Adam(model.parameters(), lr=0.01), losses.CrossEntropyLoss()
    for epoch in range(20):
        for x, y in data.batches(raw, Y, 10, epoch=epoch):
            _, grad = loss(model(x), y)
            model.backward(grad, input_grad=False)
            optimizer.step()
    assert (model.eval()(raw).argmax(axis=1) == Y).mean() > 0.95


# ---- folding


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler((-1, 1))])
def test_folding_keeps_the_predictions(isa, rng, scaler, bias):
    X = inputs(rng, distance=1.0)
    model = network(copy.deepcopy(scaler).fit(X), bias=bias)
    model(X)
    model.eval()
    before, state = model(X), model.state_dict()
    folded = nn.fold_scaling(model)
    assert len(folded) == len(model) - 1
    assert isinstance(folded[0], nn.Linear)
    after = folded(X)
    assert np.abs(after - before).max() <= 1e-6 * np.abs(before).max()
    assert not folded.training
    assert not folded[1].training
    assert [p.name for p in folded.parameters()][:2] == ["0.weight", "0.bias"]
    assert not folded[0].bias.decay
    for name, array in model.state_dict().items():  # the model itself is unchanged
        assert_bits(array, state[name])
    for p in folded.parameters():
        assert not any(np.shares_memory(p.data, q.data) for q in model.parameters())


def test_folding_behind_flatten_and_of_digits():
    (X, _), _ = data.digits()
    images = X[:500].reshape(-1, 28, 28)
    scaler = StandardScaler().fit(X)
    hidden = nn.Linear(784, 64), nn.Tanh(), nn.Linear(64, 10)
    model = nn.Sequential(nn.Flatten(), nn.Standardize(scaler), *hidden, seed=0)
    model.train()
    folded = nn.fold_scaling(model)
    assert folded.training
    assert [type(layer).__name__ for layer in folded][:2] == ["Flatten", "Linear"]
    before, after = model.eval()(images), folded.eval()(images)
    assert np.abs(after - before).max() <= 1e-6 * np.abs(before).max()


def test_the_error_of_folding_grows_with_the_distance_and_is_refused_at_last(rng):
    errors = {}
    for distance in (1e2, 5e3):
        X = inputs(rng, distance=distance)
        model = nn.Sequential(nn.Standardize(StandardScaler().fit(X)), nn.Linear(6, 3), seed=0)
        before = model(X)
        errors[distance] = np.abs(nn.fold_scaling(model)(X) - before).max() / np.abs(before).max()
        assert errors[distance] < 2 * EPS * distance
    assert errors[5e3] > errors[1e2]
    X = inputs(rng, distance=2e4)
    model = nn.Sequential(nn.Standardize(StandardScaler().fit(X)), nn.Linear(6, 3), seed=0)
    with pytest.raises(ValueError, match=r"fold_scaling: a column lies \d+ standard deviations from zero"):
        nn.fold_scaling(model)
