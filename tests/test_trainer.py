"""Trainer: steps, fits, schedules, evaluation, prediction; bit for bit where that is promised."""

import copy
import pickle

import fastnn
import numpy as np
import pytest
from bounds import assert_bits, host
from fastnn import data, losses, nn, ops, optim, schedulers
from small import CLASSES, COLUMNS, N, assert_same_model, labelled_rows, layers, trainer

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture
def rows():
    return labelled_rows()


# ---- steps and fits


def test_step_is_the_plain_loop(isa, rows):
    X, Y = rows
    one, model = trainer(), layers()
    loss, opt = losses.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.01)
    for x, y in data.batches(X, Y, 16):
        value, gradient = loss(model(x), y)
        model.backward(gradient)
        opt.step()
        assert one.step(x, y) == value
    for a, b in zip(one.model.parameters(), model.parameters(), strict=True):
        assert_bits(a.data, b.data, a.name)


def test_a_step_leaves_out_dx_of_the_first_layer(rows, monkeypatch):
    asked, linear_backward = [], ops.linear_backward
    monkeypatch.setattr(
        ops, "linear_backward", lambda *a, **k: asked.append(k["need_dx"]) or linear_backward(*a, **k)
    )
    run = trainer()
    run.loss = lambda pred, target: losses.CrossEntropyLoss()(pred, target)  # one's own: layer by layer
    run.step(*rows)
    assert asked == [True, False]


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"drop_last": True}])
def test_fit_is_step_over_the_batches_of_data(isa, rows, batch_norm, options):
    X, Y = rows
    one, other = trainer(layers(batch_norm), seed=7), trainer(layers(batch_norm), seed=7)
    history = one.fit(X, Y, batch_size=16, epochs=3, **options)
    for epoch in range(3):
        values = [
            (other.step(x, y), len(x)) for x, y in data.batches(X, Y, 16, seed=7, epoch=epoch, **options)
        ]
        mean = sum(value * n for value, n in values) / sum(n for _, n in values)
        assert history["loss"][epoch] == pytest.approx(mean, rel=1e-12)
    assert_same_model(one, other)


def test_five_and_five_epochs_are_ten(isa, rows):
    X, Y = rows
    schedule = schedulers.LinearWarmup(schedulers.CosineAnnealingDecay(0.02, 40), 5)
    one, other = trainer(lr=schedule), trainer(lr=schedule)
    ten = one.fit(X, Y, batch_size=16, epochs=10)
    five = other.fit(X, Y, batch_size=16, epochs=5)
    more = other.fit(X, Y, batch_size=16, epochs=5)
    assert_same_model(one, other)
    for key in ("epoch", "step", "lr", "loss", "accuracy"):
        assert ten[key] == five[key] + more[key]
    assert ten["epoch"] == list(range(1, 11))


def test_the_seed_decides_the_order(rows):
    X, Y = rows
    runs = [trainer(seed=seed) for seed in (0, 0, 1)]
    for run in runs:
        run.fit(X, Y, batch_size=16, epochs=1)
    assert_same_model(runs[0], runs[1])
    with pytest.raises(AssertionError):
        assert_same_model(runs[0], runs[2])


@pytest.mark.host("compares numbers of threads and instruction sets")
def test_weights_have_the_same_bits_for_all_threads_and_instruction_sets(isas, restore_runtime):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((300, 70), np.float32), rng.integers(0, 10, 300)
    first = None
    for isa in isas:
        for threads in (1, 2, 3, 8):
            fastnn.set_isa(isa)
            fastnn.set_num_threads(threads)
            model = nn.Sequential(
                nn.Linear(70, 90, bias=False), nn.BatchNorm1d(90), nn.ReLU(), nn.Linear(90, 10), seed=0
            )
            run = trainer(model)
            history = run.fit(X, Y, batch_size=128, epochs=4)
            first = first or (run, history)
            assert_same_model(run, first[0])
            assert history["loss"] == first[1]["loss"]


def test_a_one_row_last_batch_joins_the_one_before_only_with_batch_norm(rows):
    X, Y = rows[0][:33], rows[1][:33]
    run = trainer()
    run.fit(X, Y, batch_size=16, epochs=1)
    assert run.optimizer.step_count == 2
    x, y = zip(*data.batches(X, Y, 16), strict=True)
    steps = trainer()
    steps.step(x[0], y[0])
    steps.step(np.concatenate(x[1:]), np.concatenate(y[1:]))
    assert_same_model(run, steps)
    other = trainer(layers(batch_norm=False))
    other.fit(X, Y, batch_size=16, epochs=1)
    assert other.optimizer.step_count == 3


def test_sample_weights_follow_their_rows(rows):
    X, Y = rows
    weight = np.random.default_rng(1).integers(1, 5, N).astype(np.float64)
    one, other = trainer(), trainer()
    history = one.fit(X, Y, batch_size=16, epochs=1, sample_weight=weight)
    values = []
    for (x, y), (w, _) in zip(data.batches(X, Y, 16), data.batches(weight, Y, 16), strict=True):
        values.append((other.step(x, y, w), w.sum()))
    assert_same_model(one, other)
    mean = sum(value * w for value, w in values) / sum(w for _, w in values)
    assert history["loss"][0] == pytest.approx(mean, rel=1e-6)
    plain = trainer()
    plain.fit(X, Y, batch_size=16, epochs=1)
    with pytest.raises(AssertionError):
        assert_same_model(one, plain)


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.uint8])
def test_inputs_of_other_dtypes_are_converted(dtype):
    rng = np.random.default_rng(0)
    X, Y = rng.integers(0, 9, (N, COLUMNS)).astype(dtype), rng.integers(0, CLASSES, N)
    one, other = trainer(), trainer()
    one.fit(X, Y, batch_size=16, epochs=2)
    other.fit(X.astype(np.float32), Y, batch_size=16, epochs=2)
    assert_same_model(one, other)
    assert one.evaluate(X, Y) == other.evaluate(X.astype(np.float32), Y)
    one.step(X, Y)
    other.step(X.astype(np.float32), Y)
    assert_same_model(one, other)


def test_a_memory_map_and_probabilities_as_targets(rows, tmp_path):
    X, Y = rows
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    one, other = trainer(), trainer()
    one.fit(mapped, np.eye(CLASSES)[Y], batch_size=16, epochs=2)
    other.fit(X, np.eye(CLASSES)[Y], batch_size=16, epochs=2)
    assert_same_model(one, other)
    assert one.evaluate(X, np.eye(CLASSES)[Y])["accuracy"] == one.evaluate(X, Y)["accuracy"]


def test_fit_learns(rows):
    X, Y = rows
    run = trainer(lr=0.05)
    history = run.fit(X, Y, batch_size=16, epochs=30)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["accuracy"][-1] > 0.8 > history["accuracy"][0]
    assert run.evaluate(X, Y)["accuracy"] > 0.85


# ---- schedules


def test_fit_fills_per_epoch_and_asks_for_the_rate_of_the_updates_done(rows):
    X, Y = rows
    run = trainer(lr=schedulers.PerEpoch(schedulers.StepDecay(0.4, 1, gamma=0.5)))
    history = run.fit(X, Y, batch_size=16, epochs=3)
    assert history["lr"] == [0.4, 0.2, 0.1]
    assert history["step"] == [4, 8, 12]
    seen = []
    run = trainer(lr=lambda t: seen.append(t) or 0.01)
    run.fit(X, Y, batch_size=16, epochs=2)
    assert sorted(set(seen)) == list(range(8))
    inner = schedulers.PerEpoch(schedulers.StepDecay(0.4, 1, gamma=0.5))
    run = trainer(lr=schedulers.LinearWarmup(inner, 4))
    assert run.fit(X, Y, batch_size=16, epochs=3)["lr"] == pytest.approx([0.3, 0.4, 0.2])


def test_the_last_joined_batch_counts_once_for_per_epoch(rows):
    X, Y = rows[0][:33], rows[1][:33]
    run = trainer(lr=schedulers.PerEpoch(schedulers.StepDecay(0.4, 1, gamma=0.5)))
    history = run.fit(X, Y, batch_size=16, epochs=3)
    assert history["step"] == [2, 4, 6]
    assert history["lr"] == [0.4, 0.2, 0.1]


# ---- evaluation and prediction


def test_evaluate_and_predict_run_in_evaluation_mode_and_restore_every_mode(place, rows):
    X, Y = rows
    x, y = place.all(rows)
    run = trainer()
    run.fit(X, Y, batch_size=16, epochs=1)
    run.model[1].eval()
    modes = [module.training for module in run.model.modules()]
    before = run.model.state_dict()
    seen = []
    loss = run.loss
    run.loss = lambda *a: seen.append(run.model.training) or loss(*a)
    value = run.evaluate(X, Y)["loss"]
    pred = run.predict(X)
    assert [module.training for module in run.model.modules()] == modes
    for name, array in run.model.state_dict().items():
        assert_bits(array, before[name], name)
    run.model.eval()
    assert_bits(pred, run.model(x))
    assert value == loss(run.model(x), y)[0]
    run.predict(X)
    assert not run.model.training
    with pytest.raises(ValueError, match="Linear: x"):
        run.model.train() and run.predict(X[:, :2])
    assert all(module.training for module in run.model.modules())


def test_results_do_not_depend_on_the_batch_size(isa, rows):
    X, Y = rows
    run = trainer()
    run.fit(X, Y, batch_size=16, epochs=2)
    pred = run.predict(X)
    assert pred.shape == (N, CLASSES)
    for batch_size in (1, 7, 50, 51):
        assert_bits(run.predict(X, batch_size=batch_size), pred)
        assert run.evaluate(X, Y, batch_size=batch_size) == run.evaluate(X, Y)


def test_predictions(rows):
    X, Y = rows
    run = trainer(lr=0.05)
    run.fit(X, Y, batch_size=16, epochs=10)
    logits, probabilities, classes = run.predict(X), run.predict_proba(X), run.predict_class(X)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(classes, logits.argmax(1))
    assert run.evaluate(X, Y)["accuracy"] == np.mean(classes == Y)
    assert run.predict(X[:0]).shape == (0, CLASSES)
    assert run.predict_class(X[:0]).shape == (0,)
    weight = np.zeros(N)
    weight[:2] = 1
    assert run.evaluate(X, Y, sample_weight=weight)["loss"] == run.evaluate(X[:2], Y[:2])["loss"]


def squared(pred, target, sample_weight=None):
    gap = pred - target
    return float((gap * gap).sum()) / gap.size, 2 * gap / gap.size


def test_an_own_loss_function(rows):
    X = rows[0]
    target = X[:, :CLASSES]
    model = layers()
    run = fastnn.Trainer(model, squared, optim.SGD(model.parameters(), 0.1))
    history = run.fit(X, target, batch_size=16, epochs=20)
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert list(run.evaluate(X, target)) == ["loss"]
    for call in (run.predict_proba, run.predict_class):
        with pytest.raises(
            ValueError, match=rf"{call.__name__}: needs a loss of classification .* got squared"
        ):
            call(X)


def test_metrics_of_ones_own(place, rows):
    X, Y = rows
    model = layers()
    largest = lambda pred, target: np.abs(pred).max()  # noqa: E731
    first = lambda pred, target: pred[:, 0].mean()  # noqa: E731
    run = fastnn.Trainer(
        *(model, losses.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.0)),
        metrics={"largest": largest, "first": first},
    )
    scores = run.evaluate(X, Y)
    assert list(scores) == ["loss", "accuracy", "largest", "first"]
    pred = run.predict(X)
    assert (scores["largest"], scores["first"]) == (float(largest(pred, Y)), float(first(pred, Y)))
    history = run.fit(X, Y, batch_size=16, epochs=1, shuffle=False, validation=(X, Y))
    assert {"largest", "first", "val_largest", "val_first"} < set(history)
    model.train()
    sums = [(first(host(model(place.put(x))), y), len(x)) for x, y in data.batches(X, Y, 16, shuffle=False)]
    assert history["first"][0] == pytest.approx(sum(m * n for m, n in sums) / N, rel=1e-6)


def test_metrics_get_the_predictions_of_the_step(rows):
    """Kept to the end of the step; wider than the layers before, which could use their memory then."""
    X, Y = rows
    model = nn.Sequential(
        *(nn.Linear(COLUMNS, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 8), nn.BatchNorm1d(8)),
        nn.Linear(8, 60),
        seed=0,
    )
    before = copy.deepcopy(model).train()(X)
    seen = []
    run = fastnn.Trainer(
        *(model, losses.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1)),
        metrics={"own": lambda pred, target: float(seen.append(pred.copy()) or 0)},
    )
    history = run.fit(X, Y, batch_size=N, epochs=1, shuffle=False)
    assert_bits(seen[0], before)
    assert history["accuracy"] == [np.mean(before.argmax(1) == Y)]


def test_metrics_of_an_epoch_are_those_of_its_rows(rows):
    X = rows[0]
    target = X[:, :2].astype(np.float64)
    model = nn.Sequential(nn.Linear(COLUMNS, 2), seed=0)
    run = fastnn.Trainer(model, losses.HuberLoss(), optim.SGD(model.parameters(), 0.0))
    history = run.fit(X, target, batch_size=16, epochs=1)
    for name, score in run.evaluate(X, target).items():
        assert history[name][0] == pytest.approx(score, rel=1e-6)
    assert set(run.evaluate(X, target)) == {"loss", "rmse", "mae", "r2"}


def test_ignored_rows_do_not_count_in_the_epoch(rows):
    X, Y = rows[0], rows[1].copy()
    Y[::3] = -1
    Y[:30] = -1
    Y[:16:8] = 1
    Y[16:32:8] = 2
    model = nn.Sequential(nn.Linear(COLUMNS, CLASSES), seed=0)
    loss = losses.CrossEntropyLoss(ignore_index=-1)
    run = fastnn.Trainer(model, loss, optim.SGD(model.parameters(), 0.0))
    history = run.fit(X, Y, batch_size=16, epochs=1, shuffle=False, drop_last=True)
    kept = run.evaluate(X[:48], Y[:48])
    assert history["loss"][0] == pytest.approx(kept["loss"], rel=1e-6)
    assert history["accuracy"][0] == kept["accuracy"]


@pytest.mark.slow_on_shim
@pytest.mark.parametrize("loss", [losses.MSELoss, losses.QuadraticCost, losses.HuberLoss])
def test_regression_learns_and_has_no_classes(rows, loss):
    X = rows[0]
    target = X @ np.arange(COLUMNS) + 1.0  # (n,) float64 for an output of (n, 1)
    model = nn.Sequential(nn.Linear(COLUMNS, 16), nn.ReLU(), nn.Linear(16, 1), seed=0)
    run = fastnn.Trainer(model, loss(), optim.AdamW(model.parameters(), lr=0.02))
    history = run.fit(X, target, batch_size=16, epochs=60, validation=(X, target))
    assert history["val_r2"][-1] > 0.9 > history["val_r2"][0]
    assert history["rmse"][-1] < 0.3 * history["rmse"][0]
    for call in (run.predict_proba, run.predict_class):
        with pytest.raises(ValueError, match=rf"needs a loss of classification .* got {loss.__name__}"):
            call(X)


def test_binary_classification(rows):
    X = rows[0]
    target = (X[:, 0] > 0).astype(np.int64)
    model = nn.Sequential(nn.Linear(COLUMNS, 1), seed=0)
    run = fastnn.Trainer(model, losses.BCEWithLogitsLoss(), optim.AdaGrad(model.parameters(), lr=0.3))
    run.fit(X, target, batch_size=16, epochs=40)
    scores = run.evaluate(X, target)
    assert list(scores) == ["loss", "accuracy"]
    assert scores["accuracy"] > 0.95
    probability = run.predict_proba(X)
    assert probability.shape == (N, 1)
    classes = run.predict_class(X)
    np.testing.assert_array_equal(classes, probability[:, 0] > 0.5)
    assert np.mean(classes == target) == scores["accuracy"]


@pytest.mark.slow_on_shim
def test_one_layer_with_binary_cross_entropy_is_a_logistic_regression(rows):
    """The case of a single layer: the same coefficients as scikit-learn without regularization."""
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    X = rows[0][:, :3]
    target = (X[:, 0] + 0.8 * np.random.default_rng(3).standard_normal(N) > 0).astype(np.int64)
    model = nn.Sequential(nn.Linear(3, 1), seed=0)
    run = fastnn.Trainer(model, losses.BCEWithLogitsLoss(), optim.Momentum(model.parameters(), lr=1.0))
    run.fit(X, target, batch_size=N, epochs=600)
    exact = linear_model.LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(X, target)
    np.testing.assert_allclose(host(model[0].weight.data)[:, 0], exact.coef_[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(run.predict_proba(X)[:, 0], exact.predict_proba(X)[:, 1], atol=1e-5)


def test_a_step_trains_in_training_mode(rows):
    run = trainer(layers().eval())
    run.step(*rows)
    assert host(run.model[1].running_mean).any()


# ---- copies


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_a_copied_trainer_goes_on_like_the_first(rows, duplicate):
    one = trainer(lr=schedulers.CosineAnnealingDecay(0.02, 40))
    one.fit(*rows, batch_size=16, epochs=2)
    other = duplicate(one)
    one.fit(*rows, batch_size=16, epochs=2)
    with pytest.raises(AssertionError):
        assert_same_model(one, other)
    other.fit(*rows, batch_size=16, epochs=2)
    assert_same_model(one, other)
