"""fit_many: each trainer ends as after a fit of its own, whatever runs beside it."""

import re
import signal
import threading
import time

import fastnn
import numpy as np
import pytest
from fastnn import callbacks, losses, nn, optim, schedulers
from runs import assert_same_run, build
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
        again.fit(X, Y, batch_size=16, epochs=steps // 4 + 1, callbacks=[StopAfter(steps)], progress=False)
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


class StopAfter(callbacks.Callback):
    def __init__(self, steps):
        self.steps = steps

    def on_step_end(self, trainer, step, loss):
        return step >= self.steps
