"""`python -m fastnn experiments`: what it prints and writes, and one line for bad options."""

import json
import sys
from dataclasses import replace

import pytest
from fastnn.__main__ import main
from fastnn.experiments import EXPERIMENTS


def status(*arguments):
    with pytest.raises(SystemExit) as stop:
        raise SystemExit(main(["experiments", *arguments]))
    return stop.value.code or 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such"], "there is no 'no-such'; there are input-scale,"),
        (["cost", "--seeds", "0"], "--seeds must be at least 1, got 0"),
        (["cost", "--seeds", "-3"], "--seeds must be at least 1, got -3"),
        (["cost", "--threads", "0"], "--threads must be from 1 to 1024, got 0"),
        (["cost", "--device", "tpu"], "device must be"),
        (["cost", "--redraw"], "--redraw needs --out"),
    ],
)
def test_bad_options(arguments, message, capsys):
    assert status(*arguments) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""


@pytest.mark.parametrize("arguments", [["cost", "--seeds", "two"], ["cost", "more"], ["--no-such"]])
def test_options_that_do_not_parse(arguments, capsys):
    assert status(*arguments) == 2
    assert "error: " in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_or_holds_no_results(tmp_path, capsys):
    pytest.importorskip("matplotlib.figure")
    (tmp_path / "file").write_text("")
    assert status("cost", "--out", str(tmp_path / "file")) == 2
    assert status("--redraw", "--out", str(tmp_path / "empty")) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert "no results in" in told[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "does not hold results"),
        ("[]", "does not hold results"),
        ('{"parts": {}}', "of another version"),
    ],
)
def test_a_file_that_holds_no_results(text, message, tmp_path, capsys):
    pytest.importorskip("matplotlib.figure")
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "cost.json").write_text(text)
    assert status("--redraw", "--out", str(tmp_path)) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "run cost again" in told
    assert told.count("\n") == 1
    assert not (tmp_path / "experiments.md").exists()


def test_a_run_prints_its_verdicts_and_writes_its_files(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib.figure")
    slopes = replace(EXPERIMENTS["activations"], parts={"slopes": EXPERIMENTS["activations"].parts["slopes"]})
    monkeypatch.setitem(EXPERIMENTS, "activations", slopes)
    assert status("activations", "--seeds", "1", "--out", str(tmp_path)) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[0] == "held       activations: slopes: A sigmoid's slope at 5 is about 0."
    assert "activations: slopes: relu: n 1;" in told.err
    page = (tmp_path / "experiments.md").read_text()
    assert (
        json.loads((tmp_path / "experiments" / "activations.json").read_text())["experiment"] == "activations"
    )
    assert (tmp_path / "experiments" / "activations-slopes.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "experiments.md").unlink()
    assert status("--redraw", "--out", str(tmp_path)) == 0
    assert (tmp_path / "experiments.md").read_text() == page


def test_a_missing_matplotlib_is_told_before_anything_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(EXPERIMENTS, "cost", None)
    assert status("cost", "--out", str(tmp_path / "new")) == 2
    assert "pip install matplotlib" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
