"""Layers: forward, backward, modes, fusion, and the memory of parameters."""

import numpy as np
import pytest
import reference as ref
from bounds import assert_bits, host
from device_places import There
from fastnn import nn, ops
from small import assert_state, network


def unfused(activation):
    """A subclass is never fused: it may do anything."""
    return type(f"Unfused{activation.__name__}", (activation,), {})


# Fused in training and in evaluation, or in evaluation alone: backward needs the result before.
FUSED = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "selu": nn.SELU,
}
FUSED_IN_EVALUATION = {
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU("tanh"),
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
}


# ---- forward and backward


@pytest.mark.usefixtures("place")
def test_linear_forward(isa, rng):
    x = rng.standard_normal((7, 5), np.float32)
    layer = nn.Linear(5, 3, rng=1)
    layer.bias.data = rng.standard_normal(3)
    weight, bias = layer.weight.data, layer.bias.data
    layer = There(layer)
    np.testing.assert_allclose(layer(x), ref.gemm(x, weight, bias=bias), rtol=1e-5, atol=1e-6)
    assert layer(x).dtype == np.float32
    assert_bits(layer(x), ops.gemm(x, weight, bias=bias))


def test_linear_without_bias_has_none():
    layer = nn.Linear(5, 3, bias=False)
    assert layer.bias is None
    assert [p.name for p in layer.parameters()] == ["weight"]
    layer(np.ones((2, 5), np.float32))
    layer.backward(np.ones((2, 3), np.float32))


@pytest.mark.usefixtures("place")
def test_batch_norm_training_and_evaluation(isa, rng):
    x = 3 + 2 * rng.standard_normal((40, 6), np.float32)
    layer = nn.BatchNorm1d(6, eps=1e-3, momentum=0.25)
    layer.gamma.data, layer.beta.data = rng.standard_normal(6), rng.standard_normal(6)
    gamma, beta = layer.gamma.data, layer.beta.data
    layer = There(layer)
    want, mean, var, _ = ref.batch_norm(x, gamma, beta, eps=1e-3)
    np.testing.assert_allclose(layer(x), want, rtol=1e-5, atol=1e-5)
    running_mean, running_var = host(layer.running_mean), host(layer.running_var)
    np.testing.assert_allclose(running_mean, ref.running(np.zeros(6), mean, 0.25), rtol=1e-5)
    unbiased = ref.unbiased(var, 40)
    np.testing.assert_allclose(running_var, ref.running(np.ones(6), unbiased, 0.25), rtol=1e-5)
    layer.eval()
    before = layer.state_dict()
    want, *_ = ref.batch_norm(x, gamma, beta, eps=1e-3, mean=running_mean, var=running_var)
    np.testing.assert_allclose(layer(x), want, rtol=1e-5, atol=1e-5)
    assert_state(layer, before)


@pytest.mark.usefixtures("place")
def test_batch_norm_takes_all_axes_but_the_last(rng):
    x = rng.standard_normal((4, 5, 6), np.float32)
    flat, deep = There(nn.BatchNorm1d(6)), There(nn.BatchNorm1d(6))
    y = deep(x)
    assert_bits(y.reshape(20, 6), flat(x.reshape(20, 6)))
    dy = rng.standard_normal(y.shape, np.float32)
    assert_bits(deep.backward(dy).reshape(20, 6), flat.backward(dy.reshape(20, 6)))
    assert_bits(deep.running_var, flat.running_var)


@pytest.mark.usefixtures("place")
def test_batch_norm_refuses_one_row_before_anything_changes():
    layer = There(nn.BatchNorm1d(3))
    before = layer.state_dict()
    with pytest.raises(ValueError, match="batch_norm"):
        layer(np.ones((1, 3), np.float32))
    assert_state(layer, before)
    layer.eval()
    assert layer(np.ones((1, 3), np.float32)).shape == (1, 3)


@pytest.mark.usefixtures("place")
def test_relu_passes_nan_and_has_derivative_0_at_0():
    layer = There(nn.ReLU())
    y = layer(np.array([-1.0, 0.0, 2.0, np.nan], np.float32))
    np.testing.assert_array_equal(y, [0.0, 0.0, 2.0, np.nan])
    dx = layer.backward(np.full(4, 5, np.float32))
    np.testing.assert_array_equal(dx[:3], [0.0, 0.0, 5.0])


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.uint8, np.float16, ">f4", bool])
@pytest.mark.parametrize("make", [lambda: nn.Linear(4, 3, rng=0), lambda: nn.BatchNorm1d(4), nn.ReLU])
def test_inputs_and_gradients_of_other_dtypes_are_converted(make, dtype, rng):
    x = rng.integers(0, 3, (6, 4)).astype(dtype)
    one, other = make(), make()
    want = one(x.astype(np.float32))
    assert_bits(other(x), want)
    dy = rng.integers(0, 3, want.shape)
    assert_bits(other.backward(dy.astype(dtype)), one.backward(dy.astype(dtype).astype(np.float32)))


def test_forward_and_backward_leave_their_arguments_and_earlier_results(rng, place):
    model = network().to(place.device)
    x, dy = rng.standard_normal((9, 5), np.float32), rng.standard_normal((9, 3), np.float32)
    kept = x.copy(), dy.copy()
    x, dy = place.put(x), place.put(dy)
    results = [model(x), model.backward(dy)]
    copies = [result.copy() for result in results]
    model(2 * x)
    model.backward(3 * dy)
    model.eval()(x)
    for array, before in zip([x, dy, *results], [*kept, *copies], strict=True):
        assert_bits(array, before)


def test_the_result_of_the_last_relu_may_be_changed_before_backward(rng, place):
    x, dy = (place.put(rng.standard_normal(shape, np.float32)) for shape in ((6, 4), (6, 3)))
    one, other = (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), seed=0).to(place.device) for _ in range(2))
    one(x)
    y = other(x)
    y[...] = -1
    assert_bits(other.backward(dy), one.backward(dy))


def test_backward_overwrites_and_accumulates(rng, place):
    x, dy = (place.put(rng.standard_normal(shape, np.float32)) for shape in ((9, 5), (9, 3)))
    model = network().to(place.device)
    for parameter in model.parameters():
        parameter.grad = np.full(parameter.grad.shape, np.nan)
    model(x)
    model.backward(dy)
    once = [host(p.grad).copy() for p in model.parameters()]
    assert all(np.isfinite(grad).all() for grad in once)
    assert all(np.any(grad) for grad in once)
    model.backward(dy)
    for parameter, grad in zip(model.parameters(), once, strict=True):
        assert_bits(parameter.grad, grad, parameter.name)
    model.backward(dy, accumulate=True)
    for parameter, grad in zip(model.parameters(), once, strict=True):
        found = host(parameter.grad)
        np.testing.assert_allclose(found, 2 * grad, rtol=1e-5, atol=1e-5, err_msg=parameter.name)


def test_without_input_grad_the_first_dx_is_not_computed(rng, monkeypatch):
    x, dy = rng.standard_normal((9, 5), np.float32), rng.standard_normal((9, 3), np.float32)
    one, other = network(), network()
    one(x)
    assert one.backward(dy).shape == x.shape
    asked = []
    linear_backward = ops.linear_backward
    monkeypatch.setattr(
        ops, "linear_backward", lambda *a, **k: asked.append(k["need_dx"]) or linear_backward(*a, **k)
    )
    other(x)
    assert other.backward(dy, input_grad=False) is None
    assert asked == [True, True, False]
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert_bits(a.grad, b.grad, a.name)


@pytest.mark.parametrize("make", [lambda: nn.Linear(3, 3, rng=0), lambda: nn.BatchNorm1d(3), nn.ReLU])
def test_no_layer_gives_an_input_gradient_that_is_not_wanted(make):
    layer = make()
    y = layer(np.eye(3, dtype=np.float32))
    assert layer.backward(y, input_grad=False) is None


def test_layers_without_parameters_in_front_do_no_work(monkeypatch, rng):
    model = nn.Sequential(nn.ReLU(), nn.Linear(4, 2), seed=0)
    model(rng.standard_normal((3, 4), np.float32))
    monkeypatch.setattr(nn.ReLU, "backward", lambda *a, **k: pytest.fail("dx of the input was not asked for"))
    assert model.backward(np.ones((3, 2), np.float32), input_grad=False) is None


def test_a_part_of_a_sequential_is_one(rng):
    """Of the same layers, which keep the names that they have in the whole."""
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), seed=0)
    whole = nn.Sequential(nn.Identity(), model)
    part = model[1:]
    assert type(part) is nn.Sequential
    assert list(part) == list(model)[1:]
    x = rng.standard_normal((5, 4), np.float32)
    assert_bits(model[1:](model[:1](x)), model(x))
    assert [p.name for p in whole.parameters()] == ["1.0.weight", "1.0.bias", "1.2.weight", "1.2.bias"]
    with pytest.raises(ValueError, match="at least one layer"):
        model[3:]


@pytest.mark.parametrize("make", [lambda: nn.Linear(3, 3), lambda: nn.BatchNorm1d(3), nn.ReLU])
def test_backward_needs_a_training_forward(make):
    layer = make()
    x = np.eye(3, dtype=np.float32)
    with pytest.raises(RuntimeError, match=rf"{type(layer).__name__}\.backward: no training-mode forward"):
        layer.backward(x)
    layer(x)
    layer.backward(x)
    layer.eval()(x)
    with pytest.raises(RuntimeError, match="no training-mode forward"):
        layer.backward(x)


# ---- fusion


def test_every_kind_is_fused():
    assert set(FUSED) | set(FUSED_IN_EVALUATION) == set(ref.ACTIVATIONS)


@pytest.mark.parametrize("kind", ref.ACTIVATIONS)
def test_fused_activations_are_bit_equal_to_single_layers(isa, kind, rng, place, monkeypatch):
    x = place.put(rng.standard_normal((50, 5), np.float32))
    dy = place.put(rng.standard_normal((50, 3), np.float32))
    make = {**FUSED, **FUSED_IN_EVALUATION}[kind]

    def single_layer():
        layer = make()
        layer.__class__ = unfused(type(layer))
        return layer

    def unused(*arguments, **options):
        pytest.fail("the activation was not fused")

    single, fused = (network(activation=kind).to(place.device) for kind in (single_layer, make))
    y = single(x)
    with monkeypatch.context() as patch:
        if kind in FUSED:
            patch.setattr(ops, "activation", unused)
        assert_bits(fused(x), y)
        assert_bits(fused.backward(dy), single.backward(dy))
    for a, b in zip(fused.parameters(), single.parameters(), strict=True):
        assert_bits(a.grad, b.grad, a.name)
    fused.backward(dy, accumulate=True)
    single.backward(dy, accumulate=True)
    for a, b in zip(fused.parameters(), single.parameters(), strict=True):
        assert_bits(a.grad, b.grad, a.name)
    assert_state(fused, single.state_dict())
    y = single.eval()(x)
    monkeypatch.setattr(ops, "activation", unused)
    assert_bits(fused.eval()(x), y)


@pytest.mark.parametrize(
    ("make", "alone"),
    [
        (lambda: nn.LeakyReLU(0.2), True),
        (lambda: nn.ELU(0.5), True),
        (lambda: nn.LeakyReLU(0.01), False),
        (lambda: nn.ELU(1.0), False),
    ],
)
def test_an_alpha_of_its_own_is_not_fused(make, alone, rng, monkeypatch):
    """Kernels know the default only."""
    x, calls = rng.standard_normal((8, 5), np.float32), []
    model = nn.Sequential(nn.Linear(5, 4), make(), nn.Linear(4, 2), seed=0)
    want = model[2](make()(model[0](x)))
    activation = ops.activation
    monkeypatch.setattr(ops, "activation", lambda *a, **k: calls.append(a) or activation(*a, **k))
    assert_bits(model(x), want)
    assert bool(calls) == alone


def test_a_subclass_is_never_fused(rng):
    class Doubled(nn.ReLU):
        def forward(self, x):
            return 2 * super().forward(x)

    x = rng.standard_normal((4, 5), np.float32)
    assert_bits(nn.Sequential(nn.ReLU(), Doubled(), nn.ReLU())(x), 2 * np.maximum(x, 0))
    first, last = nn.Linear(5, 3, rng=0), nn.Linear(3, 2, rng=1)
    want = last(2 * np.maximum(first(x), 0))
    assert_bits(nn.Sequential(first, Doubled(), last)(x), want)


# ---- parameters


def test_parameter_memory_is_fixed_and_aligned():
    for shape in [(), (3,), (5, 7), (64, 33)]:
        p = nn.Parameter(np.ones(shape))
        data, grad = p.data, p.grad
        assert data.dtype == grad.dtype == np.float32
        assert data.shape == grad.shape == shape
        assert data.ctypes.data % 64 == grad.ctypes.data % 64 == 0
        assert data.flags.c_contiguous
        assert data.flags.writeable
        p.data, p.grad = np.full(shape, 2), np.full(shape, 3.5)
        p.data *= 2
        assert p.data is data
        assert p.grad is grad
        assert np.all(data == 4)
        assert np.all(grad == 3.5)


def test_parameter_copies_its_value():
    value = np.ones(3, np.float32)
    p = nn.Parameter(value)
    value[0] = 7
    assert p.data.tolist() == [1, 1, 1]


def test_layer_flags_and_names():
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), nn.Linear(2, 2), seed=0)
    flags = {p.name: p.decay for p in model.parameters()}
    assert flags == {
        "0.0.weight": True,
        "0.0.bias": False,
        "0.1.gamma": False,
        "0.1.beta": False,
        "1.weight": True,
        "1.bias": False,
    }
    assert all(p.trainable for p in model.parameters())
    assert [p.name for p in nn.Linear(2, 2).parameters()] == ["weight", "bias"]


def test_training_updates_the_very_arrays_of_the_parameters(rng):
    model = network()
    arrays = [(p.data, p.grad) for p in model.parameters()]
    model(rng.standard_normal((4, 5)))
    model.backward(rng.standard_normal((4, 3)))
    model.reset_parameters(1)
    model.load_state_dict(network(2).state_dict())
    for p, (data, grad) in zip(model.parameters(), arrays, strict=True):
        assert p.data is data
        assert p.grad is grad
