"""ReduceOnPlateau: the four ways to count, what the peers get wrong, and the schedules around it."""

import json
import math

import numpy as np
import pytest
from fastnn.schedulers import LinearWarmup, PerEpoch, ReduceOnPlateau, Sequence, StepDecay

SEMANTICS = ["paddle", "torch", "keras", "optax"]
NAN, INF = math.nan, math.inf


def cuts(schedule, metrics):
    """The epochs, from 1 on, at which the rate falls."""
    found = []
    for epoch, metric in enumerate(metrics, 1):
        before = schedule(10**6)
        schedule.update(metric)
        if schedule(10**6) < before:
            found.append(epoch)
    return found


def plateau(**options):
    return ReduceOnPlateau(1.0, **{"factor": 0.5, "patience": 2, "cooldown": 2, **options})


CONSTANT = [1.0] * 14
DIP = [1.0] * 4 + [0.5] + [0.6] * 9  # in the cool-down of the first cut

# The peers' own runs (Keras: transcribed). Paddle does not see the dip, so 0.6 is better than its best.
GOLDEN = {
    "paddle": ([4, 9, 14], [4, 10]),
    "torch": ([4, 9, 14], [4, 9, 14]),
    "keras": ([3, 6, 9, 12], [3, 7, 10, 13]),
    "optax": ([3, 7, 11], [3, 7, 11]),
}


@pytest.mark.parametrize("semantics", SEMANTICS)
def test_golden_epochs_of_the_cuts(semantics):
    assert cuts(plateau(semantics=semantics), CONSTANT) == GOLDEN[semantics][0]
    assert cuts(plateau(semantics=semantics), DIP) == GOLDEN[semantics][1]
    rises = [-metric for metric in DIP]
    assert cuts(plateau(semantics=semantics, mode="max"), rises) == GOLDEN[semantics][1]


@pytest.mark.parametrize("semantics", SEMANTICS)
def test_a_negative_metric_counts_like_a_positive_one(semantics):
    """PyTorch, Paddle and Optax never cut here: best * (1 - threshold) lies above a negative best."""
    assert cuts(plateau(semantics=semantics), [-1.0] * 14) == GOLDEN[semantics][0]
    assert cuts(plateau(semantics=semantics, mode="max"), CONSTANT) == GOLDEN[semantics][0]
    falling = [-1.0 - 0.01 * epoch for epoch in range(14)]
    assert cuts(plateau(semantics=semantics), falling) == []
    assert cuts(plateau(semantics=semantics, mode="max"), falling) == GOLDEN[semantics][0]


@pytest.mark.parametrize("semantics", SEMANTICS)
@pytest.mark.parametrize("first", [NAN, INF, -INF])
def test_a_first_metric_that_is_not_finite_is_worse_than_any_other(semantics, first):
    """Paddle keeps a NaN as the best and cuts although the metric improves."""
    assert cuts(plateau(semantics=semantics, patience=2), [first, 1.0, 0.9, 0.8, 0.7, 0.6]) == []
    assert cuts(plateau(semantics=semantics), [1.0] + [first] * 13) == GOLDEN[semantics][0]
    schedule = plateau(semantics=semantics)
    schedule.update(first)
    assert schedule.state_dict()["best"] is None


def test_relative_and_absolute_thresholds():
    slow = [100 - 0.001 * epoch for epoch in range(5)]
    assert cuts(ReduceOnPlateau(1.0, patience=2), slow) == [4]  # all within 1e-4 * 100
    assert cuts(ReduceOnPlateau(1.0, patience=2, threshold_mode="abs"), slow) == []
    small = [1e-3 - 1e-5 * epoch for epoch in range(5)]
    assert cuts(ReduceOnPlateau(1.0, patience=2), small) == []
    assert cuts(ReduceOnPlateau(1.0, patience=2, threshold_mode="abs"), small) == [4]
    # Better by exactly the threshold is not better.
    assert cuts(ReduceOnPlateau(1.0, patience=0, threshold=0.5), [1.0, 0.5]) == [2]
    assert cuts(ReduceOnPlateau(1.0, patience=0, threshold=0.5), [1.0, 0.499]) == []
    assert cuts(ReduceOnPlateau(1.0, patience=0, threshold=0.5, mode="max"), [1.0, 1.5]) == [2]
    assert cuts(ReduceOnPlateau(1.0, patience=0, threshold=0.5, mode="max"), [1.0, 1.501]) == []


@pytest.mark.parametrize(("semantics", "first"), [("paddle", 2), ("torch", 2), ("keras", 2), ("optax", 2)])
def test_no_patience_cuts_at_the_first_epoch_that_is_no_better(semantics, first):
    """Optax, which waits for a count of exactly patience, cuts at each improvement instead."""
    schedule = ReduceOnPlateau(1.0, patience=0, semantics=semantics)
    assert cuts(schedule, [1.0, 1.0, 0.5, 0.4, 0.4]) == [first, 5]


def test_the_floor_holds():
    schedule = ReduceOnPlateau(1.0, factor=0.1, patience=0, min_lr=0.05)
    rates = []
    for _ in range(5):
        schedule.update(1.0)
        rates.append(schedule(0))
    assert rates == [1.0, 0.1, 0.05, 0.05, 0.05]
    for _ in range(2000):
        schedule.update(1.0)
    assert schedule(0) == 0.05


def test_defaults():
    schedule = ReduceOnPlateau(0.4)
    assert cuts(schedule, [1.0] * 30) == [12, 23]
    assert schedule(0) == pytest.approx(0.004)


# ---- against the rules of the peers, written down as they are


def torch_rule(metrics, patience, cooldown, threshold):
    best, bad, cooling, found = INF, 0, 0, []
    for epoch, metric in enumerate(metrics, 1):
        if metric < best * (1 - threshold):
            best, bad = metric, 0
        else:
            bad += 1
        if cooling > 0:
            cooling -= 1
            bad = 0
        if bad > patience:
            found.append(epoch)
            cooling, bad = cooldown, 0
    return found


def paddle_rule(metrics, patience, cooldown, threshold):
    best, bad, cooling, found = None, 0, 0, []
    for epoch, metric in enumerate(metrics, 1):
        if cooling > 0:
            cooling -= 1
            continue
        if best is None or metric < best - best * threshold:
            best, bad = metric, 0
        else:
            bad += 1
        if bad > patience:
            found.append(epoch)
            cooling, bad = cooldown, 0
    return found


def keras_rule(metrics, patience, cooldown, min_delta):
    best, wait, cooling, found = INF, 0, 0, []
    for epoch, metric in enumerate(metrics, 1):
        if cooling > 0:
            cooling -= 1
            wait = 0
        if metric < best - min_delta:
            best, wait = metric, 0
        elif not cooling > 0:
            wait += 1
            if wait >= patience:
                found.append(epoch)
                cooling, wait = cooldown, 0
    return found


def optax_rule(metrics, patience, cooldown, rtol):
    best, count, cooling, found = INF, 0, 0, []
    for epoch, metric in enumerate(metrics, 1):
        improved = (1 - rtol) * best > metric
        best = metric if improved else best
        count = 0 if improved else count + 1
        if cooling > 0:
            count, cooling = 0, cooling - 1
        elif count == patience:
            found.append(epoch)
            count, cooling = 0, cooldown
    return found


RULES = {"torch": torch_rule, "paddle": paddle_rule, "keras": keras_rule, "optax": optax_rule}


@pytest.mark.parametrize("semantics", SEMANTICS)
@pytest.mark.parametrize("cooldown", [0, 1, 2, 5])
@pytest.mark.parametrize("patience", [1, 2, 4])
def test_counts_as_the_peer_does(semantics, patience, cooldown):
    rng = np.random.default_rng(patience + 10 * cooldown)
    options = {"patience": patience, "cooldown": cooldown, "semantics": semantics, "threshold": 0.01}
    mode = "abs" if semantics == "keras" else "rel"
    seen = 0
    for _ in range(50):
        metrics = rng.choice([0.5, 0.6, 0.7, 0.9, 1.0], size=60) * np.linspace(1, 0.6, 60)
        want = RULES[semantics](metrics, patience, cooldown, 0.01)
        assert cuts(ReduceOnPlateau(1.0, 0.9, threshold_mode=mode, **options), metrics) == want
        seen += len(want)
    assert seen > 50


# ---- inside other schedules


def test_warmup_then_plateau():
    """Paddle takes the epoch for the loss here, PyTorch refuses: the rate then falls by itself."""
    schedule = LinearWarmup(ReduceOnPlateau(0.4, factor=0.5, patience=1), 4)
    for epoch in range(8):
        schedule.update(1.0 / (epoch + 1))  # it always improves
    assert [schedule(t) for t in (0, 1, 2, 3, 4, 5, 100)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4])
    schedule.update(5.0)
    schedule.update(5.0)
    assert [schedule(t) for t in (1, 3, 4, 100)] == pytest.approx([0.1, 0.3, 0.2, 0.2])


def nested():
    inner = ReduceOnPlateau(0.4, factor=0.5, patience=1)
    return inner, [
        LinearWarmup(inner, 2),
        Sequence([0.1, inner], [3]),
        Sequence([StepDecay(1.0, 1), LinearWarmup(inner, 1), inner], [3, 5]),
        PerEpoch(LinearWarmup(inner, 2), 5),
        LinearWarmup(PerEpoch(inner), 2).with_steps_per_epoch(7),
        Sequence([0.3, PerEpoch(inner)], [1]).with_steps_per_epoch(7),
    ]


@pytest.mark.parametrize("which", range(6))
def test_wrappers_pass_each_metric_on_once(which):
    _, wrappers = nested()
    assert cuts(wrappers[which], [1.0, 1.0, 0.5, 0.5, 0.5, 0.4]) == [5]


@pytest.mark.parametrize("which", range(6))
def test_the_state_of_a_wrapper_is_that_of_the_plateau_in_it(which):
    inner, wrappers = nested()
    schedule = wrappers[which]
    for metric in (1.0, 1.0, 1.0, 1.0):
        schedule.update(metric)
    assert inner.state_dict() == {"best": 1.0, "bad_epochs": 1, "cooling": 0, "cuts": 1}
    state = json.loads(json.dumps(schedule.state_dict()))
    other = nested()[1][which]
    assert other.state_dict() != state
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert [other(t) for t in range(30)] == [schedule(t) for t in range(30)]
