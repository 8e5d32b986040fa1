"""Models as objects: drawing, custom layers, modes, saving, copies, printing."""

import copy
import pickle

import fastnn
import numpy as np
import pytest
from bounds import assert_bits, host
from custom import Block, Nested, Scale, Square
from fastnn import init, losses, nn, optim
from small import assert_state, labelled_rows, layers, network

# ---- drawing


def test_a_seed_draws_all_weights_in_layer_order_from_one_generator():
    model = nn.Sequential(
        nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2, weight_init=init.XavierNormal()), seed=7
    )
    rng = np.random.default_rng(7)
    assert_bits(model[0].weight.data, init.KaimingUniform()((4, 3), rng=rng, fan_in=4, fan_out=3))
    assert_bits(model[2].weight.data, init.XavierNormal()((3, 2), rng=rng, fan_in=3, fan_out=2))
    assert not model[0].bias.data.any()
    again = nn.Sequential(
        nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2, weight_init=init.XavierNormal()), seed=7
    )
    assert_state(model, again.state_dict())
    assert np.any(network(1)[0].weight.data != network(2)[0].weight.data)


def test_reset_parameters_draws_again_and_resets_statistics(rng):
    model = network(3)
    fresh = model.state_dict()
    model(rng.standard_normal((20, 5)))
    for p in model.parameters():
        p.data = p.data + 1
    model.reset_parameters(3)
    assert_state(model, fresh)


def test_statistics_begin_at_mean_0_and_variance_1():
    for layer in (nn.BatchNorm1d(3), nn.Sequential(nn.BatchNorm1d(3), seed=0)[0]):
        assert layer.running_mean.tolist() == [0, 0, 0]
        assert layer.running_var.tolist() == [1, 1, 1]


def test_reset_parameters_with_initializers_by_name():
    model = network(3)
    model.reset_parameters(4, init={"3.weight": init.Normal(5.0, 0.0), "3.bias": init.Normal(std=1.0)})
    assert np.all(model[3].weight.data == 5)
    assert model[3].bias.data.any()
    with pytest.raises(ValueError, match=r"init names no parameter: 9\.weight; the names are 0\.weight, 1\."):
        model.reset_parameters(4, init={"9.weight": init.Zeros()})


def test_reset_parameters_that_raises_changes_nothing():
    model = network(3)
    model(np.random.default_rng(0).standard_normal((20, 5)))
    before = model.state_dict()
    for chosen in (
        {"9.weight": init.Zeros()},
        {"5.weight": lambda shape, **_: np.zeros(3)},
        {"5.weight": lambda shape, **_: "zeros"},
    ):
        with pytest.raises((TypeError, ValueError)):
            model.reset_parameters(4, init=chosen)
        assert_state(model, before)


def test_a_lone_layer_draws_from_rng():
    assert_bits(nn.Linear(4, 3, rng=5).weight.data, nn.Linear(4, 3, rng=5).weight.data)
    generator = np.random.default_rng(5)
    one = nn.Linear(4, 3, rng=generator)
    assert_bits(one.weight.data, nn.Linear(4, 3, rng=5).weight.data)
    assert np.any(nn.Linear(4, 3, rng=generator).weight.data != one.weight.data)
    assert np.any(nn.Linear(4, 3).weight.data != nn.Linear(4, 3).weight.data)
    kept = nn.Sequential(one)
    assert_bits(kept[0].weight.data, nn.Linear(4, 3, rng=5).weight.data)


# ---- custom modules


def test_custom_modules_in_sequential(rng):
    model = nn.Sequential(Scale(4), nn.Linear(4, 4), Block(), nn.Linear(4, 2), seed=0)
    names = ["0.factor", "1.weight", "1.bias", "2.first.weight", "2.first.bias", "2.rest.1.factor"]
    assert [p.name for p in model.parameters()] == [*names, "3.weight", "3.bias"]
    assert np.std(model[0].factor.data) > 0
    x, dy = rng.standard_normal((6, 4), np.float32), rng.standard_normal((6, 2), np.float32)
    model(x)
    assert model.backward(dy).shape == x.shape
    assert all(p.grad.any() for p in model.parameters())
    once = model[0].factor.grad.copy()
    model.backward(dy, accumulate=True)
    np.testing.assert_allclose(model[0].factor.grad, 2 * once, rtol=1e-6)
    model.eval()
    assert not any(module.training for module in model.modules())
    assert len(model.modules()) == 8


def test_custom_modules_in_the_plain_loop():
    """With and without parameters, nested: the gradients let a network learn, and only that."""
    X, Y = labelled_rows()
    model = nn.Sequential(nn.Linear(6, 4), Nested(), Square(), Scale(4), nn.Linear(4, 3), seed=0)
    names = ["1.inner.first.weight", "1.inner.first.bias", "1.inner.rest.1.factor", "3.factor"]
    assert [p.name for p in model.parameters()][2:6] == names
    assert list(model.state_dict()) == [p.name for p in model.parameters()]
    optimizer, loss = optim.Adam(model.parameters(), lr=0.02), losses.CrossEntropyLoss()
    before = model.state_dict()
    values = []
    for _ in range(60):
        value, grad = loss(model(X), Y)
        model.backward(grad, input_grad=False)
        optimizer.step()
        values.append(value)
    assert values[-1] < 0.5 * values[0]
    assert all(np.any(array != before[name]) for name, array in model.state_dict().items())
    with pytest.raises(RuntimeError, match=r"Square\.backward: no training-mode forward"):
        Square().backward(X)


@pytest.mark.usefixtures("place")
def test_a_frozen_parameter_keeps_its_value():
    X, Y = labelled_rows()
    model = layers(batch_norm=False)
    model[0].weight.trainable = False
    before = model.state_dict()
    for one in (optim.SGD, optim.Adam):
        fastnn.Trainer(model, losses.CrossEntropyLoss(), one(model.parameters(), lr=0.1)).step(X, Y)
    changed = [name for name, array in model.state_dict().items() if np.any(array != before[name])]
    assert changed == ["0.bias", "2.weight", "2.bias"]
    assert host(model[0].weight.grad).any()


def test_a_parameter_under_two_names_is_one_parameter():
    scale = Scale(4)
    scale.alias = scale.factor
    assert [name for name, _ in scale.named_parameters()] == ["factor"]
    assert list(scale.state_dict()) == ["factor"]


def test_a_lone_custom_module_names_its_parameters():
    block = Block()
    assert block.rest[1].factor.name == ""
    names = [p.name for p in block.parameters()]
    assert names == ["first.weight", "first.bias", "rest.1.factor"]
    assert [p.name for p in block.first.parameters()] == names[:2]
    model = nn.Sequential(nn.ReLU(), block)
    assert [p.name for p in block.parameters()] == [f"1.{name}" for name in names]
    assert list(model.state_dict()) == [f"1.{name}" for name in names]


# ---- modes


def test_train_and_eval_reach_every_layer():
    model = nn.Sequential(network(), nn.ReLU())
    assert all(m.training for m in model.modules())
    assert model.eval() is model
    assert not any(m.training for m in model.modules())
    assert model.train() is model
    assert all(m.training for m in model.modules())


def test_to_keeps_the_parameters():
    model = network()
    parameters = model.parameters()
    assert model.to("cpu") is model
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    with pytest.raises(fastnn.CudaError, match=r"Sequential\.to: device \"cuda\" cannot be used"):
        model.to("cuda")


# ---- saving, copies


def test_state_dict_holds_copies_of_parameters_and_statistics(rng):
    model = network()
    state = model.state_dict()
    assert list(state) == [
        *["0.weight", "1.gamma", "1.beta", "3.weight", "3.bias", "5.weight", "5.bias"],
        *["1.running_mean", "1.running_var"],
    ]
    kept = {name: array.copy() for name, array in state.items()}
    model(rng.standard_normal((9, 5)))
    model[0].weight.data = np.zeros((5, 8))
    for name, array in state.items():
        assert_bits(array, kept[name], name)


def test_load_state_dict_restores_everything(rng):
    one, other = network(0), network(1)
    one(rng.standard_normal((9, 5)))
    other.load_state_dict({name: array.astype(np.float64) for name, array in one.state_dict().items()})
    assert_state(other, one.state_dict())


def test_load_state_dict_lists_all_mismatches_and_changes_nothing():
    model = network(0)
    before = model.state_dict()
    bad = network(1).state_dict()
    del bad["5.bias"]
    bad["extra"] = np.zeros(3, np.float32)
    bad["3.weight"] = bad["3.weight"].T
    bad["1.gamma"] = bad["1.gamma"].astype(complex)
    bad["1.beta"] = [0.0] * 8
    with pytest.raises(ValueError, match=r"Sequential\.load_state_dict") as error:
        model.load_state_dict(bad)
    for text in (
        "missing '5.bias'",
        "unexpected 'extra'",
        "'3.weight' has shape (6, 8), must be (8, 6)",
        "'1.gamma' must hold real numbers",
        "'1.beta' must be a NumPy array",
    ):
        assert text in str(error.value)
    assert_state(model, before)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_whole_and_independent(duplicate, rng):
    model = network()
    x, dy = rng.standard_normal((9, 5), np.float32), rng.standard_normal((9, 3), np.float32)
    model(x)
    model.backward(dy)
    other = duplicate(model)
    assert_state(other, model.state_dict())
    for a, b in zip(other.parameters(), model.parameters(), strict=True):
        assert (a.name, a.decay, a.trainable) == (b.name, b.decay, b.trainable)
        assert_bits(a.grad, b.grad, a.name)
        assert a.data.ctypes.data % 64 == 0
    with pytest.raises(RuntimeError):
        other.backward(dy)
    before = model.state_dict()
    assert_bits(other(x), model(x))
    other.reset_parameters(9)
    before.update({name: array for name, array in model.state_dict().items() if "running" in name})
    assert_state(model, before)
    other.reset_parameters(0)
    assert_bits(other[3].weight.data, model[3].weight.data)


def test_a_parameter_held_twice_stays_one_in_a_copy():
    model = network()
    twin, parameters = copy.deepcopy((model, model.parameters()))
    assert all(a is b for a, b in zip(twin.parameters(), parameters, strict=True))


# ---- printing


def test_repr_shows_layers_shapes_and_counts():
    lines = repr(network()).splitlines()
    assert len(lines) == 8
    assert lines[1].split() == ["0:", "Linear(5,", "8,", "bias=False)", "weight", "(5,", "8)", "40"]
    assert "BatchNorm1d(8)" in lines[2]
    assert lines[2].endswith("16")
    assert lines[-1] == "131 parameters"
    assert repr(nn.BatchNorm1d(3, eps=0.01, momentum=0.5)).startswith(
        "BatchNorm1d(3, eps=0.01, momentum=0.5)"
    )
    assert repr(network()[0].weight) == "Parameter('0.weight', shape=(5, 8))"
    frozen = nn.Parameter(np.ones(2), name="b", decay=False, trainable=False)
    assert repr(frozen) == "Parameter('b', shape=(2,), decay=False, trainable=False)"


def test_sequential_is_a_sequence_of_its_layers():
    model = network()
    assert len(model) == 6
    assert list(model)[1] is model[1]
    assert isinstance(model[-1], nn.Linear)
