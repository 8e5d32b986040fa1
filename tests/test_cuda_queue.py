"""Steps on the device that are queued: nobody waits, and what the host sees is as if somebody had.

The shim puts work off until somebody waits, so that a step which needs what its caller has changed shows.
"""

import copy
import math
import pickle

import fake_cupy
import fastnn
import numpy as np
import pytest
from bounds import assert_bits
from fastnn import _queue, losses, nn, optim
from guard import guarded
from networks import assert_same_course
from small import labelled_rows

BATCH = 5
ROWS = labelled_rows()
WEIGHT = np.linspace(0.5, 1.5, len(ROWS[0])).astype(np.float32)


@pytest.fixture(autouse=True)
def late(device, monkeypatch):
    """The kernels, which run when somebody waits."""
    monkeypatch.setattr(fake_cupy, "catch_up", device.library.shim_catch_up)
    device.library.shim_puts_off(1)
    yield device.library
    device.library.shim_puts_off(0)


def trainer(device="cuda", **options):
    hidden = nn.Linear(6, 9), nn.BatchNorm1d(9, debias=True), nn.ReLU(), nn.Dropout(0.3)
    model = nn.Sequential(*hidden, nn.Linear(9, 3), seed=3)
    made = optim.Adam(model.parameters(), lr=lambda t: 0.1 / (1 + t), **options)
    return fastnn.Trainer(model, losses.CrossEntropyLoss(), made, device=device)


def batches(count, bad=None, put=np.array):
    """Batches of their own memory, of which number `bad` has a wrong label, or is not finite (~bad)."""
    for i in range(count):
        rows = slice(BATCH * i, BATCH * i + BATCH)
        x, y = ROWS[0][rows].copy(), ROWS[1][rows].copy()
        if bad == i:
            y[2] = 7
        elif bad is not None and ~bad == i:
            x[3, 1] = np.nan
        yield put(x), put(y)


def queued(run, *given):
    """The losses of steps on these batches, whose memory is written over at once."""
    found = []
    for x, y in batches(*given):
        found.append(run.step(x, y))
        x[...], y[...] = -1e9, -5
    return found


def on_cpu(count, bad=None, **options):
    """A trainer that stopped at the bad batch, its losses, and what it said."""
    run, found = trainer("cpu", **options), []
    try:
        for x, y in batches(count, bad):
            found.append(run.step(x, y))
    except ValueError as error:
        return run, found, error
    return run, found, None


def test_no_step_waits(late, device):
    run, (other, want, _) = trainer(), on_cpu(8)
    found = queued(run, 3)
    waits, read = late.shim_waits(), device.library.shim_to_host()
    for x, y in list(batches(8))[3:]:
        found.append(run.step(x, y))
        x[...], y[...] = np.nan, -5
    assert run.optimizer.step_count == 8
    assert (late.shim_waits(), device.library.shim_to_host()) == (waits, read)
    assert [float(loss) for loss in found] == want
    assert late.shim_waits() == waits + 1
    assert_same_course(run, other)


def test_weights_and_rows_of_the_device(late):
    one, other = trainer("cpu"), trainer()
    want, found = [], []
    kept = list(zip(batches(5), batches(5, None, fake_cupy.asarray), strict=True))
    for i, ((x, y), on_device) in enumerate(kept):
        weight = WEIGHT[BATCH * i : BATCH * i + BATCH].copy()
        want.append(one.step(x, y, weight))
        found.append(other.step(*on_device, weight if i % 2 else fake_cupy.asarray(weight)))
        weight[...] = -1
    assert list(map(float, found)) == want
    assert_same_course(other, one)


def test_the_loss_is_as_good_as_a_float(late):
    run, (_, [value, _], _) = trainer(), on_cpu(2)
    loss, next_loss = queued(run, 2)
    assert f"{loss:.3f} {loss!r} {loss}" == f"{value:.3f} {value!r} {value}"
    assert (loss.item(), math.isnan(loss), bool(np.isfinite(loss)), bool(loss)) == (value, False, True, True)
    assert [loss < 10, np.float64(10) > loss, loss == value, loss != value] == [True, True, True, False]
    assert [loss >= next_loss, loss <= 0, loss > value] == [value >= float(next_loss), False, False]
    assert (loss + 1, 1 + loss, 3 - loss, loss * 2, 2 / loss) == (
        *(value + 1, 1 + value, 3 - value, value * 2, 2 / value),
    )
    assert (-loss, abs(loss), round(loss, 2), int(loss)) == (-value, value, round(value, 2), int(value))
    assert sum([loss, next_loss]) == value + float(next_loss)
    assert np.mean([loss, next_loss]) == (value + float(next_loss)) / 2
    assert np.float64(1) + loss == 1 + value
    assert pickle.loads(pickle.dumps(loss)) == copy.deepcopy(loss) == value
    assert {loss: 1}[value] == 1
    with pytest.raises(TypeError):
        loss < "1"  # noqa: B015


SEES = {
    "its loss": lambda run, found: float(found[3]),
    "a later loss": lambda run, found: found[5] < 1,
    "fit": lambda run, found: run.fit(*ROWS, batch_size=10, epochs=1),
    "evaluate": lambda run, found: run.evaluate(*ROWS),
    "predict": lambda run, found: run.predict(ROWS[0]),
    "predict_class": lambda run, found: run.predict_class(ROWS[0]),
    "the model's state": lambda run, found: run.model.state_dict(),
    "a layer's state": lambda run, found: run.model[1].state_dict(),
    "the optimizer's state": lambda run, found: run.optimizer.state_dict(),
    "a loaded state": lambda run, found: run.model.load_state_dict({}),
    "another policy": lambda run, found: setattr(run.optimizer, "nonfinite", "skip"),
    "a copy": lambda run, found: copy.deepcopy(run),
    "targets of another kind": lambda run, found: run.step(ROWS[0], np.eye(3)[ROWS[1]]),
    "another loss": lambda run, found: (setattr(run, "loss", losses.MSELoss()), run.step(*ROWS)),
    "another loss, of one's own": lambda run, found: (
        setattr(run, "loss", lambda pred, target: (0.0, pred)),
        run.step(*ROWS),
    ),
    "a larger batch": lambda run, found: run.step(*ROWS),
}


@pytest.mark.parametrize("bad", [3, ~3], ids=["label", "gradient"])
@pytest.mark.parametrize("sees", SEES)
def test_an_error_is_seen_by_whoever_waits_first(late, sees, bad):
    run, (other, want, said) = trainer(), on_cpu(7, bad)
    found = queued(run, 7, bad)
    assert run.optimizer.step_count == 7
    with pytest.raises(type(said)) as caught:
        SEES[sees](run, found)
    assert str(caught.value) == str(said)
    assert_same_course(run, other)
    for parameter, same in zip(run.model.parameters(), other.model.parameters(), strict=True):
        if bad < 0:  # of the refused batch
            assert_bits(parameter.grad.get(), same.grad, parameter.name)
    assert list(map(float, found[:3])) == want
    for _ in range(2):
        with pytest.raises(type(said), match=str(said)[:9]):
            float(found[3])
    with pytest.raises(RuntimeError, match="not done, because a step before it was not"):
        found[4].item()
    if not sees.startswith("another loss"):  # and on
        batch = next(batches(1))
        assert float(run.step(*batch)) == other.step(*batch)
        assert_same_course(run, other)


def test_saving_sees_an_error(late, tmp_path):
    for save in (
        lambda run: run.save(tmp_path / "run"),
        lambda run: fastnn.save(tmp_path / "net", run.model),
    ):
        run = trainer()
        queued(run, 3, 1)
        with pytest.raises(ValueError, match=r"^Trainer\.step: y\[2\] is 7, must be in 0\.\.2$"):
            save(run)
        assert not list(tmp_path.iterdir())


def test_loading_sees_an_error(late, tmp_path):
    run, (other, _, _) = trainer(), on_cpu(2)
    other.save(tmp_path / "run")
    queued(run, 3, 1)
    with pytest.raises(ValueError, match=r"^Trainer\.step: y\[2\] is 7"):
        run.load(tmp_path / "run")
    assert run.optimizer.step_count == 1
    run.load(tmp_path / "run")
    assert_same_course(run, other)


def test_an_error_is_of_one_trainer(late):
    run, other = trainer(), trainer()
    queued(run, 3, 1)
    queued(other, 3)
    other.evaluate(*ROWS)
    other.model.state_dict()
    with pytest.raises(ValueError, match="is 7"):
        run.evaluate(*ROWS)


def test_rows_of_the_device_that_have_changed(late, monkeypatch):
    """Kept from being freed, but not from being written: then the number cannot be named."""
    for changed in (False, True):
        run, given = trainer(), [*batches(4, ~1, fake_cupy.asarray)]
        for x, y in given:
            run.step(x, y)
        if changed:
            given[1][0].fill(0.5)
        with pytest.raises(
            optim.NonFiniteGradientError, match=r"is not finite" if changed else r"at \("
        ) as caught:
            run.evaluate(*ROWS)
        assert bool(caught.value.index) != changed
    monkeypatch.setattr(_queue, "_HELD", 3 * sum(array.nbytes for array in given[0]))
    run, waits = trainer(), []
    for x, y in [*batches(9, None, fake_cupy.asarray)]:
        run.step(x, y)
        waits.append(late.shim_waits())
    assert np.diff(waits[1:]).tolist() == [0, 0, 1, 0, 0, 0, 1]


@pytest.mark.parametrize("nonfinite", ["skip", "ignore"])
def test_other_policies(late, nonfinite):
    """A step that may be skipped is waited for: those queued behind it would do nothing."""
    run, (other, want, _) = trainer(nonfinite=nonfinite), on_cpu(6, ~2, nonfinite=nonfinite)
    waits = late.shim_waits()
    found = queued(run, 6, ~2)
    assert (late.shim_waits() - waits >= 6) == (nonfinite == "skip")
    assert np.array_equal(np.array(found, np.float64), want, equal_nan=True)
    assert run.optimizer.skipped_steps == other.optimizer.skipped_steps == (nonfinite == "skip")
    assert_same_course(run, other)


def test_steps_of_all_sizes(late):
    """More rows than those before them have room for, and fewer."""
    one, other = trainer("cpu"), trainer()
    sizes = (4, 4, 30, 3, 50, 2)
    want = [one.step(ROWS[0][:n], ROWS[1][:n]) for n in sizes]
    found = [other.step(ROWS[0][:n], ROWS[1][:n]) for n in sizes]
    assert list(map(float, found)) == want
    assert_same_course(other, one)


@pytest.mark.usefixtures("late")
def test_steps_behind_a_bad_one_read_no_rows():
    """The bad batch, whose record they would find, has fewer rows: they must not look behind its last one."""
    run = trainer()
    x, y = next(batches(1, 0))
    run.step(fake_cupy.ndarray(guarded(x)), fake_cupy.ndarray(guarded(y)))
    run.step(*map(fake_cupy.asarray, ROWS))
    with pytest.raises(ValueError, match=r"Trainer.step: y\[2\] is 7"):
        run.evaluate(*ROWS)


def test_a_full_queue_is_waited_for(late):
    made = [nn.Sequential(nn.Linear(2, 1), seed=0) for _ in range(2)]
    runs = [
        fastnn.Trainer(model, losses.MSELoss(), optim.SGD(model.parameters(), lr=0.01), device=device)
        for model, device in zip(made, ("cpu", "cuda"), strict=True)
    ]
    X = np.random.default_rng(0).standard_normal((300, 2, 2)).astype(np.float32)
    waits, found = late.shim_waits(), []
    for i, x in enumerate(X):
        found.append(runs[1].step(x, x[:, 0]))
        if i == 255:
            assert late.shim_waits() <= waits + 2  # for the first graph's memory
            waits = late.shim_waits()
    assert late.shim_waits() == waits + 1
    assert list(map(float, found)) == pytest.approx([runs[0].step(x, x[:, 0]) for x in X], rel=1e-6)
    assert_same_course(runs[1], runs[0])


def test_states_are_loaded_behind_queued_steps(late):
    one, other = trainer("cpu"), trainer()
    model, optimizer = one.model.state_dict(), one.optimizer.state_dict()
    for run in (one, other):
        for x, y in batches(4):
            run.step(x, y)
        run.optimizer.load_state_dict(optimizer)
        run.step(*ROWS)
        run.model.load_state_dict(model)
        run.step(*ROWS)
        run.fit(*ROWS, batch_size=16, epochs=1)
        run.step(*ROWS)
    assert_same_course(other, one)


def test_a_loss_outlives_its_trainer(late):
    _, want, _ = on_cpu(2)
    found = queued(trainer(), 2)
    assert list(map(float, found)) == want
