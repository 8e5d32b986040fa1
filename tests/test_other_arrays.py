"""Layers, losses and the trainer take tensors and whatever else has `__array__` or speaks DLPack."""

import numpy as np
import pytest
import small
from bounds import assert_bits
from fastnn import losses, nn
from fastnn._arrays import as_array
from producers import CUDA, Producer, Wrapper


class Frame:
    """What is left of a data frame: columns that NumPy may ask for."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


MAKERS = {"DLPack": Wrapper, "__array__": Frame}
try:
    import torch
except ImportError:
    torch = None
else:
    MAKERS["PyTorch"] = torch.from_numpy


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


def test_memory_is_shared(make):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.shares_memory(as_array(make(x), "x"), x)
    assert as_array(x, "x") is x


def test_layers_and_losses(make):
    X, Y = small.labelled_rows()
    model, same = small.layers(), small.layers()
    pred, want = model(make(X)), same(X)
    assert_bits(pred, want)
    loss = losses.CrossEntropyLoss()
    value, gradient = loss(make(pred), make(Y))
    assert (value, gradient.tobytes()) == (loss(want, Y)[0], loss(want, Y)[1].tobytes())
    assert_bits(model.backward(make(gradient)), same.backward(gradient))


def test_float64_is_converted(make):
    X, _ = small.labelled_rows()
    assert_bits(small.layers()(make(X.astype(np.float64))), small.layers()(X))


@pytest.mark.usefixtures("place")
def test_trainer(make):
    X, Y = small.labelled_rows()
    one, other = small.trainer(), small.trainer()
    weight = np.linspace(0.5, 1.5, len(X), dtype=np.float32)
    options = {"batch_size": 16, "epochs": 2, "progress": False}
    history = one.fit(
        make(X), make(Y), sample_weight=make(weight), validation=(make(X[:20]), make(Y[:20])), **options
    )
    want = other.fit(X, Y, sample_weight=weight, validation=(X[:20], Y[:20]), **options)
    assert history["loss"] == want["loss"]
    assert history["val_accuracy"] == want["val_accuracy"]
    small.assert_same_model(one, other)
    assert one.step(make(X), make(Y)) == other.step(X, Y)
    assert one.evaluate(make(X), make(Y)) == other.evaluate(X, Y)
    assert_bits(one.predict(make(X)), other.predict(X))


def test_parameters_and_state(make):
    p = nn.Parameter(make(np.ones((2, 3), np.float32)))
    p.data = make(np.full((2, 3), 2.0))
    assert (p.data == 2).all()
    with pytest.raises(ValueError, match=r"data must have shape \(2, 3\), got \(3,\)"):
        p.data = make(np.ones(3, np.float32))  # would broadcast
    model, other = small.layers(), small.layers()
    state = {name: np.array(a) + np.float32(1) for name, a in other.state_dict().items()}
    given = {name: make(a) for name, a in state.items()}
    if any(hasattr(a, "detach") for a in given.values()):  # a square weight would load wrongly in silence
        with pytest.raises(TypeError, match=r"is a Tensor; pass layout=\"pytorch\""):
            model.load_state_dict(given)
        return
    model.load_state_dict(given)
    small.assert_state(model, state)


def test_what_cannot_be_read():
    class Refuses:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("call tensor.detach() first")

    layer = nn.Linear(3, 2)
    with pytest.raises(
        TypeError, match=r"Linear: x cannot be read as a NumPy array: call tensor\.detach\(\)"
    ):
        layer(Refuses())
    with pytest.raises(TypeError, match=r"Linear: x cannot be read as a NumPy array"):
        layer(Producer(np.ones((2, 3), np.float32), device=(CUDA, 0), device_type=CUDA))
    for odd in ([[1.0] * 3], 1.0, np.float32(1), np.ndarray, Frame, "abc", None):
        with pytest.raises(TypeError, match=r"Linear: x must be a NumPy array, got"):
            layer(odd)


@pytest.mark.skipif(torch is None, reason="needs PyTorch: pip install torch")
def test_a_tensor_that_requires_grad():
    with pytest.raises(TypeError, match=r"Linear: x cannot be read as a NumPy array: .*detach\(\)"):
        nn.Linear(3, 2)(torch.ones(2, 3, requires_grad=True))
