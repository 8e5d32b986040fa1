"""Ctrl-C saves and says so, and --resume goes on as if nothing had happened, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from fastnn import Trainer
from fastnn._cli import train
from small_files import call, csv_text, done, flowers, no_plot, prices  # noqa: F401 (a fixture)

pytestmark = pytest.mark.usefixtures("no_plot")

EPOCHS = 4
STEPS = 6  # of an epoch: 48 rows, 8 in a batch
OPTIONS = ("--layers", "8", "--epochs", EPOCHS, "--batch-size", "8", "--keep", "0.8", "--schedule", "cosine")


@pytest.fixture(params=["classes", "regression"])
def path(request, tmp_path):
    path = tmp_path / "rows.csv"
    if request.param == "classes":
        path.write_text(csv_text(["a", "b", "c", "kind"], *flowers()))
    else:
        X, y = prices(60)
        path.write_text(csv_text(["a", "b", "y"], X, y))
    return path


def press_after(monkeypatch, updates):
    """Ctrl-C at the update of that number."""

    def pressing(_self, _trainer, step, _loss):
        if step == updates:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(train._Save, "on_step_end", pressing)


def files(run):
    history = json.loads((run / "history.json").read_text())
    timed = {"seconds", "samples_per_second"}
    kept = {key: column for key, column in history.items() if key not in timed}
    return (run / "model.safetensors").read_bytes(), kept


@pytest.mark.parametrize("updates", [1, STEPS - 1, STEPS, STEPS + 2, 3 * STEPS - 1])
def test_ctrl_c_and_resume(updates, path, tmp_path, monkeypatch):
    whole, run = tmp_path / "whole", tmp_path / "run"
    done("train", path, *OPTIONS, "--out", whole)
    with monkeypatch.context() as patch:
        press_after(patch, updates)
        status, _, err = call("train", path, *OPTIONS, "--out", run)
    assert status == 130
    said = f"(saved in {run}: {updates // STEPS} of {EPOCHS} epochs, {updates} updates)"
    # At the last step of an epoch Ctrl-C comes before the validation: the epoch is still to be finished.
    said = said.replace("1 of", "0 of") if updates == STEPS else said
    assert err == f"interrupted; --resume goes on from here {said}\n"
    assert "accuracy" in done("evaluate", run, path) or "rmse" in done("evaluate", run, path)
    assert files(run) != files(whole)
    done("train", path, "--resume", "--out", run)  # the options are those of run.json
    assert files(run) == files(whole)
    # Nothing is left to do, and nothing changes.
    done("train", path, *OPTIONS, "--resume", "--out", run)
    assert files(run) == files(whole)


def test_a_second_ctrl_c_does_not_end_the_saving(path, tmp_path, monkeypatch):
    save = Trainer.save

    def pressed_again(self, file):
        signal.raise_signal(signal.SIGINT)
        save(self, file)

    monkeypatch.setattr(Trainer, "save", pressed_again)
    press_after(monkeypatch, 3)
    status, _, err = call("train", path, *OPTIONS, "--out", tmp_path / "run")
    assert status == 130
    assert err.startswith("interrupted; --resume goes on")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_again_and_again(path, tmp_path, monkeypatch):
    whole, run = tmp_path / "whole", tmp_path / "run"
    done("train", path, *OPTIONS, "--out", whole)
    again = ()
    for updates in (2, 5, 9, 17):
        with monkeypatch.context() as patch:
            press_after(patch, updates)
            assert call("train", path, *OPTIONS, "--out", run, *again)[0] == 130
        again = ("--resume",)
    done("train", path, *OPTIONS, "--out", run, *again)
    assert files(run) == files(whole)


def test_a_killed_training_goes_on_from_its_last_save(path, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "SECONDS", 0.0)
    whole, run = tmp_path / "whole", tmp_path / "run"
    done("train", path, *OPTIONS, "--out", whole)

    class Killed(BaseException):
        pass

    def dying(_self, _trainer, step, _loss):
        if step == 2 * STEPS + 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(train._Save, "on_step_end", dying)
        with pytest.raises(Killed):
            call("train", path, *OPTIONS, "--out", run)
    assert sorted(os.listdir(run)) == ["run.json", "trainer.safetensors"]
    status, _, err = call("predict", run, path)
    assert (status, "has no model.safetensors yet; finish the training" in err) == (2, True)
    fits = []
    fit = Trainer.fit
    monkeypatch.setattr(
        Trainer, "fit", lambda *a, epochs, **k: fits.append(epochs) or fit(*a, epochs=epochs, **k)
    )
    done("train", path, *OPTIONS, "--resume", "--out", run)
    assert fits == [EPOCHS - 2]
    assert files(run) == files(whole)


def test_killed_before_the_first_save(path, tmp_path, monkeypatch):
    whole, run = tmp_path / "whole", tmp_path / "run"
    done("train", path, *OPTIONS, "--out", whole)

    def dying(*_args, **_options):
        raise SystemExit(9)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "fit", dying)
        assert call("train", path, *OPTIONS, "--out", run)[0] == 9
    assert os.listdir(run) == ["run.json"]
    done("train", path, "--resume", "--out", run)
    assert files(run) == files(whole)


def test_divergence_is_status_1_and_saved(path, tmp_path):
    options = ("--optimizer", "sgd", "--lr", "1e30", "--cost", "mse", "--task", "regression")
    X, y = prices(60)
    (tmp_path / "b.csv").write_text(csv_text(["a", "b", "y"], X, y))
    with np.errstate(all="ignore"):
        status, _, err = call("train", tmp_path / "b.csv", *OPTIONS, *options, "--out", tmp_path / "run")
    assert status == 1
    assert err.startswith("diverged: ")
    assert "try a smaller --lr, --warmup-steps or --clip 1 (saved in" in err
    assert err.count("\n") == 1


def test_a_real_ctrl_c(path, tmp_path):
    """In a process of its own, at any moment after it has begun."""
    run = tmp_path / "run"
    options = [str(option) for option in (*OPTIONS, "--epochs", "1000000", "--out", run)]
    # A job in the background ignores Ctrl-C, and so would the process that it starts.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from fastnn.__main__ import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", code, "train", str(path), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert "training rows" in process.stdout.readline()
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("interrupted; --resume goes on from here (saved in")
    assert (run / "model.safetensors").exists()
