"""step_report: the step that the trainer would do, drift of batch statistics, small gradient at high loss."""

import math

import fastnn
import numpy as np
import pytest
from diagnosed import network_of_4, rows, trainer, zeros
from fastnn import diagnostics, losses, nn, optim, schedulers
from runs import StopAt
from small import labelled_rows, layers


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


def test_a_small_gradient_at_a_low_loss_is_no_place_to_be_stuck_at():
    """At the least squares solution the residuals ask for much and the weights can give nothing."""
    x = rows()[0]
    wanted = x @ np.ones((4, 1)) + np.random.default_rng(2).normal(0, 0.3, (len(x), 1))
    model = nn.Sequential(nn.Linear(4, 1), seed=0)
    design = np.hstack([x, np.ones((len(x), 1))]).astype("f8")
    solution = np.linalg.lstsq(design, wanted, rcond=None)[0]
    model[0].weight.data, model[0].bias.data = solution[:4], solution[4]
    run = trainer(model, loss=losses.MSELoss(), make=lambda ps: optim.SGD(ps, 0.1))
    report = diagnostics.step_report(run, x, wanted.astype(np.float32))
    assert report.grad_norm < 1e-5
    assert 0.01 < report.loss < 0.1 * report.constant_loss
    assert not report.stuck


@pytest.mark.parametrize(("more", "stuck"), [(1, True), (6, False)])
def test_a_gradient_is_small_beside_what_all_rows_could_ask_for(more, stuck):
    """n targets of 1 and -1, `more` of the former: the bias gets 2 * 2 more / n of sqrt(n) ||dpred|| = 2."""
    n = 400
    wanted = np.where(np.arange(n) < n // 2 + more, 1, -1).astype(np.float32)[:, None]
    run = trainer(zeros(nn.Linear(1, 1)), loss=losses.MSELoss(), make=lambda ps: optim.SGD(ps, 0.1))
    report = diagnostics.step_report(run, np.zeros((n, 1), np.float32), wanted)
    assert report.grad_norm == pytest.approx(4 * more / n, rel=1e-5)
    assert report.loss == report.constant_loss == 1
    assert report.stuck == stuck


def test_what_is_not_updated_has_no_ratio():
    x, y = rows()
    model = network_of_4()
    model[2].weight.trainable = False
    run = trainer(model, make=lambda ps: optim.SGD(ps[2:], 0.02))
    model[2].bias.data = np.ones(3)
    report = diagnostics.step_report(run, x, y)
    before = model[2].bias.data.copy()
    run.step(x, y)
    change = np.linalg.norm(model[2].bias.data - before) / np.linalg.norm(before)
    assert report.rows[0]["update_ratio"] is None
    assert report.rows[2]["update_ratio"] == pytest.approx(change, rel=1e-5)


def test_a_per_epoch_schedule_before_the_first_fit_and_after_a_load(tmp_path, capsys):
    """The epoch is known even where its length is not."""
    X, Y = labelled_rows()

    def made(lr):
        model = layers()
        return fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.SGD(model.parameters(), lr))

    def ratios(run):
        return diagnostics.step_report(run, X[:16], Y[:16]).values("update_ratio")

    halved = schedulers.StepDecay(0.4, 1, gamma=0.5)
    run = made(schedulers.PerEpoch(halved))
    assert ratios(run) == ratios(made(0.4))
    assert int(diagnostics.memory_plan(run, 16)) == int(diagnostics.memory_plan(made(0.4), 16))
    run.explain(16)
    assert "16 rows" in capsys.readouterr().out
    assert diagnostics.suggest_batch_size(run, X, Y).suggestion in (8, 16)
    with pytest.raises(ValueError, match="steps_per_epoch is not known"):  # a step itself needs it
        run.step(X, Y)
    run.fit(X, Y, batch_size=16, epochs=2, callbacks=[StopAt(7)])
    run.save(tmp_path / "run")
    loaded = made(schedulers.PerEpoch(halved))
    loaded.load(tmp_path / "run")
    assert ratios(loaded) == ratios(run)
    constant = made(0.2)
    constant.model.load_state_dict(run.model.state_dict())
    assert ratios(run) == ratios(constant)
