"""What a fit leaves and shows: the history, its plot, progress on a terminal, and how Ctrl-C ends it."""

import copy
import io
import itertools
import json
import math
import pickle
import signal
import sys
import threading
import tracemalloc

import fastnn
import numpy as np
import pytest
from bounds import host
from fastnn import _core, _steps, callbacks, data, losses, ops, optim
from fastnn.history import History, Progress
from small import CLASSES, N, assert_same_model, labelled_rows, layers, trainer

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture
def rows():
    return labelled_rows()


# ---- history


def test_history(rows, tmp_path):
    X, Y = rows
    run = trainer()
    history = run.fit(X, Y, batch_size=16, epochs=3, validation=(X[:20], Y[:20]))
    course = ["epoch", "step", "lr", "loss", "accuracy", "seconds", "samples_per_second"]
    assert list(history) == [*course, "val_loss", "val_accuracy"]
    assert all(len(history[key]) == 3 for key in history)
    assert history["val_loss"][-1] == run.evaluate(X[:20], Y[:20])["loss"]
    assert 0 <= history["val_accuracy"][-1] <= 1
    assert np.all(np.array(history["seconds"]) > 0)
    assert repr(history).startswith("History(3 epochs; epoch, step")
    with pytest.raises(KeyError, match="no 'f1'; there are epoch, step"):
        history["f1"]
    history.save(tmp_path / "h.json")
    assert json.loads((tmp_path / "h.json").read_text()) == dict(history)
    assert pickle.loads(pickle.dumps(history))["loss"] == history["loss"]


@pytest.mark.host("no trainer")
def test_an_epoch_more_costs_as_much_after_a_thousand():
    """Columns are not built anew for each, which took 30 us an epoch after 50,000."""
    history = History()
    for _ in range(1000):
        history.append({"epoch": 1, "loss": 0.5})
    peaks = []
    tracemalloc.start()
    try:
        for _ in range(3):  # a list that grows takes new memory now and then
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            history.append({"epoch": 2, "loss": 0.25})
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    assert min(peaks) < 1000
    assert history["loss"][-1] == 0.25


@pytest.mark.host("no trainer")
def test_a_saved_history_is_json_whatever_it_holds(tmp_path):
    history, path = History(), tmp_path / "h.json"
    history.save(path)
    assert json.loads(path.read_text()) == {}
    history.append({"epoch": 1, "loss": math.inf})
    history.append({"epoch": 2, 'the "NaN"': -math.inf, "loss": 0.1 + 0.2})
    history.save(path)
    found = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert found == {"epoch": [1, 2], "loss": [math.inf, 0.1 + 0.2], 'the "NaN"': [None, -math.inf]}
    assert str(History.from_columns(found)._columns) == str(history._columns)
    path.write_text('{\n "loss": [\n  NaN,\n  Infinity\n ]\n}\n')  # as it was written once
    assert str(History.from_columns(json.loads(path.read_text()))["loss"]) == "[nan, inf]"


def test_training_accuracy_is_that_of_the_batches_before_their_updates(place, rows):
    X, Y = rows
    run, twin = trainer(), trainer()
    history = run.fit(X, Y, batch_size=16, epochs=1)
    hits = 0
    for x, y in data.batches(X, Y, 16):
        hits += np.count_nonzero(np.argmax(host(copy.deepcopy(twin.model)(place.put(x))), 1) == y)
        twin.step(x, y)
    assert history["accuracy"] == [hits / N]


@pytest.mark.host("drawing")
def test_history_plot(rows, tmp_path):
    figure_module = pytest.importorskip("matplotlib.figure")
    history = trainer().fit(*rows, batch_size=16, epochs=2, validation=rows)
    figure = history.plot(tmp_path / "h.png")
    assert isinstance(figure, figure_module.Figure)
    assert (tmp_path / "h.png").read_bytes().startswith(b"\x89PNG")
    assert [axes.get_title() for axes in figure.axes] == ["loss", "accuracy"]
    assert all(len(axes.lines) == 2 for axes in figure.axes)
    assert history.plot() is not figure
    with pytest.raises(ValueError, match="no epochs yet"):
        fastnn.History().plot()


def test_history_plot_names_the_missing_package(monkeypatch, rows):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        trainer().fit(*rows, batch_size=16, epochs=1).plot()


# ---- progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_silent_without_a_terminal(rows, capsys):
    trainer().fit(*rows, batch_size=16, epochs=2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("with_tqdm", [True, False])
def test_progress_on_a_terminal(rows, monkeypatch, with_tqdm):
    if with_tqdm:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    one, other = trainer(), trainer()
    one.fit(*rows, batch_size=16, epochs=3, validation=rows)
    text = shown.getvalue()
    assert "val_accuracy" in text
    assert ("12/12" in text) if with_tqdm else (text.count("\n") == 3)
    shown.seek(0)
    shown.truncate()
    other.fit(*rows, batch_size=16, epochs=3, progress=False)
    assert shown.getvalue() == ""
    assert_same_model(one, other)


@pytest.mark.host("a device is waited for after an epoch")
@pytest.mark.parametrize(("seconds", "steps"), [(None, None), (0.0, [1] * 12), (1e9, [4] * 3)])
def test_a_fit_comes_back_for_progress(rows, monkeypatch, seconds, steps):
    """From native code after its seconds, and these are 0.1 at most; no step depends on them."""
    run_steps, given, shown = _core.run_steps, [], []

    def recorded(*arguments, **options):
        given.append(options["seconds"])
        return run_steps(*arguments, **options)

    monkeypatch.setattr(_core, "run_steps", recorded)
    monkeypatch.setattr(Progress, "steps", lambda self, count: shown.append(count))
    if seconds is not None:
        monkeypatch.setattr(_steps, "_SECONDS", seconds)
    one, other = trainer(), trainer()
    one.fit(*rows, batch_size=16, epochs=3, progress=False)
    assert len(given) == len(shown) > 0
    if seconds is None:
        assert all(0 < value <= 0.1 for value in given)
    else:
        assert shown == steps
    for epoch in range(3):
        for x, y in data.batches(*rows, 16, epoch=epoch):
            other.step(x, y)
    assert_same_model(one, other)


# ---- interruption


class Interrupting:
    """A loss during which Ctrl-C is pressed, at the call of this number."""

    def __init__(self, at):
        self.calls, self.at, self.loss = 0, at, losses.CrossEntropyLoss()

    def __call__(self, *arguments):
        self.calls += 1
        if self.calls == self.at:
            signal.raise_signal(signal.SIGINT)
        return self.loss(*arguments)


@pytest.mark.parametrize("at", [1, 4, 6, 8])
def test_ctrl_c_leaves_whole_steps(rows, at):
    X, Y = rows
    run, steps = trainer(), trainer()
    run.loss = Interrupting(at)
    with pytest.raises(KeyboardInterrupt):
        run.fit(X, Y, batch_size=16, epochs=3)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert run.optimizer.step_count == run.loss.calls == at
    batches = [xy for epoch in range(3) for xy in data.batches(X, Y, 16, epoch=epoch)]
    for x, y in batches[:at]:
        steps.step(x, y)
    assert_same_model(run, steps)
    # The next fit finishes the epoch that was cut short, and that is its one epoch.
    run.loss = losses.CrossEntropyLoss()
    history = run.fit(X, Y, batch_size=16, epochs=1)
    end = 4 * -(-at // 4)
    for x, y in batches[at:end]:
        steps.step(x, y)
    assert_same_model(run, steps)
    assert history["epoch"] == [end / 4]
    assert history["step"] == [end]


def test_ctrl_c_before_the_update_waits_for_both_groups(rows, monkeypatch):
    X, Y = rows
    model, update = layers(), ops._run_update

    def pressed(*arguments):
        signal.raise_signal(signal.SIGINT)
        return update(*arguments)

    ps = model.parameters()
    groups = [{"params": ps[:1]}, {"params": ps[1:]}]
    loss = Interrupting(0)  # of one's own: the update is a call of its own
    run = fastnn.Trainer(model, loss, optim.Adam(groups, lr=0.01))
    monkeypatch.setattr(ops, "_run_update", pressed)
    with pytest.raises(KeyboardInterrupt):
        run.fit(X, Y, batch_size=16, epochs=1)
    monkeypatch.undo()
    twin = trainer()
    twin.step(*next(iter(data.batches(X, Y, 16))))
    assert_same_model(run, twin)


def test_an_own_handler_of_ctrl_c_is_left_alone(rows):
    pressed = []
    signal.signal(signal.SIGINT, lambda *_: pressed.append(1))
    try:
        run = trainer()
        run.loss = Interrupting(2)
        run.fit(*rows, batch_size=16, epochs=1)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert pressed == [1]
    assert run.optimizer.step_count == 4


class AtEpochEnd(callbacks.Callback):
    def __init__(self, what):
        self.what = what

    def on_epoch_end(self, trainer, logs):
        self.what()
        return False


def test_ctrl_c_in_a_callback_raises_there(rows):
    seen = []

    def pressed():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        seen.append(1)

    run = trainer()
    run.fit(*rows, batch_size=16, epochs=3, callbacks=[AtEpochEnd(pressed)])
    assert len(seen) == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Trains(callbacks.Callback):
    """A fit of another trainer within a step's callback; Ctrl-C is pressed in its second step."""

    def __init__(self, inner, rows):
        self.inner, self.rows = inner, rows

    def on_step_end(self, trainer, step, loss):
        self.inner.fit(*self.rows, batch_size=16, epochs=3)
        return False


def test_ctrl_c_in_a_fit_within_a_fit_leaves_whole_steps_of_both(rows):
    run, inner, twin = trainer(), trainer(), trainer()
    inner.loss = Interrupting(2)
    with pytest.raises(KeyboardInterrupt):
        run.fit(*rows, batch_size=16, epochs=2, callbacks=[Trains(inner, rows)])
    assert (run.optimizer.step_count, inner.optimizer.step_count) == (1, 2)
    for x, y in itertools.islice(data.batches(*rows, 16), 2):
        twin.step(x, y)
    assert_same_model(inner, twin)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    run.fit(*rows, batch_size=16, epochs=1)  # and no later one thinks that it is pressed
    assert run.optimizer.step_count == 4


def test_a_handler_that_a_callback_sets_is_left_alone(rows):
    def own(*_):
        pass

    try:
        trainer().fit(
            *rows,
            batch_size=16,
            epochs=1,
            callbacks=[AtEpochEnd(lambda: signal.signal(signal.SIGINT, own))],
        )
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_fit_in_another_thread(rows):
    one, other = trainer(), trainer()
    thread = threading.Thread(target=one.fit, args=rows, kwargs={"batch_size": 16, "epochs": 2})
    thread.start()
    thread.join()
    other.fit(*rows, batch_size=16, epochs=2)
    assert_same_model(one, other)


def test_an_error_in_a_step_leaves_the_trainer_usable(rows):
    X, Y = rows
    run = trainer()
    with pytest.raises(ValueError, match=r"Trainer\.fit: Y\["):
        run.fit(X, Y + CLASSES, batch_size=16, epochs=1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert run.optimizer.step_count == 0
    run.fit(X, Y, batch_size=16, epochs=1)
