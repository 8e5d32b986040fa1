"""The command line: train, predict, evaluate; what it prints, writes and keeps."""

import json
import os
import subprocess
import sys

import fastnn
import numpy as np
import pytest
from fastnn import nn
from fastnn._cli import build, rows
from fastnn._cli.options import OPTIONS
from fastnn.preprocessing import StandardScaler
from small_files import call, csv_text, done, flowers, no_plot, prices  # noqa: F401 (a fixture)

pytestmark = pytest.mark.usefixtures("no_plot")

FILES = {"run.json", "model.safetensors", "trainer.safetensors", "history.json"}
QUICK = ("--layers", "16", "--epochs", "30", "--batch-size", "8", "--lr", "0.01")


@pytest.fixture
def flower_csv(tmp_path):
    X, Y = flowers()
    path = tmp_path / "flowers.csv"
    path.write_text(csv_text(["length", "weight", "width", "kind"], X, Y))
    return path


def predicted(text):
    first, *rest = text.splitlines()
    return first, rest


# ---- classes


def test_text_classes(flower_csv, tmp_path):
    run = tmp_path / "run"
    out = done("train", flower_csv, "--out", run, *QUICK)
    assert out.startswith("48 training rows, 12 held out, 3 features, 3 classes\nloss ")
    assert "on the rows held out\n" in out
    assert set(os.listdir(run)) == {*FILES, "history.png"}
    X, Y = flowers()
    scores = dict(line.split() for line in done("evaluate", run, flower_csv).splitlines())
    assert scores["rows"] == "60"
    assert float(scores["accuracy"]) > 0.95
    title, names = predicted(done("predict", run, flower_csv))
    assert title == "kind"
    assert np.mean(np.array(names) == Y) == pytest.approx(float(scores["accuracy"]), abs=1e-5)
    # The model alone predicts from raw rows.
    model = fastnn.load(run / "model.safetensors")
    assert not model.training
    classes = json.loads((run / "run.json").read_text())["known"]["classes"]
    assert classes == ["iris", "rose", "thyme"]
    assert [classes[i] for i in model(X).argmax(axis=1)] == names
    title, lines = predicted(done("predict", run, flower_csv, "--proba"))
    assert title == "iris,rose,thyme"
    probabilities = np.array([line.split(",") for line in lines], float)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert [classes[i] for i in probabilities.argmax(axis=1)] == names


def test_columns_go_by_name(flower_csv, tmp_path):
    run = tmp_path / "run"
    done("train", flower_csv, "--out", run, *QUICK)
    X, Y = flowers()
    want = done("predict", run, flower_csv)
    without, moved, unlabelled = (tmp_path / f"{name}.csv" for name in "abc")
    without.write_text(csv_text(["length", "weight", "width"], X))
    moved.write_text(csv_text(["width", "length", "weight", "kind"], X[:, [2, 0, 1]], Y))
    unlabelled.write_text(csv_text(["length", "weight", "width", "kind"], X, [""] * len(X)))
    for path in (without, moved, unlabelled):
        assert done("predict", run, path) == want
    assert done("evaluate", run, moved) == done("evaluate", run, flower_csv)


def test_a_file_without_header(tmp_path):
    X, Y = flowers()
    path, new = tmp_path / "a.csv", tmp_path / "b.csv"
    path.write_text(csv_text(None, X, Y))
    new.write_text(csv_text(None, X))
    done("train", path, "--out", tmp_path / "run", *QUICK)
    assert "accuracy" in done("evaluate", tmp_path / "run", path)
    title, names = predicted(done("predict", tmp_path / "run", new))
    assert title == "prediction"
    assert np.mean(np.array(names) == Y) > 0.95


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array([3, 7, 9]), ["3", "7", "9"]),
        (np.array([-1, 0, 1], np.int8), ["-1", "0", "1"]),
        (np.array([b"a", b"b", b"c"]), ["a", "b", "c"]),
        (np.array(["a", "b", "c"]), ["a", "b", "c"]),
        (np.array([False, True, True]), ["False", "True"]),
    ],
)
def test_npz_with_images_and_test_rows(labels, names, tmp_path):
    X, kinds = flowers()
    Y = labels[np.unique(kinds, return_inverse=True)[1]]
    images = (X * 10).astype(np.int32).reshape(-1, 3, 1)
    path = tmp_path / "a.npz"
    np.savez(path, x_train=images[:50], y_train=Y[:50], x_test=images[50:], y_test=Y[50:])
    out = done("train", path, "--out", tmp_path / "run", *QUICK)
    assert f"50 training rows, 10 held out, 3 features, {len(names)} classes" in out
    _, got = predicted(done("predict", tmp_path / "run", path))
    assert len(got) == 10
    assert set(got) <= set(names)
    new = tmp_path / "new.npz"
    np.savez(new, x=images, y=Y)
    scores = dict(line.split() for line in done("evaluate", tmp_path / "run", new).splitlines())
    assert float(scores["accuracy"]) > 0.9
    assert len(predicted(done("predict", tmp_path / "run", new))[1]) == 60
    assert fastnn.load(tmp_path / "run" / "model.safetensors")(images).shape == (60, len(names))


# ---- regression


@pytest.mark.parametrize("options", [(), ("--no-scale", "--optimizer", "rmsprop"), ("--cost", "huber")])
def test_regression_is_undone_in_predictions(options, tmp_path):
    X, y = prices()
    path = tmp_path / "prices.csv"
    path.write_text(csv_text(["a", "b", "price"], X, y))
    done(
        "train",
        path,
        "--out",
        tmp_path / "run",
        "--layers",
        "none",
        "--epochs",
        "150",
        "--lr",
        "0.02",
        *options,
    )
    title, lines = predicted(done("predict", tmp_path / "run", path))
    assert title == "price"
    got = np.array(lines, np.float32)
    model = fastnn.load(tmp_path / "run" / "model.safetensors")
    assert np.array_equal(got, model(X)[:, 0])
    scores = dict(line.split() for line in done("evaluate", tmp_path / "run", path).splitlines())
    rmse = np.sqrt(np.mean((got - y) ** 2))
    assert float(scores["rmse"]) == pytest.approx(rmse, rel=1e-4)
    if "--no-scale" not in options:
        assert rmse < 0.1 * y.std()
    assert ("Standardize" in repr(model)) == ("--no-scale" not in options)


def test_folding_the_target_s_scale_is_inverse_transform(rng):
    y = rng.normal([1000, -3], [200, 0.1], (50, 2))
    scaler = StandardScaler().fit(y)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), seed=0)
    x = rng.normal(size=(50, 3)).astype(np.float32)
    raw = build.finished(model, scaler)
    np.testing.assert_allclose(raw(x), scaler.inverse_transform(model(x)), rtol=3e-6)
    assert model.training
    assert not raw.training


def test_several_outputs(tmp_path):
    X, y = prices()
    np.savez(
        tmp_path / "a.npz", x_train=X, y_train=np.stack([y, -y], axis=1), x_test=X, y_test=np.stack([y, y], 1)
    )
    done("train", tmp_path / "a.npz", "--out", tmp_path / "run", "--epochs", "1")
    title, lines = predicted(done("predict", tmp_path / "run", tmp_path / "a.npz"))
    assert title == "prediction_1,prediction_2"
    assert len(lines[0].split(",")) == 2


def test_whole_numbers_may_be_a_regression(tmp_path):
    X, y = prices()
    (tmp_path / "a.csv").write_text(csv_text(["a", "b", "y"], X, y.astype(int)))
    options = ("--task", "regression", "--out", tmp_path / "run", "--epochs", "1")
    assert "classes" not in done("train", tmp_path / "a.csv", *options)
    assert "r2" in done("evaluate", tmp_path / "run", tmp_path / "a.csv")


# ---- options


@pytest.mark.parametrize("name", build.OPTIMIZERS)
def test_every_optimizer(name, flower_csv, tmp_path):
    epochs = ("--epochs", "60", "--layers", "8")
    size = ("--batch-size", "48") if name == "rprop" else ("--batch-size", "8")
    out = done("train", flower_csv, "--optimizer", name, *epochs, *size, "--out", tmp_path / "run")
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert history["loss"][-1] < history["loss"][0]
    assert "accuracy" in out


@pytest.mark.parametrize(
    "options",
    [
        *(("--activation", name) for name in build.ACTIVATIONS),
        *(("--init", name) for name in build.INITIALIZERS),
        *(("--schedule", name, "--warmup-steps", "2") for name in build.SCHEDULES),
        ("--batch-norm", "--keep", "0.9", "--weight-decay", "0.01", "--clip", "1"),
        ("--optimizer", "momentum", "--momentum", "0.5", "--lr", "0.1"),
        ("--threads", "1", "--seed", "7"),
    ],
    ids="-".join,
)
def test_every_value_of_an_option(options, flower_csv, tmp_path, restore_runtime):
    size = ("--layers", "6,5", "--epochs", "2", "--batch-size", "8")
    done("train", flower_csv, *size, "--out", tmp_path / "run", *options)
    saved = json.loads((tmp_path / "run" / "run.json").read_text())["options"]
    assert saved.keys() == {name for name, _, _ in OPTIONS}


def test_options_become_arguments(flower_csv, tmp_path):
    options = ("--layers", "6,5", "--batch-norm", "--keep", "0.9", "--activation", "tanh", "--init", "zeros")
    done("train", flower_csv, "--epochs", "1", *options, "--lr", "0", "--out", tmp_path / "run")
    model = fastnn.load(tmp_path / "run" / "model.safetensors")
    hidden = ["Linear", "BatchNorm1d", "Tanh", "Dropout"]
    assert [type(layer).__name__ for layer in model] == ["Standardize", *hidden, *hidden, "Linear"]
    assert (model[1].out_features, model[5].out_features, model[9].out_features) == (6, 5, 3)
    assert model[1].bias is None
    assert model[4].p == pytest.approx(0.1)
    assert not model[9].weight.data.any()
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert history["lr"] == [0]


def made(**options):
    """The optimizer of these options, for 3 epochs of 10 updates."""
    given = {name: default for name, default, _ in OPTIONS} | {"epochs": 3} | options
    return build._optimizer(given, nn.Sequential(nn.Linear(2, 2), seed=0), 10)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("constant", {0: 1, 29: 1}),
        ("linear", {0: 1, 15: 0.5, 30: 0}),
        ("cosine", {0: 1, 10: 0.75, 15: 0.5, 30: 0, 40: 0}),
        ("step", {0: 1, 9: 1, 10: 0.1, 19: 0.1, 20: 0.01, 29: 0.01}),
        ("one-cycle", {0: 0.04, 9: 0.9944, 29: 0}),
        ("plateau", {0: 1, 29: 1}),
    ],
)
def test_schedules_span_the_updates_of_the_run(name, values):
    rate = made(schedule=name, lr=1.0).param_groups[0]["lr"]
    found = {t: rate(t) if callable(rate) else rate for t in values}
    assert found == pytest.approx(values, abs=1e-4)
    # Behind a warm-up they span the rest.
    after = made(schedule=name, lr=1.0, warmup_steps=6).param_groups[0]["lr"]
    assert [after(t) for t in (0, 3)] == pytest.approx([0, 0.5 * found[0]], abs=1e-4)
    if name in ("linear", "cosine"):
        assert [after(t) for t in (6, 18, 30)] == pytest.approx([1, 0.5, 0])


def test_names_are_those_of_the_classes():
    assert {name: kind.__name__.lower() for name, kind in build.OPTIMIZERS.items()} == {
        name: name for name in build.OPTIMIZERS
    }
    for names, suffix in ((build.CLASSIFICATION, "Loss"), (build.REGRESSION, "Loss")):
        for name, kind in names.items():
            wanted = {"quadratic": "QuadraticCost"}.get(name, name.replace("-", "") + suffix)
            assert kind.__name__.lower() == wanted.lower()
    for name, kind in build.ACTIVATIONS.items():
        assert kind.__name__.lower() == name.replace("-", "")
    others = {"scaled": "LecunNormal()", "standard-normal": "Normal(mean=0.0, std=1.0)"}
    for name, make in build.INITIALIZERS.items():
        shown = str(make())
        assert shown == others[name] if name in others else shown.lower().startswith(name.replace("-", ""))


def test_rates_and_arguments_of_the_optimizer():
    assert [made(optimizer=name).lr for name in ("sgd", "momentum", "adam")] == [0.1, 0.01, 0.001]
    run = made(optimizer="momentum", momentum=0.5, weight_decay=0.25, clip=2.0, lr=0.125)
    group = run.param_groups[0]
    assert (run.lr, group["momentum"], group["weight_decay"], run.clip) == (0.125, 0.5, 0.25, 2.0)


def test_the_seed_decides_all(flower_csv, tmp_path):
    def model(run, seed):
        done("train", flower_csv, "--epochs", "2", "--keep", "0.5", "--seed", seed, "--out", tmp_path / run)
        return (tmp_path / run / "model.safetensors").read_bytes()

    assert model("a", 3) == model("b", 3) != model("c", 4)


def test_threads_are_those_of_the_library(flower_csv, tmp_path, restore_runtime):
    for threads, command in enumerate(("train", "evaluate", "predict"), 1):
        places = (flower_csv, "--epochs", "1", "--out") if command == "train" else ()
        data = () if command == "train" else (flower_csv,)
        done(command, *places, tmp_path / "run", *data, "--threads", threads)
        assert fastnn.get_num_threads() == threads


def test_the_seed_draws_the_rows_held_out(flower_csv):
    def held_out(seed):
        found = rows.training_rows(str(flower_csv), None, None, seed)
        assert sorted(map(tuple, np.vstack([found.X, found.X_test]))) == sorted(map(tuple, flowers()[0]))
        return found.X_test.tolist()

    assert len(held_out(0)) == 12
    assert held_out(0) == held_out(0) != held_out(1)


def test_predictions_to_a_file(flower_csv, tmp_path):
    done("train", flower_csv, "--epochs", "1", "--out", tmp_path / "run")
    assert done("predict", tmp_path / "run", flower_csv, "--out", tmp_path / "p.csv") == ""
    assert (tmp_path / "p.csv").read_text() == done("predict", tmp_path / "run", flower_csv)


def test_a_plot(flower_csv, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.undo()
    done("train", flower_csv, "--epochs", "2", "--out", tmp_path / "run")
    assert (tmp_path / "run" / "history.png").read_bytes().startswith(b"\x89PNG")


def test_no_matplotlib_is_no_obstacle(flower_csv, tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status, _, err = call("train", flower_csv, "--epochs", "1", "--out", tmp_path / "run")
    assert status == 0
    assert err == "no plot was made: History.plot needs matplotlib; pip install matplotlib\n"
    assert set(os.listdir(tmp_path / "run")) == FILES


def test_overwrite_removes_its_own_files_only(flower_csv, tmp_path):
    run = tmp_path / "run"
    done("train", flower_csv, "--epochs", "2", "--out", run)
    (run / "notes.txt").write_text("mine")
    (run / ".before-killed").mkdir()  # by a start that was killed while files lay aside
    done("train", flower_csv, "--epochs", "1", "--overwrite", "--out", run)
    assert not list(run.glob(".before-*"))
    assert (run / "notes.txt").read_text() == "mine"
    assert len(json.loads((run / "history.json").read_text())["loss"]) == 1


@pytest.mark.parametrize("out", ["run", "new/run"])
def test_a_first_step_that_cannot_be_leaves_nothing(out, flower_csv, tmp_path):
    options = "train", flower_csv, "--epochs", "1", "--batch-norm", "--out", tmp_path / out
    before = sorted(tmp_path.rglob("*"))
    status, _, err = call(*options, "--batch-size", "1")
    assert (status, "x must have at least two rows" in err) == (2, True)
    assert sorted(tmp_path.rglob("*")) == before
    done(*options, "--batch-size", "4")


def test_a_first_step_that_diverges_leaves_nothing(tmp_path):
    (tmp_path / "rows.csv").write_text("a,y\n" + "1e20,1\n-1e20,2.5\n" * 10)
    options = "train", tmp_path / "rows.csv", "--no-scale", "--cost", "mse", "--out", tmp_path / "run"
    with np.errstate(all="ignore"):
        status, _, err = call(*options)
    assert status == 2
    assert "error: the first step cannot be: Adam: the gradient of" in err
    assert not (tmp_path / "run").exists()


def test_what_was_there_stays_where_nothing_is_trained(flower_csv, tmp_path):
    run = tmp_path / "run"
    done("train", flower_csv, "--epochs", "2", "--out", run)
    (run / "notes.txt").write_text("mine")
    before = {path: path.read_bytes() for path in run.iterdir()}
    again = "train", flower_csv, "--overwrite", "--batch-norm", "--batch-size", "1", "--out", run
    assert call(*again)[0] == 2
    assert {path: path.read_bytes() for path in run.iterdir()} == before


def test_a_reader_that_has_enough(flower_csv, tmp_path):
    done("train", flower_csv, "--epochs", "1", "--out", tmp_path / "run")
    rows = tmp_path / "rows.npz"
    np.savez(rows, x=np.tile(flowers()[0], (2000, 1)))
    command = f"{sys.executable} -m fastnn predict {tmp_path / 'run'} {rows} | head -1"
    ended = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.stderr) == ("kind\n", "")


@pytest.mark.parametrize("command", ["info", "train", "predict", "evaluate"])
def test_help_is_short_and_has_an_example(command):
    status, out, _ = call(command, "--help")
    assert status == 0
    assert f"example: python -m fastnn {command}" in out
    assert len(out.splitlines()) < 60
