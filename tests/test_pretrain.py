"""pretrain_layerwise: which layers it trains, on what, and what it leaves alone."""

import fastnn
import numpy as np
import pytest
from bounds import assert_bits
from device_places import here
from fastnn import data, losses, nn, optim
from small import assert_state

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture
def X(rng):
    return rng.random((300, 10), np.float32) @ rng.random((10, 12), np.float32) / 4


def deep(seed=0):
    inner = nn.Sequential(nn.Linear(8, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU())
    return nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Dropout(0.5), inner, nn.Linear(6, 3), seed=seed)


def pretrain(model, X, **options):
    """Where the test computes; rows are the host's."""
    model.to(here().device)
    return fastnn.pretrain_layerwise(model, X, **{"epochs": 5, "batch_size": 30, "lr": 0.01, **options})


def by_hand(model, X, noise=0.0, seed=0):
    """The same with a loop of its own for the first layer; returns the losses and the layer's output."""
    rng = np.random.default_rng(seed)
    encoder = nn.Sequential(*model[:2])
    decoder = nn.Linear(8, 12, rng=rng)
    front = [nn.Dropout(noise, rng=rng)] if noise else []
    whole = nn.Sequential(*front, *encoder, decoder)
    optimizer, loss = optim.Adam(whole.parameters(), 0.01), losses.MSELoss()
    means = []
    for epoch in range(5):
        values = []
        for x, _ in data.batches(X, X, 30, seed=seed, epoch=epoch):
            value, grad = loss(whole(x), x)
            whole.backward(grad)
            optimizer.step()
            values.append(value)
        means.append(np.mean(values))
    return means, encoder.eval()(X)


@pytest.mark.parametrize("noise", [0.0, 0.25])
def test_the_first_layer_is_an_autoencoder_of_x(X, noise):
    model, twin = deep(), deep()
    options = {"kind": "denoising", "noise": noise} if noise else {}
    histories = pretrain(model, X, **options)
    means, _ = by_hand(twin, X, noise)
    np.testing.assert_allclose(histories[0]["loss"], means, rtol=1e-6)
    for name in ("0.weight", "0.bias"):
        assert_bits(model.state_dict()[name], twin.state_dict()[name])


def test_the_second_layer_is_one_of_the_first_one_s_output(X):
    """Finished, in evaluation mode: the Dropout between drops nothing."""
    model, twin = deep(), deep()
    histories = pretrain(model, X)
    rng = np.random.default_rng(0)
    _, h = by_hand(twin, X)
    nn.Linear(8, 12, rng=rng)  # the first decoder, drawn before the second
    rng = np.random.default_rng(0)
    nn.Linear(8, 12, rng=rng)
    inner = list(twin[3])
    whole = nn.Sequential(*inner, nn.Linear(6, 8, rng=rng))
    run = fastnn.Trainer(whole, losses.MSELoss(), optim.Adam(whole.parameters(), 0.01))
    history = run.fit(h, h, batch_size=30, epochs=5)
    assert history["loss"] == histories[1]["loss"]
    for name in ("3.0.weight", "3.1.gamma", "3.1.running_var"):
        assert_bits(model.state_dict()[name], twin.state_dict()[name])


@pytest.mark.host("many steps")
@pytest.mark.parametrize("kind", ["autoencoder", "denoising"])
def test_it_learns_and_the_same_seed_gives_the_same_bits(X, kind):
    one, other, another = deep(), deep(), deep()
    histories = pretrain(one, X, kind=kind, epochs=30)
    assert len(histories) == 2
    assert all(h["loss"][-1] < 0.5 * h["loss"][0] for h in histories)
    pretrain(other, X, kind=kind, epochs=30)
    assert_state(one, other.state_dict())
    pretrain(another, X, kind=kind, epochs=30, seed=1)
    with pytest.raises(AssertionError):
        assert_state(one, another.state_dict())


def test_rows_may_be_where_the_model_is(X, place):
    one, other = deep(), deep()
    means = [pretrain(model, rows)[1]["loss"] for model, rows in ((one, X), (other, place.put(X)))]
    assert means[0] == means[1]
    assert_state(one, other.state_dict())
    assert all(isinstance(parameter.data, place.kind) for parameter in one.parameters())


def test_what_it_leaves_alone(X):
    model = deep()
    output, names = model[4].weight.data.copy(), [p.name for p in model.parameters()]
    model[2].eval()
    pretrain(model, X)
    assert_bits(model[4].weight.data, output)
    assert [p.name for p in model.parameters()] == names
    assert [m.training for m in model.modules()] == [True, True, True, False, *[True] * 5]
    assert model[2].forwards == 0
    assert X.flags.writeable


def test_rows_pass_through_other_layers(X):
    model = nn.Sequential(nn.Flatten(), nn.Residual(nn.Linear(12, 12)), nn.Linear(12, 4), nn.GELU(), seed=0)
    before = model.state_dict()
    (history,) = pretrain(model, X.reshape(300, 3, 4))
    assert history["loss"][-1] < history["loss"][0]
    assert_bits(model[1].block.weight.data, before["1.block.weight"])
    assert not np.array_equal(model[2].weight.data, before["2.weight"])


def test_frozen_parameters_stay(X):
    model = deep()
    model[0].weight.trainable = False
    before = model[0].weight.data.copy()
    pretrain(model, X)
    assert_bits(model[0].weight.data, before)


def test_fit_goes_on_from_it(X):
    model = deep()
    pretrain(model, X)
    run = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters(), 0.01))
    Y = (X[:, 0] > np.median(X[:, 0])).astype(int)
    history = run.fit(X, Y, batch_size=30, epochs=10)
    assert history["loss"][-1] < 0.7 * history["loss"][0]


ROWS = [
    ({"model": nn.Linear(12, 3)}, TypeError, r"model must be an nn\.Sequential, got Linear"),
    ({"model": nn.Sequential(nn.Linear(12, 3))}, ValueError, "no Linear with an activation behind it"),
    (
        {"model": nn.Sequential(nn.Linear(12, 6), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), seed=0)},
        ValueError,
        r"a Linear of 5 inputs gets rows of shape \(300, 6\)",
    ),
    (
        {
            "model": nn.Sequential(
                nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), seed=0
            ),
            "X": np.ones((1, 12), np.float32),
        },
        ValueError,
        "X must have at least two rows, for batch-norm, got 1",
    ),
    ({"X": [[1.0]]}, TypeError, "X must be a NumPy array, got list"),
    ({"X": np.array(1.0)}, ValueError, "X must have rows"),
    ({"X": np.ones((6, 6), np.float32)}, ValueError, r"a Linear of 12 inputs gets rows of shape \(6, 6\)"),
    ({"X": np.ones(12, np.float32)}, ValueError, r"a Linear of 12 inputs gets rows of shape \(12,\)"),
    ({"X": np.ones((0, 12))}, ValueError, "X has no rows"),
    ({"X": np.ones((4, 12), complex)}, TypeError, "X must hold real numbers"),
    ({"kind": "rbm"}, ValueError, 'kind must be "autoencoder" or "denoising", got \'rbm\''),
    ({"epochs": 0}, ValueError, "epochs must be at least 1"),
    ({"epochs": 1.5}, TypeError, "epochs must be a whole number"),
    ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
    ({"lr": -1}, ValueError, "lr must be at least 0"),
    ({"lr": "a"}, TypeError, "lr must be a number"),
    ({"noise": 1}, ValueError, r"noise must be in \[0, 1\)"),
    ({"kind": "denoising", "noise": 0}, ValueError, "noise must be above 0"),
    ({"seed": -1}, ValueError, "seed must be at least 0"),
]


@pytest.mark.parametrize(("change", "error", "message"), ROWS, ids=[row[2][:30] for row in ROWS])
def test_bad_input(X, change, error, message):
    given = {"model": deep(), "X": X, **change}
    model = given.pop("model")
    before = model.state_dict()
    with pytest.raises(error, match=f"pretrain_layerwise: .*{message}") as caught:
        pretrain(model, given.pop("X"), **given)
    assert type(caught.value) is error
    assert_state(model, before)
