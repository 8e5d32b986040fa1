"""StepReports: reports of a fit's own steps, which change no bit of it and say what step_report says."""

import copy
import os
import signal

import fastnn
import numpy as np
import pytest
from custom import Block
from diagnosed import deep, network_of_4, rows, trainer
from fastnn import callbacks, diagnostics, losses, nn, optim
from networks import assert_same_course, seeded, state
from runs import StopAt, assert_equal_tree, assert_same_run, build
from small import labelled_rows

pytestmark = pytest.mark.filterwarnings("ignore:Rprop follows")


def fit(run, problem, **options):
    X, Y = problem
    return run.fit(X, Y, **{"batch_size": 16, "epochs": 2, "progress": False, **options})


def assert_same_rows(report, other):
    """To rounding, as both are means over the same numbers; the same places are empty."""
    assert [row.keys() for row in report.rows] == [row.keys() for row in other.rows]
    for row, want in zip(report.rows, other.rows, strict=True):
        for key, value in want.items():
            if isinstance(value, float):
                assert row[key] == pytest.approx(value, rel=1e-12, abs=1e-300, nan_ok=True), key
            else:
                assert row[key] == value, key


def assert_same_report(report, other):
    assert_same_rows(report, other)
    for key in ("step", "loss", "constant_loss", "grad_norm"):
        assert getattr(report, key) == pytest.approx(getattr(other, key), rel=1e-6, nan_ok=True), key
    assert (report.stuck, report.non_finite) == (other.stuck, other.non_finite)
    assert (report.forward.verdict, report.backward.verdict) == (
        other.forward.verdict,
        other.backward.verdict,
    )


# ---- the bits of the training


@pytest.mark.parametrize("seed", range(160))
def test_a_watched_fit_has_the_bits_of_one_that_is_not(seed):
    """All layers, losses, optimizers, weights, kinds of rows and last batches that networks.py draws."""
    problem = seeded(seed)
    one, other = problem.trainer(seed=3), problem.trainer(seed=3)
    reports = diagnostics.StepReports(every=1 + seed % 3)
    ways = {"batch_size": problem.batch_size, "epochs": 2, "sample_weight": problem.weight, "progress": False}
    watched = one.fit(problem.X, problem.Y, callbacks=[reports], **ways)
    plain = other.fit(problem.X, problem.Y, **ways)
    assert_same_course(one, other)
    np.testing.assert_allclose(watched["loss"], plain["loss"], rtol=1e-6)
    done = one.optimizer.step_count + one.optimizer.skipped_steps
    assert len(reports.reports) >= done // reports.every - one.optimizer.skipped_steps
    for module in one.model.modules():
        assert module._saved is None


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_rows_of_any_kind_in_any_precision(dtype, precision):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 9, (50, 4)).astype(dtype) if dtype == "uint8" else rng.standard_normal((50, 4))
    Y, weight = rng.integers(0, 3, 50), rng.random(50)
    runs = [trainer(), trainer()]
    for run in runs:
        run.precision = precision
    reports = diagnostics.StepReports(every=2)
    for run, watching in zip(runs, ([reports], []), strict=True):
        fit(run, (X, Y), sample_weight=weight, callbacks=watching, shuffle=False)
    assert_same_run(*runs)
    assert [report.step for report in reports.reports] == [2, 4, 6, 8]  # two of them of the last two rows


def own_loss(pred, target, weight=None):
    return losses.CrossEntropyLoss()(pred, target, weight)


def test_a_loss_and_layers_of_ones_own():
    X, Y = rows()
    runs = [trainer(model=deep(own=True), loss=own_loss) for _ in range(2)]
    reports = diagnostics.StepReports(every=3)
    fit(runs[0], (X, Y), callbacks=[reports])
    fit(runs[1], (X, Y))
    assert_same_run(*runs)
    assert [report.step for report in reports.reports] == [3, 6]
    assert Block.__name__ in {row["kind"] for row in reports.rows}


def test_names_of_parameters_stay():
    X, Y = rows()
    run, plain = trainer(), trainer()
    before = [parameter.name for parameter in run.optimizer.param_groups[0]["params"]]
    fit(run, (X, Y), callbacks=[diagnostics.StepReports(every=1)])
    fit(plain, (X, Y))
    assert [parameter.name for parameter in run.optimizer.param_groups[0]["params"]] == before
    assert before == [parameter.name for parameter in plain.optimizer.param_groups[0]["params"]]


def test_metrics_of_ones_own_and_other_callbacks():
    X, Y = labelled_rows()

    def right(pred, target):
        return float(np.mean(pred.argmax(axis=1) == target))

    class Losses(callbacks.Callback):
        def __init__(self):
            self.seen = []

        def on_step_end(self, trainer, step, loss):
            self.seen.append((step, loss))

    runs = [build(metrics={"right": right}) for _ in range(2)]
    seen, emas = [Losses(), Losses()], [callbacks.EMA(0.9), callbacks.EMA(0.9)]
    fit(runs[0], (X, Y), callbacks=[diagnostics.StepReports(every=2), seen[0], emas[0]])
    fit(runs[1], (X, Y), callbacks=[seen[1], emas[1]])
    assert_same_run(*runs)
    assert seen[0].seen == seen[1].seen
    assert_equal_tree(emas[0].state_dict(), emas[1].state_dict())


def test_the_program_stays():
    """A watched step leaves nothing that a program must be lowered anew for."""
    X, Y = rows()
    run = trainer()
    fit(run, (X, Y))
    program = run._steps._program
    fit(run, (X, Y), callbacks=[diagnostics.StepReports(every=1)])
    run.step(X[:16], Y[:16])
    assert run._steps._program is program


def test_steps_between_stay_native(monkeypatch):
    """One native call up to a watched step, one behind it; without the callback one for the epoch."""
    X, Y = rows()
    run, calls, real = trainer(), [], fastnn._program.Program.run
    fit(run, (X, Y), batch_size=4, epochs=1)

    def counted(program, batches, first, last, *given, **more):
        calls.append((first, last))
        return real(program, batches, first, last, *given, **more)

    monkeypatch.setattr(fastnn._program.Program, "run", counted)
    fit(run, (X, Y), batch_size=4, epochs=1, callbacks=[diagnostics.StepReports(every=10)])
    assert run.optimizer.step_count == 32
    assert calls == [(0, 3), (4, 13), (14, 16)]  # updates 20 and 30 are watched


def test_a_layer_that_a_callback_puts_in_the_place_of_another():
    X, Y = rows()

    class Exchanges(callbacks.Callback):
        def on_epoch_end(self, trainer, logs):
            trainer.model[1].block = nn.Tanh()

    runs, reports = [], diagnostics.StepReports(every=2)
    for watching in ([reports], []):
        model = nn.Sequential(nn.Linear(4, 4), nn.Residual(nn.ReLU()), nn.Linear(4, 3), seed=0)
        runs.append(trainer(model=model))
        fit(runs[-1], (X, Y), callbacks=[Exchanges(), *watching])
    assert_same_run(*runs)
    assert [report.rows[1]["kind"] for report in reports.reports] == ["ReLU", "ReLU", "Tanh", "Tanh"]


# ---- what a report says


@pytest.mark.parametrize("make", [lambda ps: optim.SGD(ps, 0.1), None], ids=["SGD", "Adam"])
def test_a_report_is_that_of_step_report_before_the_step(make):
    X, Y = rows()
    watched, own = trainer(make=make), trainer(make=make)
    frozen = [run.model[0].weight for run in (watched, own)]
    for parameter in frozen:
        parameter.trainable = False
    reports = diagnostics.StepReports(every=1)
    fit(watched, (X, Y), callbacks=[reports], shuffle=False)
    assert len(reports.reports) == 8
    for i, report in enumerate(reports.reports):
        batch = slice(16 * (i % 4), 16 * (i % 4) + 16)
        assert_same_report(report, diagnostics.step_report(own, X[batch], Y[batch]))
        own.step(X[batch], Y[batch])


def test_sample_weights_count_in_both_losses():
    X, Y = rows()
    weight = np.random.default_rng(0).random(64).astype(np.float32)
    reports = diagnostics.StepReports(every=1)
    run = trainer(model=network_of_4())
    first = copy.deepcopy(run.model)
    fit(run, (X, Y), batch_size=64, epochs=1, shuffle=False, sample_weight=weight, callbacks=[reports])
    pred, loss = first(X), losses.CrossEntropyLoss()
    assert reports.reports[0].loss == loss(pred, Y, weight)[0]
    constant = np.repeat(pred.mean(axis=0, keepdims=True), 64, axis=0)
    assert reports.reports[0].constant_loss == pytest.approx(loss(constant, Y, weight)[0], rel=1e-6)
    assert loss(constant, Y, weight)[0] != pytest.approx(loss(constant, Y)[0], rel=1e-3)


def test_a_block_that_begins_at_zero_is_asleep_once():
    """With gammas of 0 its layers do not count in the law of depth; after the first update they do."""
    inner = nn.Sequential(nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4))
    model = nn.Sequential(nn.Linear(4, 4), nn.Residual(inner, zero_gamma=True), nn.Linear(4, 3), seed=0)
    reports = diagnostics.StepReports(every=1)
    run = trainer(model=model, make=lambda ps: optim.SGD(ps, 0.1))
    fit(run, rows(), epochs=1, callbacks=[reports])
    assert [report.forward.layers for report in reports.reports] == [2, 3, 3, 3]


# ---- which steps


def test_every_so_many_updates_over_epochs_and_fits():
    X, Y = rows()
    run, reports = trainer(), diagnostics.StepReports(every=3)
    run.step(X[:16], Y[:16])
    fit(run, (X, Y), callbacks=[reports])  # updates 2 to 9
    fit(run, (X, Y), epochs=1, callbacks=[reports])  # to 13
    fit(run, (X, Y), epochs=1)
    fit(run, (X, Y), epochs=1, callbacks=[reports])  # 18 to 21
    assert [report.step for report in reports.reports] == [3, 6, 9, 12, 18, 21]
    layers = len(reports.reports[0].rows)
    assert [row["step"] for row in reports.rows] == sorted([3, 6, 9, 12, 18, 21] * layers)
    assert reports.rows[0] == {"step": 3, **reports.reports[0].rows[0]}
    fit(trainer(), (X, Y), callbacks=[reports])  # another model
    assert [report.step for report in reports.reports] == [3, 6]


def test_a_file_in_the_middle(tmp_path):
    X, Y = rows()
    whole, stopped, reports = trainer(), trainer(), diagnostics.StepReports(every=2)
    fit(whole, (X, Y))
    fit(stopped, (X, Y), callbacks=[reports, StopAt(5, tmp_path / "run")])
    assert [report.step for report in reports.reports] == [2, 4]
    loaded, again = trainer(), diagnostics.StepReports(every=2)
    loaded.load(tmp_path / "run")
    fit(loaded, (X, Y), epochs=1, callbacks=[again])
    assert_same_run(loaded, whole)
    assert [report.step for report in again.reports] == [6, 8]
    assert reports.state_dict() == {}


def test_a_trainer_that_is_copied_in_the_middle():
    """The copy takes nothing of the watch along."""
    X, Y = rows()

    class Copies(callbacks.Callback):
        def on_epoch_end(self, trainer, logs):
            self.copy = copy.deepcopy(trainer)

    run, copies, reports = trainer(), Copies(), diagnostics.StepReports(every=2)
    fit(run, (X, Y), epochs=1, callbacks=[reports, copies])
    fit(copies.copy, (X, Y), epochs=1, callbacks=[reports])
    fit(run, (X, Y), epochs=1)
    assert_same_run(copies.copy, run)


# ---- steps that are refused, and bad batches


def nan_rows():
    X, Y = rows()
    X[40, 2] = np.nan
    return X, Y


@pytest.mark.parametrize("loss", [None, own_loss])
@pytest.mark.parametrize("nonfinite", ["raise", "skip", "ignore"])
@pytest.mark.parametrize("guarded", [False, True])
def test_a_refused_step_has_a_report_that_names_the_place(loss, nonfinite, guarded):
    X, Y = nan_rows()

    def run(watching):
        made = trainer(loss=loss, make=lambda ps: optim.Adam(ps, nonfinite=nonfinite))
        guard = [callbacks.DivergenceGuard(action="rollback")] if guarded else []
        fails = nonfinite == "raise" and not guarded
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *a, **k: None)
            if fails:
                with pytest.raises(fastnn.optim.NonFiniteGradientError) as caught:
                    fit(made, (X, Y), shuffle=False, callbacks=[*guard, *watching])
                return made, str(caught.value)
            fit(made, (X, Y), shuffle=False, callbacks=[*guard, *watching])
        return made, ""

    reports = diagnostics.StepReports(every=1)
    (one, said), (other, want) = run([reports]), run([])
    assert said == want
    assert_equal_tree(state(one), state(other))
    places = [report.non_finite for report in reports.reports]
    third = reports.reports[2]
    assert third.step == 3
    assert third.non_finite == "first value that is not finite: x[8, 2] is nan"
    assert places[:2] == [None, None]
    ratios = {row["update_ratio"] for row in third.rows}
    assert (ratios == {None}) == (nonfinite != "ignore")
    plain = trainer(make=lambda ps: optim.Adam(ps, nonfinite=nonfinite))
    for i in (0, 16):
        plain.step(X[i : i + 16], Y[i : i + 16])
    if nonfinite != "ignore":
        assert_same_report(third, diagnostics.step_report(plain, X[32:48], Y[32:48]))


@pytest.mark.filterwarnings("error")
def test_a_training_that_runs_away_warns_of_nothing():
    """Infinities of both signs, in weights, predictions and updates."""
    X, Y = rows()
    runs, reports = [], diagnostics.StepReports(every=1)
    for watching in ([reports], []):
        make = lambda ps: optim.Momentum(ps, 1e38, nonfinite="ignore")  # noqa: E731
        runs.append(trainer(model=network_of_4(), loss=losses.MSELoss(), make=make))
        fit(runs[-1], (X, np.eye(3, dtype=np.float32)[Y]), epochs=3, callbacks=watching)
    assert_same_course(*runs)
    assert any(np.isinf(row["grad_rms"]) or np.isnan(row["grad_rms"]) for row in reports.rows)


def test_an_update_that_is_refused_for_ever_is_watched_once():
    X, Y = nan_rows()
    X[:] = np.nan
    run, reports = trainer(make=lambda ps: optim.SGD(ps, 0.1, nonfinite="skip")), diagnostics.StepReports(1)
    fit(run, (X, Y), callbacks=[reports])
    assert run.optimizer.skipped_steps == 8
    assert len(reports.reports) == 1


@pytest.mark.parametrize(
    "breach",
    [
        lambda X, Y, w: Y.__setitem__(20, 9),
        lambda X, Y, w: w.__setitem__(20, -1),
        lambda X, Y, w: w.__setitem__(slice(16, 32), 0),
    ],
)
def test_a_bad_batch_is_refused_as_without_reports(breach):
    X, Y = rows()
    weight = np.ones(64, np.float32)
    breach(X, Y, weight)
    said = []
    runs = [trainer(), trainer()]
    for run, watching in zip(runs, ([diagnostics.StepReports(every=1)], []), strict=True):
        with pytest.raises(ValueError) as caught:
            fit(run, (X, Y), shuffle=False, sample_weight=weight, callbacks=watching)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert_same_course(*runs)
    assert runs[0].optimizer.step_count == 1


def test_a_schedule_that_fails_in_the_update():
    X, Y = rows()
    said, runs = [], []
    for watching in ([diagnostics.StepReports(every=1)], []):
        run = trainer(make=lambda ps: optim.Momentum(ps, 0.1, momentum=lambda t: 0.9 if t < 2 else 2.0))
        with pytest.raises(ValueError, match="momentum after 2 updates") as caught:
            fit(run, (X, Y), callbacks=watching)
        said.append(str(caught.value))
        runs.append(run)
    assert said[0] == said[1]
    assert_same_course(*runs)


def test_ctrl_c_in_a_watched_step():
    """The step is finished, its report is there, and the next fit goes on."""
    X, Y = rows()

    def pressing(pred, target, weight=None):
        pressing.calls += 1
        if pressing.calls == 5:  # two in each watched step
            os.kill(os.getpid(), signal.SIGINT)
        return losses.CrossEntropyLoss()(pred, target, weight)

    pressing.calls = 0
    run, plain, reports = trainer(loss=pressing), trainer(loss=own_loss), diagnostics.StepReports(every=1)
    with pytest.raises(KeyboardInterrupt):
        fit(run, (X, Y), callbacks=[reports])
    assert run.optimizer.step_count == len(reports.reports) == 3
    fit(run, (X, Y), callbacks=[reports])
    fit(plain, (X, Y))
    assert [report.step for report in reports.reports] == list(range(1, 9))
    assert_same_course(run, plain)
