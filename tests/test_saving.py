"""fastnn.save and fastnn.load: every layer survives a file; what is refused."""

import re

import fastnn
import numpy as np
import pytest
from bounds import assert_bits
from custom import Block, Scale
from fastnn import _file, init, nn, preprocessing
from safetensors import numpy as safetensors
from small import assert_state, network

# For each layer of fastnn.nn objects whose every argument has another value than its default.
LAYERS = {
    "BatchNorm1d": [nn.BatchNorm1d(5, eps=1e-3, momentum=0.5, running_var="biased", debias=True)],
    "Dropout": [nn.Dropout(0.25, rng=3), nn.Dropout(keep=0.25)],
    "ELU": [nn.ELU(0.5)],
    "GELU": [nn.GELU("tanh")],
    "LeakyReLU": [nn.LeakyReLU(0.3)],
    "Linear": [
        nn.Linear(5, 5, bias=False, rng=2),
        nn.Linear(
            5, 5, weight_init=init.KaimingNormal("fan_out", "leaky_relu", 0.1), bias_init=init.Normal()
        ),
    ],
    "Residual": [
        nn.Residual(nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5)), zero_gamma=True),
        nn.Residual(nn.Linear(5, 3), nn.Linear(5, 3)),
    ],
    "Standardize": [nn.Standardize(preprocessing.StandardScaler().fit(np.arange(35.0).reshape(7, 5) ** 2))],
    "Sequential": [nn.Sequential(nn.Linear(5, 3), nn.Sequential(nn.Tanh(), nn.Linear(3, 2)), seed=1)],
}
NAMES = [
    name for name in nn.__all__ if isinstance(getattr(nn, name), type) and name not in ("Module", "Parameter")
]


def objects_of(name):
    return LAYERS.get(name) or [getattr(nn, name)()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def round_trip(path, model):
    fastnn.save(path, model)
    return fastnn.load(path)


def all_of(module):
    """Everything but arrays that a module and those below it keep, as text."""

    def text(value):
        if isinstance(value, np.ndarray):
            return ""
        if isinstance(value, nn.Parameter):
            return f"{value!r} {value.init!r} {value.fan_in} {value.fan_out}"
        return re.sub(r" at 0x\w+", "", repr(value))

    return [
        {name: text(getattr(m, name)) for name in {"training", *vars(m)} if name[0] != "_"}
        for m in module.modules()
    ]


# ---- models


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_survives_a_file(name, path, rng):
    """A new layer comes along by itself, or is told here what to override."""
    for layer in objects_of(name):
        for parameter in layer.parameters():
            parameter.data = rng.standard_normal(parameter.data.shape)
        same = round_trip(path, layer)
        assert type(same) is type(layer)
        assert [p.name for p in same.parameters()] == [p.name for p in layer.parameters()]
        assert_state(same, layer.state_dict())
        assert all_of(same) == all_of(layer)
        x = rng.standard_normal((4, 5), np.float32)
        assert_bits(same.eval()(x), layer.eval()(x))


def test_every_layer_with_arguments_is_tried_with_other_ones():
    for name in NAMES:
        config = objects_of(name)[0]._config()
        assert not config or name in LAYERS, f"give {name} arguments of its own in LAYERS"


INITIALIZERS = {
    "Constant": lambda: init.Constant(0.5),
    "Normal": lambda: init.Normal(1.0, 0.5),
    "Sparse": lambda: init.Sparse(2, 0.5),
    "Uniform": lambda: init.Uniform(-0.5, 2.0),
    "VarianceScaling": lambda: init.VarianceScaling(2.0, "fan_avg", "uniform"),
}  # where the constructor needs arguments


def test_every_initializer_survives_a_file(path):
    kinds = [name for name in init.__all__ if isinstance(getattr(init, name), type) and name != "Initializer"]
    assert len(kinds) > 10
    for name in kinds:
        initializer = INITIALIZERS.get(name, getattr(init, name))()
        same = round_trip(path, nn.Linear(3, 3, weight_init=initializer))
        assert type(same.weight.init) is type(initializer)
        assert repr(same.weight.init) == repr(initializer)
        drawn = [f((3, 3), rng=1, fan_in=3, fan_out=3) for f in (same.weight.init, initializer)]
        assert_bits(*drawn)


def test_names_flags_modes_and_counts_survive(path, rng):
    model = nn.Sequential(*network(), nn.Dropout(0.5), nn.Linear(3, 2), seed=4)
    for _ in range(3):
        model(rng.standard_normal((4, 5), np.float32))
    model[0].weight.trainable = model[1].gamma.trainable = False
    model[1].beta.decay, model[3].weight.decay = True, False
    model[1].eval()
    same = round_trip(path, model)
    for a, b in zip(same.parameters(), model.parameters(), strict=True):
        assert (a.name, a.trainable, a.decay) == (b.name, b.trainable, b.decay)
    assert [m.training for m in same.modules()] == [m.training for m in model.modules()]
    assert (same[6].seed, same[6].forwards) == (model[6].seed, 3)
    x = rng.standard_normal((4, 5), np.float32)
    assert_bits(same(x), model(x))


def test_a_loaded_model_is_drawn_again_as_the_saved_one(path):
    model = nn.Sequential(nn.Linear(4, 3, weight_init=init.Normal(std=3.0)), nn.Dropout(), seed=1)
    same = round_trip(path, model)
    model.reset_parameters(9)
    same.reset_parameters(9)
    assert_state(same, model.state_dict())
    assert same[1].seed == model[1].seed


def test_an_initializer_of_ones_own_becomes_the_default(path):
    same = round_trip(path, nn.Linear(4, 3, weight_init=lambda shape, **_: np.ones(shape, np.float32)))
    assert_bits(same.weight.data, np.ones((4, 3), np.float32))
    assert repr(same.weight.init) == repr(init.KaimingUniform())


@pytest.mark.parametrize("special", [np.nan, np.inf, -0.0, 1e-42])
def test_every_bit_of_a_number_survives(path, special):
    layer = nn.Linear(2, 2)
    layer.weight.data = np.full((2, 2), special)
    assert_bits(round_trip(path, layer).weight.data, layer.weight.data)


@pytest.mark.parametrize(
    "spoil", [lambda a: a[::-1], lambda a: a[:, ::2], lambda a: a.T, np.asfortranarray, lambda a: a[:0]]
)
@pytest.mark.parametrize("dtype", ["f4", ">f4", "f8", "i8", "u1", "?"])
def test_arrays_of_every_layout_are_written_as_their_values(path, spoil, dtype):
    array = spoil(np.arange(24).reshape(4, 6).astype(dtype))
    _file.write(path, "test", {}, {"a": array, "one": np.array(7.0)})
    _, found = _file.read(path, "test")
    np.testing.assert_array_equal(found["a"], array)
    assert found["a"].dtype == array.dtype.newbyteorder("=")
    assert found["one"].shape == ()


def test_other_readers_find_the_arrays(path):
    model = network()
    fastnn.save(path, model)
    found = safetensors.load_file(path)
    assert sorted(found) == sorted(model.state_dict())
    for name, array in model.state_dict().items():
        assert_bits(found[name], array)


def test_a_model_has_one_file_only(path):
    model = network()
    fastnn.save(path, model)
    first = path.read_bytes()
    fastnn.save(path, model)
    assert path.read_bytes() == first


def test_the_loaded_arrays_are_parameters_as_ever(path):
    model = round_trip(path, network())
    for parameter in model.parameters():
        assert parameter.data.ctypes.data % 64 == 0
        assert parameter.data.flags.writeable
    model.backward(np.ones_like(model(np.ones((4, 5), np.float32))))


# ---- what is refused when saving


class Own(nn.ReLU):
    """A layer of the user's own, though it derives from one of fastnn."""


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (Scale(3), "Scale, no layer of fastnn"),
        (nn.Sequential(nn.ReLU(), Block()), r"layer '1' \(Block\), layer '1.rest.1' \(Scale\), no layers"),
        (nn.Sequential(nn.Linear(3, 4), nn.Residual(Own())), r"layer '1.block' \(Own\), no layer of fastnn"),
    ],
)
def test_a_layer_of_ones_own_is_refused_by_name(path, model, name):
    with pytest.raises(TypeError, match=rf"save: {name}.*model\.state_dict\(\).*your code builds"):
        fastnn.save(path, model)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("bad", [None, 3, b"x", np.ones(3), ["a"]])
def test_a_path_that_is_none(bad):
    for call in (lambda: fastnn.save(bad, network()), lambda: fastnn.load(bad)):
        with pytest.raises(TypeError, match="path must be a str or a pathlib"):
            call()


def test_other_bad_input(path):
    with pytest.raises(TypeError, match=r"save: model must be an nn\.Module, got dict"):
        fastnn.save(path, {})
    with pytest.raises(IsADirectoryError, match=r"save: .* is a folder; give the name of a file"):
        fastnn.save(path.parent, network())
    with pytest.raises(FileNotFoundError, match=r"save: there is no folder .*missing; make it"):
        fastnn.save(path.parent / "missing" / "m", network())
    assert list(path.parent.iterdir()) == []
