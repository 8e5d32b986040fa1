"""Trainer.save and Trainer.load: what does not fit is listed at once, and then nothing has changed."""

import copy

import fastnn
import numpy as np
import pytest
from custom import Scale
from fastnn import _file, callbacks, losses, nn, optim, schedulers
from runs import StopAt, assert_equal_tree, build, fit
from small import labelled_rows

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture
def rows():
    return labelled_rows()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


# ---- what does not fit, all at once, changes nothing


def snapshot(run):
    """Everything that a load may touch."""
    state = copy.deepcopy((run.model.state_dict(), run.optimizer.state_dict()))
    modules = [(m.training, [getattr(m, key) for key in m.counters]) for m in run.model.modules()]
    flags = [(p.trainable, p.decay) for p in run.model.parameters()]
    return [*state, modules, flags, dict(run.history), run.seed, run.epoch, run._epoch_begun is None]


def refused(run, path, error, *messages):
    fit(run, labelled_rows(), 1)
    before = snapshot(run)
    with pytest.raises(error) as caught:
        run.load(path)
    for message in messages:
        assert message in str(caught.value), str(caught.value)
    for one, other in zip(snapshot(run), before, strict=True):
        assert_equal_tree(one, other) if isinstance(one, dict) else None
        assert isinstance(one, dict) or one == other
    return str(caught.value)


def test_all_mismatches_are_listed_at_once(rows, path):
    fit(run := build(), rows, 1)
    run.save(path)
    hidden = nn.Linear(6, 12, bias=False), nn.BatchNorm1d(12), nn.Tanh(), nn.Dropout(0.4)
    model = nn.Sequential(*hidden, nn.Linear(12, 3), seed=3)
    other = fastnn.Trainer(
        model, losses.CrossEntropyLoss(label_smoothing=0.1), optim.AdamW(model.parameters(), lr=0.1)
    )
    refused(
        other,
        path,
        ValueError,
        "'0.weight' has shape (6, 16), must be (6, 12)",
        "'1.running_mean' has shape (16,), must be (12,)",
        "model.0.out_features is 16 in the file, 12 here",
        "model.2 is nn.ReLU in the file, nn.Tanh here",
        "model.3.p is 0.3 in the file, 0.4 here",
        "the optimizer is Adam in the file, AdamW here",
        "the loss is CrossEntropyLoss(label_smoothing=0.0, ignore_index=None) in the file, Cross",
        "lr of group 0 is a schedule, must be a number",
        "slot 'm' of '0.weight' has shape (6, 16), must be (6, 12)",
    )


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((nn.Linear(6, 3),), "model has 5 entries in the file, 1 here"),
        ((nn.Linear(6, 16), *[nn.ReLU() for _ in range(4)]), "missing '0.bias'"),
        ((nn.Linear(6, 3), *[nn.ReLU() for _ in range(4)]), "the file has counts ['3.forwards'"),
        ((nn.Linear(6, 16), Scale(16), nn.Linear(16, 3)), "the file has layers of your own [], the model ["),
    ],
)
def test_another_model(rows, path, layers, message):
    run = build()
    run.save(path)
    model = nn.Sequential(*layers, seed=0)

    def loss(pred, target):  # of one's own, so that a trainer takes layers of one's own
        return losses.CrossEntropyLoss()(pred, target)

    refused(fastnn.Trainer(model, loss, optim.Adam(model.parameters(), lr=0.1)), path, ValueError, message)


def test_another_optimizer_alone(rows, path):
    build("Momentum").save(path)
    refused(build("SGD"), path, ValueError, "the optimizer is Momentum in the file, SGD here", "group 0")
    build("Adam").save(path)
    refused(build("AdamW"), path, ValueError, "1 parameter groups, must be 2")


class Ramp(schedulers.Schedule):
    """A schedule of one's own, with an argument and with a count that it keeps."""

    def __init__(self, height):
        self.height, self.count = height, 0

    def _rate(self, t):
        return self.height

    def update(self, metric):
        self.count += 1

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


def scheduled(lr, momentum=0.9):
    model = nn.Sequential(nn.Linear(6, 3), seed=3)
    made = optim.RMSProp(model.parameters(), lr=lr, momentum=momentum)
    return fastnn.Trainer(model, losses.CrossEntropyLoss(), made)


def step(size):
    return schedulers.StepDecay(0.1, size)


WARM = (
    "LinearWarmup(after=StepDecay(lr=0.1, step_size={}, gamma=0.1), warmup_steps=3, start_lr=0.0, end_lr=0.1)"
)
OTHER_SCHEDULES = {
    "class": (
        lambda: step(2),
        lambda: schedulers.LinearDecay(0.9, 5, 0.0),
        "StepDecay(lr=0.1, step_size=2, gamma=0.1) in the file, LinearDecay(lr=0.9, steps=5, end_lr=0.0)",
    ),
    "constant": (
        lambda: schedulers.LinearWarmup(step(2), 3),
        lambda: schedulers.LinearWarmup(step(4), 3),
        f"{WARM.format(2)} in the file, {WARM.format(4)} here",
    ),
    "list": (
        lambda: schedulers.Sequence([0.1, lambda t: 0.2, step(2)], [3, 5]),
        lambda: schedulers.Sequence([0.1, lambda t: 0.3, step(2)], [3, 6]),
        "boundaries=[3, 5]) in the file, Sequence(schedules=[0.1, a function, StepDecay(",
    ),
    "number": (
        lambda: schedulers.PerEpoch(step(2)),
        lambda: schedulers.PerEpoch(step(2), 4),
        "steps_per_epoch=None) in the file, PerEpoch(",
    ),
    "function": (lambda: step(2), lambda: lambda t: 0.1, "gamma=0.1) in the file, a function here"),
    "own": (lambda: Ramp(0.1), lambda: Ramp(0.2), "Ramp(height=0.1) in the file, Ramp(height=0.2) here"),
}


@pytest.mark.parametrize("case", OTHER_SCHEDULES)
def test_another_schedule(rows, path, case):
    saved, other, message = OTHER_SCHEDULES[case]
    fit(run := scheduled(saved(), saved()), rows, 1)
    run.optimizer.param_groups[0]["lr"].update(1.0)
    run.save(path)
    said = refused(scheduled(other(), other()), path, ValueError, message)
    assert said.count(message) == 2
    assert "lr of group 0 is" in said
    assert "momentum of group 0 is" in said
    same = scheduled(saved(), saved())
    same.load(path)
    assert same.optimizer.state_dict()["param_groups"] == run.optimizer.state_dict()["param_groups"]


def test_functions_of_ones_own_and_files_without_schedules_are_not_compared(rows, path):
    scheduled(schedulers.LambdaDecay(0.1, lambda t: 1.0), lambda t: 0.5).save(path)
    scheduled(schedulers.LambdaDecay(0.1, lambda t: 0.5), lambda t: 0.7).load(path)
    scheduled(step(2)).save(path)
    description, arrays = _file.read(path, "test")
    del description["sha256"], description["trainer"]["optimizer"]["schedules"]
    _file.write(path, "test", description, arrays)
    scheduled(step(4)).load(path)


def test_numbers_beside_schedules_come_from_the_file(rows, path):
    def made(beta):
        model = nn.Sequential(nn.Linear(6, 3), seed=3)
        adam = optim.Adam(model.parameters(), step(2), betas=(lambda t: 0.9, beta))
        return fastnn.Trainer(model, losses.CrossEntropyLoss(), adam)

    made(0.99).save(path)
    run = made(0.9)
    run.load(path)
    assert run.optimizer.param_groups[0]["betas"][1] == 0.99


def test_other_metrics(rows, path):
    build(metrics={"a": lambda p, t: 0.0}).save(path)
    refused(build(), path, ValueError, "metrics is ['a'] in the file, [] here")


def test_a_model_is_no_trainer(path):
    fastnn.save(path, build().model)
    refused(build(), path, ValueError, "holds a model and no trainer; fastnn.load(path) returns the model")


def test_damaged_files(rows, path):
    fit(run := build(), rows, 2, callbacks=[StopAt(6)])
    run.save(path)
    data = path.read_bytes()
    for damaged, message in (
        (data[:-1], "cut off"),
        (data[:50], "cut off"),
        (b"", "no safetensors file"),
        (data[:-9] + b"x" + data[-8:], "checksum is wrong"),
    ):
        path.write_bytes(damaged)
        refused(build(), path, ValueError, "Trainer.load: ", message)
    path.unlink()
    refused(build(), path, FileNotFoundError, "Trainer.load: there is no file")
    refused(build(), path.parent, IsADirectoryError, "Trainer.load: ")


FORGED = {
    "no state": lambda d: d.pop("trainer"),
    "a list": lambda d: d.update(trainer=[]),
    "no slots": lambda d: d["trainer"]["optimizer"]["state"].pop("state"),
    "slots of another kind": lambda d: d["trainer"]["optimizer"]["state"].update(state=3),
    "negative steps": lambda d: d["trainer"]["optimizer"]["state"].update(step_count=-1),
    "seed": lambda d: d["trainer"].update(seed="x"),
    "history": lambda d: d["trainer"]["history"].update(loss=[1.0, 2.0]),
    "history of a kind": lambda d: d["trainer"].update(history=3),
    "begun": lambda d: d["trainer"].update(begun={"steps": 1}),
    "callbacks": lambda d: d["trainer"].update(callbacks=[1]),
    "schedules": lambda d: d["trainer"]["optimizer"].update(schedules=[1]),
    "flags": lambda d: d["model"].update(frozen=3),
    "counts": lambda d: d["model"]["counters"].update({"3.seed": "x"}),
    "modes": lambda d: d["model"].update(evaluating=["x"]),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_description_changes_nothing(case, rows, path):
    """With a checksum that fits: it is found before anything is taken over."""
    fit(run := build(), rows, 2, callbacks=[StopAt(6)])
    run.save(path)
    description, arrays = _file.read(path, "test")
    del description["sha256"]
    FORGED[case](description)
    _file.write(path, "test", description, arrays)
    assert "\n" not in refused(build(), path, ValueError, "Trainer.load: ")


# ---- what cannot be saved


def test_a_callback_with_a_state_that_is_no_data(rows, path):
    class Bad(callbacks.Callback):
        def state_dict(self):
            return {"f": [print]}

    run = build()
    fit(run, rows, 1, callbacks=[Bad()])
    with pytest.raises(TypeError, match=r"trainer/callbacks/0/1/f/0: cannot save a builtin_fun"):
        run.save(path)
    assert not path.exists()


def test_arrays_that_are_no_numbers(rows, path):
    class Bad(callbacks.Callback):
        def state_dict(self):
            return {"a": np.array([object()])}

    run = build()
    fit(run, rows, 1, callbacks=[Bad()])
    with pytest.raises(TypeError, match=r"trainer/callbacks/0/1/a: arrays of dtype object cannot be saved"):
        run.save(path)
    assert not path.exists()


@pytest.mark.parametrize("bad", [None, 3, b"x", ["a"]])
def test_a_path_that_is_none(bad):
    run = build()
    for method in (run.save, run.load):
        with pytest.raises(TypeError, match=r"Trainer\.\w+: path must be a str or a pathlib\.Path, got"):
            method(bad)
