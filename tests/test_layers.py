"""Dropout, Flatten and Residual as layers, and Linear on more than two axes."""

import copy
import pickle

import fastnn
import numpy as np
import pytest
from bounds import assert_bits, host
from custom import Identity, Square
from fastnn import losses, nn, ops, optim
from small import labelled_rows

# ---- dropout


def test_dropout_forward_and_backward_use_one_mask(isa, rng):
    layer = nn.Dropout(0.3, rng=0)
    x, dy = rng.standard_normal((2, 40, 50), np.float32)
    for step in range(3):
        assert_bits(layer(x), ops.dropout(x, 0.3, seed=layer.seed, step=step))
        for _ in range(2):
            assert_bits(layer.backward(dy), ops.dropout(dy, 0.3, seed=layer.seed, step=step))
    assert layer.backward(dy, input_grad=False) is None
    assert layer.forwards == 3


def test_dropout_in_evaluation_is_the_identity_and_does_not_count(rng):
    layer = nn.Dropout(0.3, rng=0).eval()
    x = rng.standard_normal((4, 5), np.float32)
    assert layer(x) is x
    assert layer.forwards == 0
    assert_bits(layer.train()(x), ops.dropout(x, 0.3, seed=layer.seed, step=0))


def test_dropout_by_keep_probability():
    assert nn.Dropout().p == 0.5
    assert nn.Dropout(keep=0.75).p == 0.25
    assert nn.Dropout(keep=1).p == 0
    assert nn.Dropout(keep=0).p == 1
    assert repr(nn.Dropout(keep=0.75)).startswith("Dropout(p=0.25)")


@pytest.mark.parametrize("p", [0, 1])
def test_dropout_of_nothing_and_of_all(p, rng):
    layer = nn.Dropout(p, rng=0)
    x = rng.standard_normal((4, 5), np.float32)
    assert_bits(layer(x), x if p == 0 else np.zeros_like(x))
    assert_bits(layer.backward(x), x if p == 0 else np.zeros_like(x))


def with_dropout(seed=0):
    return nn.Sequential(
        nn.Linear(6, 16),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(16, 16),
        nn.Dropout(),
        nn.Linear(16, 3),
        seed=seed,
    )


def test_two_dropouts_of_a_model_have_different_masks():
    model = with_dropout()
    x = np.ones((8, 16), np.float32)
    assert model[2].seed != model[4].seed
    assert np.any((model[2](x) == 0) != (model[4](x) == 0))
    assert with_dropout(1)[2].seed != model[2].seed


def test_dropout_does_not_change_the_weights_drawn():
    """Seeds are drawn after all weights."""
    plain = nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 3), seed=0)
    for one, other in zip(plain.parameters(), with_dropout().parameters(), strict=True):
        assert_bits(one.data, other.data)


def train(model, steps=5):
    X, Y = labelled_rows()
    optimizer, loss = optim.SGD(model.parameters(), lr=0.1), losses.CrossEntropyLoss()
    values = []
    for _ in range(steps):
        value, grad = loss(model(X), Y)
        model.backward(grad)
        optimizer.step()
        values.append(value)
    return values


def test_training_twice_from_one_seed_draws_the_same_masks():
    model = with_dropout()
    once = train(model)
    assert train(with_dropout()) == once
    assert train(with_dropout(1)) != once
    model.reset_parameters(0)
    assert model[2].forwards == 0
    assert train(model) == once


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_go_on_with_the_masks(duplicate):
    model = with_dropout()
    train(model)
    other = duplicate(model)
    assert train(other) == train(model)


def test_a_state_goes_on_with_the_masks_once_seed_and_count_are_set():
    model, other = with_dropout(0), with_dropout(1)
    train(model)
    state = model.state_dict()
    assert sorted(state) == sorted(f"{i}.{name}" for i in (0, 3, 5) for name in ("weight", "bias"))
    other.load_state_dict(state)
    for one, two in zip(model, other, strict=True):
        if isinstance(one, nn.Dropout):
            two.seed, two.forwards = one.seed, one.forwards
    assert train(other) == train(model)


# ---- flatten


def test_flatten(rng):
    layer = nn.Flatten()
    x = rng.standard_normal((3, 4, 5, 2), np.float32)
    y = layer(x)
    assert_bits(y, x.reshape(3, 40))
    assert np.shares_memory(x, y)
    assert_bits(layer.backward(y), x)
    assert_bits(layer(x.transpose(0, 3, 1, 2)), x.transpose(0, 3, 1, 2).reshape(3, 40))
    for shape, flat in (((0, 4, 5), (0, 20)), ((3, 0, 2), (3, 0)), ((3, 4), (3, 4))):
        assert layer(np.zeros(shape, np.float32)).shape == flat
        assert layer.backward(np.zeros(flat, np.float32)).shape == shape


@pytest.mark.parametrize("last", [nn.Flatten, Identity, lambda: nn.Sequential(nn.Flatten(), Identity())])
def test_a_result_passed_on_may_be_changed_before_backward(last, rng):
    """What leaves the model is never the fused result that backward reads."""
    x, dy = rng.standard_normal((6, 4), np.float32), rng.standard_normal((6, 3), np.float32)
    one, other = (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), last(), seed=0) for _ in range(2))
    one(x)
    other(x)[...] = -1
    assert_bits(other.backward(dy), one.backward(dy))
    assert_bits(other[0].weight.grad, one[0].weight.grad)


# ---- residual


def test_residual_without_shortcut(rng):
    block = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), seed=0)
    layer = nn.Residual(block)
    x, dy = rng.standard_normal((2, 5, 4), np.float32)
    kept = x.copy(), dy.copy()
    assert_bits(layer(x), block(x) + x)
    assert_bits(layer.backward(dy), block.backward(dy) + dy)
    assert_bits(x, kept[0])
    assert_bits(dy, kept[1])


def test_residual_with_shortcut(rng):
    block, shortcut = nn.Linear(4, 3, rng=0), nn.Linear(4, 3, rng=1)
    layer = nn.Residual(block, shortcut)
    x, dy = rng.standard_normal((5, 4), np.float32), rng.standard_normal((5, 3), np.float32)
    assert_bits(layer(x), block(x) + shortcut(x))
    assert_bits(layer.backward(dy), block.backward(dy) + shortcut.backward(dy))
    grad = block.weight.grad.copy()
    layer.backward(dy, accumulate=True)
    assert_bits(block.weight.grad, 2 * grad)
    assert layer.backward(dy, input_grad=False) is None
    names = [p.name for p in nn.Sequential(layer).parameters()]
    assert names == ["0.block.weight", "0.block.bias", "0.shortcut.weight", "0.shortcut.bias"]


def test_residual_sums_what_layers_of_ones_own_give(isa, rng):
    """Any layout and real numbers, as every layer takes them; the terms are added once, in float32."""

    class Wide(Square):
        def forward(self, x):
            return np.repeat(np.float64(super().forward(x)), 2, axis=-1)[..., ::2]

        def backward(self, dy, **given):
            return np.asfortranarray(super().backward(dy, **given))

    layer = nn.Residual(Wide())
    for shape in ((0, 3), (3, 5), (2, 3, 7), (300, 401)):
        x, dy = rng.standard_normal((2, *shape), np.float32)
        assert_bits(layer(x), x * x + x)
        assert_bits(layer.backward(dy), 2 * x * dy + dy)


def test_residual_results_are_new_arrays(rng):
    """Blocks and shortcuts that pass their argument on do not make the sum an array of the caller."""
    x = rng.standard_normal((5, 4), np.float32)
    layer = nn.Residual(Identity(), Identity())
    y = layer(x)
    dx = layer.backward(x)
    assert not np.shares_memory(y, x)
    assert not np.shares_memory(dx, x)
    assert_bits(y, 2 * x)


def zero_gamma_model(seed=0):
    block = nn.Sequential(
        *(nn.Linear(6, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU()),
        *(nn.Linear(6, 6, bias=False), nn.BatchNorm1d(6)),
    )
    return nn.Sequential(nn.Residual(block, zero_gamma=True), nn.Linear(6, 3), seed=seed)


def test_a_zero_gamma_block_adds_nothing_at_first(isa, rng):
    """The last gamma alone is 0, as it is after every reset; then only it has a gradient in the block."""
    model = zero_gamma_model()
    assert "Residual(zero_gamma=True)" in repr(model)
    x = rng.standard_normal((9, 6), np.float32)
    dy = rng.standard_normal((9, 6), np.float32)
    for seed in (None, 0, 5):
        if seed is not None:
            model.reset_parameters(seed)
        residual = model[0]
        last, first = residual.block[4], residual.block[1]
        assert not last.gamma.data.any()
        assert (first.gamma.data == 1).all()
        assert_bits(residual(x), x)
        assert_bits(residual.backward(dy), dy)
        assert last.gamma.grad.any()
        assert not residual.block[0].weight.grad.any()
    model.reset_parameters(0, init={"0.block.4.gamma": lambda shape, **_: np.full(shape, 2, np.float32)})
    assert (last.gamma.data == 2).all()


@pytest.mark.usefixtures("place")
def test_a_zero_gamma_block_learns(restore_runtime):
    X, Y = labelled_rows()
    model = zero_gamma_model()
    trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.3))
    history = trainer.fit(X, Y, batch_size=10, epochs=20, progress=False)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert host(model[0].block[4].gamma.data).all()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_keep_zero_gamma(duplicate):
    model = duplicate(zero_gamma_model())
    model[0].block[4].gamma.data = np.ones(6)
    model.reset_parameters(1)
    assert not model[0].block[4].gamma.data.any()


def test_zero_gamma_finds_the_last_batch_norm_of_any_block():
    lone = nn.Residual(nn.BatchNorm1d(4), zero_gamma=True)
    assert not lone.block.gamma.data.any()
    inner = nn.Residual(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    outer = nn.Residual(nn.Sequential(nn.BatchNorm1d(4), inner), nn.BatchNorm1d(4), zero_gamma=True)
    assert not inner.block[1].gamma.data.any()
    assert outer.block[0].gamma.data.all()
    assert outer.shortcut.gamma.data.all()


def test_residual_in_evaluation_and_repr():
    layer = nn.Residual(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), nn.Linear(4, 4, bias=False))
    layer.eval()
    assert layer(np.ones((1, 4), np.float32)).shape == (1, 4)
    lines = repr(layer).splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:-1]] == ["block", "0", "1", "shortcut"]
    assert lines[-1] == "44 parameters"


# ---- linear on more than two axes


@pytest.mark.parametrize("lead", [(2, 3), (1, 1), (2, 3, 4), (0, 3), (2, 0, 3)], ids=str)
def test_linear_takes_all_axes_but_the_last_as_rows(isa, lead, rng):
    x, dy = rng.standard_normal((*lead, 5)).astype("f4"), rng.standard_normal((*lead, 4)).astype("f4")
    deep, flat = nn.Linear(5, 4, rng=0), nn.Linear(5, 4, rng=0)
    y, want = deep(x), flat(x.reshape(-1, 5))
    assert y.shape == dy.shape
    assert_bits(y.reshape(-1, 4), want)
    dx, dwant = deep.backward(dy), flat.backward(dy.reshape(-1, 4))
    assert dx.shape == x.shape
    assert_bits(dx.reshape(-1, 5), dwant)
    assert_bits(deep.weight.grad, flat.weight.grad)
    assert_bits(deep.bias.grad, flat.bias.grad)


def test_fused_layers_on_more_than_two_axes(isa, rng):
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2), seed=0)
    x, dy = rng.standard_normal((6, 3, 5), np.float32), rng.standard_normal((6, 3, 2), np.float32)
    y, dx = model(x), model.backward(dy)
    assert_bits(model(x.reshape(18, 5)), y.reshape(18, 2))
    assert_bits(model.backward(dy.reshape(18, 2)), dx.reshape(18, 5))


def test_linear_of_strided_axes(rng):
    x = rng.standard_normal((3, 5, 4), np.float32).transpose(2, 0, 1)
    layer = nn.Linear(5, 2, rng=0)
    assert_bits(layer(x), layer(np.ascontiguousarray(x)))


# ---- all of them in a trainer


@pytest.mark.slow_on_shim
@pytest.mark.usefixtures("place")
def test_a_trainer_works_with_all_of_these(restore_runtime):
    X, Y = labelled_rows()

    def fit(threads):
        fastnn.set_num_threads(threads)
        block = nn.Sequential(nn.Linear(16, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1))
        model = nn.Sequential(
            nn.Flatten(),
            nn.Linear(6, 16),
            nn.ReLU(),
            nn.Residual(block),
            Square(),
            nn.Dropout(keep=0.9),
            nn.Linear(16, 3),
            seed=3,
        )
        # For a loss of fastnn the trainer would refuse the layer of one's own.
        own_loss = lambda pred, target: losses.CrossEntropyLoss()(pred, target)  # noqa: E731
        trainer = fastnn.Trainer(model, own_loss, optim.Adam(model.parameters(), lr=0.01))
        history = trainer.fit(X.reshape(-1, 2, 3), Y, batch_size=7, epochs=20, progress=False)
        assert trainer.evaluate(X.reshape(-1, 2, 3), Y) == trainer.evaluate(X.reshape(-1, 2, 3), Y)
        return history["loss"], model.state_dict()

    one, other = fit(1), fit(2)
    assert one[0] == other[0]
    assert one[0][-1] < 0.5 * one[0][0]
    for name, array in one[1].items():
        assert_bits(array, other[1][name], name)
