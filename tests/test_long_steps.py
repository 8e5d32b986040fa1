"""Ctrl-C in the middle of a step that takes long: it leaves the step before it has changed anything."""

import concurrent.futures
import copy
import threading

import fastnn
import guard
import numpy as np
import pytest
from fastnn import losses, nn, optim
from runs import assert_equal_tree
from test_signals import check_soon

pytestmark = pytest.mark.alone


def long_steps():
    """A trainer that has done a step, and rows for steps of some seconds."""
    fastnn.set_isa("scalar")
    fastnn.set_num_threads(2)
    layers = (nn.Linear(256, 512), nn.BatchNorm1d(512, debias=True, running_var="biased"), nn.ReLU())
    more = (nn.Dropout(0.2), nn.Linear(512, 512), nn.BatchNorm1d(512), nn.Tanh(), nn.Linear(512, 10))
    model = nn.Sequential(*layers, *more, seed=0)
    trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters()))
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((2000, 256)).astype(np.float32), rng.integers(0, 10, 2000)
    trainer.step(X[:20], Y[:20])
    return trainer, X, Y


def state(trainer):
    parts = trainer.model.state_dict(), trainer.optimizer.state_dict(), trainer.model[3].forwards
    return dict(zip(("model", "optimizer", "forwards"), copy.deepcopy(parts), strict=True))


@pytest.mark.parametrize("how", ["step", "fit", "callback"])
def test_interrupt_of_a_long_step(how):
    guard.run_isolated("test_long_steps", "interrupt_case", how)


class Noted(fastnn.callbacks.Callback):
    """Takes steps one by one."""

    def __init__(self):
        self.steps = []

    def on_step_end(self, trainer, step, loss):
        self.steps.append(step)
        return False


def interrupt_case(how):
    trainer, X, Y = long_steps()
    noted = Noted()
    before = state(trainer)
    if how == "step":
        check_soon(lambda: trainer.step(X, Y))
    else:
        callbacks = [noted] if how == "callback" else []
        check_soon(lambda: trainer.fit(X, Y, batch_size=2000, epochs=1, progress=False, callbacks=callbacks))
    assert_equal_tree(state(trainer), before)
    assert noted.steps == []
    # What was cut short leaves no trace in the next step.
    other, _, _ = long_steps()
    assert trainer.step(X[:300], Y[:300]) == other.step(X[:300], Y[:300])
    assert_equal_tree(state(trainer), state(other))


def test_interrupt_of_long_steps_in_several_fits():
    guard.run_isolated("test_long_steps", "many_case")


def many_case():
    trainers = [long_steps()[0] for _ in range(2)]
    _, X, Y = long_steps()
    before = [state(trainer) for trainer in trainers]
    check_soon(lambda: fastnn.fit_many(trainers, X, Y, batch_size=2000, epochs=1))
    for trainer, then in zip(trainers, before, strict=True):
        assert_equal_tree(state(trainer), then)
    history = trainers[0].fit(X[:600], Y[:600], batch_size=300, epochs=1, progress=False)
    assert history["loss"][0] > 0


def test_a_second_interrupt_leaves_nothing_stopped():
    guard.run_isolated("test_long_steps", "second_case")


def second_case():
    trainer, X, Y = long_steps()
    rows = X[:300], Y[:300]

    def interrupted(fits):
        raise KeyboardInterrupt

    concurrent.futures.wait = interrupted
    with pytest.raises(KeyboardInterrupt):
        fastnn.fit_many([trainer], *rows, batch_size=300, epochs=1)
    done = []
    fit = threading.Thread(
        target=lambda: done.append(trainer.fit(*rows, batch_size=300, epochs=1, progress=False)), daemon=True
    )
    fit.start()
    fit.join(60)
    assert done
