"""Trainers whose course depends on all that a file must keep, and what must be equal of two of them."""

import fastnn
import numpy as np
from bounds import assert_bits
from fastnn import callbacks, losses, nn, optim, schedulers
from small import assert_same_model

EPOCHS, STEPS = 6, 4  # of a run, and of an epoch


def plateau():
    """At this rate epochs get worse, so that it is cut."""
    return schedulers.ReduceOnPlateau(0.3, factor=0.5, patience=0, cooldown=1)


OPTIMIZERS = {
    "SGD": lambda ps: optim.SGD(ps, 0.05),
    "Momentum": lambda ps: optim.Momentum(ps, 0.02, style="velocity", nesterov=True),
    "RMSProp": lambda ps: optim.RMSProp(ps),
    "AdaGrad": lambda ps: optim.AdaGrad(ps),
    "Adam": lambda ps: optim.Adam(ps, schedulers.LinearWarmup(schedulers.CosineAnnealingDecay(0.02, 20), 5)),
    "AdamW": lambda ps: optim.AdamW([{"params": ps[:2]}, {"params": ps[2:], "betas": (0.8, 0.9)}]),
    "plateau": lambda ps: optim.Adam(ps, lr=schedulers.LinearWarmup(plateau(), 3)),
    "per epoch": lambda ps: optim.Adam(ps, lr=schedulers.PerEpoch(schedulers.StepDecay(0.02, 2))),
}


def build(optimizer="Adam", loss=None, **options):
    hidden = nn.Linear(6, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3)
    model = nn.Sequential(*hidden, nn.Linear(16, 3), seed=3)
    made = OPTIMIZERS[optimizer](model.parameters())
    return fastnn.Trainer(model, loss or losses.CrossEntropyLoss(), made, **{"seed": 5, **options})


def fit(run, rows, epochs, **options):
    X, Y = rows
    return run.fit(X, Y, **{"batch_size": 16, "epochs": epochs, "validation": (X[:20], Y[:20]), **options})


def assert_equal_tree(one, other, where="state"):
    """Nested dicts, lists and arrays are equal bit for bit."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_equal_tree(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, np.ndarray):
        assert_bits(one, other, where)
    else:
        assert one == other or (one != one and other != other), where


TIMES = ("seconds", "samples_per_second")


def assert_same_run(one, other):
    """All that the further course depends on is equal, and all that has been reported, but for times."""
    assert_same_model(one, other)
    assert_equal_tree(one.optimizer.state_dict(), other.optimizer.state_dict())
    for a, b in zip(one.model.modules(), other.model.modules(), strict=True):
        assert all(getattr(a, key) == getattr(b, key) for key in a.counters)
    assert list(one.history) == list(other.history)
    for key in one.history.keys() - set(TIMES):
        np.testing.assert_array_equal(one.history[key], other.history[key], key)
    assert (one.epoch, one.seed) == (other.epoch, other.seed)


class StopAt(callbacks.Callback):
    """Stops the fit once so many updates are done, and saves there if told where to."""

    def __init__(self, step, path=None):
        self.step, self.path = step, path

    def on_step_end(self, trainer, step, loss):
        if step == self.step and self.path:
            trainer.save(self.path)
        return step == self.step


class Scripted(callbacks.Callback):
    """Gives the epochs these values of val_loss in front of the callbacks behind it."""

    def __init__(self, *values):
        self.values = values

    def on_epoch_end(self, trainer, logs):
        logs["val_loss"] = self.values[trainer.epoch - 1]
