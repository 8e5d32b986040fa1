"""Trainer.save and Trainer.load: stopped anywhere and gone on elsewhere equals never stopped, bit for bit."""

import signal
import subprocess
import sys

import fastnn
import numpy as np
import pytest
from bounds import assert_bits
from custom import Scale
from device_places import few
from fastnn import _file, callbacks, losses, nn, optim, schedulers
from runs import EPOCHS, OPTIMIZERS, STEPS, StopAt, assert_equal_tree, assert_same_run, build, fit
from small import labelled_rows

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture
def rows():
    return labelled_rows()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


# ---- the same bits


@pytest.mark.parametrize("optimizer", few(reversed(OPTIMIZERS), 3))
def test_save_load_fit_on_is_an_unbroken_run(optimizer, rows, path):
    whole, first, second = build(optimizer), build(optimizer), build(optimizer, seed=99)
    fit(whole, rows, EPOCHS)
    fit(first, rows, 2)
    first.save(path)
    second.load(path)
    history = fit(second, rows, EPOCHS - 2)
    assert_same_run(second, whole)
    assert history["epoch"] == [3, 4, 5, 6]
    with pytest.raises(AssertionError):
        assert_same_run(first, whole)


@pytest.mark.parametrize("stop", few(sorted(range(1, 3 * STEPS + 1), key=lambda stop: stop % STEPS != 2), 2))
def test_in_the_middle_of_an_epoch(stop, rows, path):
    """Saved by a callback, at any step; the epoch that was left is finished, and counts as one."""
    whole, first, second = build(), build(), build()
    fit(whole, rows, 4)
    done = fit(first, rows, 4, callbacks=[StopAt(stop, path)])
    assert first.optimizer.step_count == stop
    # A stop at the last step of an epoch lets the epoch end; what was saved there has its end before it.
    assert first.epoch == len(done["epoch"] if done else []) == stop // STEPS
    second.load(path)
    assert second.epoch == (stop - 1) // STEPS
    history = fit(second, rows, 4 - second.epoch)
    assert history["epoch"] == list(range((stop - 1) // STEPS + 1, 5))
    assert_same_run(second, whole)
    # And so in the same process.
    if first.epoch < 4:
        fit(first, rows, 4 - first.epoch)
    assert_same_run(first, whole)


@pytest.mark.parametrize("loss", [losses.MSELoss, losses.HuberLoss, losses.BCEWithLogitsLoss])
def test_metrics_of_a_broken_epoch_are_those_of_a_whole_one(loss, rows, path):
    X = rows[0]
    rows = X, (X[:, :3] > 0).astype(np.float32)
    options = {"loss": loss(), "metrics": {"largest": lambda pred, target: pred.max()}}
    weight = np.arange(1, 51).astype(np.float32)
    whole, first, second = (build(**options) for _ in range(3))
    fit(whole, rows, 2, sample_weight=weight)
    fit(first, rows, 2, sample_weight=weight, callbacks=[StopAt(STEPS + 2)])
    first.save(path)
    second.load(path)
    fit(second, rows, 1, sample_weight=weight)
    assert_same_run(second, whole)


def test_ctrl_c_save_load_fit_on(rows, path):
    class Press(callbacks.Callback):
        def on_step_end(self, trainer, step, loss):
            if step == 6:
                signal.raise_signal(signal.SIGINT)

    whole, first, second = build(), build(), build()
    fit(whole, rows, 3)
    with pytest.raises(KeyboardInterrupt):
        fit(first, rows, 3, callbacks=[Press()])
    first.save(path)
    second.load(path)
    fit(second, rows, 2)
    assert_same_run(second, whole)


def test_ctrl_c_in_the_validation_leaves_the_epoch_to_be_finished(rows):
    whole, run = build(), build()
    fit(whole, rows, 2)
    evaluate, run.evaluate = run.evaluate, lambda *a: signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(run, rows, 2)
    assert (run.epoch, run.optimizer.step_count) == (0, STEPS)
    run.evaluate = evaluate
    fit(run, rows, 2)
    assert_same_run(run, whole)


def test_saved_again_and_again(rows, path):
    """A file after every step of a run, each loaded into a new trainer that does one more step."""
    whole = build()
    fit(whole, rows, 2)
    run = build()
    for step in range(1, 2 * STEPS + 1):
        run.save(path)
        run = build()
        run.load(path)
        fit(run, rows, 1, callbacks=[StopAt(step)])
    assert_same_run(run, whole)


@pytest.mark.host("in a process of its own")
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_new_process_with_other_threads(rows, path, threads):
    whole, first = build(), build()
    fit(whole, rows, 4)
    fit(first, rows, 4, callbacks=[StopAt(6)])
    first.save(path)
    code = (
        "import sys; sys.path.insert(0, 'tests'); import fastnn\n"
        "from runs import build, fit; from small import labelled_rows\n"
        f"fastnn.set_num_threads({threads}); run = build(); run.load({str(path)!r})\n"
        f"fit(run, labelled_rows(), 3); run.save({str(path)!r})"
    )
    root = __file__.rpartition("/tests/")[0]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    other = build()
    other.load(path)
    assert_same_run(other, whole)


def test_a_callback_s_state_goes_on(rows, path):
    def kept():
        guard = callbacks.DivergenceGuard(action="rollback")
        return [callbacks.EMA(0.9), callbacks.EarlyStopping(patience=2), guard]

    whole, first, second = build(), build(), build()
    one, two, three = kept(), kept(), kept()
    fit(whole, rows, EPOCHS, callbacks=one)
    fit(first, rows, EPOCHS, callbacks=[*two, StopAt(6, path)])
    second.load(path)
    # A fit without them keeps their state for the next one, and a file in between too.
    second.save(path)
    second = build()
    second.load(path)
    fit(second, rows, EPOCHS - 1, callbacks=three)
    assert_same_run(second, whole)
    for a, b in zip(one, three, strict=True):
        assert_equal_tree(a.state_dict(), b.state_dict())
    assert one[1].best_epoch > 0


def test_modes_and_flags_come_back(rows, path):
    first, second = build(), build()
    fit(first, rows, 1)
    first.model[1].eval()
    first.model[0].weight.decay = False
    first.model[4].bias.trainable = False
    first.save(path)
    second.load(path)
    assert [m.training for m in second.model.modules()] == [m.training for m in first.model.modules()]
    assert not second.model[0].weight.decay
    for run in (first, second):
        run.model.train()
        fit(run, rows, 2)
    assert_same_run(first, second)


def test_layers_of_ones_own_are_no_obstacle(rows, path):
    def make():
        model = nn.Sequential(nn.Linear(6, 8), Scale(8), nn.Linear(8, 3), seed=0)
        return fastnn.Trainer(model, own_loss, optim.Adam(model.parameters()))

    def own_loss(pred, target):  # for a loss of fastnn the trainer would refuse the layer
        return losses.CrossEntropyLoss()(pred, target)

    whole, first, second = make(), make(), make()
    fit(whole, rows, 4)
    fit(first, rows, 2)
    first.save(path)
    second.load(path)
    fit(second, rows, 2)
    assert_same_run(second, whole)
    with pytest.raises(ValueError, match=r"holds layer '1' \(Scale\), no layer of fastnn; .*trainer\.load"):
        fastnn.load(path)


def test_the_model_alone_of_a_trainer_s_file(rows, path):
    run = build()
    fit(run, rows, 1)
    run.save(path)
    model = fastnn.load(path)
    assert_bits(model.eval()(rows[0]), run.predict(rows[0]))


# ---- the next fit is another one


@pytest.mark.parametrize(
    "change", [{"batch_size": 10}, {"shuffle": False}, {"drop_last": True}, {"rows": 40}]
)
def test_another_plan_begins_the_epoch_again_and_says_so(change, rows):
    run = build()
    fit(run, rows, 2, callbacks=[StopAt(6)])
    n = change.get("rows", 50)
    change = {name: option for name, option in change.items() if name != "rows"}
    with pytest.warns(UserWarning, match="epoch 2 was left after 2 steps .* it begins again"):
        history = fit(run, (rows[0][:n], rows[1][:n]), 1, **change)
    assert history["epoch"] == [2]
    assert history["step"][0] - 6 == -(-n // change.get("batch_size", 16)) - change.get("drop_last", 0)


HALVED = schedulers.StepDecay(0.4, 1, gamma=0.5)


def per_epoch(**options):
    """A rate for each epoch, twice in a schedule: from the first update, and from the sixth."""
    open_ = schedulers.PerEpoch(HALVED)
    model = nn.Sequential(nn.Linear(6, 3), seed=0)
    groups = [
        {"params": [model[0].weight], "lr": open_},
        {"params": [model[0].bias], "lr": schedulers.LinearWarmup(open_, 6)},
    ]
    return fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.SGD(groups, 0, **options))


@pytest.mark.parametrize("resumed", [False, True])
def test_per_epoch_counts_finished_epochs_whatever_their_lengths(rows, path, resumed):
    """4 steps, 4, 2 (of which one is done, and the epoch begun again), 13, 13."""
    run = per_epoch()

    def go_on(epochs, **options):
        nonlocal run
        if resumed:
            run.save(path)
            run = per_epoch()
            run.load(path)
        fit(run, rows, epochs, **options)

    fit(run, rows, 2)
    go_on(1, batch_size=25, callbacks=[StopAt(9)])
    with pytest.warns(UserWarning, match="begins again"):
        go_on(2, batch_size=4)
    assert run.history["step"] == [4, 8, 22, 35]
    assert run.history["lr"] == [0.4, 0.2, 0.1, 0.05]
    open_, warm = (group["lr"] for group in run.optimizer.param_groups)
    assert [open_(t) for t in (0, 3, 4, 7, 22, 34)] == [0.4, 0.4, 0.2, 0.2, 0.05, 0.05]
    assert open_(35) == 0.025  # of a step that follows, as before
    # The warm-up ends in the middle of the second epoch, so that the rates change in the middle of others.
    assert [warm(t) for t in (6, 15, 16, 28, 29)] == [0.4, 0.4, 0.2, 0.2, 0.1]


@pytest.mark.parametrize("stop", few([5, 8, 4, 10, 11], 2))
@pytest.mark.parametrize("batch_size", [16, 8])
def test_per_epoch_stopped_in_an_epoch_after_one_of_another_length(rows, path, stop, batch_size):
    """In each epoch a step is skipped, so that an epoch has fewer updates than steps."""
    whole, first, second = (per_epoch(nonfinite="skip") for _ in range(3))
    rows[0][3] = np.inf
    for run in (whole, first):
        fit(run, rows, 1, validation=None)
    options = {"batch_size": batch_size, "validation": None}
    fit(whole, rows, 3, **options)
    fit(first, rows, 3, callbacks=[StopAt(stop)], **options)
    first.save(path)
    second.load(path)
    fit(second, rows, 4 - second.epoch, **options)
    assert_same_run(second, whole)
    assert whole.optimizer.skipped_steps == 4
    assert whole.history["lr"] == [0.4, 0.2, 0.1, 0.05]


def test_per_epoch_goes_on_with_the_epochs_when_updates_were_taken_back(rows, path):
    class Back(callbacks.Callback):
        """Like a rollback."""

        def on_epoch_end(self, trainer, logs):
            if trainer.epoch == 2:
                trainer.optimizer.step_count -= 3

    whole, first, second = per_epoch(), per_epoch(), per_epoch()
    fit(whole, rows, 4, callbacks=[Back()])
    fit(first, rows, 2, callbacks=[Back()])
    fit(first, rows, 1, callbacks=[StopAt(6)])
    first.save(path)
    second.load(path)
    fit(second, rows, 2)
    assert_same_run(second, whole)
    assert whole.history["step"] == [4, 8, 9, 13]
    assert whole.history["lr"] == [0.4, 0.2, 0.1, 0.05]


def test_a_begun_epoch_of_an_older_file(rows, path):
    whole, run = per_epoch(), per_epoch()
    fit(whole, rows, 3)
    fit(run, rows, 3, callbacks=[StopAt(6)])
    run.save(path)
    description, arrays = _file.read(path, "test")
    del description["sha256"], description["trainer"]["begun"]["first"]
    _file.write(path, "test", description, arrays)
    run = per_epoch()
    run.load(path)
    fit(run, rows, 2)
    assert_same_run(run, whole)


def test_a_history_of_fits_that_differ(rows):
    run = build()
    fit(run, rows, 2, validation=None)
    last = fit(run, rows, 2)
    assert list(last["epoch"]) == [3, 4]
    assert run.history["epoch"] == [1, 2, 3, 4]
    np.testing.assert_array_equal(run.history["val_loss"], [np.nan, np.nan, *last["val_loss"]])
