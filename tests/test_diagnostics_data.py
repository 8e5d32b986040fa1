"""feature_report and lr_find: columns of the data, and the loss over a growing rate."""

import importlib.util
import math
import tracemalloc

import fastnn
import numpy as np
import pytest
from fastnn import data, diagnostics, losses, nn, optim, preprocessing
from fastnn.diagnostics import features, speed
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


def test_it_ends_at_four_times_the_lowest_smoothed_loss():
    """Rates little above the stable one, 0.25: the loss grows slowly; no step before the last is above."""
    X, Y = np.ones((32, 1), np.float32), np.zeros(32)
    report = diagnostics.lr_find(parabola(), X, Y, batch_size=8, min_lr=0.26, max_lr=0.27, steps=400)
    smoothed = [row["smoothed"] for row in report.rows]
    assert report.diverged
    assert smoothed[-1] > 4 * min(smoothed)
    assert max(smoothed[smoothed.index(min(smoothed)) : -1]) <= 4 * min(smoothed)


def test_a_gradient_that_is_not_finite_ends_it():
    X, Y = np.ones((32, 1), np.float32), np.zeros(32)
    run = parabola()
    run.model[0].weight.data = np.full((1, 1), 1e15)
    report = diagnostics.lr_find(run, X, Y, batch_size=8, min_lr=1.0, max_lr=1e6, steps=30)
    assert report.diverged
    assert all(math.isfinite(row["lr"]) for row in report.rows)


def test_a_first_gradient_that_is_not_finite_leaves_no_rows():
    X, Y, run = np.ones((32, 1), np.float32), np.zeros(32), parabola()
    run.loss = lambda pred, target: (1.0, np.full_like(pred, np.inf))
    report = diagnostics.lr_find(run, X, Y, batch_size=8)
    assert report.diverged
    assert report.rows == []
    assert "the loss never fell" in str(report)
    if importlib.util.find_spec("matplotlib"):
        report.plot()


def test_a_loss_that_never_falls():
    X, Y = np.ones((32, 1), np.float32), np.zeros(32)
    run = parabola()
    run.model[0].weight.data = np.zeros((1, 1))
    report = diagnostics.lr_find(run, X, Y, batch_size=8, steps=10)
    assert math.isnan(report.suggestion)
    assert "the loss never fell" in report.warnings[0]


@pytest.mark.parametrize("seed", range(10))
def test_noise_alone_suggests_no_rate(seed):
    """Losses that have nothing to do with the rate, as a trained model's have."""
    X, Y, draws = np.ones((32, 1), np.float32), np.zeros(32), np.random.default_rng(seed)
    run = parabola()
    run.loss = lambda pred, target: (1 + 0.2 * draws.standard_normal(), 0 * pred)
    assert math.isnan(diagnostics.lr_find(run, X, Y, batch_size=8).suggestion)


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
