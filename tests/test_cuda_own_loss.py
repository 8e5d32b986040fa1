"""A loss of one's own in Trainer(device="cuda"): layer by layer on CuPy's arrays, with the host's bits.

Run by the shim and CuPy's stand-in.
"""

import copy
import warnings

import fake_cupy
import fake_torch
import fastnn
import numpy as np
import pytest
import shimmed
from custom import Scale, Square
from fastnn import callbacks, losses, nn, optim
from networks import DEVICE_FITS, DEVICE_STEPS, assert_same_course, seeded, state
from runs import assert_equal_tree
from small import labelled_rows

pytestmark = [
    pytest.mark.usefixtures("device"),
    pytest.mark.filterwarnings("ignore:Rprop follows"),
]
CLOCKS = {"seconds", "samples_per_second"}


class Own:
    """What another loss gives."""

    def __init__(self, loss):
        self.loss = loss

    def __call__(self, pred, target, weight=None):
        return self.loss(pred, target, weight)


class Mine(losses.CrossEntropyLoss):
    """With the metrics of one of fastnn, and its `total_weight`."""


def cubes(pred, target, weight=None):
    """Arithmetic of the array's own library; target: class ids or numbers of pred's shape."""
    gap = pred - target if target.ndim == 2 else pred * (target * 0.5 + 1).reshape(-1, 1).astype(np.float32)
    if weight is not None:
        gap = gap * weight.reshape(-1, 1).astype(np.float32)
    return float((gap * gap * gap).sum()) / len(pred), gap * gap * np.float32(3 / len(pred))


def trainer(device="cpu", loss=cubes, layers=(), optimizer=optim.Adam, metrics=None, **options):
    hidden = nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), *layers, nn.Dropout(0.3)
    model = nn.Sequential(*copy.deepcopy(hidden), nn.Linear(9, 3), seed=3)
    made = optimizer(model.parameters(), **options)
    return fastnn.Trainer(model, loss, made, device=device, metrics=metrics)


def pair(**options):
    return [trainer(device, **options) for device in ("cpu", "cuda")]


def assert_same_history(got, want):
    assert got.keys() == want.keys()
    for name in set(want) - CLOCKS:
        assert got[name] == want[name] or np.isnan([got[name], want[name]]).all(), name


@pytest.fixture
def rows():
    return labelled_rows()


# ---- the host's bits


@pytest.mark.parametrize("seed", DEVICE_STEPS)
def test_steps_are_the_hosts(seed):
    """Every layer, rule, schedule and clip; loss, parameters, slots and counters of dropout."""
    problem = seeded(seed)
    problem.loss = Own(problem.loss)
    one, other = problem.trainer(), problem.trainer(device="cuda")
    for count, batch in enumerate([*problem.batches(0), *problem.batches(1)][:3]):
        want, got = one.step(*batch), other.step(*batch)
        assert type(got) is float
        assert np.array_equal(got, want, equal_nan=True)
        assert_same_course(other, one, count)


@pytest.mark.parametrize("seed", DEVICE_FITS)
def test_a_fit_is_the_hosts(seed):
    problem = seeded(seed)
    problem.loss = Own(problem.loss)
    one, other = problem.trainer(seed=3), problem.trainer(seed=3, device="cuda")
    given = {"batch_size": problem.batch_size, "epochs": 2, "sample_weight": problem.weight}
    histories = [
        run.fit(problem.X, problem.Y, validation=(problem.X, problem.Y), **given) for run in (one, other)
    ]
    assert_same_course(other, one)
    assert_same_history(*histories)
    for batch_size in (7, 1024):
        got = other.predict(problem.X, batch_size=batch_size)
        assert type(got) is np.ndarray
        assert np.array_equal(got, one.predict(problem.X), equal_nan=True)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("layers", [(), (Scale(9), nn.Residual(Square()))], ids=["", "own layers"])
def test_arithmetic_of_the_loss_and_of_layers(rows, layers, weighted):
    X, Y = rows
    weight = np.linspace(0.5, 1.5, len(X)) if weighted else None
    for targets in (Y, Y.astype(">i2"), np.eye(3)[Y].astype("f4")):
        one, other = pair(layers=layers, lr=lambda t: 0.1 / (1 + t))
        histories = [
            run.fit(X, targets, batch_size=8, epochs=2, sample_weight=weight) for run in (one, other)
        ]
        assert other.step(X, targets, weight) == one.step(X, targets, weight)
        assert_same_course(other, one)
        assert_same_history(*histories)
        assert other.evaluate(X, targets, sample_weight=weight) == one.evaluate(
            X, targets, sample_weight=weight
        )
        assert np.array_equal(other.predict(X, batch_size=9), one.predict(X))
        assert other.predict(X[:0]).shape == (0, 3)


def test_rows_of_the_host_in_any_layout(rows):
    X, Y = rows
    one, other = pair()
    for x, y in ((np.asfortranarray(X), np.eye(3, dtype="f4")[Y].copy("F")), (np.repeat(X, 2, 1)[:, ::2], Y)):
        for run in (one, other):
            run.fit(x, y, batch_size=16, epochs=1)
        assert other.step(x, y) == one.step(x, y)
        assert np.array_equal(other.predict(x), one.predict(x))
        assert_same_course(other, one)


def test_what_the_loss_is_given(rows):
    """CuPy's arrays: float32 predictions, targets and weights as they are."""
    seen = []

    def loss(pred, target, weight=None):
        seen.append((pred, target, weight))
        return cubes(pred, target, weight)

    run, (X, Y) = trainer("cuda", loss=loss), rows
    given = {"sample_weight": np.ones(len(X), np.float64)}
    run.step(X.astype("f8"), Y.astype("u1"), **given)
    run.fit(X, Y, batch_size=16, epochs=1)
    run.fit(X, Y.astype(">i4"), batch_size=16, epochs=1, **given)
    run.evaluate(X, Y, **given)
    assert all(isinstance(array, fake_cupy.ndarray) for call in seen for array in call if array is not None)
    assert {pred.dtype for pred, _, _ in seen} == {np.dtype("f4")}
    dtypes = [tuple(array.dtype.str for array in call[1:] if array is not None) for call in seen]
    assert dtypes == [("|u1", "<f8"), *[("<i8",)] * 4, *[("<i4", "<f4")] * 4, ("<i8", "<f4")]
    assert [len(pred) for pred, _, _ in seen] == [50, *[16, 16, 16, 2] * 2, 50]


def test_the_value_may_be_an_array_of_the_device(rows):
    run = trainer("cuda", loss=lambda pred, target: ((pred * pred).sum(), pred * pred))
    assert type(run.step(*rows)) is float
    assert run.fit(*rows, batch_size=16, epochs=1)["loss"][0] > 0
    assert type(run.evaluate(*rows)["loss"]) is float


def test_scores_and_weights_of_the_loss(rows):
    X, Y = rows[0], rows[1].copy()
    Y[::7] = -1
    one, other = pair(loss=Mine(ignore_index=-1))
    given = {"batch_size": 8, "epochs": 2, "sample_weight": np.linspace(0, 1, len(X)), "validation": (X, Y)}
    assert_same_history(other.fit(X, Y, **given), one.fit(X, Y, **given))
    assert_same_course(other, one)
    assert other.evaluate(X, Y) == one.evaluate(X, Y)
    assert np.array_equal(other.predict_class(X), one.predict_class(X))
    assert np.array_equal(other.predict_proba(X), one.predict_proba(X))


def test_own_metrics_and_callbacks_see_what_they_do_on_the_host(rows):
    class Losses(callbacks.Callback):
        def on_step_end(self, trainer, step, loss):
            seen.append(loss)
            return step == 5

    metrics = {"hits": lambda pred, target: float(np.mean(np.argmax(pred, 1) == np.asarray(target)))}
    found = []
    for run in pair(metrics=metrics):
        seen = []
        histories = [run.fit(*rows, batch_size=16, epochs=2, callbacks=[Losses()]) for _ in range(2)]
        found.append((run, seen, histories))
    (one, want, histories), (other, got, others) = found
    assert got == want
    assert len(got) == 5 + 3 + 4  # left in the second epoch, which is finished before another
    for pair_of in zip(others, histories, strict=True):
        assert_same_history(*pair_of)
    assert_same_course(other, one)
    assert other.evaluate(*rows) == one.evaluate(*rows)


def words_of(call, *arguments, **options):
    """What it raised, if anything."""
    try:
        call(*arguments, **options)
    except (optim.NonFiniteGradientError, RuntimeError) as error:
        return str(error)
    return None


@pytest.mark.parametrize("nonfinite", ["raise", "skip", "ignore"])
@pytest.mark.parametrize("guarded", [False, True])
def test_gradients_that_are_not_finite(rows, nonfinite, guarded):
    X, Y = rows[0].copy(), rows[1]
    X[27, 2] = np.inf
    runs, said = pair(nonfinite=nonfinite), []
    for run in runs:
        guards = [callbacks.DivergenceGuard(action="rollback")] if guarded else []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            said.append(words_of(run.fit, X, Y, batch_size=8, epochs=1, shuffle=False, callbacks=guards))
            said.append(words_of(run.step, X[24:32], Y[24:32]))
            said.append(words_of(run.step, X[:24], Y[:24]))
    assert said[:3] == said[3:]
    assert (said[1] is not None) == (nonfinite == "raise")
    assert_same_course(*runs)
    assert runs[1].optimizer.skipped_steps == runs[0].optimizer.skipped_steps


# ---- places


@pytest.fixture(params=["CuPy", "PyTorch"])
def put(request, monkeypatch):
    shimmed.install_torch(monkeypatch)
    return fake_cupy.asarray if request.param == "CuPy" else lambda x: fake_torch.Tensor(np.array(x))


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1"])
def test_rows_that_are_on_the_device(rows, put, dtype):
    X, Y, weight = (10 * np.abs(rows[0])).astype(dtype), rows[1], np.linspace(0.5, 1, 50).astype("f4")
    one, other = trainer("cuda"), trainer("cuda")
    given, on_device = {"batch_size": 16, "epochs": 2}, [put(array) for array in (X, Y, weight)]
    want = one.fit(X, Y, sample_weight=weight, validation=(X, Y), **given)
    got = other.fit(*on_device[:2], sample_weight=on_device[2], validation=on_device[:2], **given)
    assert_same_history(got, want)
    assert other.step(*on_device) == one.step(X, Y, weight)
    assert other.step(X, *on_device[1:]) == one.step(X, Y, weight)
    assert_same_course(other, one)
    assert other.evaluate(*on_device[:2], batch_size=7) == one.evaluate(X, Y)
    assert np.array_equal(other.predict(on_device[0]), one.predict(X))


def test_nothing_is_copied_to_the_host(rows, put, monkeypatch):
    """But the value of the loss and the optimizer's verdict."""
    run, on_device = (
        trainer("cuda", loss=lambda pred, target: (0.5, pred * pred)),
        [put(array) for array in rows],
    )
    run.step(*on_device)
    with monkeypatch.context() as refusing:
        refusing.setattr(fake_cupy.ndarray, "get", None)
        run.step(*on_device)
        run.step(*rows)
        run.fit(*on_device, batch_size=16, epochs=1)


def test_a_fit_goes_on_from_a_file_and_on_the_other_place(rows, tmp_path):
    one, other = pair(lr=0.02)
    for run in (one, other):
        run.fit(*rows, batch_size=16, epochs=1)
        run.save(tmp_path / f"{run.device}")
    loaded = trainer("cuda", lr=0.02)
    loaded.load(tmp_path / "cpu")
    copied = copy.deepcopy(other)
    for run in (one, other, loaded, copied):
        run.fit(*rows, batch_size=16, epochs=1)
    for run in (other, loaded, copied):
        assert_same_course(run, one)
    other.model.to("cpu")
    assert other.step(*rows) == one.step(*rows)
    assert other.evaluate(*rows) == one.evaluate(*rows)
    assert_same_course(other, one)


def test_another_loss_between_steps(rows):
    """From one of fastnn to one's own and back."""
    one, other = pair(loss=losses.CrossEntropyLoss())
    for loss in (cubes, losses.CrossEntropyLoss(), Mine()):
        for run in (one, other):
            run.loss = loss
        assert float(other.step(*rows)) == one.step(*rows)
        assert_same_course(other, one)


def test_evaluation_with_layers_of_ones_own_and_a_loss_of_fastnn(rows):
    """They are called one by one, as on the host; to train there is the plain loop."""
    one, other = pair(loss=losses.CrossEntropyLoss(), layers=(Scale(9), Square()))
    assert other.evaluate(*rows, batch_size=16) == one.evaluate(*rows)
    assert np.array_equal(other.predict_proba(rows[0]), one.predict_proba(rows[0]))
    for run in (one, other):
        with pytest.raises(TypeError, match="Scale is a layer of your own"):
            run.step(*rows)


def test_evaluation_changes_nothing(rows):
    run = trainer("cuda")
    run.step(*rows)
    before = state(run)
    run.evaluate(*rows)
    run.predict(rows[0])
    assert run.model.training
    assert_equal_tree(state(run), before)


# ---- refused by name


def said(call, *arguments, error=TypeError, **options):
    with pytest.raises(error) as raised:
        call(*arguments, **options)
    return str(raised.value)


def test_what_cannot_be_done(rows, monkeypatch):
    X, Y = rows
    run = trainer("cuda", loss=lambda pred, target: (0.0, np.zeros(pred.shape, np.float32)))
    for call in (run.step, lambda x, y: run.fit(x, y, batch_size=9, epochs=1)):
        words = "the loss must give its gradient as a CuPy array, as pred is one on the device, got ndarray"
        assert said(call, X, Y) == f"Trainer: {words}"
    run = trainer("cuda")
    masked = np.ma.masked_array(Y, Y == 1)
    assert "Trainer.step: y is a masked array" in said(run.step, X, masked)
    assert "Trainer.step: x is a masked array" in said(run.step, np.ma.masked_array(X), Y)
    assert "Trainer.fit: Y is a masked array" in said(run.fit, X, masked, batch_size=9, epochs=1)
    words = "must hold numbers on a device, got dtype object"
    assert f"Trainer.step: y {words}" in said(run.step, X, Y.astype(object))
    assert f"Trainer.evaluate: Y {words}" in said(run.evaluate, X, Y.astype(object))
    assert "Trainer.step: y must be a NumPy array, got list" in said(run.step, X, Y.tolist())
    apart = fake_cupy.asarray(np.repeat(X, 2, 1))[:, ::2]
    assert "Trainer.fit: X must be C-contiguous" in said(
        run.fit, apart, Y, batch_size=9, epochs=1, error=ValueError
    )
    run.precision = "tf32"
    for call in (run.step, run.evaluate, lambda x, y: run.fit(x, y, batch_size=9, epochs=1)):
        assert 'precision "tf32" is one of native programs' in said(call, X, Y, error=ValueError)
    assert run.optimizer.step_count == 0
    half = trainer("cpu")
    half.model[0].to("cuda")
    assert "BatchNorm1d: x lies on a CUDA device and the model on the CPU" in said(half.step, X, Y)


def test_products_in_bfloat16(rows):
    """Tensor cores add in an order of their own."""
    one, other, exact = *pair(), trainer()
    one.precision = other.precision = "bfloat16"
    values = [run.step(*rows) for run in (one, other, exact)]
    assert values[1] == pytest.approx(values[0], rel=1e-5)
    assert abs(values[2] - values[0]) > 1e-5 * abs(values[0])
