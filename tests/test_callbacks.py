"""Callbacks: when they are called, what stops a fit, EarlyStopping; bad input."""

import math

import fastnn
import numpy as np
import pytest
from device_places import few
from fastnn import callbacks, losses, nn, optim
from runs import STEPS, Scripted, build, fit
from small import assert_same_model, assert_state, labelled_rows, trainer

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture
def rows():
    return labelled_rows()


class Record(callbacks.Callback):
    """Writes down every call, and stops where it is told to."""

    def __init__(self, calls, name="", stop=None):
        self.calls, self.name, self.stop = calls, name, stop

    def note(self, *call):
        self.calls.append((self.name, *call) if self.name else call)
        return call == self.stop

    def on_fit_begin(self, trainer):
        self.note("begin")

    def on_step_end(self, trainer, step, loss):
        assert trainer.optimizer.step_count == step
        assert math.isfinite(loss)
        return self.note("step", step)

    def on_epoch_end(self, trainer, logs):
        assert logs["epoch"] == trainer.epoch == trainer.history["epoch"][-1]
        return self.note("epoch", trainer.epoch)

    def on_fit_end(self, trainer):
        self.note("end")


# ---- when they are called


def test_the_calls_of_a_fit(rows):
    calls = []
    history = fit(trainer(), rows, 2, callbacks=[Record(calls)])
    steps = [[("step", i) for i in range(1, 5)], [("step", i) for i in range(5, 9)]]
    assert calls == [("begin",), *steps[0], ("epoch", 1), *steps[1], ("epoch", 2), ("end",)]
    assert history["epoch"] == [1, 2]


def test_the_losses_and_logs_are_those_of_the_history(rows):
    losses_seen, logs_seen = [], []

    class Watch(callbacks.Callback):
        def on_step_end(self, trainer, step, loss):
            losses_seen.append(loss)

        def on_epoch_end(self, trainer, logs):
            logs_seen.append(dict(logs))

    history = fit(trainer(), rows, 1, callbacks=[Watch()])
    assert logs_seen == [{key: column[0] for key, column in history.items()}]
    assert history["loss"][0] == pytest.approx(np.dot(losses_seen, [16, 16, 16, 2]) / 50, rel=1e-12)


@pytest.mark.parametrize("kept", [(), (callbacks.Callback(),)])
def test_callbacks_change_no_bit(rows, kept):
    one, other = trainer(), trainer()
    fit(one, rows, 2)
    fit(other, rows, 2, callbacks=[*kept, Record([]), callbacks.EMA(), callbacks.EarlyStopping()])
    assert_same_model(one, other)


@pytest.mark.parametrize("at", few(range(1, 9), 3))
def test_true_after_a_step_stops(rows, at):
    calls = []
    run = trainer()
    history = fit(run, rows, 3, callbacks=[Record(calls, stop=("step", at))])
    assert run.optimizer.step_count == at
    assert calls[-1] == ("end",)
    assert history.epochs == run.epoch == at // STEPS
    assert ("epoch", at // STEPS) in calls or at < STEPS


def test_true_after_an_epoch_stops(rows):
    calls = []
    run = trainer()
    history = fit(run, rows, 5, callbacks=[Record(calls, stop=("epoch", 2))])
    assert history["epoch"] == [1, 2]
    assert calls[-2:] == [("epoch", 2), ("end",)]
    assert fit(run, rows, 1)["epoch"] == [3]


def test_every_callback_is_asked_in_order_and_the_checkpoint_last(rows, tmp_path):
    calls = []

    class Saving(callbacks.Checkpoint):
        def on_epoch_end(self, trainer, logs):
            calls.append(("saving", "epoch", trainer.epoch))

    first, second = Record(calls, "a", stop=("step", 1)), Record(calls, "b", stop=("step", STEPS))
    fit(trainer(), rows, 1, callbacks=[Saving(tmp_path), first, second])
    assert calls[:4] == [("a", "begin"), ("b", "begin"), ("a", "step", 1), ("b", "step", 1)]
    calls.clear()
    fit(trainer(), rows, 1, callbacks=[Saving(tmp_path), Record(calls, "a"), second])
    assert calls[-5:] == [
        ("a", "epoch", 1),
        ("b", "epoch", 1),
        ("saving", "epoch", 1),
        ("a", "end"),
        ("b", "end"),
    ]


def test_fit_end_comes_however_the_fit_ends(rows):
    calls = []

    class Fails(callbacks.Callback):
        def on_step_end(self, trainer, step, loss):
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fit(trainer(), rows, 1, callbacks=[Record(calls), Fails()])
    assert calls == [("begin",), ("step", 1), ("end",)]


def test_an_absent_monitor_raises_before_the_first_step(rows):
    class Needs(callbacks.Callback):
        monitor = "f1"

    run = trainer()
    before = run.model.state_dict()
    for callback, message in (
        (
            callbacks.EarlyStopping("val_f1"),
            "EarlyStopping monitors 'val_f1', which the history will not have",
        ),
        (
            Needs(),
            r"Needs monitors 'f1', .* it will have accuracy, epoch, loss, lr, .*val_accuracy, val_loss$",
        ),
    ):
        with pytest.raises(ValueError, match=rf"Trainer\.fit: {message}"):
            fit(run, rows, 1, callbacks=[callback])
    with pytest.raises(ValueError, match=r"monitors 'val_loss'.*pass validation="):
        fit(run, rows, 1, callbacks=[callbacks.EarlyStopping()], validation=None)
    assert_state(run.model, before)
    assert run.optimizer.step_count == 0
    own = trainer(metrics={"f1": lambda pred, target: 0.5})
    fit(own, rows, 1, callbacks=[Needs(), callbacks.EarlyStopping("val_f1")])
    names = {"epoch", "step", "lr", "loss", "seconds", "samples_per_second", "accuracy", "val_loss"}
    for name in names:
        fit(trainer(), rows, 1, callbacks=[callbacks.EarlyStopping(name)])


def test_monitors_of_every_loss_are_known_beforehand(rows):
    for loss in (losses.MSELoss(), losses.HuberLoss(), losses.QuadraticCost(), losses.BCEWithLogitsLoss()):
        model = nn.Sequential(nn.Linear(6, 1), seed=0)
        run = fastnn.Trainer(model, loss, optim.SGD(model.parameters(), 0.1))
        target = (rows[0][:, :1] > 0).astype(np.float32)
        history = run.fit(rows[0], target, batch_size=16, epochs=1)
        assert set(run._scores().names) <= history.keys()
        for name in run._scores().names:
            run.fit(rows[0], target, batch_size=16, epochs=1, callbacks=[callbacks.EarlyStopping(name)])


# ---- EarlyStopping


@pytest.mark.parametrize(
    ("options", "values", "epochs", "best"),
    [
        ({"patience": 2}, [3, 2, 2, 2, 1], 4, 2),
        ({"patience": 1}, [3, 3, 1], 2, 1),
        ({"patience": 3}, [3, 4, 2, 3, 3, 3, 1], 6, 3),
        ({"patience": 2, "mode": "max"}, [1, 2, 0, 2, 3], 4, 2),
        ({"patience": 2, "min_delta": 0.5}, [3, 2.6, 2.5, 1], 3, 1),
        ({"patience": 2, "min_delta": 0.5}, [3, 2.4, 2, 1.95, 0], 4, 2),
        ({"patience": 2}, [math.nan, math.nan, 1], 2, 0),
        ({"patience": 2}, [2, math.nan, 1, math.nan, math.nan], 5, 3),
        ({"patience": 2}, [-1, -2, -2, -1.5], 4, 2),
        ({"patience": 2, "mode": "max"}, [-math.inf, math.nan, 1], 2, 0),
        ({"patience": 9}, [3, 4, 5], 3, 1),
    ],
)
def test_when_early_stopping_stops(rows, options, values, epochs, best):
    stopping = callbacks.EarlyStopping(**options)
    history = fit(trainer(), rows, len(values), callbacks=[Scripted(*values), stopping])
    assert history.epochs == epochs
    assert stopping.best_epoch == best
    assert stopping.best == values[best - 1] if best else math.isinf(stopping.best)


@pytest.mark.parametrize("restore_best", [True, False])
def test_the_best_parameters_come_back_when_it_stops(rows, restore_best):
    run, best, last = trainer(), trainer(), trainer()
    fit(best, rows, 2)
    fit(last, rows, 5)
    stopping = callbacks.EarlyStopping(patience=3, restore_best=restore_best)
    fit(run, rows, 9, callbacks=[Scripted(3, 1, 2, 2, 2, 2), stopping])
    assert run.epoch == 5
    assert_same_model(run, best if restore_best else last)
    assert run.optimizer.step_count == last.optimizer.step_count


def test_a_fit_out_of_epochs_keeps_the_last_parameters_and_goes_on(rows):
    whole, run, best = trainer(), trainer(), trainer()
    one, two = (callbacks.EarlyStopping(patience=4) for _ in range(2))
    values = Scripted(3, 1, 2, 2, 2, 2, 2, 2)
    fit(whole, rows, 8, callbacks=[values, one])
    for epochs in (3, 5):
        fit(run, rows, epochs, callbacks=[values, two])
    assert run.epoch == whole.epoch == 6
    assert_same_model(run, whole)
    fit(best, rows, 2)
    model = trainer().model
    two.restore(model)
    assert_state(model, best.model.state_dict())


def test_after_a_stop_it_has_patience_again(rows):
    run, stopping = trainer(), callbacks.EarlyStopping(patience=2)
    values = Scripted(1, *[2] * 20)
    assert fit(run, rows, 9, callbacks=[values, stopping]).epochs == 3
    assert fit(run, rows, 9, callbacks=[values, stopping]).epochs == 2


def test_restore_without_a_best_epoch():
    with pytest.raises(RuntimeError, match="nothing to restore, no epoch has improved yet"):
        callbacks.EarlyStopping().restore(trainer().model)
    with pytest.raises(RuntimeError, match="nothing to restore, restore_best is False"):
        callbacks.EarlyStopping(restore_best=False).restore(trainer().model)


# ---- bad input

ROWS = [
    (
        lambda: callbacks.EarlyStopping(3),
        TypeError,
        "monitor must be a name in the history, got 3",
    ),
    (lambda: callbacks.EarlyStopping(mode="auto"), ValueError, 'mode must be "min" or "max", got \'auto\''),
    (lambda: callbacks.EarlyStopping(patience=0), ValueError, "EarlyStopping: patience must be at least 1"),
    (lambda: callbacks.EarlyStopping(patience=1.5), TypeError, "patience must be a whole number"),
    (
        lambda: callbacks.EarlyStopping(min_delta=-1),
        ValueError,
        "min_delta must be at least 0",
    ),
    (lambda: callbacks.EarlyStopping(min_delta="a"), TypeError, "min_delta must be a number"),
    (lambda: callbacks.EarlyStopping(restore_best=1), TypeError, "restore_best must be True or False, got 1"),
    (lambda: callbacks.Checkpoint(None), TypeError, "Checkpoint: path must be a str or a pathlib"),
    (lambda: callbacks.Checkpoint(__file__), ValueError, "Checkpoint: path must be a folder, .* is a file"),
    (lambda: callbacks.Checkpoint("a", every=0), ValueError, "Checkpoint: every must be at least 1"),
    (lambda: callbacks.Checkpoint("a", every=None), TypeError, "every must be a whole number"),
    (lambda: callbacks.Checkpoint("a", keep=0), ValueError, "Checkpoint: keep must be at least 1"),
    (lambda: callbacks.EMA(1), ValueError, r"EMA: decay must be in \[0, 1\), got 1"),
    (lambda: callbacks.EMA(-0.1), ValueError, "EMA: decay must be in"),
    (lambda: callbacks.EMA(None), TypeError, "EMA: decay must be a number"),
    (lambda: callbacks.DivergenceGuard(1), ValueError, "DivergenceGuard: factor must be above 1"),
    (lambda: callbacks.DivergenceGuard(math.nan), ValueError, "DivergenceGuard: factor must be"),
    (lambda: callbacks.DivergenceGuard(action="skip"), ValueError, 'action must be "stop" or "rollback"'),
]


@pytest.mark.host("arguments alone")
@pytest.mark.parametrize(("call", "error", "message"), ROWS, ids=[row[2][:40] for row in ROWS])
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert type(caught.value) is error


@pytest.mark.parametrize("bad", [callbacks.EMA(), [3], [callbacks.EMA], None, "EMA"])
def test_what_is_no_list_of_callbacks(rows, bad):
    with pytest.raises(TypeError, match=r"Trainer\.fit: callbacks must be (a list|objects)"):
        fit(build(), rows, 1, callbacks=bad)
