"""fit_many: each trainer ends as after a fit of its own, whatever runs beside it."""

import re
import signal
import threading
import time

import fastnn
import numpy as np
import pytest
from fastnn import callbacks, diagnostics, losses, nn, optim, schedulers
from runs import Scripted, StopAt, assert_equal_tree, assert_same_run, build
from small import labelled_rows, trainer

pytestmark = pytest.mark.alone

FIT = {"batch_size": 16, "epochs": 3}


@pytest.fixture
def rows():
    return labelled_rows()


def several():
    """Trainers of different networks, rates, schedules, losses and seeds."""
    wide = nn.Sequential(nn.Linear(6, 70), nn.Tanh(), nn.Linear(70, 3), seed=1)
    return [
        *(build(name) for name in ("Adam", "Momentum", "plateau")),
        build("SGD", loss=losses.CrossEntropyLoss(label_smoothing=0.1), seed=9),
        fastnn.Trainer(
            wide,
            losses.CrossEntropyLoss(),
            optim.RMSProp(wide.parameters(), lr=schedulers.CosineAnnealingDecay(0.01, 9)),
            metrics={"largest": lambda pred, target: float(pred.max())},
        ),
    ]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_each_is_a_fit_of_its_own(rows, threads):
    together, alone = several(), several()
    before = fastnn.get_num_threads()
    fastnn.set_num_threads(threads)
    try:
        histories = fastnn.fit_many(together, *rows, validation=rows, **FIT)
    finally:
        fastnn.set_num_threads(before)
    for one, other, history in zip(together, alone, histories, strict=True):
        expected = other.fit(*rows, validation=rows, progress=False, **FIT)
        assert_same_run(one, other)
        assert history["val_loss"] == expected["val_loss"]
        assert history["loss"] == expected["loss"]


def stops(folder):
    """Callbacks for each of `several`: of every kind, and stops after an epoch and in the middle of one."""
    return [
        [Scripted(3, 1, 2, 2, 2, 2), callbacks.EarlyStopping(patience=2)],
        (callbacks.EMA(0.9), callbacks.DivergenceGuard(action="rollback")),
        [StopAt(7)],
        [diagnostics.StepReports(every=3)],
        [callbacks.EarlyStopping("val_largest", patience=1), callbacks.Checkpoint(folder)],
    ]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_each_has_its_own_stop(rows, restore_runtime, tmp_path, threads):
    fastnn.set_num_threads(threads)
    together, alone = several(), several()
    given, expected = stops(tmp_path / "together"), stops(tmp_path / "alone")
    options = {"batch_size": 16, "epochs": 6, "validation": rows}
    histories = fastnn.fit_many(together, *rows, callbacks=given, **options)
    for one, other, own, others in zip(together, alone, given, expected, strict=True):
        other.fit(*rows, callbacks=others, progress=False, **options)
        assert_same_run(one, other)
        for callback, twin in zip(own, others, strict=True):
            assert_equal_tree(callback.state_dict(), twin.state_dict())
    assert [run.epoch for run in together[:4]] == [h.epochs for h in histories[:4]] == [4, 6, 1, 6]
    assert together[4].epoch < 6  # by EarlyStopping
    assert [run.optimizer.step_count for run in together[:4]] == [16, 24, 7, 24]
    assert len(given[3][0].reports) > 0
    names = [sorted(file.name for file in (tmp_path / folder).iterdir()) for folder in ("together", "alone")]
    assert names[0] == names[1] != []


def test_a_stopped_fit_goes_on(rows):
    """What a callback has counted stays with it and its trainer."""
    one, other = build(), build()
    own, others = ([Scripted(3, 1, 2, 2, 2, 2), callbacks.EarlyStopping(patience=4)] for _ in range(2))
    for _ in range(2):
        fastnn.fit_many([one, trainer()], *rows, validation=rows, callbacks=[own, []], **FIT)
    other.fit(*rows, validation=rows, callbacks=others, progress=False, batch_size=16, epochs=6)
    assert_same_run(one, other)
    assert own[1].best_epoch == others[1].best_epoch == 2


def test_it_goes_on_where_a_fit_ended(rows):
    one, other = build(), build()
    fastnn.fit_many((run for run in [one]), *rows, **FIT)
    one.fit(*rows, progress=False, **FIT)
    other.fit(*rows, progress=False, batch_size=16, epochs=6)
    assert_same_run(one, other)


def test_no_trainers(rows):
    assert fastnn.fit_many([], *rows, **FIT) == []


def test_what_is_refused(rows):
    one, other = trainer(), trainer()
    shared = fastnn.Trainer(one.model, one.loss, optim.SGD(one.model.parameters(), 0.1))
    for wrong, error, message in (
        (one, TypeError, "must be a list"),
        ([one.model], TypeError, "must be a list"),
        (None, TypeError, "must be a list"),
        ([one, other, shared], ValueError, "trainers 0 and 2 share parameter '0.weight'"),
        ([one, other, one], ValueError, "a trainer occurs twice"),
    ):
        with pytest.raises(error, match=message):
            fastnn.fit_many(wrong, *rows, **FIT)
    stop = callbacks.EarlyStopping
    for wrong, error, message in (
        (stop(), TypeError, "callbacks must be a list with a list for each trainer, got <fastnn"),
        ({0: [stop()]}, TypeError, "callbacks must be a list with a list for each trainer, got {0"),
        ([[]], ValueError, "callbacks must have one list for each of the 2 trainers, got 1"),
        ([[], [], []], ValueError, "callbacks must have one list for each of the 2 trainers, got 3"),
        ([stop("loss"), stop("loss")], TypeError, "trainer 0: callbacks must be a list of callbacks, got <"),
        ([[], None], TypeError, "trainer 1: callbacks must be a list of callbacks, got None"),
        ([[], [3]], TypeError, "trainer 1: callbacks must be objects of fastnn.callbacks, got 3"),
        ([[], [stop]], TypeError, "trainer 1: callbacks must be objects of fastnn.callbacks, got <class"),
        ([[], [stop()]], ValueError, "trainer 1: EarlyStopping monitors 'val_loss', .* pass validation="),
    ):
        with pytest.raises(error, match=f"^fit_many: {message}") as caught:
            fastnn.fit_many([one, other], *rows, callbacks=wrong, **FIT)
        assert type(caught.value) is error
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        fastnn.fit_many([one], *rows, batch_size=0, epochs=1)
    assert one.optimizer.step_count == other.optimizer.step_count == 0


def own_loss(pred, target):
    return losses.CrossEntropyLoss()(pred, target)


class Falling(schedulers.Schedule):
    """A schedule of one's own with a state."""

    def _rate(self, t):
        return 0.1

    def state_dict(self):
        return {"count": 3}


def with_layer(layer, loss=None):
    model = nn.Sequential(nn.Linear(6, 8), nn.Sequential(layer), nn.Linear(8, 3), seed=0)
    return fastnn.Trainer(model, loss or losses.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1))


def with_rates(lr, momentum=0.9):
    model = nn.Sequential(nn.Linear(6, 3), seed=0)
    return fastnn.Trainer(
        model, losses.CrossEntropyLoss(), optim.Momentum(model.parameters(), lr, momentum=momentum)
    )


SHARED = {
    "dropout": (lambda layer: with_layer(layer), lambda: nn.Dropout(0.5), "layer '1.0' (Dropout)"),
    "batch-norm": (
        lambda layer: with_layer(layer),
        lambda: nn.BatchNorm1d(8),
        "parameter '1.0.gamma'; give each a model",
    ),
    "own-loss": (lambda layer: with_layer(layer, own_loss), nn.ReLU, "layer '1.0' (ReLU)"),
    "plateau": (with_rates, lambda: schedulers.ReduceOnPlateau(0.1), "the schedule ReduceOnPlateau, which"),
    "in-warm-up": (
        lambda plateau: with_rates(schedulers.LinearWarmup(plateau, 3)),
        lambda: schedulers.ReduceOnPlateau(0.1),
        "the schedule ReduceOnPlateau, which",
    ),
    "momentum": (
        lambda plateau: with_rates(0.1, plateau),
        lambda: schedulers.ReduceOnPlateau(0.5),
        "the schedule ReduceOnPlateau, which has a state; give each a schedule of its own",
    ),
    "own-schedule": (with_rates, Falling, "the schedule Falling, which has a state"),
}


@pytest.mark.parametrize("case", SHARED)
def test_what_a_fit_changes_may_not_be_shared(rows, case):
    make, shared, message = SHARED[case]
    thing = shared()
    runs = [make(shared()), make(thing), make(shared()), make(thing)]
    with pytest.raises(ValueError, match=re.escape(f"fit_many: trainers 1 and 3 share {message}")):
        fastnn.fit_many(runs, *rows, **FIT)
    assert [run.optimizer.step_count for run in runs] == [0] * 4


def test_one_optimizer_of_two_models(rows):
    models = [nn.Sequential(nn.Linear(6, 3), seed=seed) for seed in range(2)]
    both = optim.SGD([p for model in models for p in model.parameters()], 0.1)
    runs = [fastnn.Trainer(model, losses.CrossEntropyLoss(), both) for model in models]
    with pytest.raises(ValueError, match="trainers 0 and 1 share the optimizer SGD; give each an optimizer"):
        fastnn.fit_many(runs, *rows, **FIT)


def test_no_callback_is_of_two_trainers(rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    count = callbacks.Callback()
    for given, message in (
        (
            [[count], [], [callbacks.Callback(), count]],
            "share the callback Callback; give each a callback of",
        ),
        (
            [
                [callbacks.Checkpoint("a")],
                [callbacks.Checkpoint("b")],
                [callbacks.Checkpoint(tmp_path / "a")],
            ],
            f"share the folder {tmp_path / 'a'}; give each a folder of its own",
        ),
    ):
        runs = [trainer(), trainer(), trainer()]
        with pytest.raises(ValueError, match=re.escape(f"fit_many: trainers 0 and 2 {message}")):
            fastnn.fit_many(runs, *rows, callbacks=given, **FIT)
        assert [run.optimizer.step_count for run in runs] == [0] * 3


def test_a_layer_that_a_callback_watches_is_not_shared(rows):
    relu = nn.ReLU()
    runs = [with_layer(relu), with_layer(relu)]
    with pytest.raises(ValueError, match=re.escape("share layer '1.0' (ReLU); give each a layer of its own")):
        fastnn.fit_many(runs, *rows, callbacks=[[diagnostics.StepReports()] for _ in runs], **FIT)


def test_what_has_no_state_may_be_shared(rows):
    relu, loss, rate = nn.ReLU(), losses.CrossEntropyLoss(), schedulers.CosineAnnealingDecay(0.1, 20)
    per_epoch = schedulers.PerEpoch(schedulers.StepDecay(0.1, 1))

    def made():
        runs = [with_layer(relu, loss), with_layer(relu, loss), with_rates(rate), with_rates(rate)]
        return [*runs, with_rates(per_epoch), with_rates(schedulers.LinearWarmup(per_epoch, 2))]

    together, alone = made(), made()
    fastnn.fit_many(together, *rows, **FIT)
    for one, other in zip(together, alone, strict=True):
        other.fit(*rows, progress=False, **FIT)
        assert_same_run(one, other)


def test_an_error_of_one_is_raised_when_all_have_ended(rows):
    X, Y = rows
    narrow = nn.Sequential(nn.Linear(6, 2), seed=0)
    bad = fastnn.Trainer(narrow, losses.CrossEntropyLoss(), optim.SGD(narrow.parameters(), 0.1))
    good = trainer()
    with pytest.raises(ValueError, match=r"Y\[\d+\] is 2"):
        fastnn.fit_many([bad, good], X, Y, **FIT)
    assert good.epoch == 3


class Fails(callbacks.Callback):
    def __init__(self, steps):
        self.steps, self.ends = steps, 0

    def on_step_end(self, trainer, step, loss):
        if step == self.steps:
            raise OSError(f"after {step} steps")

    def on_fit_end(self, trainer):
        self.ends += 1


def test_an_error_of_a_callback_is_raised_when_all_have_ended(rows):
    bad, good, alone = trainer(), trainer(), trainer()
    fails = [Fails(6), Fails(99)]
    with pytest.raises(OSError, match="after 6 steps"):
        fastnn.fit_many([bad, good], *rows, callbacks=[[each] for each in fails], **FIT)
    assert good.epoch == 3
    assert [each.ends for each in fails] == [1, 1]
    with pytest.raises(OSError, match="after 6 steps"):
        alone.fit(*rows, callbacks=[Fails(6)], progress=False, **FIT)
    assert_same_run(bad, alone)
    for run in bad, alone:  # the begun epoch is finished
        run.fit(*rows, progress=False, **FIT)
    assert_same_run(bad, alone)


def test_ctrl_c_ends_all_fits_after_whole_steps(rows):
    X, Y = rows
    runs = [trainer(), trainer(), trainer()]
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()
    start = time.perf_counter()
    try:
        with pytest.raises(KeyboardInterrupt):
            fastnn.fit_many(runs, X, Y, batch_size=16, epochs=1_000_000)
    finally:
        signal.signal(signal.SIGINT, old)
    assert time.perf_counter() - start < 30
    for run in runs[:2]:
        again = trainer()
        steps = run.optimizer.step_count
        again.fit(X, Y, batch_size=16, epochs=steps // 4 + 1, callbacks=[StopAt(steps)], progress=False)
        for one, other in zip(run.model.parameters(), again.model.parameters(), strict=True):
            assert np.array_equal(one.data, other.data)


def test_ctrl_c_while_a_thread_starts_leaves_none_behind(rows, monkeypatch):
    begin, threads = threading.Thread.start, threading.active_count()

    def interrupted(thread):
        begin(thread)
        signal.raise_signal(signal.SIGINT)

    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            fastnn.fit_many([trainer(), trainer()], *rows, batch_size=16, epochs=1_000_000)
    finally:
        signal.signal(signal.SIGINT, old)
    assert threading.active_count() == threads
