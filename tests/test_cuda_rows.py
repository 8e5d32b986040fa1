"""Rows of a fit that are on the device already: read where they lie, with the bits of rows of the host."""

import fake_cupy
import fake_torch
import fastnn
import numpy as np
import pytest
import shimmed
from fastnn import losses, nn, optim
from networks import assert_same_course
from small import labelled_rows

pytestmark = pytest.mark.usefixtures("device")
MAKERS = {"CuPy": fake_cupy.asarray, "PyTorch": lambda x: fake_torch.Tensor(np.array(x))}


@pytest.fixture(params=MAKERS)
def put(request, monkeypatch):
    shimmed.install_torch(monkeypatch)
    return MAKERS[request.param]


def trainer(device="cuda", loss=None, outputs=3, metrics=None):
    model = nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, outputs), seed=3)
    made = optim.Adam(model.parameters())
    return fastnn.Trainer(model, loss or losses.CrossEntropyLoss(), made, device=device, metrics=metrics)


def same_fits(put, X, Y, weight=None, **options):
    one, other = trainer(**options), trainer(**options)
    given = {"batch_size": 16, "epochs": 2}
    want = one.fit(X, Y, sample_weight=weight, validation=(X, Y), **given)
    on_device = put(X), put(Y), None if weight is None else put(weight)
    got = other.fit(*on_device[:2], sample_weight=on_device[2], validation=on_device[:2], **given)
    assert_same_course(other, one)
    for name in set(want) - {"seconds", "samples_per_second"}:
        assert got[name] == want[name], name


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "i4"])
def test_fits(put, dtype):
    X, Y = labelled_rows()
    same_fits(put, (10 * np.abs(X)).astype(dtype), Y)


def test_weights_probabilities_and_values(put):
    X, Y = labelled_rows()
    weight = np.linspace(0.5, 1, len(X)).astype(np.float32)
    same_fits(put, X, Y.astype(np.uint8), weight)
    same_fits(put, X, Y, weight.astype(np.float64))
    same_fits(put, X, np.eye(3, dtype=np.float32)[Y])
    same_fits(put, X, X[:, 0].copy(), loss=losses.MSELoss(), outputs=1)
    same_fits(put, X, Y, metrics={"hits": lambda pred, y: float(np.mean(pred.argmax(1) == y))})


def test_steps_predictions_and_scores(put):
    X, Y = labelled_rows()
    one, other = trainer(), trainer()
    for i in range(3):
        rows = slice(8 * i, 8 * i + 8)
        assert other.step(put(X[rows]), put(Y[rows])) == one.step(X[rows], Y[rows])
    assert_same_course(other, one)
    assert other.evaluate(put(X), put(Y), batch_size=7) == one.evaluate(X, Y, batch_size=7)
    got = other.predict(put(X), batch_size=7)
    assert type(got) is np.ndarray
    assert np.array_equal(got, one.predict(X, batch_size=7))
    assert np.array_equal(other.predict_class(put(X)), one.predict_class(X))


def test_nothing_of_the_rows_is_copied(put, device):
    """Beside the steps' records and the order of an epoch."""
    X, Y = np.zeros((64, 6), np.float32), np.zeros(64, np.int64)

    def moved(X, Y):
        run = trainer()
        run.step(X, Y)
        before = device.to_device()
        run.step(X, Y)
        return device.to_device() - before

    assert moved(X, Y) - moved(put(X), put(Y)) == X.nbytes + Y.nbytes


def test_a_bad_label_is_named(put):
    X, Y = labelled_rows()
    Y[30], weight = 3, np.ones(len(X))
    for make in (np.asarray, put):
        with pytest.raises(ValueError, match=r"^Trainer\.fit: Y\[30\] is 3, must be in 0\.\.2$"):
            trainer().fit(make(X), make(Y), batch_size=8, epochs=1)
        with pytest.raises(ValueError, match=r"^Trainer\.evaluate: Y\[30\] is 3, must be in 0\.\.2$"):
            trainer().evaluate(make(X), make(Y), batch_size=8)
    weight[30] = np.nan
    Y[30] = 0
    for make in (np.asarray, put):
        given = {"sample_weight": make(weight), "batch_size": 8}
        with pytest.raises(ValueError, match=r"^Trainer\.fit: sample_weight\[30\] must be .*, got nan$"):
            trainer().fit(make(X), make(Y), **given, epochs=1)
        with pytest.raises(ValueError, match=r"^Trainer\.evaluate: sample_weight\[30\] must be .*, got nan$"):
            trainer().evaluate(make(X), make(Y), **given)


def test_a_bad_validation_is_named_before_a_step(put):
    X, Y = labelled_rows()
    bad = Y.copy()
    bad[30] = 3
    run = trainer()
    for said, rows in {
        r"X must have at least one row": (X[:0], Y[:0]),
        r"Linear: x must have shape \(\.\.\., 6\)": (X[:, :5].copy(), Y),
        r"X must hold .* got float16": (X.astype(np.float16), Y),
        r"Y\[30\] is 3, must be in 0\.\.2": (X, bad),
        r"CrossEntropyLoss: target must hold integer class ids": (X, Y.astype(np.float32)),
    }.items():
        with pytest.raises((TypeError, ValueError), match=rf"^Trainer\.fit: validation: {said}"):
            run.fit(put(X), put(Y), batch_size=8, epochs=1, validation=tuple(map(put, rows)))
    assert run.optimizer.step_count == 0


def test_what_is_refused(put, monkeypatch):
    X, Y = labelled_rows()
    calls = {
        "fit": lambda run, X, Y: run.fit(X, Y, batch_size=8, epochs=1),
        "step": lambda run, X, Y: run.step(X, Y),
        "evaluate": lambda run, X, Y: run.evaluate(X, Y),
        "predict": lambda run, X, Y: run.predict(X),
    }
    for name, call in calls.items():
        with pytest.raises(
            TypeError, match=rf"Trainer\.{name}: [xX] lies on a CUDA device and the model on the CPU"
        ):
            call(trainer("cpu"), put(X), put(Y))
        with pytest.raises(
            TypeError, match=rf"Trainer(\.{name})?: [xX] must hold .* on a device, got float16"
        ):
            call(trainer(), put(X.astype(np.float16)), put(Y))
        with pytest.raises(
            ValueError, match=rf"Trainer(\.{name})?: [xX] must have contiguous rows on a device"
        ):
            call(trainer(), put(np.repeat(X, 2, 1))[:, ::2], put(Y))
    with pytest.raises(TypeError, match=r"^pretrain_layerwise: X lies on a CUDA device and the model on the"):
        fastnn.pretrain_layerwise(nn.Sequential(nn.Linear(6, 3), nn.ReLU()), put(X), epochs=1)
    with pytest.raises(ValueError, match=r"sample_weight must be C-contiguous on a device"):
        trainer().fit(put(X), put(Y), batch_size=8, epochs=1, sample_weight=put(np.ones(2 * len(X)))[::2])
    monkeypatch.setattr(fake_torch.stream, "cuda_stream", 96)
    if put is MAKERS["PyTorch"]:
        with pytest.raises(ValueError, match=r"Trainer\.step: x is ordered on another stream"):
            trainer().step(put(X), put(Y))
