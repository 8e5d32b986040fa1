"""Checkpoint, EMA, DivergenceGuard: what they keep, and what they give back."""

import copy
import math
import os
import pickle

import numpy as np
import pytest
from bounds import assert_bits, host
from device_places import few
from fastnn import callbacks, losses, nn, optim
from runs import STEPS, Scripted, StopAt, assert_equal_tree, fit
from small import assert_same_model, assert_state, labelled_rows, trainer

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture
def rows():
    return labelled_rows()


# ---- Checkpoint


def names(folder):
    return sorted(os.listdir(folder))


def file(epoch):
    return f"epoch-{epoch:06d}.safetensors"


@pytest.mark.parametrize(
    ("options", "epochs", "left"),
    [
        ({}, 5, [3, 4, 5]),
        ({"every": 2}, 7, [2, 4, 6]),
        ({"keep": 1}, 3, [3]),
        ({"keep": None}, 5, [1, 2, 3, 4, 5]),
    ],
)
def test_which_files_a_checkpoint_keeps(rows, tmp_path, options, epochs, left):
    folder = tmp_path / "new" / "run"
    checkpoint = callbacks.Checkpoint(folder, **options)
    assert checkpoint.latest() is None
    run = trainer()
    fit(run, rows, epochs, callbacks=[checkpoint])
    assert names(folder) == [file(epoch) for epoch in left]
    assert checkpoint.latest() == folder / file(left[-1])
    other = trainer()
    other.load(checkpoint.latest())
    fit(other, rows, epochs - left[-1] + 1)
    fit(run, rows, 1)
    assert_same_model(run, other)


def test_a_folder_of_another_run(rows, tmp_path):
    checkpoint = callbacks.Checkpoint(tmp_path)
    fit(trainer(), rows, 3, callbacks=[checkpoint])
    (tmp_path / "notes.txt").write_text("mine")
    before, run = names(tmp_path), trainer()
    with pytest.raises(ValueError, match=r"epoch-000003\.safetensors of another run.*latest\(\)"):
        fit(run, rows, 1, callbacks=[checkpoint])
    assert run.optimizer.step_count == 0
    assert names(tmp_path) == before
    run.load(checkpoint.latest())
    fit(run, rows, 2, callbacks=[checkpoint])
    assert names(tmp_path) == [*map(file, (3, 4, 5)), "notes.txt"]


def test_a_checkpoint_has_the_state_of_callbacks_behind_it(rows, tmp_path):
    stopping, again = callbacks.EarlyStopping(patience=9), callbacks.EarlyStopping(patience=9)
    checkpoint = callbacks.Checkpoint(tmp_path)
    fit(trainer(), rows, 2, callbacks=[checkpoint, Scripted(2, 1, 3), stopping])
    run = trainer()
    run.load(checkpoint.latest())
    fit(run, rows, 1, callbacks=[Scripted(2, 1, 3), again])
    assert (again.best, again.best_epoch, again.wait) == (1, 2, 1)


# ---- EMA


def test_ema_is_the_average_over_the_steps(rows):
    run, twin, ema = trainer(), trainer(), callbacks.EMA(0.75)
    want = {name: host(p.data).astype(np.float64) for name, p in twin.model.named_parameters()}
    for step in range(1, 2 * STEPS + 1):
        fit(twin, rows, 1, callbacks=[StopAt(step)])
        for name, p in twin.model.named_parameters():
            want[name] = 0.75 * want[name] + 0.25 * host(p.data)
    fit(run, rows, 2, callbacks=[ema])
    trained = run.model.state_dict()
    with ema.averaged(run.model) as model:
        assert model is run.model
        for name, p in model.named_parameters():
            np.testing.assert_allclose(host(p.data), want[name], rtol=1e-5, atol=1e-6)
            assert not np.allclose(host(p.data), trained[name], rtol=1e-4)
        assert_bits(model[1].running_mean, trained["1.running_mean"])
        inside = run.evaluate(*rows)["loss"]
    assert_state(run.model, trained)
    ema.copy_to(run.model)
    assert run.evaluate(*rows)["loss"] == inside


def test_ema_of_a_constant_is_the_constant(place):
    """It starts at the parameters: no bias, whatever the number of steps."""
    layer, ema = nn.Linear(3, 2, rng=0).to(place.device), callbacks.EMA(0.9)
    before = layer.weight.data.copy()
    for _ in range(5):
        ema.update(layer)
        with ema.averaged(layer):
            assert_bits(layer.weight.data, before)


def test_the_trained_parameters_come_back_after_an_error(place):
    layer, ema = nn.Linear(3, 2, rng=0).to(place.device), callbacks.EMA(0.5)
    ema.update(layer)
    layer.weight.data = np.ones((3, 2))
    with pytest.raises(KeyError), ema.averaged(layer):
        raise KeyError
    assert_bits(layer.weight.data, np.ones((3, 2), np.float32))


@pytest.mark.host("arguments alone")
def test_ema_and_another_model():
    ema = callbacks.EMA()
    with pytest.raises(RuntimeError, match=r"EMA\.copy_to: there is no average yet; fit with it"):
        ema.copy_to(nn.Linear(2, 2))
    with (
        pytest.raises(RuntimeError, match=r"EMA\.averaged: there is no"),
        ema.averaged(nn.Linear(2, 2)),
    ):
        pass
    ema.update(nn.Linear(2, 2))
    for method in (ema.update, ema.copy_to):
        with pytest.raises(ValueError, match="the model has other parameters than the average"):
            method(nn.Linear(2, 3))


# ---- one callback, several trainers


def another():
    """The same network from another start."""
    run = trainer()
    run.model.reset_parameters(99)
    return run


KEEPING = {
    "stopping": lambda: callbacks.EarlyStopping("loss", patience=2),
    "guard": lambda: callbacks.DivergenceGuard(action="rollback"),
}


@pytest.mark.parametrize("make", KEEPING.values(), ids=KEEPING)
def test_with_another_trainer_a_callback_begins_anew(rows, make):
    """The loop of a cross-validation, with one list of callbacks."""
    shared, fresh = make(), make()
    fit(trainer(), rows, 4, callbacks=[shared])
    one, other = another(), another()
    for run, callback in ((one, shared), (other, fresh)):
        fit(run, rows, 1, callbacks=[callback])
        fit(run, rows, 2, callbacks=[callback])
    assert_equal_tree(shared.state_dict(), fresh.state_dict())
    assert shared.best == min(one.history["loss"])
    assert_same_model(one, other)


def test_a_stop_gives_back_no_parameters_of_another_trainer(rows):
    stopping = callbacks.EarlyStopping(patience=1)
    fit(trainer(), rows, 2, callbacks=[Scripted(1, 1), stopping])
    run, alone = another(), another()
    fit(alone, rows, 1)
    fit(run, rows, 2, callbacks=[Scripted(9, 9), stopping])
    assert_same_model(run, alone)
    assert (stopping.best, stopping.best_epoch) == (9, 1)


def test_one_ema_one_model(rows):
    ema, run = callbacks.EMA(0.5), trainer()
    fit(run, rows, 1, callbacks=[ema])
    before, other = ema.state_dict()["average"]["0.weight"].copy(), another()
    with pytest.raises(ValueError, match="EMA: this average is of another trainer's model; one EMA, one"):
        fit(other, rows, 1, callbacks=[ema])
    assert other.optimizer.step_count == 0
    assert_bits(ema.state_dict()["average"]["0.weight"], before)
    fit(run, rows, 1, callbacks=[ema])


@pytest.mark.parametrize(
    "make",
    [lambda: callbacks.EarlyStopping(patience=9), KEEPING["guard"], lambda: callbacks.EMA(0.5)],
    ids=["stopping", "guard", "ema"],
)
@pytest.mark.parametrize("way", few(["loaded", "both copied", "both pickled", "copied", "pickled"], 2))
def test_five_epochs_and_five_of_a_copy_are_ten(rows, tmp_path, make, way):
    whole, run, callback, expected = trainer(), trainer(), make(), make()
    scores = Scripted(1, 2, 3, 4)
    fit(whole, rows, 4, callbacks=[scores, expected])
    fit(run, rows, 2, callbacks=[scores, callback])
    if "both" in way:
        run, callback = copy.deepcopy((run, callback)) if "copied" in way else repickled((run, callback))
    elif way == "loaded":
        run.save(tmp_path / "run")
        run = trainer()
        run.load(tmp_path / "run")
    else:
        run = copy.deepcopy(run) if way == "copied" else repickled(run)
    fit(run, rows, 2, callbacks=[scores, callback])
    assert_equal_tree(callback.state_dict(), expected.state_dict())
    assert_same_model(run, whole)


def repickled(made):
    return pickle.loads(pickle.dumps(made))


def test_a_file_has_no_state_of_another_trainer_s(rows, tmp_path):
    run, stopping, again = trainer(), callbacks.EarlyStopping(), callbacks.EarlyStopping()
    fit(run, rows, 2, callbacks=[Scripted(8, 9), stopping])
    fit(another(), rows, 1, callbacks=[Scripted(1), stopping])
    run.save(tmp_path / "run")
    run.load(tmp_path / "run")
    fit(run, rows, 1, callbacks=[Scripted(8, 9, 9), again])
    assert (again.best, again.best_epoch) == (9, 3)


# ---- DivergenceGuard


class Losses:
    """A loss with these values, one after the other, and the gradients of cross-entropy."""

    def __init__(self, *values):
        self.values, self.loss = iter(values), losses.CrossEntropyLoss()

    def __call__(self, pred, target):
        return next(self.values), self.loss(pred, target)[1]


def guarded(rows, guard, *values, epochs=4):
    """A fit without validation, whose steps have these losses."""
    run = trainer()
    run.loss = Losses(*values)
    history = run.fit(*rows, batch_size=25, epochs=epochs, callbacks=[guard])
    return run, history


def test_the_guard_lets_a_usual_course_pass(rows):
    guard = callbacks.DivergenceGuard()
    run, history = guarded(rows, guard, 1, 3.9, 2, 2, 9, 6, 1, 1)
    assert history["loss"] == [2.45, 2, 7.5, 1]
    assert (run.epoch, guard.best, guard.reason, guard.rollbacks) == (4, 1, "", 0)


@pytest.mark.parametrize(
    ("values", "steps", "reason"),
    [
        ((1, math.nan, 1, 1), 2, "the loss of step 2 is nan"),
        ((1, 1, 1, -math.inf), 4, "the loss of step 4 is -inf"),
        ((1, 7.5), 2, "the loss of epoch 1 is 4.25, above 4 times 1"),
        ((9, 1, 0.5, 0.5, 1, 4), 6, "the loss of epoch 3 is 2.5, above 4 times 0.5"),
    ],
)
def test_the_guard_stops(rows, values, steps, reason):
    guard = callbacks.DivergenceGuard()
    with pytest.warns(UserWarning, match=f"DivergenceGuard: {reason}; the fit stops"):
        run, _ = guarded(rows, guard, *values)
    assert run.optimizer.step_count == steps
    assert guard.reason == reason


def test_losses_without_a_factor(rows):
    """Of losses that may be 0 or negative only what is not finite is seen."""
    guard = callbacks.DivergenceGuard()
    run, _ = guarded(rows, guard, -1, -1, 5, 5, 0, 0, 7, 7)
    assert run.epoch == 4


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ((1, 1, 0.5, 0.5, 0.75, 0.75, 9, 9), 2),
        ((1, 1, 0.5, 0.5, 0.75, math.nan), 2),
        ((1, math.nan), 0),
        ((1, 9), 0),
    ],
)
def test_a_rollback_gives_everything_back(rows, values, kept):
    """Parameters, statistics, optimizer; training goes on from there, with the same rate."""
    guard, twin = callbacks.DivergenceGuard(action="rollback"), trainer()
    if kept:
        twin.fit(*rows, batch_size=25, epochs=kept)
    with pytest.warns(UserWarning, match=f"back to the state after {2 * kept} updates, the learning"):
        run, _ = guarded(rows, guard, *values, epochs=len(values) // 2)
    assert guard.rollbacks == 1
    assert_same_model(run, twin)
    assert run.optimizer.step_count == twin.optimizer.step_count == 2 * kept
    states = run.optimizer.state_dict()["state"], twin.optimizer.state_dict()["state"]
    for slots, others in zip(*(state.values() for state in states), strict=True):
        for slot, other in zip(slots.values(), others.values(), strict=True):
            assert_bits(slot, other)
    assert run.optimizer.lr == twin.optimizer.lr
    run.loss = losses.CrossEntropyLoss()
    history = run.fit(*rows, batch_size=25, epochs=1, callbacks=[guard])
    assert history["epoch"] == [len(values) // 2 + 1]
    assert history["step"] == [2 * kept + 2]


def test_the_guard_answers_for_a_gradient_that_is_refused(rows):
    """The loss is fine, its gradient is not: the fit raises, or the guard stops it or goes back."""

    class Spoilt:
        """The gradient of every third batch is infinite."""

        calls = 0

        def __call__(self, pred, target):
            value, gradient = losses.CrossEntropyLoss()(pred, target)
            self.calls += 1
            return value, gradient * (np.inf if self.calls % 3 == 0 else 1)

    def spoilt():
        run = trainer()
        run.loss = Spoilt()
        return run

    run = spoilt()
    with pytest.raises(optim.NonFiniteGradientError):
        run.fit(*rows, batch_size=25, epochs=3)
    guard, stopped = callbacks.DivergenceGuard(), spoilt()
    with pytest.warns(UserWarning, match=r"the gradient of .* the fit stops"):
        stopped.fit(*rows, batch_size=25, epochs=3, callbacks=[guard])
    assert run.optimizer.step_count == stopped.optimizer.step_count == 2
    guard, run = callbacks.DivergenceGuard(action="rollback"), spoilt()
    with pytest.warns(UserWarning, match=r"the gradient of .* back to the state after 2 updates"):
        history = run.fit(*rows, batch_size=25, epochs=2, callbacks=[guard])
    assert guard.rollbacks == 1
    assert history["step"] == [2, 3]
    assert all(np.isfinite(host(p.data)).all() for p in run.model.parameters())


def test_an_epoch_with_a_rollback_inside_is_not_judged_again(rows):
    guard = callbacks.DivergenceGuard(action="rollback")
    with pytest.warns(UserWarning, match="the loss of step 3 is nan"):
        run, history = guarded(rows, guard, 1, 1, math.nan, 1, 1, 1, epochs=3)
    assert guard.rollbacks == 1
    assert math.isnan(history["loss"][1])
    assert run.optimizer.step_count == 5
