"""StepReports: the share of the time that they take, how they are printed and drawn."""

import math

import fastnn
import numpy as np
import pytest
from diagnosed import deep, network_of_4, rows, trainer
from fastnn import callbacks, diagnostics
from fastnn.diagnostics import step_reports
from test_step_reports import fit

AROUND = 1.5  # a report counts so many times its own time

# ---- a share of the time


class Clock:
    """Seconds that pass where the test says so."""

    def __init__(self, monkeypatch, step, report):
        self.now = 0.0
        monkeypatch.setattr(step_reports, "perf_counter", lambda: self.now)
        program = fastnn._program.Program
        real, before = program.run, step_reports.StepSignals.before

        def run(program, *given, **more):
            done = real(program, *given, **more)
            self.now += step * done.steps
            return done

        def begins(signals, *given):
            self.now += step + report
            return before(signals, *given)

        monkeypatch.setattr(program, "run", run)
        monkeypatch.setattr(step_reports.StepSignals, "before", begins)


@pytest.mark.parametrize("share", [0.05, 0.2])
@pytest.mark.parametrize(
    ("step", "report", "epochs"), [(0.001, 0.02, 200), (1.0, 3.0, 30), (0.01, 0.0001, 200)]
)
def test_reports_take_their_share(monkeypatch, share, step, report, epochs):
    clock = Clock(monkeypatch, step, report)
    X, Y = rows()
    run, reports = trainer(), diagnostics.StepReports(share=share)
    shares = []

    class Shares(callbacks.Callback):
        def on_epoch_end(self, trainer, logs):
            shares.append(reports.share_taken)

    fit(run, (X, Y), batch_size=2, epochs=epochs, callbacks=[reports, Shares()])
    spent = (
        len(reports.reports) * report + step
    )  # that is how long the first one seemed: it was the first step
    assert reports.share_taken == pytest.approx(spent / clock.now, rel=0.01)
    # From where the first one is within the share.
    early = math.ceil(AROUND * (step + report) / share / (32 * step))
    assert max(shares[early:]) <= share / AROUND
    steps = [one.step for one in reports.reports]
    assert steps[0] == 1
    apart = np.diff(steps)
    if report < share * step:  # then only the 1 % keeps them apart
        assert len(steps) > 300
        assert all(gap == math.ceil(0.01 * at) for at, gap in zip(steps, apart) if at > 500)
    else:
        assert reports.share_taken > 0.9 * share / AROUND
        assert np.median(apart) == pytest.approx(report * (AROUND / share - 1) / step, rel=0.15)
    reports.every = 1
    count = len(reports.reports)
    fit(run, (X, Y), epochs=1, callbacks=[reports])
    assert len(reports.reports) == count + 4


def test_a_native_run_is_cut_short_only_for_a_report(monkeypatch):
    """The length of a step is learned once: then one call up to each report."""
    Clock(monkeypatch, 0.001, 0.02)
    X, Y = rows()
    run, reports, calls = trainer(), diagnostics.StepReports(share=0.1), []
    real = fastnn._program.Program.run
    monkeypatch.setattr(fastnn._program.Program, "run", lambda *a, **k: calls.append(1) or real(*a, **k))
    fit(run, (X, Y), batch_size=2, epochs=80, callbacks=[reports])
    assert len(reports.reports) > 8
    assert len(calls) <= 80 + len(reports.reports) + 5


# ---- how it is shown


def test_it_prints_the_last_report_and_how_many():
    X, Y = rows()
    reports = diagnostics.StepReports(every=4)
    assert str(reports) == "no reports yet"
    fit(trainer(), (X, Y), callbacks=[reports])
    *report, line = str(reports).splitlines()
    assert "\n".join(report) == str(reports.reports[-1])
    assert report[0] == "step 8"
    assert line == f"2 reports, {reports.share_taken:.1%} of the time of training"
    assert 0 < reports.share_taken < 1


@pytest.mark.parametrize("model", [network_of_4, deep])
def test_the_plot_has_a_line_for_each_layer(model, tmp_path):
    pytest.importorskip("matplotlib.figure")
    reports = diagnostics.StepReports(every=2)
    reports.plot()  # of nothing
    fit(trainer(model=model()), rows(), callbacks=[reports])
    figure = reports.plot(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    layers = {row["layer"] for row in reports.rows if row["rms"]}
    ratios, rms, grads = (axes.lines for axes in figure.axes)
    assert len(rms) == len(grads) == len(layers)
    first = next(line for line in rms)
    assert list(first.get_xdata()) == [2, 4, 6, 8]
    assert list(first.get_ydata()) == [report.rows[0]["rms"] for report in reports.reports]
    assert len(ratios) == 1 + len({row["layer"] for row in reports.rows if row["update_ratio"]})
