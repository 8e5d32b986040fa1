"""A batch that cannot be trained on: the error names it, whole steps are kept, and training goes on."""

import itertools

import numpy as np
import pytest
from fastnn import data, losses, optim
from networks import assert_same_course, assert_same_loss, state
from runs import assert_equal_tree
from test_trainer_safety import BATCH, CLASSES, COLUMNS, N, plain, rows, trainer


def without_counts(run):
    """All but how often dropout drew: a refused batch may have counted."""
    return {key: value for key, value in state(run).items() if key != "counts"}


def third_batch(seed=1):
    """A row of the third batch of the first epoch."""
    numbers = np.arange(N)
    return [x for x, _ in data.batches(numbers, numbers, BATCH, seed=seed)][2][5]


def check_fit(change, match, loss=None, Y=None, weight=None, error=ValueError, **options):
    """The fit stops at the third batch after two whole steps; the next one, with good rows, goes on."""
    X, ids = rows()
    Y = ids if Y is None else Y
    given = {"batch_size": BATCH, "epochs": 2, "sample_weight": weight}
    run, whole, two = (trainer(normed=False, loss=loss, **options) for _ in range(3))
    whole.fit(X, Y, **given)
    for batch in list(data.batches(np.arange(N), np.arange(N), BATCH, seed=1))[:2]:
        at = batch[0]
        two.step(X[at], Y[at], None if weight is None else weight[at])
    bad = {"X": X.copy(), "Y": Y.copy(), "weight": None if weight is None else weight.copy()}
    change(bad, third_batch())
    with pytest.raises(error, match=match):
        run.fit(bad["X"], bad["Y"], **{**given, "sample_weight": bad["weight"]})
    two.optimizer.skipped_steps = run.optimizer.skipped_steps
    assert_equal_tree(without_counts(run), without_counts(two))
    history = run.fit(X, Y, **given)
    assert history["epoch"] == [1, 2]
    run.optimizer.skipped_steps = 0
    assert_same_course(run, whole)


def put(name, value):
    def change(given, row):
        given[name][row] = value

    return change


@pytest.mark.parametrize(
    ("value", "dtype"), [(CLASSES, int), (-1, int), (2**62, int), (2**63 + 1, np.uint64), (255, np.uint8)]
)
def test_a_label_that_is_no_class(value, dtype):
    check_fit(put("Y", value), rf"labels.*{value}", Y=rows()[1].astype(dtype))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("loss", [losses.MSELoss, losses.BCEWithLogitsLoss], ids=lambda loss: loss.__name__)
def test_a_target_that_is_not_finite(loss, value):
    target = np.random.default_rng(0).random((N, CLASSES), np.float32)
    error = optim.NonFiniteGradientError
    check_fit(put("Y", value), "gradient of '.*' is .* after 2 updates", loss(), target, error=error)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_input_that_is_not_finite(value):
    error = optim.NonFiniteGradientError
    check_fit(put("X", value), r"gradient of '0\.weight' is nan at .* after 2 updates", error=error)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_a_weight_that_is_none(value):
    check_fit(put("weight", value), "sample_weight", weight=np.ones(N, np.float32))


def test_a_batch_without_weight():
    def change(given, row):
        numbers = np.arange(N)
        given["weight"][list(data.batches(numbers, numbers, BATCH, seed=1))[2][0]] = 0

    check_fit(change, "sample_weight' must not be all zero", weight=np.ones(N, np.float32))


@pytest.mark.parametrize("value", ["0.5", None, np.ones(3)], ids=repr)
def test_a_metric_that_gives_no_number_is_named(value):
    run = trainer(normed=False)
    run.metrics = {"own": lambda pred, target: value}
    for call in (run.evaluate, lambda X, Y: run.fit(X, Y, batch_size=BATCH, epochs=1)):
        with pytest.raises(TypeError, match="Trainer: metrics: 'own' must give a number, got "):
            call(*rows())


def test_a_metric_that_raises():
    """Its step is done and counted; its mean over the epoch cannot be had."""
    calls = []

    def metric(pred, target):
        calls.append(1)
        if len(calls) == 3:
            raise ZeroDivisionError
        return 1.0

    X, Y = rows()
    run, whole, three = (trainer(normed=False) for _ in range(3))
    whole.fit(X, Y, batch_size=BATCH, epochs=1)
    for batch in list(data.batches(X, Y, BATCH, seed=1))[:3]:
        three.step(*batch)
    run.metrics = {"own": metric}
    with pytest.raises(ZeroDivisionError):
        run.fit(X, Y, batch_size=BATCH, epochs=1)
    assert_same_course(run, three)
    history = run.fit(X, Y, batch_size=BATCH, epochs=1)
    assert_same_course(run, whole)
    assert np.isnan(history["own"][0])
    assert history["step"] == [5]


x, y = rows(3, 10)
BAD_STEPS = {
    "another number of columns": ((x[:, :4], y), ValueError, r"Linear: x .*6"),
    "a row alone": ((x[0], y), ValueError, "Linear: x"),
    "a list": ((x.tolist(), y), TypeError, r"Trainer\.step: x must be a NumPy array"),
    "complex numbers": ((x.astype(complex), y), TypeError, "Trainer.step: x must hold real numbers"),
    "strings": ((x.astype(str), y), TypeError, "Trainer.step: x must hold real numbers"),
    "fewer labels": ((x, y[:9]), ValueError, r"target .*\(10,\).*got int64 of shape \(9,\)"),
    "labels in a column": ((x, y[:, None]), ValueError, r"target .*\(10,\).*got int64 of shape \(10, 1\)"),
    "labels as floats": ((x, y.astype(float)), TypeError, "target .*float64"),
    "labels as booleans": ((x, y > 0), TypeError, "target .*bool"),
    "no class": ((x, y + CLASSES), ValueError, "labels"),
    "fewer weights": ((x, y, np.ones(9)), ValueError, r"sample_weight.*\(10,\)"),
    "negative weights": ((x, y, -np.ones(10)), ValueError, "sample_weight"),
    "weights of 0": ((x, y, np.zeros(10)), ValueError, "sample_weight"),
    "masked rows": ((np.ma.masked_array(x.astype(float)), y), TypeError, "masked"),
    "no rows": ((x[:0], y[:0]), ValueError, "row"),
}


@pytest.mark.parametrize("name", BAD_STEPS)
def test_a_bad_step_changes_no_parameter(name):
    arguments, error, match = BAD_STEPS[name]
    run, other = trainer(normed=False), trainer(normed=False)
    for one in (run, other):
        one.step(x, y)
    with pytest.raises(error, match=match):
        run.step(*arguments)
    assert_same_course(run, other, "after the error")
    assert run.step(x, y) == other.step(x, y)
    assert_same_course(run, other, "after the next step")


def test_one_row_with_batch_norm_changes_nothing():
    run, other = trainer(), trainer()
    with pytest.raises(ValueError, match="row"):
        run.step(x[:1], y[:1])
    assert_equal_tree(without_counts(run), without_counts(other))


# ---- a loss or a gradient that is not finite, with each policy


@pytest.mark.parametrize("policy", ["raise", "skip", "ignore"])
@pytest.mark.parametrize("clip", [None, 0.1, optim.ClipByValue(0.1), optim.AdaptiveClip()])
@pytest.mark.parametrize("where", ["x", "y", "weights", "loss"])
def test_each_policy_is_the_plain_loop_s(isa, rng, policy, clip, where):
    """`loss`: it alone overflows, the gradients are finite, so no policy looks."""
    run = trainer(loss=losses.MSELoss(), nonfinite=policy, clip=clip)
    other = plain(run)
    for i in range(5):
        X, target = rng.standard_normal((20, COLUMNS), np.float32), rng.random((20, CLASSES), np.float32)
        for one in (run, other) if where == "weights" and i == 2 else ():
            one.model[-1].weight.data[2, 1] = np.inf
        if i == 2:
            X[3, 4] = np.nan if where == "x" else X[3, 4]
            target[3, 1] = {"y": np.nan, "loss": 3e38}.get(where, 0)
        values, errors = [], []
        for one in (run, other):
            try:
                values.append(one.step(X, target))
            except optim.NonFiniteGradientError as error:
                errors.append((str(error), error.parameter, error.index))
        for got, want in itertools.pairwise(values):
            assert_same_loss(got, want)
        assert errors[:1] == errors[1:]
        assert bool(errors) == (policy == "raise" and where != "loss" and i == 2) or i > 2
        assert_same_course(run, other, f"step {i}")
    assert bool(run.optimizer.skipped_steps) == (policy != "ignore" and where != "loss")


@pytest.mark.parametrize("policy", ["skip", "ignore"])
def test_a_fit_with_each_policy_is_the_steps(policy):
    X = rows()[0]
    target = np.random.default_rng(0).random((N, CLASSES), np.float32)
    target[third_batch()] = np.nan
    run, other = (trainer(loss=losses.MSELoss(), nonfinite=policy) for _ in range(2))
    history = run.fit(X, target, batch_size=BATCH, epochs=2)
    for epoch in range(2):
        for batch in data.batches(X, target, BATCH, seed=1, epoch=epoch):
            other.step(*batch)
    assert_same_course(run, other)
    assert np.isnan(history["loss"]).all()
    assert run.optimizer.skipped_steps == (2 if policy == "skip" else 0)
