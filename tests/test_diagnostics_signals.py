"""signal_report: the law of depth, outputs and gradients of every layer, what is saturated or dead."""

import copy
import math

import numpy as np
import pytest
from diagnosed import deep, rows, trainer
from fastnn import diagnostics, init, nn, optim
from fastnn.diagnostics._depth import depth_law
from hypothesis import given
from hypothesis import strategies as st
from small import network

# ---- the law of depth


@pytest.mark.parametrize(("gain", "end"), [(1.5, 219), (0.5, 127)])
def test_the_law_of_depth_of_a_linear_network(gain, end):
    """1.5**(L - 1) and 0.5**(L - 1), forward and backward, and where float32 ends."""
    layers = [nn.Linear(1, 1, bias=False, weight_init=init.Identity(gain)) for _ in range(9)]
    report = diagnostics.signal_report(nn.Sequential(*layers), np.ones((4, 1)))
    assert report.forward.factor == pytest.approx(gain, rel=1e-12)
    assert report.forward.growth == gain**8
    assert report.backward.factor == pytest.approx(gain, rel=1e-6)
    assert report.backward.growth == pytest.approx(gain**8, rel=1e-6)
    assert [row["rms"] for row in report.rows] == [gain**i for i in range(1, 10)]
    assert report.forward.ends_at == end
    last = [nn.Linear(1, 1, bias=False, weight_init=init.Identity(gain)) for _ in range(end)]
    for depth, within in ((end - 1, True), (end, False)):
        value = abs(float(nn.Sequential(*last[:depth]).eval()(np.ones((1, 1)))[0, 0]))
        assert (2.0**-126 <= value < math.inf) == within


@given(
    factor=st.floats(0.25, 4.0),
    layers=st.integers(2, 30),
    first=st.floats(1e-6, 1e6),
)
def test_depth_law_finds_the_factor(factor, layers, first):
    law = depth_law([first * factor**i for i in range(layers)])
    assert law.factor == pytest.approx(factor, rel=1e-9)
    assert law.growth == pytest.approx(factor ** (layers - 1), rel=1e-9)
    if law.verdict == "exploding":
        assert law.growth > 100
    elif law.verdict == "vanishing":
        assert law.growth < 0.01
    else:
        assert 0.0099 <= law.growth <= 101
    if abs(factor - 1) > 1e-3:
        limit = float(np.finfo(np.float32).max if factor > 1 else np.finfo(np.float32).tiny)
        distance = math.log(limit / first) / math.log(factor)
        assert distance - 1e-6 <= law.ends_at - 1 <= distance + 1 + 1e-6


@pytest.mark.parametrize(
    ("sizes", "verdict"),
    [
        ([1, 101], "exploding"),
        ([1, 99], "steady"),
        ([1, 1 / 99], "steady"),
        ([1, 1 / 101], "vanishing"),
        ([1, 0, 1], "dead"),
        ([1, math.nan], "not finite"),
        ([1, math.inf], "not finite"),
        ([3], "steady"),
        ([], "steady"),
        ([2, 2, 2], "steady"),
    ],
)
def test_verdicts(sizes, verdict):
    law = depth_law(sizes)
    assert law.verdict == verdict
    assert verdict in law.sentence("signal")


# ---- signals


def by_hand(model, x, dy):
    """Outputs and gradients of outputs of a flat Sequential, layer after layer, in float32."""
    model = copy.deepcopy(model).train()
    outputs = []
    for layer in model:
        x = layer(x)
        outputs.append(x)
    gradients = [dy]
    for layer in list(model)[:0:-1]:
        gradients.insert(0, layer.backward(gradients[0]))
    return outputs, gradients


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.Tanh])
def test_signals_are_those_of_the_layers_one_by_one(activation, rng):
    model, x = network(activation=activation), rng.standard_normal((40, 5), np.float32)
    report = diagnostics.signal_report(model, x)
    dy = np.random.default_rng(0).standard_normal((40, 3), np.float32)
    outputs, gradients = by_hand(model, x, dy)
    assert [row["layer"] for row in report.rows] == [str(i) for i in range(len(model))]
    for row, y, grad in zip(report.rows, outputs, gradients, strict=True):
        for prefix, array in (("", y), ("grad_", grad)):
            exact = array.astype(np.float64)
            assert row[f"{prefix}mean"] == pytest.approx(exact.mean(), rel=1e-9, abs=1e-12)
            assert row[f"{prefix}std"] == pytest.approx(exact.std(), rel=1e-9)
            assert row[f"{prefix}rms"] == pytest.approx(math.sqrt((exact**2).mean()), rel=1e-9)


def test_names_and_kinds_of_nested_layers():
    report = diagnostics.signal_report(deep(own=True), rows()[0])
    assert [(row["layer"], row["kind"]) for row in report.rows] == [
        ("0", "Linear"),
        ("1", "BatchNorm1d"),
        ("2.block.0", "Linear"),
        ("2.block.1", "BatchNorm1d"),
        ("2.block.2", "ReLU"),
        ("2.block.3", "Linear"),
        ("2", "Residual"),
        ("3", "GELU"),
        ("4", "Dropout"),
        ("5.shortcut", "Linear"),
        ("5.block", "Linear"),
        ("5", "Residual"),
        ("6", "Block"),
        ("7.0", "Sigmoid"),
        ("7.1", "Linear"),
    ]
    alone = diagnostics.signal_report(nn.Linear(4, 2, rng=0), rows()[0])
    assert [(row["layer"], row["kind"]) for row in alone.rows] == [("", "Linear")]


@pytest.mark.parametrize(
    ("activation", "inside", "outside"),
    [(nn.Sigmoid, 4.35, 4.37), (nn.Tanh, 2.17, 2.19), (nn.ReLU, -1e-9, 1e-9), (nn.Softplus, -2.95, -2.93)],
)
def test_saturated_values(activation, inside, outside):
    """5 % of the steepest slope: f' = 0.0125 of a sigmoid, 0.05 of a tanh."""
    x = np.array([[inside, outside]] * 4)
    (row,) = diagnostics.signal_report(nn.Sequential(activation()), x).rows
    assert row["saturated"] == 0.5


def test_dead_units_are_dead_in_every_row():
    x = np.array([[-1, -1, 2], [-2, 3, 1], [-3, -4, 5]])
    (row,) = diagnostics.signal_report(nn.Sequential(nn.ReLU()), x).rows
    assert row["dead"] == pytest.approx(1 / 3)
    assert row["saturated"] == pytest.approx(5 / 9)


def test_saturation_and_death_are_named():
    model = nn.Sequential(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1), seed=0)
    model[0].weight.data = 100 * model[0].weight.data
    model[2].bias.data = np.full(8, -100.0)
    warnings = "\n".join(diagnostics.signal_report(model, rows()[0]).warnings)
    assert "Sigmoid 1: " in warnings
    assert "slope is nearly 0" in warnings
    assert "ReLU 3: 100% of the units let no gradient through in any row" in warnings


def test_the_first_value_that_is_not_finite():
    x, y = rows()
    good = trainer(make=lambda ps: optim.SGD(ps, 0.1))
    assert diagnostics.signal_report(good.model, x).non_finite is None
    assert diagnostics.step_report(good, x, y).non_finite is None
    spoiled = x.copy()
    spoiled[3, 2] = np.nan
    assert "x[3, 2] is nan" in diagnostics.signal_report(good.model, spoiled).non_finite
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3), seed=0)
    model[2].bias.data = np.array([0, np.inf, 0])
    report = diagnostics.signal_report(model, x)
    assert report.non_finite == "first value that is not finite: output of 2 [0, 1] is inf"
    assert report.warnings[0] == report.non_finite
    assert report.forward.verdict == "not finite"


def test_a_gradient_that_is_not_finite():
    """Found where it begins, also where only the sum over the rows is too large; no update is reported,
    unless the optimizer would do it."""
    x, y = rows()

    def loss(factor):
        def value(pred, target):
            return 1.0, np.full_like(pred, factor)

        return value

    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3), seed=0)
    for factor, place in ((np.nan, "gradient of 2 [0, 0] is nan"), (3e38, "gradient ")):
        run = trainer(model, loss(np.float32(factor)), lambda ps: optim.SGD(ps, 0.1))
        report = diagnostics.step_report(run, x, y)
        assert place in report.non_finite
        assert all(row["update_ratio"] is None for row in report.rows)
        run.optimizer.nonfinite = "ignore"
        report = diagnostics.step_report(run, x, y)
        assert place in report.non_finite
        ratios = [row["update_ratio"] for row in report.rows]
        assert not np.isfinite(ratios[2])
        assert ratios[1] is None
