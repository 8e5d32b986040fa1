"""What moves between host and device, to the byte, and how often the host waits in a fit.

Run by the shim and CuPy's stand-in; `shim_waits` counts the native side's waits, and CuPy's are its `get`.
"""

import fake_cupy
import fastnn
import numpy as np
import pytest
from fastnn import callbacks, cuda, losses, nn, optim
from networks import assert_same_course

pytestmark = pytest.mark.usefixtures("device")
COLUMNS, BATCH = 6, 8
A_RECORD = 200  # bytes of a step's, at most


def network(*more):
    return nn.Sequential(nn.Linear(COLUMNS, 9), nn.BatchNorm1d(9), nn.ReLU(), *more, nn.Linear(9, 3), seed=3)


def trainer(loss=None, metrics=None, model=None, **options):
    model = model or network()
    made = optim.Adam(model.parameters(), **options)
    return fastnn.Trainer(model, loss or losses.CrossEntropyLoss(), made, device="cuda", metrics=metrics)


def one_layer():
    """Soon done by the shim."""
    return nn.Sequential(nn.Linear(COLUMNS, 3), seed=3)


def rows(n, dtype="f4", columns=COLUMNS):
    rng = np.random.default_rng(n)
    return (9 * rng.random((n, columns))).astype(dtype), rng.integers(0, 3, n)


def moved(call, *arguments, **options):
    """(to the host, to the device) in bytes during a call."""
    before = cuda.transfer_bytes()
    call(*arguments, **options)
    after = cuda.transfer_bytes()
    return after.to_host - before.to_host, after.to_device - before.to_device


def size(model):
    """Bytes of the parameters and of the running statistics."""
    return sum(array.nbytes for array in model.state_dict().values())


def squares(pred, target):
    """A loss of one's own."""
    gap = pred - target.reshape(-1, 1).astype(np.float32)
    return (gap * gap).sum(), 2 * gap


def fits(run, X, Y, epochs=(1, 2, 3), **given):
    """What fits of so many epochs move, the first one aside: it makes the program."""
    run.fit(X, Y, batch_size=BATCH, epochs=1, **given)
    return np.array([moved(run.fit, X, Y, batch_size=BATCH, epochs=n, **given) for n in epochs])


# ---- models


def test_a_model_moves_once_with_its_gradients():
    model = network()
    parameters = sum(p.data.nbytes for p in model.parameters())
    assert size(model) == parameters + 2 * 9 * 4
    assert moved(model.to, "cuda") == (0, size(model) + parameters)
    assert moved(model.to, "cuda") == (0, 0)
    assert moved(model.state_dict) == (size(model), 0)
    state = model.state_dict()
    assert moved(model.load_state_dict, state) == (0, size(model))
    assert moved(model.to, "cpu") == (size(model) + parameters, 0)
    assert moved(model.state_dict) == (0, 0)


def test_parameters_that_are_assigned():
    model = network().to("cuda")
    parameter = model.parameters()[0]
    assert moved(setattr, parameter, "data", np.ones(parameter.data.shape)) == (0, parameter.data.nbytes)
    assert moved(setattr, parameter, "grad", parameter.data) == (0, 0)


def test_slots_and_files(tmp_path):
    run = trainer()
    float(run.step(*rows(BATCH)))
    slots = 2 * sum(p.data.nbytes for p in run.model.parameters())
    assert moved(run.optimizer.state_dict) == (slots, 0)
    assert moved(fastnn.save, tmp_path / "net", run.model) == (size(run.model), 0)
    assert moved(run.save, tmp_path / "run") == (size(run.model) + slots, 0)


def test_batches_of_a_plain_loop():
    """Layers that are called one by one: numbers of the device come to the host as numbers."""
    layer = nn.BatchNorm1d(COLUMNS, debias=True).to("cuda")
    x = fake_cupy.asarray(rows(BATCH)[0])
    assert moved(layer, x) == (4, 0)  # of its batches so far
    run, (X, Y) = trainer(squares), rows(BATCH)
    run.step(X, Y)
    want = moved(run.step, fake_cupy.asarray(X), fake_cupy.asarray(Y))
    got = moved(run.step, X, Y)
    assert got == (want[0], want[1] + X.nbytes + Y.nbytes)
    assert want[0] < 100  # the value, and the optimizer's verdict


# ---- rows of a fit


@pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_fit_moves_its_rows_once_as_they_are(dtype, weighted):
    """Beside them an epoch moves its order and a record for each step."""
    X, Y = rows(40, dtype)
    weight = np.linspace(0.5, 1, 40, dtype=np.float32) if weighted else None
    _, to_device = fits(trainer(), X, Y, sample_weight=weight).T
    epoch = to_device[1] - to_device[0]
    assert to_device[2] - to_device[1] == epoch
    assert to_device[0] - epoch == X.nbytes + Y.nbytes + (weight.nbytes if weighted else 0)
    there = [None if array is None else fake_cupy.asarray(array) for array in (X, Y, weight)]
    assert fits(trainer(), *there[:2], sample_weight=there[2])[0, 1] == epoch
    # An order of 8 bytes a row; records, which are alike; what a run begins with and its metrics.
    of_steps = [fits(trainer(), *rows(BATCH * n, dtype), epochs=(1, 2))[:, 1] for n in (1, 2, 3)]
    fixed, *more = np.diff([two - one - 8 * BATCH * n for n, (one, two) in enumerate(of_steps, 1)], prepend=0)
    assert more[0] == more[1] < A_RECORD
    assert epoch - 8 * len(X) == fixed + 4 * more[0] or weighted


def test_what_is_on_the_device_is_uint8():
    """The copy that steps gather from."""
    X, Y = rows(40, "u1")
    seen = []

    class Looks(callbacks.Callback):
        def on_step_end(self, trainer, step, loss):
            seen.append(trainer._kept_steps._resident.copy(X, None))

    run = trainer()
    run.fit(X, Y, batch_size=BATCH, epochs=2, callbacks=[Looks()])
    assert len(seen) == 10
    assert {id(array) for array in seen} == {id(seen[0])}
    assert isinstance(seen[0], fake_cupy.ndarray)
    assert seen[0].dtype == np.uint8
    assert X not in run._kept_steps._resident  # given back


def test_rows_that_share_their_memory():
    """One row seen as many: on the device they lie one behind the other."""
    X, Y = np.broadcast_to(rows(1)[0], (40, 1, COLUMNS)), rows(40)[1]
    runs = []
    for device in ("cpu", "cuda"):
        model = nn.Sequential(nn.Flatten(), nn.Linear(COLUMNS, 3), seed=3)
        run = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters()), device=device)
        run.fit(X, Y, batch_size=BATCH, epochs=2, validation=(X, Y))
        runs.append(run)
    assert_same_course(*runs)


def test_a_fit_with_a_loss_of_ones_own():
    X, Y = rows(40, "u1")
    run = trainer(squares)
    to_host, to_device = fits(run, X, Y).T
    there = fits(run, *map(fake_cupy.asarray, (X.astype("f4"), Y))).T
    assert (to_device - there[1]).tolist() == [
        4 * X.nbytes + Y.nbytes
    ] * 3  # as float32, before the first epoch
    assert to_host.tolist() == there[0].tolist()


# ---- validation


def test_a_validation_moves_once_in_a_fit():
    """After that an epoch moves a record for each of its batches, whatever their rows."""
    epochs = {}
    for n in (500, 1000, 1100):
        run, validation = trainer(model=one_layer()), rows(n, "u1")
        to_host, to_device = fits(run, *rows(40), epochs=(1, 2), validation=validation).T
        epochs[n] = to_host[1] - to_host[0], to_device[1] - to_device[0]
        assert to_device[0] - epochs[n][1] == sum(array.nbytes for array in (*rows(40), *validation))
        evaluated = moved(run.evaluate, *validation)[1]  # by itself: the copies were given back
        assert evaluated > sum(array.nbytes for array in validation)
    assert epochs[500] == epochs[1000]
    assert {to_host for to_host, _ in epochs.values()} == {epochs[500][0]}
    assert 0 < epochs[1100][1] - epochs[1000][1] < A_RECORD


def test_a_validation_with_a_loss_of_ones_own_moves_once():
    fitted = [fits(trainer(squares, model=one_layer()), *rows(40), validation=rows(n)).T for n in (500, 1100)]
    for to_host, to_device in fitted:
        assert np.diff(to_host).tolist() == [np.diff(fitted[0][0])[0]] * 2
        assert np.diff(to_device).tolist() == [np.diff(fitted[0][1])[0]] * 2


def test_rows_of_both_kinds_are_one_copy():
    """Training rows that are evaluated too, by the fit or by a callback."""
    X, Y = rows(40)

    class Evaluates(callbacks.Callback):
        def on_epoch_end(self, trainer, logs):
            trainer.evaluate(X, Y)

    for given in ({"validation": (X, Y)}, {"callbacks": [Evaluates()]}):
        run = trainer()
        run.evaluate(X, Y)
        to_device = fits(run, X, Y, **given)[:, 1]
        assert 2 * to_device[0] - to_device[1] == X.nbytes + Y.nbytes


def test_rows_that_are_not_the_fits_are_read_each_time():
    """A callback may write into its own between two epochs."""
    X, Y = rows(40)
    other, own = X.copy(), []

    class Writes(callbacks.Callback):
        def on_epoch_end(self, trainer, logs):
            other[...] = own[-1][0] if own else X
            before = trainer.evaluate(other, Y)
            other[...] += 1
            after, want = trainer.evaluate(other, Y), trainer.evaluate(other.copy(), Y)
            own.append((other.copy(), before, after))
            assert after == want != before

    trainer().fit(X, Y, batch_size=BATCH, epochs=2, callbacks=[Writes()])
    assert len(own) == 2


@pytest.mark.parametrize("loss", [losses.CrossEntropyLoss, losses.MSELoss])
@pytest.mark.parametrize("dtype", ["u1", "f2"])
def test_scores_of_a_resident_validation_are_those_of_the_host(loss, dtype):
    """With predictions for a metric of one's own, batch by batch, and without, in one run."""
    X, Y = rows(1100, dtype)
    Y = Y if loss is losses.CrossEntropyLoss else X[:, :3].astype("f4")
    histories = []
    for metrics in (None, {"mean": lambda pred, target: float(pred.mean())}):
        run = trainer(loss(), metrics)
        histories.append(run.fit(*rows(40)[:1], Y[:40], batch_size=BATCH, epochs=2, validation=(X, Y)))
        want = run.evaluate(X, Y)
        assert {name: histories[-1][f"val_{name}"][-1] for name in want} == want
    one, other = histories
    assert {*other} - {*one} == {"mean", "val_mean"}
    assert [one[name] for name in one if name.startswith("val")] == [
        other[name] for name in one if name.startswith("val")
    ]


def test_a_bad_row_of_a_validation_is_named():
    """In the second of its batches."""
    X, Y = rows(1100)
    run = trainer()

    class Spoils(callbacks.Callback):
        def on_fit_begin(self, trainer):
            Y[1051] = 7

    with pytest.raises(ValueError, match=r"^Trainer\.evaluate: Y\[1051\] is 7, must be in 0\.\.2$"):
        run.fit(*rows(40), batch_size=BATCH, epochs=1, validation=(X, Y), callbacks=[Spoils()])


def test_an_evaluation_in_which_nothing_counts():
    X, Y = rows(40)
    for put in (np.asarray, fake_cupy.asarray):
        with pytest.raises(ValueError, match="sample_weight"):
            trainer().evaluate(put(X), put(Y), sample_weight=put(np.zeros(40, np.float32)))


# ---- waits


@pytest.fixture
def waits(device, monkeypatch):
    """How often the host has waited."""
    gets = []
    get = fake_cupy.ndarray.get
    monkeypatch.setattr(fake_cupy.ndarray, "get", lambda array: gets.append(1) or get(array))
    return lambda: device.library.shim_waits() + len(gets)


def waited(waits, run, n, validation=None, epochs=(1, 2)):
    """In an epoch of a fit on so many rows."""
    given = {"batch_size": BATCH, "validation": validation, "progress": False}
    run.fit(*rows(n), epochs=1, **given)
    found = []
    for count in epochs:
        before = waits()
        run.fit(*rows(n), epochs=count, **given)
        found.append(waits() - before)
    return found[1] - found[0]


@pytest.mark.parametrize("clip", [None, 0.5])
def test_an_epoch_is_waited_for_once(waits, clip):
    for steps in (4, 40):
        run = trainer(model=one_layer(), clip=clip)
        assert waited(waits, run, BATCH * steps) == 1


def test_a_validation_is_waited_for_once(waits):
    for n in (500, 1100):
        assert waited(waits, trainer(model=one_layer()), 4 * BATCH, rows(n)) == 2


def test_predictions_for_metrics_of_ones_own_are_waited_for(waits):
    """They are NumPy's, batch by batch."""
    metrics = {"mean": lambda pred, target: float(pred.mean())}
    runs = [trainer(metrics=metrics, model=one_layer()) for _ in range(2)]
    one, other = (waited(waits, run, BATCH, rows(n)) for run, n in zip(runs, (500, 1100), strict=True))
    assert other - one == 2  # the batch, and its predictions


def test_rows_on_the_device_are_evaluated_in_one_run(waits):
    run, (X, Y) = trainer(), map(fake_cupy.asarray, rows(50))
    run.evaluate(X, Y, batch_size=7)
    before = waits()
    run.evaluate(X, Y, batch_size=7)
    assert waits() == before + 1
