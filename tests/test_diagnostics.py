"""What the reports on a network say: initial weights, signals, the next step; they change nothing."""

import copy
import math

import fastnn
import numpy as np
import pytest
from bounds import assert_bits
from custom import Block
from fastnn import diagnostics, init, losses, nn, optim, schedulers
from fastnn.diagnostics._depth import depth_law
from fastnn.diagnostics._watch import moments, norm
from hypothesis import given
from hypothesis import strategies as st
from runs import assert_equal_tree, plateau
from small import network

EVERY = ("check_init", "signal_report", "step_report", "lr_find", "gradient_noise_scale")
EVERY += ("suggest_batch_size", "profile", "memory_plan")


def deep():
    """All kinds of layers, a Residual and a custom container among them."""
    inner = nn.Sequential(nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8))
    return nn.Sequential(
        nn.Linear(4, 8, bias=False),
        nn.BatchNorm1d(8, debias=True),
        nn.Residual(inner),
        nn.GELU(),
        nn.Dropout(0.3),
        nn.Residual(nn.Linear(8, 4), shortcut=nn.Linear(8, 4)),
        Block(),
        nn.Sequential(nn.Sigmoid(), nn.Linear(4, 3)),
        seed=0,
    )


def rows(n=64):
    rng = np.random.default_rng(1)
    return rng.standard_normal((n, 4), np.float32), rng.integers(0, 3, n)


def trainer(model=None, loss=None, make=None):
    model = model or deep()
    make = make or (lambda ps: optim.Adam(ps, lr=schedulers.LinearWarmup(plateau(), 5)))
    return fastnn.Trainer(model, loss or losses.CrossEntropyLoss(), make(model.parameters()))


def call(name, run, X, Y):
    """The report of this name on a trainer."""
    options = {
        "lr_find": {"batch_size": 16, "steps": 12},
        "gradient_noise_scale": {"batch_size": 8, "batches": 3},
        "profile": {"batch_size": 16},
    }
    function, given = getattr(diagnostics, name), options.get(name, {})
    if name == "memory_plan":
        return function(run, 16)
    if name in ("check_init", "signal_report"):
        return function(run.model, X)
    return function(run, X, Y, **given)


def everything(run):
    """All that a report could change, copied."""
    modules = run.model.named_modules()
    return copy.deepcopy(
        {
            "state": run.model.state_dict(),
            "grads": {name: p.grad for name, p in run.model.named_parameters()},
            "names": [p.name for _, p in run.model.named_parameters()],
            "modes": {name: m.training for name, m in modules},
            "counters": [[getattr(m, key) for key in m.counters] for m in run.model.modules()],
            "optimizer": run.optimizer.state_dict(),
            "options": [str(run.optimizer), str(run.optimizer.param_groups)],
            "history": dict(run.history),
        }
    )


def half_way():
    """A trainer in the middle of its work: a mixed mode, gradients, statistics, a batch remembered."""
    run, (X, Y) = trainer(), rows()
    run.fit(X, Y, batch_size=16, epochs=2)
    run.model.train()
    run.model.forward(X[:8])
    run.model[1].eval()
    return run


@pytest.mark.parametrize("name", EVERY)
def test_nothing_of_the_trainer_changes(name):
    run, (X, Y) = half_way(), rows()
    X_before, Y_before = X.copy(), Y.copy()
    dy = np.ones((8, 3), np.float32)
    before = everything(run)
    call(name, run, X, Y)
    assert_equal_tree(everything(run), before)
    assert_bits(X, X_before)
    assert_bits(Y, Y_before)
    # Also what the layers remember of their last batch.
    run.model.backward(dy)
    twin = half_way()
    twin.model.backward(dy)
    for (path, p), (_, q) in zip(run.model.named_parameters(), twin.model.named_parameters(), strict=True):
        assert_bits(p.grad, q.grad, path)


class Failing:
    """A loss that raises at its third call."""

    def __init__(self, error):
        self.calls, self.error, self.loss = 0, error, losses.CrossEntropyLoss()

    def __call__(self, *arguments):
        self.calls += 1
        if self.calls == 3 and self.error is not None:
            raise self.error
        return self.loss(*arguments)


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
@pytest.mark.parametrize("name", ["lr_find", "gradient_noise_scale", "suggest_batch_size", "profile"])
def test_nothing_changes_when_it_is_cut_short(name, error):
    run, (X, Y) = half_way(), rows()
    run.loss = Failing(error)
    before = everything(run)
    with pytest.raises(type(error)):
        call(name, run, X, Y)
    assert_equal_tree(everything(run), before)


@pytest.mark.parametrize("name", EVERY)
def test_every_report_has_rows_a_table_and_a_plot(name, tmp_path):
    figure_module = pytest.importorskip("matplotlib.figure")
    run, (X, Y) = trainer(), rows()
    report = call(name, run, X, Y)
    assert isinstance(report, diagnostics.Report)
    assert report.rows
    assert all(isinstance(row, dict) and row.keys() == report.rows[0].keys() for row in report.rows)
    lines = str(report).splitlines()
    assert lines[0] == report.title
    assert repr(report) == str(report)
    assert set(report.columns) <= set(report.rows[0])
    for line in (*report.summary, *report.warnings):
        assert line in str(report)
    assert max(map(len, lines[: 2 + len(report.rows)])) <= 110
    figure = report.plot(tmp_path / "plot.png")
    assert isinstance(figure, figure_module.Figure)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_long_table_leaves_its_middle_out():
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(60)), seed=0)
    text = str(diagnostics.signal_report(model, np.ones((4, 2))))
    assert "... 21 more" in text
    assert "\n59 " in text


def test_a_plot_names_the_missing_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        diagnostics.check_init(deep()).plot()


# ---- moments


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (193, 17), (4, 5, 6)])
@pytest.mark.parametrize("mean", [0.0, 1e4])
def test_moments_are_those_of_float64(shape, mean, rng):
    a = (rng.standard_normal(shape) * 0.1 + mean).astype(np.float32)
    found, exact = moments(a), a.astype(np.float64)
    assert found.mean == pytest.approx(exact.mean(), rel=1e-12, abs=1e-12)
    assert found.var == pytest.approx(exact.var(), rel=1e-9, abs=1e-18)
    assert found.rms == pytest.approx(math.sqrt((exact**2).mean()), rel=1e-9)
    flat = exact.reshape(-1, shape[-1])
    np.testing.assert_allclose(found.column_vars, flat.var(axis=0), rtol=1e-9, atol=1e-18)


def test_moments_of_a_view_and_of_what_is_not_finite(rng):
    a = rng.standard_normal((6, 8)).astype(np.float32)
    assert moments(a[:, ::2]).var == pytest.approx(a[:, ::2].astype("f8").var(), rel=1e-9)
    for value in (np.nan, np.inf):
        a[2, 3] = value
        assert not math.isfinite(moments(a).var)
    assert norm([np.full(2, 1e30, np.float32)]) == pytest.approx(math.sqrt(2) * 1e30, rel=1e-6)


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
    report = diagnostics.signal_report(deep(), rows()[0])
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
    """Found where it begins, also where only the sum over the rows is too large; no update is reported."""
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


# ---- the next step


def step_by_step(run, x, y):
    """Loss, norms of gradients and update ratios of layers, from the step itself."""
    layers = [m for m in run.model.modules() if list(m._members(nn.Parameter))]
    before = [[p.data.copy() for p in m.parameters()] for m in layers]
    loss = run.step(x, y)
    found = []
    for layer, old in zip(layers, before, strict=True):
        new = [p.data.astype("f8") for p in layer.parameters()]
        change = math.sqrt(sum(((n - o) ** 2).sum() for n, o in zip(new, old, strict=True)))
        size = math.sqrt(sum((o.astype("f8") ** 2).sum() for o in old))
        grads = math.sqrt(sum((p.grad.astype("f8") ** 2).sum() for p in layer.parameters()))
        found.append((grads, change / size))
    return loss, found


@pytest.mark.parametrize("make", [lambda ps: optim.SGD(ps, 0.1), lambda ps: optim.Adam(ps, 0.01)])
def test_the_step_is_the_one_that_the_trainer_does(make):
    x, y = rows()
    hidden = nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3)
    run = trainer(nn.Sequential(*hidden, nn.Residual(nn.Linear(8, 8)), nn.Linear(8, 3), seed=0), make=make)
    run.fit(x, y, batch_size=16, epochs=1)
    report = diagnostics.step_report(run, x, y)
    loss, found = step_by_step(run, x, y)
    assert report.loss == loss
    layers = [row for row in report.rows if row["grad_norm"] is not None]
    assert [row["layer"] for row in layers] == ["0", "1", "4.block", "5"]
    for row, (grads, ratio) in zip(layers, found, strict=True):
        assert row["grad_norm"] == pytest.approx(grads, rel=1e-12)
        assert row["update_ratio"] == pytest.approx(ratio, rel=1e-5)
    assert report.grad_norm == pytest.approx(math.sqrt(sum(g**2 for g, _ in found)), rel=1e-12)


def test_update_ratios_that_are_named():
    x, y = rows()
    for lr, words in ((1e-9, "hardly moves; raise the rate"), (100.0, "moves far; lower the rate")):
        report = diagnostics.step_report(
            trainer(network_of_4(), make=lambda ps, lr=lr: optim.SGD(ps, lr)), x, y
        )
        assert any(words in line and line.startswith("Linear 0: ") for line in report.warnings)
    assert not diagnostics.step_report(
        trainer(network_of_4(), make=lambda ps: optim.SGD(ps, 0.02)), x, y
    ).warnings


def network_of_4():
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3), seed=0)


@pytest.mark.parametrize("running_var", ["unbiased", "biased"])
def test_drift_is_in_running_deviations(running_var, rng):
    layer = nn.BatchNorm1d(2, eps=0.5, running_var=running_var)
    model = nn.Sequential(layer, nn.Linear(2, 3), seed=0)
    layer.running_mean[...] = [1, -2]
    layer.running_var[...] = [3.5, 8.5]  # with eps deviations of 2 and 3
    x = rng.standard_normal((10, 2), np.float32)
    row = diagnostics.step_report(trainer(model), x, np.zeros(10, int)).rows[0]
    exact = x.astype("f8")
    std = np.sqrt(exact.var(axis=0, ddof=1 if running_var == "unbiased" else 0) + 0.5)
    assert row["drift"] == pytest.approx(
        np.sqrt(np.mean(((exact.mean(0) - [1, -2]) / [2, 3]) ** 2)), rel=1e-6
    )
    assert row["drift_std"] == pytest.approx(np.sqrt(np.mean(((std - [2, 3]) / [2, 3]) ** 2)), rel=1e-6)


def test_drift_falls_to_the_noise_of_a_batch(rng):
    """Where nothing moves, 1 / sqrt(rows) once the running statistics have followed."""
    x = rng.standard_normal((6400, 4)).astype(np.float32) + 3
    layer = nn.BatchNorm1d(4, momentum=0.02)
    run = trainer(nn.Sequential(layer, nn.Linear(4, 3), seed=0), make=lambda ps: optim.SGD(ps, 0.0))
    y = np.zeros(64, int)
    first = diagnostics.step_report(run, x[:64], y).rows[0]["drift"]
    for i in range(300):
        run.step(x[64 * (i % 100) :][:64], y)
    later = [diagnostics.step_report(run, x[64 * i :][:64], y).rows[0]["drift"] for i in range(20)]
    assert first > 2.5
    assert 0.7 / 8 < np.mean(later) < 1.4 / 8


def test_drift_of_debiased_statistics_needs_a_first_batch():
    x, y = rows()
    run = trainer(nn.Sequential(nn.BatchNorm1d(4, debias=True), nn.Linear(4, 3), seed=0))
    assert diagnostics.step_report(run, x, y).rows[0]["drift"] is None
    run.step(x, y)
    assert diagnostics.step_report(run, x, y).rows[0]["drift"] == pytest.approx(0, abs=1e-5)


def zeros(*layers):
    model = nn.Sequential(*layers)
    for parameter in model.parameters():
        parameter.data = np.zeros(parameter.data.shape)
    return model


def test_small_gradient_and_high_loss():
    """A ReLU network at zero is stuck; logistic regression at zero and a network as drawn are not."""
    x = rows(60)[0]
    y = np.argmax(x[:, :3], axis=1)
    even = np.arange(60) % 3
    stuck = trainer(zeros(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), make=lambda ps: optim.SGD(ps, 0.1))
    report = diagnostics.step_report(stuck, x, even)
    assert report.stuck
    assert report.loss == pytest.approx(math.log(3), rel=1e-6)
    assert report.constant_loss == report.loss
    assert any("small gradient, high loss" in line for line in report.warnings)
    convex = trainer(zeros(nn.Linear(4, 3)), make=lambda ps: optim.SGD(ps, 0.1))
    assert not diagnostics.step_report(convex, x, y).stuck
    drawn = trainer(network_of_4(), make=lambda ps: optim.Adam(ps, 0.01))
    assert not diagnostics.step_report(drawn, x, y).stuck
    drawn.fit(x, y, batch_size=60, epochs=400, progress=False)
    learned = diagnostics.step_report(drawn, x, y)
    assert learned.loss < 0.05
    assert not learned.stuck


# ---- initial weights


def test_zeros_make_neurons_that_stay_equal():
    """3-3-1 from zeros, as in the textbook: the hidden neurons are one."""
    model = zeros(nn.Linear(3, 3), nn.Sigmoid(), nn.Linear(3, 1))
    report = diagnostics.check_init(model)
    assert (report.rows[0]["identical"], report.rows[0]["stuck"]) == (3, 3)
    assert report.rows[0]["grad_norm"] == 0 < report.rows[1]["grad_norm"]
    assert not report.ok
    text = "\n".join(report.warnings)
    assert "Linear 0: 3 of 3 neurons are equal" in text
    assert "dead network" not in text  # the sigmoid's outputs of 1/2 move the second layer


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_a_dead_network(activation):
    report = diagnostics.check_init(zeros(nn.Linear(3, 3), activation(), nn.Linear(3, 1)))
    assert "dead network: no weight matrix gets a gradient" in report.warnings[0]


def equal(value=0.3):
    return lambda shape, **_: np.full(shape, value, np.float32)


@pytest.mark.parametrize(
    ("layers", "identical", "stuck"),
    [
        ((nn.Linear(4, 6, weight_init=equal()), nn.Tanh(), nn.Linear(6, 2, weight_init=equal())), 6, 6),
        ((nn.Linear(4, 6, weight_init=equal()), nn.Tanh(), nn.Linear(6, 2, rng=1)), 6, 0),
        (
            (
                nn.Linear(4, 6, weight_init=equal(), bias_init=init.Normal(0, 1), rng=2),
                nn.Tanh(),
                nn.Linear(6, 2),
            ),
            0,
            0,
        ),
        (
            (
                nn.Linear(4, 6, weight_init=equal(), bias=False),
                nn.Dropout(0.5, rng=0),
                nn.Linear(6, 2, weight_init=equal()),
            ),
            6,
            0,
        ),
        (
            (
                nn.Linear(4, 6, weight_init=equal(), bias=False),
                nn.BatchNorm1d(6),
                nn.ReLU(),
                nn.Linear(6, 2, weight_init=equal()),
            ),
            6,
            6,
        ),
    ],
    ids=["equal", "set apart behind", "set apart by bias", "set apart by dropout", "batch-norm"],
)
def test_equal_neurons(layers, identical, stuck):
    row = diagnostics.check_init(nn.Sequential(*layers)).rows[0]
    assert (row["identical"], row["stuck"]) == (identical, stuck)


def test_two_equal_neurons_among_others():
    model = network_of_4()
    for layer, axis in ((model[0], 1), (model[2], 0)):
        weight = layer.weight.data.copy()
        np.moveaxis(weight, axis, 0)[5] = np.moveaxis(weight, axis, 0)[2]
        layer.weight.data = weight
    row = diagnostics.check_init(model, rows()[0]).rows[0]
    assert (row["identical"], row["stuck"]) == (2, 2)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid, nn.Tanh, nn.GELU, nn.SELU, nn.LeakyReLU])
def test_defaults_are_fine(activation):
    hidden = nn.Linear(50, 64), activation(), nn.Linear(64, 64), nn.Dropout(0.2), activation()
    assert diagnostics.check_init(nn.Sequential(*hidden, nn.Linear(64, 10), seed=0)).warnings == []


def test_gain_of_the_activation_behind():
    """Xavier's weights in front of a ReLU are named, not in front of tanh nor of batch-norm."""
    xavier = init.XavierNormal()

    def found(*behind):
        model = nn.Sequential(nn.Linear(64, 64, weight_init=xavier), *behind, nn.Linear(64, 2), seed=0)
        return diagnostics.check_init(model)

    report = found(nn.ReLU())
    assert report.rows[0]["gain"] == pytest.approx(1.0, rel=0.05)
    assert report.rows[0]["wanted"] == pytest.approx(math.sqrt(2))
    assert "Linear 0: gain" in report.warnings[0]
    assert "KaimingNormal(nonlinearity='relu')" in report.warnings[0]
    assert "Linear 0: gain" in found(nn.Dropout(0.1), nn.ReLU()).warnings[0]
    assert found(nn.Tanh()).ok
    assert found(nn.BatchNorm1d(64), nn.ReLU()).ok
    assert found(nn.BatchNorm1d(64), nn.ReLU()).rows[0]["wanted"] is None


def test_a_block_that_adds_nothing_on_purpose_is_fine():
    block = nn.Sequential(nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU())
    block = nn.Sequential(block, nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8))
    layers = nn.Linear(8, 8), nn.ReLU(), nn.Residual(block, zero_gamma=True), nn.Linear(8, 2)
    assert diagnostics.check_init(nn.Sequential(*layers, seed=0)).warnings == []
    block[2].gamma.data = np.ones(8)
    block[1].weight.data = np.zeros((8, 8))
    assert not diagnostics.check_init(nn.Sequential(*layers)).ok


def test_exploding_weights_are_named():
    layers = [nn.Linear(32, 32, weight_init=init.Normal(0, 1)) for _ in range(4)]
    report = diagnostics.check_init(nn.Sequential(*layers, seed=0))
    assert "signals and gradients explode" in report.warnings[0]
    small = [nn.Linear(32, 32, weight_init=init.Normal(0, 0.01)) for _ in range(4)]
    assert "signals and gradients vanish" in diagnostics.check_init(nn.Sequential(*small, seed=0)).warnings[0]


def test_inputs_are_drawn_as_wide_as_the_first_layer():
    assert diagnostics.check_init(nn.Sequential(nn.Flatten(), nn.Linear(5, 2), seed=0)).ok
    assert diagnostics.check_init(nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 2), seed=0)).ok
