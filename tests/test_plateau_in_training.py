"""ReduceOnPlateau in training: its state in an optimizer, and the metrics that Trainer.fit tells it."""

import copy
import json
import math

import fastnn
import numpy as np
import pytest
from fastnn import data, losses, nn, optim
from fastnn.schedulers import LinearWarmup, PerEpoch, ReduceOnPlateau, Sequence, StepDecay
from small import labelled_rows, layers

pytestmark = pytest.mark.usefixtures("place")

# ---- in an optimizer


MAKERS = {
    "plain": lambda: ReduceOnPlateau(0.4, 0.5, 1, cooldown=1),
    "warmup": lambda: LinearWarmup(ReduceOnPlateau(0.4, 0.5, 1), 6),
    "sequence": lambda: Sequence([0.2, ReduceOnPlateau(0.4, 0.5, 1)], [5]),
    "epochs": lambda: PerEpoch(LinearWarmup(ReduceOnPlateau(0.4, 0.5, 1), 2), 3),
}
METRICS = [1.0, 0.9, 0.9, 0.95, 0.9, 0.5, 0.5, 0.5, math.nan, 0.5]


def optimizer(schedule):
    return optim.SGD([nn.Parameter(np.ones(3, np.float32))], schedule)


def run(opt, steps, epoch_steps=3):
    """Rates of these updates; the epoch's metric is told after its last update."""
    rates = []
    while opt.step_count < steps:
        rates.append(opt.lr)
        opt.step()
        if opt.step_count % epoch_steps == 0:
            opt.param_groups[0]["lr"].update(METRICS[opt.step_count // epoch_steps - 1])
    return rates


@pytest.mark.host("no arrays")
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_run_resumed_at_any_step_has_the_same_rates(make):
    whole = run(optimizer(make()), 30)
    assert len(set(whole)) > 2
    assert whole[-1] < max(whole)
    for at in range(30):
        first, second = optimizer(make()), optimizer(make())
        rates = run(first, at)
        second.load_state_dict(json_copy(first.state_dict()))
        assert rates + run(second, 30) == whole


def json_copy(state):
    """The state with its numbers gone through JSON, as a file would hold them."""
    groups = json.loads(json.dumps(state["param_groups"]))
    return {**copy.deepcopy(state), "param_groups": groups}


@pytest.mark.host("no arrays")
def test_a_state_of_another_kind_is_refused_and_changes_nothing():
    opt = optimizer(MAKERS["warmup"]())
    run(opt, 12)
    before = opt.state_dict()
    for other, message in [
        (0.1, "lr of group 0 is a number, must be a schedule with a state"),
        (StepDecay(0.1, 3), "lr of group 0 is a schedule, must be a schedule with a state"),
        (
            MAKERS["plain"](),
            r"group 0: LinearWarmup\.load_state_dict: the state has .* must have \['after'\]",
        ),
    ]:
        state = optimizer(other).state_dict()
        with pytest.raises(ValueError, match=message):
            opt.load_state_dict(state)
    state = copy.deepcopy(before)
    state["step_count"] = 3
    state["param_groups"][0]["lr"]["after"].update(cuts=-1, best=7.0)
    with pytest.raises(ValueError, match=r"group 0: .*cuts must be at least 0"):
        opt.load_state_dict(state)
    assert opt.state_dict() == before
    with pytest.raises(ValueError, match="lr of group 0 is a schedule with a state, must be a schedule"):
        optimizer(lambda t: 0.1).load_state_dict(before)


@pytest.mark.host("no arrays")
def test_a_saved_state_is_a_snapshot():
    opt = optimizer(MAKERS["warmup"]())
    run(opt, 12)
    state = opt.state_dict()
    kept = copy.deepcopy(state["param_groups"])
    run(opt, 30)
    assert state["param_groups"] == kept
    assert opt.state_dict()["param_groups"] != kept


# ---- in Trainer.fit


def trainer(schedule, **options):
    model = layers()
    return fastnn.Trainer(
        model, losses.CrossEntropyLoss(), optim.SGD(model.parameters(), schedule), **options
    )


def fit(run, epochs, **options):
    X, Y = labelled_rows()
    return run.fit(X, Y, batch_size=16, epochs=epochs, **options)


def test_fit_tells_the_metric_after_each_epoch():
    schedule = ReduceOnPlateau(0.1, 0.5, patience=2, cooldown=2, monitor="flat")
    history = fit(trainer(schedule, metrics={"flat": lambda pred, target: 1.0}), 10)
    # Cuts after epochs 4 and 9.
    assert history["lr"] == [0.1] * 4 + [0.05] * 5 + [0.025]
    assert schedule(0) == 0.025


@pytest.mark.parametrize(
    ("options", "validation", "name"),
    [
        ({}, False, "loss"),
        ({}, True, "val_loss"),
        ({"monitor": "loss"}, True, "loss"),
        ({"monitor": "accuracy", "mode": "max"}, False, "accuracy"),
        ({"monitor": "val_accuracy", "mode": "max"}, True, "val_accuracy"),
        ({"monitor": "val_zero"}, True, "val_zero"),
    ],
)
def test_which_metric_fit_takes(options, validation, name):
    schedule = ReduceOnPlateau(0.1, threshold=0.0, **options)
    run = trainer(schedule, metrics={"zero": lambda pred, target: 0.0})
    history = fit(run, 4, validation=labelled_rows() if validation else None)
    best = max if options.get("mode") == "max" else min
    assert schedule.state_dict()["best"] == best(history[name])


@pytest.mark.parametrize("monitor", ["val_loss", "rmse", "lr"])
def test_an_absent_metric_raises_before_the_first_step(monitor):
    run = trainer(LinearWarmup(ReduceOnPlateau(0.1, monitor=monitor), 3))
    before = run.model.state_dict()
    with pytest.raises(ValueError, match=f"monitor '{monitor}' is not among loss, accuracy; .*validation="):
        fit(run, 2)
    assert run.optimizer.step_count == 0
    assert all((array == before[name]).all() for name, array in run.model.state_dict().items())


def test_a_plateau_may_watch_the_penalty_where_there_is_one():
    def made(decay):
        model, plateau = layers(), ReduceOnPlateau(0.1, 0.5, 0, 1e9, monitor="penalty")
        adam = optim.SGD(model.parameters(), plateau, weight_decay=decay)
        return fastnn.Trainer(model, losses.CrossEntropyLoss(), adam), plateau

    run, plateau = made(0.1)
    fit(run, 3)
    assert plateau.state_dict()["best"] == run.history["penalty"][0]
    assert run.history["lr"] == [0.1, 0.1, 0.05]
    with pytest.raises(ValueError, match="monitor 'penalty' is not among loss, accuracy"):
        fit(made(0)[0], 1)


def test_a_plateau_that_groups_share_is_told_once():
    model = layers()
    schedule = LinearWarmup(PerEpoch(ReduceOnPlateau(0.1, 0.5, 0, 1e9)), 1)
    groups = [{"params": [p]} for p in model.parameters()]
    run = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.SGD(groups, schedule))
    fit(run, 3)
    rates = [group["lr"](10) for group in run.optimizer.param_groups]
    assert rates == [0.1 * 0.5**2] * len(rates)  # nothing is ever better by 1e9 times: epochs 2 and 3 cut


def test_fit_is_an_own_loop_with_update():
    X, Y = labelled_rows()
    make = lambda: PerEpoch(LinearWarmup(ReduceOnPlateau(0.3, 0.5, 0, 0.2), 2))  # noqa: E731
    one, other = trainer(make()), trainer(make().with_steps_per_epoch(data.steps_per_epoch(len(X), 16)))
    history = fit(one, 8)
    rates = []
    for epoch in range(8):
        total = 0.0
        for x, y in data.batches(X, Y, 16, seed=0, epoch=epoch):
            rate = other.optimizer.lr
            total += len(x) * other.step(x, y)
        other.optimizer.param_groups[0]["lr"].update(total / len(X))
        rates.append(rate)
    assert rates == history["lr"]
    assert len(set(rates)) > 2


@pytest.mark.parametrize("at", [1, 3, 6])
def test_fits_resumed_through_the_optimizers_state_have_the_same_rates(at):
    make = lambda: LinearWarmup(ReduceOnPlateau(0.3, 0.5, 0, 0.2), 6)  # noqa: E731
    whole = trainer(make())
    rates = fit(whole, 8)["lr"]
    first, second = trainer(make()), trainer(make())
    before = fit(first, at)["lr"]
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(json_copy(first.optimizer.state_dict()))
    second._history = copy.deepcopy(first.history)  # so many epochs are done
    assert before + fit(second, 8 - at)["lr"] == rates
    for name, array in second.model.state_dict().items():
        np.testing.assert_array_equal(array, whole.model.state_dict()[name])


def test_an_interrupted_epoch_is_not_told(monkeypatch):
    schedule = ReduceOnPlateau(0.1)
    run = trainer(schedule)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "loss", stop)
    with pytest.raises(KeyboardInterrupt):
        fit(run, 2)
    assert schedule.state_dict()["best"] is None
