"""Reports on data and on whole runs: columns, rates, gradient noise, batch sizes, time and memory."""

import math
import tracemalloc

import fastnn
import numpy as np
import pytest
from fastnn import callbacks, data, diagnostics, losses, nn, optim, preprocessing
from fastnn.diagnostics import batch_size, features, speed
from hypothesis import given
from hypothesis import strategies as st
from small import labelled_rows, trainer

# ---- columns


def test_columns_are_those_of_numpy(rng):
    X = rng.normal([5, -3, 1e4], [1, 100, 0.1], (200, 3))
    report = diagnostics.feature_report(X)
    for i, row in enumerate(report.rows):
        assert row["column"] == i
        assert (row["min"], row["max"], row["non_finite"]) == (X[:, i].min(), X[:, i].max(), 0)
        assert row["mean"] == pytest.approx(X[:, i].mean(), rel=1e-12)
        assert row["std"] == pytest.approx(X[:, i].std(), rel=1e-9)
    ranges = X.max(0) - X.min(0)
    assert report.range_ratio == pytest.approx(ranges.max() / ranges.min(), rel=1e-12)
    assert report.std_ratio == pytest.approx(X.std(0).max() / X.std(0).min(), rel=1e-9)


@pytest.mark.parametrize(("widest", "warns"), [(99.0, False), (100.0, False), (101.0, True), (999.0, True)])
def test_a_range_ratio_above_100_warns(widest, warns):
    """1..1000 beside 0..1 wants scaling; 0..1, -1..1 and 1..2 want nothing."""
    X = np.array([[0, 0, 0.5], [widest, 1, 1.5]])
    report = diagnostics.feature_report(X)
    assert report.range_ratio == widest
    assert bool(report.warnings) == warns
    if warns:
        assert "column 0 is the widest, 1 the narrowest" in report.warnings[0]
    assert diagnostics.feature_report(np.array([[0, -1, 1], [1, 1, 2]])).warnings == []


def test_scaled_columns_are_fine(rng):
    X = np.column_stack([rng.uniform(1, 1000, 500), rng.uniform(0, 1, 500)])
    assert diagnostics.feature_report(X).warnings
    assert not diagnostics.feature_report(preprocessing.StandardScaler().fit(X).transform(X)).warnings


@pytest.mark.parametrize("dtype", ["u1", "i8", "f2", "f4", "f8", ">f4", "?"])
def test_columns_of_every_dtype(dtype):
    X = np.array([[0, 1], [1, 1], [1, 0]]).astype(dtype)
    report = diagnostics.feature_report(X)
    assert [row["std"] for row in report.rows] == pytest.approx([math.sqrt(2) / 3] * 2)
    assert [(row["min"], row["max"]) for row in report.rows] == [(0, 1)] * 2


def test_constant_and_broken_columns_are_named():
    X = np.array([[1, 0.1, np.nan, np.inf], [2, 0.1, np.nan, 4], [3, 0.1, np.nan, 8]])
    report = diagnostics.feature_report(X)
    assert report.constant == [1]
    assert report.rows[2] == {"column": 2, **dict.fromkeys(("min", "max", "mean", "std")), "non_finite": 3}
    assert report.rows[3] == {"column": 3, "min": 4, "max": 8, "mean": 6, "std": 2, "non_finite": 1}
    text = "\n".join(report.warnings)
    assert "constant columns tell nothing: 1" in text
    assert "NaN or infinity in columns 2, 3" in text
    many = diagnostics.feature_report(np.zeros((2, 9)))
    assert "0, 1, 2, 3, 4 and 4 more" in many.warnings[0]
    assert many.range_ratio == 1.0


@given(numbers=st.lists(st.sampled_from([0.0, 1.0, -3.5, 7.25, math.nan, math.inf]), min_size=6, max_size=60))
def test_columns_block_after_block(numbers):
    """Whatever the blocks, the finite values' mean and deviation."""
    X = np.array(numbers[: len(numbers) // 3 * 3]).reshape(-1, 3)
    before, features._BLOCK = features._BLOCK, 6
    try:
        report = diagnostics.feature_report(X)
    finally:
        features._BLOCK = before
    for i, row in enumerate(report.rows):
        finite = X[np.isfinite(X[:, i]), i]
        assert row["non_finite"] == len(X) - len(finite)
        found = [row[key] for key in ("min", "max", "mean", "std")]
        if len(finite):
            want = [finite.min(), finite.max(), finite.mean(), finite.std()]
            assert found == pytest.approx(want, rel=1e-12, abs=1e-9)
        else:
            assert found == [None] * 4


def test_a_memory_map_is_not_copied(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((3000, 200), np.float32))
    X = np.load(tmp_path / "x.npy", mmap_mode="r")
    X_blocks = features._BLOCK
    features._BLOCK = 2**14
    try:
        tracemalloc.start()
        diagnostics.feature_report(X)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        features._BLOCK = X_blocks
    assert peak < X.nbytes / 4


# ---- rates


def parabola(steep=8.0):
    """One weight w with the loss steep / 2 * w**2, whose largest stable rate is 2 / steep."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), seed=0)
    model[0].weight.data = np.ones((1, 1))

    def loss(pred, target):
        return steep / 2 * float(np.square(pred).mean()), steep * pred / len(pred)

    return fastnn.Trainer(model, loss, optim.SGD(model.parameters(), 0.1))


def test_rates_grow_by_one_factor_and_losses_are_those_of_the_steps():
    X, Y = np.ones((32, 1), np.float32), np.zeros(32)
    report = diagnostics.lr_find(parabola(), X, Y, batch_size=8, min_lr=1e-3, max_lr=0.1, steps=21)
    rates = [row["lr"] for row in report.rows]
    assert rates == pytest.approx([1e-3 * 100 ** (i / 20) for i in range(21)])
    w, mean = 1.0, 0.0
    for i, row in enumerate(report.rows):
        assert row["loss"] == pytest.approx(4 * w * w, rel=1e-5)
        mean = 0.9 * mean + 0.1 * row["loss"]
        assert row["smoothed"] == pytest.approx(mean / (1 - 0.9 ** (i + 1)), rel=1e-9)
        w -= row["lr"] * 8 * w
    assert [row["step"] for row in report.rows] == list(range(1, 22))
    assert not report.diverged
    assert "pass a larger max_lr" in report.warnings[0]


def test_it_ends_where_the_loss_explodes():
    X, Y = np.ones((32, 1), np.float32), np.zeros(32)
    report = diagnostics.lr_find(parabola(), X, Y, batch_size=8, min_lr=1e-3, max_lr=100.0, steps=60)
    assert report.diverged
    assert len(report.rows) < 60
    # The loss falls while w is multiplied by |1 - 8 lr| < 1, that is below 1 / 4.
    assert 1e-3 < report.suggestion < 0.25
    assert report.suggestion < report.lowest
    assert report.rows[-1]["lr"] > 0.25
    assert report.warnings == []


def test_a_gradient_that_is_not_finite_ends_it():
    X, Y = np.ones((32, 1), np.float32), np.zeros(32)
    run = parabola()
    run.model[0].weight.data = np.full((1, 1), 1e15)
    report = diagnostics.lr_find(run, X, Y, batch_size=8, min_lr=1.0, max_lr=1e6, steps=30)
    assert report.diverged
    assert all(math.isfinite(row["lr"]) for row in report.rows)


def test_a_loss_that_never_falls():
    X, Y = np.ones((32, 1), np.float32), np.zeros(32)
    run = parabola()
    run.model[0].weight.data = np.zeros((1, 1))
    report = diagnostics.lr_find(run, X, Y, batch_size=8, steps=10)
    assert math.isnan(report.suggestion)
    assert "the loss never fell" in report.warnings[0]


def test_its_batches_are_whole_and_those_of_the_next_epochs():
    X, Y = labelled_rows()
    run, seen = trainer(seed=3), []
    run.fit(X, Y, batch_size=16, epochs=1)
    inner = run.loss

    def loss(pred, target):
        seen.append(target.copy())
        return inner(pred, target)

    run.loss = loss
    diagnostics.lr_find(run, X, Y, batch_size=16, steps=5, max_lr=1e-3)
    want = [y for epoch in (1, 2) for _, y in data.batches(X, Y, 16, seed=3, epoch=epoch, drop_last=True)]
    assert len(seen) == 5
    for got, expected in zip(seen, want, strict=False):
        np.testing.assert_array_equal(got, expected)
    seen.clear()
    diagnostics.lr_find(run, X, Y, batch_size=1000, steps=2, max_lr=1e-3)
    assert [len(y) for y in seen] == [len(X)] * 2


def test_the_rows_are_converted_a_batch_at_a_time():
    X = np.random.default_rng(0).integers(0, 255, (20000, 50)).astype(np.float64)
    model = nn.Sequential(nn.Linear(50, 2), seed=0)
    run = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.SGD(model.parameters(), 1e-6))
    Y = np.arange(20000) % 2
    speed.limits()  # measured with 64 MiB of its own, once
    for name in ("lr_find", "gradient_noise_scale", "profile"):
        tracemalloc.start()
        getattr(diagnostics, name)(run, X, Y, batch_size=16)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < X.nbytes / 4, name


def test_the_suggested_rate_learns():
    """On the digits, in one epoch; a hundredth of it does not."""
    (X, Y), test = data.digits()
    X, Y = X[:4000], Y[:4000]

    def run(lr):
        model = nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10), seed=0)
        return fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.SGD(model.parameters(), lr))

    found = diagnostics.lr_find(run(1.0), X, Y, batch_size=64)
    good = run(found.suggestion)
    good.fit(X, Y, batch_size=64, epochs=1)
    slow = run(found.suggestion / 100)
    slow.fit(X, Y, batch_size=64, epochs=1)
    assert good.evaluate(*test)["accuracy"] > 0.75 > 0.5 > slow.evaluate(*test)["accuracy"]


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
    """Against the most that Python's arrays take while a step runs, parameters and data apart."""
    model = nn.Sequential(*networks()[kind], seed=0)
    run = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters()))
    n = 2000
    X, Y = np.ones((n, 100), np.float32), np.zeros(n, int)
    plan = {row["part"]: row["bytes"] for row in diagnostics.memory_plan(run, n).rows}
    tracemalloc.start()
    run.step(X, Y)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert plan["activations"] + plan["workspace"] == pytest.approx(peak, rel=0.12)


def test_parts_of_the_plan():
    hidden = nn.Linear(10, 20, bias=False), nn.BatchNorm1d(20), nn.ReLU()
    model = nn.Sequential(*hidden, nn.Linear(20, 5), seed=0)
    count = 10 * 20 + 2 * 20 + 20 * 5 + 5
    for make, slots in ((optim.SGD, 0), (optim.Momentum, 1), (optim.Adam, 2)):
        run = fastnn.Trainer(model, losses.CrossEntropyLoss(), make(model.parameters(), lr=0.1))
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
