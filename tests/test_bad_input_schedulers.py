"""What the schedules say to a wrong argument: a row for each class and case."""

import math

import numpy as np
import pytest
from fastnn import schedulers as s
from fastnn.schedulers import as_schedule

NAN, INF = float("nan"), float("inf")


def plateau(**options):
    return s.ReduceOnPlateau(0.1, **options)


STATE = {"best": 1.0, "bad_epochs": 0, "cooling": 0, "cuts": 0}


def load(**changes):
    return plateau().load_state_dict({**STATE, **changes})


T, V = TypeError, ValueError
ROWS = [
    # ---- what all share
    (lambda: s.StepDecay(0.1, 3)(-1), V, "StepDecay: t must be at least 0, got -1"),
    (lambda: s.CosineAnnealingDecay(0.1, 3)(1.0), T, "CosineAnnealingDecay: t must be a whole"),
    (lambda: s.PiecewiseDecay([], [1])(True), T, "PiecewiseDecay: t must be a whole number, got True"),
    (lambda: plateau()(-1), V, "ReduceOnPlateau: t must be at least 0"),
    (lambda: s.Sequence([1, 2], [3])(None), T, "Sequence: t must be a whole number, got None"),
    (lambda: s.StepDecay(0.1, 3).plot(0), V, r"StepDecay\.plot: steps must be at least 1"),
    (lambda: plateau().plot(2.5), T, r"ReduceOnPlateau\.plot: steps must be a whole number"),
    (lambda: as_schedule([0.1], "Adam: lr"), T, "Adam: lr must be a number or a sched"),
    (lambda: as_schedule(-1, "Adam: lr"), V, "Adam: lr must be at least 0"),
    (lambda: as_schedule(lambda t: "0.1", "Adam: lr")(3), T, r"Adam: lr\(3\) must be a number, got '0\.1'"),
    (lambda: s.LinearWarmup(lambda t: None, 3), T, r"LinearWarmup: after\(0\) must be a number, got None"),
    (lambda: s.LinearWarmup(lambda t: -1, 3), V, r"LinearWarmup: after\(0\) must be at least 0"),
    (lambda: s.Sequence([1, lambda t: NAN], [2])(3), V, r"Sequence: schedules\[1\]\(1\) must be .*got nan"),
    # ---- pieces, powers, lines
    (lambda: s.PiecewiseDecay(3, [1, 2]), T, "PiecewiseDecay: boundaries must be a list, got 3"),
    (lambda: s.PiecewiseDecay("36", [1, 2, 3]), T, "PiecewiseDecay: boundaries must be a list, got '36'"),
    (lambda: s.PiecewiseDecay([3.0], [1, 2]), T, r"boundaries\[0\] must be a whole number, got 3\.0"),
    (lambda: s.PiecewiseDecay([-1], [1, 2]), V, r"boundaries\[0\] must be at least 0, got -1"),
    (lambda: s.PiecewiseDecay([6, 3], [1, 2, 3]), V, r"boundaries must rise .*got \[6, 3\]"),
    (lambda: s.PiecewiseDecay([3, 3], [1, 2, 3]), V, r"boundaries must rise .*got \[3, 3\]"),
    (lambda: s.PiecewiseDecay([3, 6], [1, 2]), V, "values must hold one more than the 2 boundaries, got 2"),
    (lambda: s.PiecewiseDecay([3], [1, -2]), V, r"values\[1\] must be at least 0 .*got -2"),
    (lambda: s.PiecewiseDecay([3], [1, NAN]), V, r"values\[1\] must be .*finite, got nan"),
    (lambda: s.PiecewiseDecay([3], 0.1), T, "PiecewiseDecay: values must be a list, got 0.1"),
    (lambda: s.ExponentialDecay(-1, 0.9), V, "ExponentialDecay: lr must be at least 0"),
    (lambda: s.ExponentialDecay(1, 1.1), V, "ExponentialDecay: gamma must be above 0 and at most 1, got 1.1"),
    (lambda: s.ExponentialDecay(1, 0), V, "ExponentialDecay: gamma must be above 0"),
    (lambda: s.ExponentialDecay(1, "0.9"), T, "ExponentialDecay: gamma must be a number, got '0.9'"),
    (lambda: s.NaturalExpDecay(None, 0.1), T, "NaturalExpDecay: lr must be a number"),
    (lambda: s.NaturalExpDecay(1, 0), V, "NaturalExpDecay: gamma must be above 0, got 0"),
    (lambda: s.NaturalExpDecay(1, -0.1), V, "NaturalExpDecay: gamma must be at least 0 .*got -0.1"),
    (lambda: s.InverseTimeDecay(INF, 0.1), V, "InverseTimeDecay: lr must be .*finite, got inf"),
    (lambda: s.InverseTimeDecay(1, 0.0), V, "InverseTimeDecay: gamma must be above 0, got 0.0"),
    (lambda: s.InverseTimeDecay(1, NAN), V, "InverseTimeDecay: gamma must be .*got nan"),
    (lambda: s.PolynomialDecay("1", 4), T, "PolynomialDecay: lr must be a number, got '1'"),
    (lambda: s.PolynomialDecay(1, 0), V, "PolynomialDecay: decay_steps must be at least 1, got 0"),
    (lambda: s.PolynomialDecay(1, 2.0), T, "PolynomialDecay: decay_steps must be a whole number"),
    (lambda: s.PolynomialDecay(1, 4, -1), V, "PolynomialDecay: end_lr must be at least 0"),
    (lambda: s.PolynomialDecay(1, 4, power=0), V, "PolynomialDecay: power must be above 0"),
    (lambda: s.PolynomialDecay(1, 4, cycle=1), T, "PolynomialDecay: cycle must be True or False, got 1"),
    (lambda: s.StepDecay(-0.1, 3), V, "StepDecay: lr must be at least 0 .*got -0.1"),
    (lambda: s.StepDecay(NAN, 3), V, "StepDecay: lr must be .*finite, got nan"),
    (lambda: s.StepDecay(None, 3), T, "StepDecay: lr must be a number, got None"),
    (lambda: s.StepDecay(0.1, 0), V, "StepDecay: step_size must be at least 1, got 0"),
    (lambda: s.StepDecay(0.1, 2.5), T, "StepDecay: step_size must be a whole number"),
    (lambda: s.StepDecay(0.1, 3, gamma=1.5), V, "StepDecay: gamma must be .*got 1.5"),
    (lambda: s.StepDecay(0.1, 3, gamma=0), V, "StepDecay: gamma must be above 0"),
    (lambda: s.MultiStepDecay(-1, [3]), V, "MultiStepDecay: lr must be at least 0"),
    (lambda: s.MultiStepDecay(1, 30), T, "MultiStepDecay: milestones must be a list, got 30"),
    (lambda: s.MultiStepDecay(1, [30, 30]), V, r"MultiStepDecay: milestones must rise .*got \[30, 30\]"),
    (lambda: s.MultiStepDecay(1, [True]), T, r"milestones\[0\] must be a whole number, got True"),
    (lambda: s.MultiStepDecay(1, [3], 2), V, "MultiStepDecay: gamma must be .*got 2"),
    (lambda: s.LinearDecay(-1, 3, 0), V, "LinearDecay: lr must be at least 0"),
    (lambda: s.LinearDecay(1, 0, 0), V, "LinearDecay: steps must be at least 1, got 0"),
    (lambda: s.LinearDecay(1, 3, -0.1), V, "LinearDecay: end_lr must be at least 0"),
    (lambda: s.LambdaDecay(-1, math.exp), V, "LambdaDecay: lr must be at least 0"),
    (lambda: s.LambdaDecay(1, 0.95), T, "LambdaDecay: fn must be a function .*got 0.95"),
    (lambda: s.LambdaDecay(1, lambda t: -1)(2), V, r"LambdaDecay: fn\(2\) must be at least 0 .*got -1"),
    (lambda: s.LambdaDecay(1, lambda t: "a")(0), T, r"LambdaDecay: fn\(0\) must be a number, got 'a'"),
    (lambda: s.NoamDecay(0, 4), V, "NoamDecay: d_model must be at least 1, got 0"),
    (lambda: s.NoamDecay(512, 0), V, "NoamDecay: warmup_steps must be at least 1, got 0"),
    (lambda: s.NoamDecay(512, 4, NAN), V, "NoamDecay: lr must be .*got nan"),
    # ---- waves
    (lambda: s.CosineAnnealingDecay(0.1, 0), V, "T_max must be at least 1, got 0"),
    (lambda: s.CosineAnnealingDecay(0.1, 3, -1), V, "eta_min must be at least 0"),
    (lambda: s.CosineAnnealingDecay(0.1, 3, after="stop"), V, "after must be .*'stop'"),
    (lambda: s.CosineAnnealingWarmRestarts(-1, 3), V, "WarmRestarts: lr must be at least 0"),
    (lambda: s.CosineAnnealingWarmRestarts(1, 0), V, "T_0 must be at least 1, got 0"),
    (lambda: s.CosineAnnealingWarmRestarts(1, 3, 1.5), T, "T_mult must be a whole number"),
    (lambda: s.CosineAnnealingWarmRestarts(1, 3, 0), V, "T_mult must be at least 1"),
    (lambda: s.CosineAnnealingWarmRestarts(1, 3, 1, INF), V, "eta_min must be .*got inf"),
    (lambda: s.OneCycle(-1, 9), V, "OneCycle: max_lr must be at least 0"),
    (lambda: s.OneCycle(1, 0), V, "OneCycle: total_steps must be at least 1"),
    (lambda: s.OneCycle(1, 9, pct_start=1), V, r"OneCycle: pct_start must be in \[0, 1\), got 1"),
    (lambda: s.OneCycle(1, 9, pct_start=-0.1), V, r"OneCycle: pct_start must be in \[0, 1\)"),
    (lambda: s.OneCycle(1, 9, div=0), V, "OneCycle: div must be above 0"),
    (lambda: s.OneCycle(1, 9, final_div=-1), V, "OneCycle: final_div must be at least 0"),
    (lambda: s.Cyclic(-1, 1, 3), V, "Cyclic: base_lr must be at least 0"),
    (lambda: s.Cyclic(0.5, 0.1, 3), V, "Cyclic: max_lr must be at least base_lr, got 0.1 and 0.5"),
    (lambda: s.Cyclic(0.1, 0.5, 0), V, "Cyclic: step_up must be at least 1"),
    (lambda: s.Cyclic(0.1, 0.5, 3, 0), V, "Cyclic: step_down must be at least 1"),
    # ---- schedules of schedules
    (lambda: s.LinearWarmup(0.1, -1), V, "LinearWarmup: warmup_steps must be at least 0"),
    (lambda: s.LinearWarmup("0.1", 4), T, "after must be a number or a schedule.*got str"),
    (lambda: s.LinearWarmup(NAN, 4), V, "LinearWarmup: after must be .*finite, got nan"),
    (lambda: s.LinearWarmup(0.1, 4, -1), V, "LinearWarmup: start_lr must be at least 0"),
    (lambda: s.LinearWarmup(0.1, 4, end_lr=INF), V, "LinearWarmup: end_lr must be .*inf"),
    (lambda: s.Sequence(0.1, []), T, "Sequence: schedules must be a list, got 0.1"),
    (lambda: s.Sequence([0.1, "a"], [3]), T, r"schedules\[1\] must be a number or a schedule .*got str"),
    (lambda: s.Sequence([0.1, -1], [3]), V, r"schedules\[1\] must be at least 0"),
    (lambda: s.Sequence([0.1], [3]), V, "schedules must hold one more than the 1 boundaries, got 1"),
    (lambda: s.Sequence([1, 2, 3], [5, 4]), V, r"Sequence: boundaries must rise .*got \[5, 4\]"),
    (lambda: s.Sequence([1, 2], 5), T, "Sequence: boundaries must be a list, got 5"),
    (lambda: s.PerEpoch(None), T, "PerEpoch: schedule must be a number or a schedule"),
    (lambda: s.PerEpoch(0.1, 0), V, "PerEpoch: steps_per_epoch must be at least 1"),
    (lambda: s.PerEpoch(0.1)(0), V, r"steps_per_epoch=data\.steps_per_epoch\(len\(X\)"),
    (lambda: s.PerEpoch(0.1).plot(5), V, "PerEpoch: steps_per_epoch is not known"),
    (lambda: s.Sequence([s.PerEpoch(0.1), 1], [3])(0), V, "PerEpoch: steps_per_epoch is not known"),
    # ---- plateau
    (lambda: s.ReduceOnPlateau(-1), V, "ReduceOnPlateau: lr must be at least 0"),
    (lambda: plateau(factor=1), V, r"ReduceOnPlateau: factor must be in \[0, 1\), got 1"),
    (lambda: plateau(factor=0), V, "ReduceOnPlateau: factor must be above 0, got 0; min_lr is the floor"),
    (lambda: plateau(patience=-1), V, "ReduceOnPlateau: patience must be at least 0"),
    (lambda: plateau(patience=1.0), T, "ReduceOnPlateau: patience must be a whole number"),
    (lambda: plateau(threshold=-1), V, "ReduceOnPlateau: threshold must be at least 0"),
    (
        lambda: plateau(threshold_mode="relative"),
        V,
        'threshold_mode must be "rel" or "abs", got \'relative\'',
    ),
    (lambda: plateau(cooldown=-1), V, "ReduceOnPlateau: cooldown must be at least 0"),
    (lambda: plateau(min_lr=-1), V, "ReduceOnPlateau: min_lr must be at least 0"),
    (lambda: plateau(min_lr=0.2), V, "ReduceOnPlateau: min_lr must be at most lr, got 0.2 and 0.1"),
    (lambda: plateau(mode="least"), V, 'ReduceOnPlateau: mode must be "min" or "max", got \'least\''),
    (lambda: plateau(monitor=1), T, "ReduceOnPlateau: monitor must be a name in the history, got 1"),
    (lambda: plateau(semantics="pytorch"), V, "semantics must be .*\"torch\".*got 'pytorch'"),
    (lambda: s.ReduceOnPlateau(0.1, 0.1, 10, 1e-4, "rel", 0, 0.0, "min"), T, "positional argument"),
    (lambda: plateau().update("low"), T, r"ReduceOnPlateau\.update: metric must be a number, got 'low'"),
    (lambda: plateau().update(None), T, r"ReduceOnPlateau\.update: metric must be a number, got None"),
    (lambda: plateau().update(np.ones(2)), T, r"ReduceOnPlateau\.update: metric must be a number, got array"),
    (lambda: plateau().update(True), T, r"ReduceOnPlateau\.update: metric must be a number, got True"),
    (lambda: s.LinearWarmup(plateau(), 3).update("low"), T, r"ReduceOnPlateau\.update: metric must be"),
    # ---- states
    (lambda: plateau().load_state_dict(None), T, r"load_state_dict: expected a dict from state_dict\(\)"),
    (lambda: plateau().load_state_dict({}), V, r"the state has \[\], must have \['bad_epochs', 'best'"),
    (lambda: load(more=1), V, r"ReduceOnPlateau\.load_state_dict: the state has \['bad_epochs', .*'more'\]"),
    (lambda: load(best="1"), T, r"load_state_dict: best must be a number, got '1'"),
    (lambda: load(best=NAN), V, r"load_state_dict: best must be .*got nan"),
    (lambda: load(best=-INF), V, r"load_state_dict: best must be .*got -inf"),
    (lambda: load(cuts=-1), V, r"load_state_dict: cuts must be at least 0"),
    (lambda: load(cooling=0.5), T, r"load_state_dict: cooling must be a whole number"),
    (lambda: s.StepDecay(1, 1).load_state_dict(STATE), V, r"StepDecay\.load_state_dict: .* must have \[\]"),
    (
        lambda: s.LinearWarmup(plateau(), 3).load_state_dict(STATE),
        V,
        r"LinearWarmup\.load_state_dict: .* must have \['after'\]",
    ),
    (
        lambda: s.Sequence([1, plateau()], [3]).load_state_dict({"1": {**STATE, "cuts": "a"}}),
        T,
        r"ReduceOnPlateau\.load_state_dict: cuts must be a whole number",
    ),
]


@pytest.mark.parametrize(("call", "exception", "message"), ROWS, ids=range(len(ROWS)))
def test_wrong_argument(call, exception, message):
    with pytest.raises(exception, match=message) as raised:
        call()
    assert type(raised.value) is exception


def test_a_refused_metric_or_state_changes_nothing():
    watched = plateau(patience=0)
    watched.update(1.0)
    before = watched.state_dict()
    with pytest.raises(TypeError):
        watched.update("2")
    for bad in ({**before, "cuts": -1}, {**before, "best": NAN}, {}):
        with pytest.raises(ValueError):
            watched.load_state_dict({**bad, **({"bad_epochs": 7} if bad else {})})
    assert watched.state_dict() == before
