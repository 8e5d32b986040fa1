"""Gradient noise, batch sizes, time and memory."""

import math
import subprocess
import sys
import tracemalloc
from pathlib import Path

import fastnn
import numpy as np
import pytest
from fastnn import callbacks, diagnostics, losses, nn, optim
from fastnn.diagnostics import batch_size, speed
from small import labelled_rows, trainer

ROOT = Path(__file__).parents[1]

# ---- gradient noise


def linear(n, columns=3):
    rng = np.random.default_rng(n)
    X = rng.standard_normal((n, columns)).astype(np.float32)
    Y = rng.standard_normal((n, 1)).astype(np.float32)
    model = nn.Sequential(nn.Linear(columns, 1), seed=0)
    return fastnn.Trainer(model, losses.QuadraticCost(), optim.SGD(model.parameters(), 0.1)), X, Y


def gradients_of_rows(run, X, Y):
    """The gradient of each row's own quadratic cost, in float64: (rows, weights and bias)."""
    weight, bias = (p.data.astype("f8") for p in run.model.parameters())
    error = X.astype("f8") @ weight + bias - Y
    return np.hstack([error * X, error])


def test_noise_scale_of_single_rows_is_the_textbooks():
    """Every row once, alone: tr(S) is the sum of the sample variances, |G|^2 = |mean|^2 - tr(S) / n."""
    n = 40
    run, X, Y = linear(n)
    report = diagnostics.gradient_noise_scale(run, X, Y, batch_size=1, batches=n)
    rows = gradients_of_rows(run, X, Y)
    noise = rows.var(axis=0, ddof=1).sum()
    gradient_sq = (rows.mean(axis=0) ** 2).sum() - noise / n
    assert report.noise == pytest.approx(noise, rel=1e-5)
    assert report.gradient_sq == pytest.approx(gradient_sq, rel=1e-5)
    assert float(report) == report.noise_scale == pytest.approx(noise / gradient_sq, rel=1e-5)
    assert [row["parameter"] for row in report.rows] == ["0.weight", "0.bias"]
    assert report.noise == pytest.approx(sum(row["noise"] for row in report.rows))


@pytest.mark.parametrize("size", [1, 4, 16])
def test_the_noise_scale_does_not_depend_on_the_batch_it_is_measured_with(size):
    run, X, Y = linear(4096)
    rows = gradients_of_rows(run, X, Y)
    noise, gradient_sq = rows.var(axis=0).sum(), (rows.mean(axis=0) ** 2).sum()
    report = diagnostics.gradient_noise_scale(run, X, Y, batch_size=size, batches=4096 // size)
    assert report.noise == pytest.approx(noise, rel=0.2)  # of 256 batches: a deviation of 4 % here
    assert report.gradient_sq == pytest.approx(gradient_sq, rel=0.02)


def test_the_deviation_of_a_gradient_falls_as_the_root_of_the_rows():
    run, X, Y = linear(10000)
    rows = gradients_of_rows(run, X, Y)

    def deviation(n):
        return rows[: len(rows) // n * n].reshape(-1, n, rows.shape[1]).mean(axis=1).std(axis=0)

    assert deviation(1) / deviation(100) == pytest.approx([10] * 4, rel=0.3)


def test_a_gradient_lost_in_noise():
    """At the least squares solution nothing but noise is left."""
    run, X, Y = linear(64)
    design = np.hstack([X, np.ones((64, 1))]).astype("f8")
    solution = np.linalg.lstsq(design, Y, rcond=None)[0]
    run.model[0].weight.data, run.model[0].bias.data = solution[:3], solution[3]
    report = diagnostics.gradient_noise_scale(run, X, Y, batch_size=8, batches=8)
    assert report.noise_scale == math.inf
    assert "lost in its noise" in report.warnings[0]


def test_what_is_not_trained_has_no_noise():
    run, X, Y = linear(64)
    run.model[0].bias.trainable = False
    report = diagnostics.gradient_noise_scale(run, X, Y, batch_size=8, batches=8)
    assert [row["parameter"] for row in report.rows] == ["0.weight"]


# ---- batch sizes


def sizes(*steps):
    return [{"batch_size": 8 << i, "step": step, "relative_time": None} for i, step in enumerate(steps)]


def test_time_to_the_same_loss_is_step_times_one_plus_noise_over_rows():
    rows = sizes(1.0, 1.0, 1.5, 3.0)
    costs = [1.0 * (1 + 32 / 8), 1.0 * (1 + 32 / 16), 1.5 * (1 + 32 / 32), 3.0 * (1 + 32 / 64)]
    assert batch_size.relative_times(rows, 32.0) == pytest.approx([c / 3.0 for c in costs])
    # Without noise every row but the first is wasted; with nothing but noise only rows per second count.
    assert batch_size.relative_times(rows, 0.0) == [1.0, 1.0, 1.5, 3.0]
    assert batch_size.relative_times(rows, math.inf) == pytest.approx([2.0 * 4 / 3, 4 / 3, 1.0, 1.0])


@pytest.mark.parametrize(
    ("times", "size"), [((2.0, 1.04, 1.0, 1.2), 16), ((2.0, 1.06, 1.0, 1.2), 32), ((1.0, 1.0, 1.0, 1.0), 8)]
)
def test_the_smallest_size_near_the_best_is_suggested(times, size):
    rows = [{"batch_size": 8 << i, "relative_time": time} for i, time in enumerate(times)]
    assert batch_size.chosen(rows) == size


def test_sizes_are_powers_of_two_that_leave_two_batches():
    run, X, Y = linear(300)
    report = diagnostics.suggest_batch_size(run, X, Y)
    assert [row["batch_size"] for row in report.rows] == [8, 16, 32, 64, 128]
    assert int(report) == report.suggestion
    assert min(row["relative_time"] for row in report.rows) == 1.0
    for row in report.rows:
        assert row["memory"] == diagnostics.memory_plan(run, row["batch_size"])
        assert row["samples_per_second"] == round(row["batch_size"] / row["step"])


def test_sizes_that_need_too_much_memory_are_left_out():
    run, X, Y = linear(300)
    limit = int(diagnostics.memory_plan(run, 32))
    report = diagnostics.suggest_batch_size(run, X, Y, memory=limit)
    assert [row["batch_size"] for row in report.rows] == [8, 16, 32]
    assert "a batch of 64 needs" in report.warnings[0]


# ---- time


def test_profile_counts_the_work():
    model = nn.Sequential(
        nn.Linear(20, 30), nn.ReLU(), nn.Residual(nn.Linear(30, 30, bias=False)), nn.Linear(30, 3), seed=0
    )
    run = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters()))
    X, Y = np.ones((64, 20), np.float32), np.zeros(64, int)
    report = diagnostics.profile(run, X, Y, batch_size=32)
    rows = {row["layer"]: row for row in report.rows}
    assert list(rows) == ["0", "1", "2.block", "3", "loss", "update"]
    assert rows["0"]["flops"] == 2 * 32 * 20 * 30 * 2  # no dx in the first layer
    assert rows["2.block"]["flops"] == 2 * 32 * 30 * 30 * 3
    assert rows["1"]["flops"] is None
    first, middle = 32 * 20 + 32 * 30 + 630, 32 * 30
    assert rows["0"]["bytes"] == 4 * (first + 32 * 30 + 32 * 20 + 2 * 630)
    assert rows["1"]["bytes"] == 4 * 5 * middle
    parameters = sum(p.data.size for p in model.parameters())
    assert rows["update"]["bytes"] == 4 * parameters * 7  # p and two slots twice, g once
    for row in report.rows:
        seconds = sum(row[key] or 0 for key in ("forward", "backward", "update"))
        assert seconds > 0
        assert row["gbytes_per_s"] == pytest.approx(row["bytes"] / seconds / 1e9)
        if row["flops"]:
            assert row["gflops"] == pytest.approx(row["flops"] / seconds / 1e9)
    assert report.step > 0
    assert report.batch_size == 32


def test_share_of_the_limit():
    found = speed.Limits(flops=100.0, cached=10.0, memory=1.0)
    assert found.seconds(1000, 0) == 10.0
    assert found.seconds(0, 1000) == 100.0
    assert found.seconds(0, 2**20) == 2**20 / 10
    assert found.seconds(0, 2**20 + 1) == 2**20 + 1
    assert found.seconds(10**9, 2**20) == 1e7
    row = {"forward": 20.0, "backward": 30.0, "update": None, "flops": None}
    speed._weigh(row, found, [(1000, 10), (0, 150)])
    assert row["of_limit"] == pytest.approx((10 + 15) / 50)
    assert (row["bytes"], row["flops"], row["gflops"]) == (160, 1000, 1000 / 50 / 1e9)


def test_limits_are_measured_once(monkeypatch):
    first = speed.limits()
    monkeypatch.setattr(speed, "times", lambda call: pytest.fail("measured again"))
    assert speed.limits() is first
    assert all(number > 0 for number in first)


# ---- memory


def networks():
    wide = [nn.Linear(100, 200), nn.ReLU(), nn.Linear(200, 300), nn.GELU(), nn.Linear(300, 10)]
    smooth = [nn.Linear(100, 100), nn.BatchNorm1d(100), nn.SiLU(), nn.Linear(100, 10)]
    norms = [
        nn.Linear(100, 200, bias=False),
        nn.BatchNorm1d(200),
        nn.Tanh(),
        nn.Dropout(0.2),
        nn.Linear(200, 10),
    ]
    past = [
        nn.Linear(100, 100),
        nn.Residual(nn.Sequential(nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 100))),
    ]
    return {"plain": wide, "norms": norms, "smooth": smooth, "residual": [*past, nn.Linear(100, 10)]}


@pytest.mark.parametrize("kind", networks())
def test_the_plan_is_what_a_step_takes(kind):
    """Against the most that Python's arrays take in a step of the plain loop, parameters and data apart."""
    model = nn.Sequential(*networks()[kind], seed=0)
    run = fastnn.Trainer(model, own_loss, optim.Adam(model.parameters()))
    n = 2000
    X, Y = np.ones((n, 100), np.float32), np.zeros(n, int)
    plan = {row["part"]: row["bytes"] for row in diagnostics.memory_plan(run, n).rows}
    tracemalloc.start()
    pred = model.forward(X)
    _, dpred = run.loss(pred, Y)
    model.backward(dpred, input_grad=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert plan["activations"] + plan["workspace"] == pytest.approx(peak, rel=0.12)


def own_loss(pred, target):
    """Of one's own, so trained layer by layer."""
    return losses.CrossEntropyLoss()(pred, target)


def test_parts_of_the_plan():
    hidden = nn.Linear(10, 20, bias=False), nn.BatchNorm1d(20), nn.ReLU()
    model = nn.Sequential(*hidden, nn.Linear(20, 5), seed=0)
    count = 10 * 20 + 2 * 20 + 20 * 5 + 5
    for make, slots in ((optim.SGD, 0), (optim.Momentum, 1), (optim.Adam, 2)):
        run = fastnn.Trainer(model, own_loss, make(model.parameters(), lr=0.1))
        plan = diagnostics.memory_plan(run, 8)
        parts = {row["part"]: row["bytes"] for row in plan.rows}
        assert parts["parameters"] == parts["gradients"] == 4 * count
        assert parts["optimizer slots"] == 4 * count * slots
        assert parts["running statistics"] == 4 * 2 * 20
        assert parts["batch"] == 4 * 8 * 10
        assert parts["activations"] == 4 * 8 * (20 + 20 + 5)  # the batch-norm's own is not kept
        assert parts["workspace"] == 4 * 8 * (40 + 5)
        assert plan == int(plan) == sum(parts.values())
        assert isinstance(plan, int)
    assert diagnostics.memory_plan(run, 16) - plan == 4 * 8 * (10 + 45 + 45)


def test_the_plan_counts_what_bfloat16_rounds():
    """Of the widest Linear its rows in and out, and its weights."""
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5), seed=0)

    def workspace(precision):
        run = fastnn.Trainer(model, own_loss, optim.SGD(model.parameters(), 0.1), precision=precision)
        return {row["part"]: row["bytes"] for row in diagnostics.memory_plan(run, 8).rows}["workspace"]

    assert workspace("bfloat16") - workspace("float32") == 4 * (8 * (10 + 20) + 10 * 20)


@pytest.mark.parametrize("kind", networks())
def test_the_plan_of_native_steps_is_what_they_take(kind):
    """The arena is the only memory that grows with the batch: resident memory grows by it and no more."""
    n = 60_000
    text = f"""
import sys; sys.path.insert(0, "tests")
import fastnn, numpy as np
from fastnn import diagnostics, losses, nn, optim
from test_diagnostics_runs import networks
from test_trainer_inputs import memory
model = nn.Sequential(*networks()[{kind!r}], seed=0)
run = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters()))
X, Y = np.ones(({n}, 100), np.float32), np.zeros({n}, int)
run.step(X[:64], Y[:64])
parts = {{row["part"]: row["bytes"] for row in diagnostics.memory_plan(run, {n}).rows}}
assert set(parts) == {{"parameters", "gradients", "optimizer slots", "running statistics", "arena"}}
before = memory("RssAnon")
run.step(X, Y)
grown = memory("RssAnon") - before
assert 0.9 * parts["arena"] < grown < 1.1 * parts["arena"] + 2**21, (grown, parts)
"""
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_a_report_from_a_callback():
    class Reports(callbacks.Callback):
        def __init__(self):
            self.seen = []

        def on_step_end(self, trainer, step, loss):
            if step % 3 == 0:
                self.seen.append(diagnostics.step_report(trainer, *labelled_rows()))
            return False

    watched, plain, reports = trainer(), trainer(), Reports()
    X, Y = labelled_rows()
    history = watched.fit(X, Y, batch_size=16, epochs=3, callbacks=[reports])
    assert history["loss"] == plain.fit(X, Y, batch_size=16, epochs=3)["loss"]
    assert len(reports.seen) == 4
