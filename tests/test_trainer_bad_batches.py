"""A batch that cannot be trained on: the error names it, whole steps are kept, and training goes on."""

import itertools
import sys

import numpy as np
import pytest
from device_places import few
from fastnn import callbacks, data, losses, optim
from networks import assert_same_course, assert_same_loss, state
from runs import assert_equal_tree
from test_trainer_safety import BATCH, CLASSES, COLUMNS, N, plain, rows, trainer

pytestmark = pytest.mark.usefixtures("place")


def without_counts(run):
    """All but how often dropout drew: a refused batch may have counted."""
    return {key: value for key, value in state(run).items() if key != "counts"}


def third_batch(which=5, seed=1):
    """A row of the third batch of the first epoch."""
    numbers = np.arange(N)
    return [x for x, _ in data.batches(numbers, numbers, BATCH, seed=seed)][2][which]


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
    said = rf"^Trainer\.fit: Y\[{third_batch()}\] is {value}, must be in 0\.\.{CLASSES - 1}$"
    check_fit(put("Y", value), said, Y=rows()[1].astype(dtype))


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
    said = rf"^Trainer\.fit: sample_weight\[{third_batch()}\] must be finite and at least 0, got {value}$"
    check_fit(put("weight", value), said, weight=np.ones(N, np.float32))


def whole_third_batch(name, value):
    return lambda given, row: put(name, value)(given, third_batch(slice(None)))


@pytest.mark.parametrize(
    ("change", "loss", "weight", "why"),
    [
        (whole_third_batch("weight", 0), None, 1, "sample_weight is 0"),
        (whole_third_batch("Y", -1), -1, None, r"Y is -1 \(ignore_index\)"),
        (whole_third_batch("Y", -1), -1, 1, r"Y is -1 \(ignore_index\) or sample_weight is 0"),
    ],
)
def test_a_batch_of_which_no_row_counts(change, loss, weight, why):
    loss = None if loss is None else losses.CrossEntropyLoss(ignore_index=loss)
    numbers = r"\s+".join(map(str, third_batch(slice(None))))
    said = rf"^Trainer\.fit: no row of the batch of rows \[\s*{numbers}\] counts: in each {why}$"
    check_fit(change, said, loss, weight=None if weight is None else np.ones(N, np.float32))


PROBABILITIES_BESIDE = {
    "the loss": lambda run, x, y: run.loss(run.model(x), y),
    "metrics": lambda run, x, y: run.loss.metrics(run.model(x), y),
    "step": lambda run, *rows: run.step(*rows),
    "fit": lambda run, *rows: run.fit(*rows, batch_size=BATCH, epochs=1),
    "evaluate": lambda run, *rows: run.evaluate(*rows),
}


@pytest.mark.parametrize("call", PROBABILITIES_BESIDE)
def test_probabilities_beside_an_ignored_class_are_refused_alike(place, call):
    X, Y = rows()[0], np.eye(CLASSES, dtype=np.float32)[rows()[1]]
    run = trainer(normed=False)
    run.step(X, Y)
    run.loss.ignore_index = 1
    with pytest.raises(
        ValueError, match=r"^CrossEntropyLoss: ignore_index needs class ids, got probabilities$"
    ):
        PROBABILITIES_BESIDE[call](run, *place.all((X, Y)))
    assert run.optimizer.step_count == 1


class Derived(losses.CrossEntropyLoss):
    """Whose module is not fastnn's: trained layer by layer."""


@pytest.mark.parametrize("value", ["0.5 m", None, np.ones(3)], ids=repr)
def test_a_loss_of_one_s_own_that_gives_no_number(value):
    run = trainer(normed=False, loss=lambda pred, target: (value, 0 * pred))
    X, Y = rows()
    for call in (lambda: run.step(X, Y), lambda: run.fit(X, Y, batch_size=BATCH, epochs=1)):
        with pytest.raises(TypeError, match=r"^Trainer: the loss must give its value as a number, got"):
            call()
    assert run.optimizer.step_count == 0


def test_means_of_a_loss_of_one_s_own_are_not_rounded():
    X, Y = rows()
    loss = lambda pred, target: (np.float32(1 / 3), 0 * pred)  # noqa: E731
    history = trainer(normed=False, loss=loss).fit(X, Y, batch_size=BATCH, epochs=1)
    assert history["loss"] == pytest.approx([float(np.float32(1 / 3))], rel=1e-15)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="errors have no notes")
def test_a_loss_of_one_s_own_that_raises_is_told_the_rows():
    """Its words are its own; the rows stand beside them."""
    X, Y = rows()
    Y[third_batch()] = CLASSES
    with pytest.raises(ValueError, match=r"labels\[5\]") as caught:
        trainer(normed=False, loss=Derived()).fit(X, Y, batch_size=BATCH, epochs=1)
    assert caught.value.__notes__ == [f"Trainer.fit: this was the batch of rows {third_batch(slice(None))}"]


@pytest.mark.parametrize("batch_size", [7, 1024])
def test_an_evaluation_names_the_rows_that_it_was_given(batch_size):
    X, Y = rows()
    run, weight = trainer(), np.ones(N)
    Y[41], weight[43] = CLASSES, -2
    given = {"batch_size": batch_size}
    with pytest.raises(ValueError, match=r"^Trainer\.evaluate: Y\[41\] is 4, must be in 0\.\.3$"):
        run.evaluate(X, Y, **given)
    with pytest.raises(ValueError, match=r"^Trainer\.evaluate: sample_weight\[43\] must be .*, got -2\.0$"):
        run.evaluate(X, rows()[1], sample_weight=weight, **given)


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
    "no class": ((x, y + CLASSES), ValueError, rf"^Trainer\.step: y\[0\] is {y[0] + CLASSES}, must be in 0"),
    "fewer weights": ((x, y, np.ones(9)), ValueError, r"sample_weight.*\(10,\)"),
    "negative weights": (
        (x, y, -np.ones(10)),
        ValueError,
        r"^Trainer\.step: sample_weight\[0\] must",
    ),
    "weights of 0": (
        (x, y, np.zeros(10)),
        ValueError,
        "^Trainer.step: no row of the batch counts: in each sa",
    ),
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
        float(run.step(*arguments))
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
@pytest.mark.parametrize("clip", few([None, 0.1, optim.ClipByValue(0.1), optim.AdaptiveClip()], 2))
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
                values.append(float(one.step(X, target)))
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


# ---- what a callback may not do


class Inside(callbacks.Callback):
    """Calls the function with its trainer at this place."""

    def __init__(self, moment, call):
        self.call = call
        setattr(self, moment, self.inside)

    def on_step_end(self, trainer, step, loss):
        pass

    def inside(self, trainer, *_):
        self.call(trainer)


@pytest.mark.parametrize("moment", ["on_fit_begin", "on_step_end", "on_epoch_end"])
@pytest.mark.parametrize("name", ["fit", "load"])
def test_a_fit_is_not_begun_nor_loaded_inside_a_fit(name, moment, tmp_path):
    X, Y = rows()
    run, other = trainer(), trainer()
    run.save(tmp_path / "run")
    call = {
        "fit": lambda run: run.fit(X, Y, batch_size=BATCH, epochs=1),
        "load": lambda run: run.load(tmp_path / "run"),
    }[name]
    said = rf"^Trainer\.{name}: called inside a fit of this trainer; let the callback return True"
    with pytest.raises(RuntimeError, match=said):
        run.fit(X, Y, batch_size=BATCH, epochs=1, callbacks=[Inside(moment, call)])
    run.fit(X, Y, batch_size=BATCH, epochs=2 - run.epoch)
    run.load(tmp_path / "run")
    again = Inside(
        "on_epoch_end", lambda _: other.fit(X, Y, batch_size=BATCH, epochs=1)
    )  # of another trainer
    run.fit(X, Y, batch_size=BATCH, epochs=1, callbacks=[again])
    assert_same_course(run, other)


def test_a_rate_that_float32_cannot_hold():
    X, ids = rows()
    run = trainer(normed=False)
    run.optimizer.lr = 1e39
    before = state(run)
    steps = lambda: run.step(X[:4], ids[:4]), lambda: run.fit(X, ids, batch_size=4, epochs=1)
    for step in (*steps, run.optimizer.step):
        with pytest.raises(ValueError, match="not finite as float32"):
            step()
    assert_equal_tree(state(run), before)
