"""Every report: it changes nothing of what it looks into, has rows, a table and a plot; moments."""

import copy
import math
import sys

import numpy as np
import pytest
from bounds import assert_bits
from diagnosed import deep, rows, trainer
from fastnn import diagnostics, init, losses, nn, optim
from fastnn.diagnostics._watch import moments, norm
from runs import assert_equal_tree

EVERY = ("check_init", "signal_report", "step_report", "lr_find", "gradient_noise_scale")
EVERY += ("suggest_batch_size", "profile", "memory_plan")


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


def test_a_plot_of_what_has_no_activation_and_no_update(tmp_path):
    pytest.importorskip("matplotlib.figure")
    x, y = rows()
    model = nn.Sequential(nn.Linear(4, 3, weight_init=init.Zeros()))
    run = trainer(model, make=lambda ps: optim.SGD(ps, 0.1))
    report = diagnostics.step_report(run, x, y)
    assert report.rows[0]["update_ratio"] is None
    for drawn in (report, diagnostics.signal_report(model, x), diagnostics.check_init(model, x)):
        drawn.plot(tmp_path / "plot.png")
    diagnostics.feature_report(np.zeros((3, 2))).plot(tmp_path / "plot.png")


def test_a_long_table_leaves_its_middle_out():
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(60)), seed=0)
    text = str(diagnostics.signal_report(model, np.ones((4, 2))))
    assert "... 21 more" in text
    assert "\n59 " in text


def test_a_plot_names_the_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
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
