"""The benchmark's command line and what it leaves: tables, comparison, pictures."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
if not BENCH.is_dir():
    pytest.skip("the benchmark is not in this tree", allow_module_level=True)
sys.path.insert(0, str(BENCH))

import cases  # noqa: E402
import compare  # noqa: E402
import plot  # noqa: E402
import plot_full  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402
from bench_documents import FOUND, RATIO, full  # noqa: E402
from peers import TITLES  # noqa: E402

# ---- the command line


def command(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = os.environ if path is None else {**os.environ, "PYTHONPATH": str(path)}
    line = [sys.executable, str(BENCH / "run.py"), *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, env=env)


def test_every_option_is_in_the_help_and_on_the_page() -> None:
    text, page = command("--help").stdout, (BENCH / "README.md").read_text()
    options = [option for action in run.parser()._actions for option in action.option_strings]
    assert {"--quick", "--full", "--isa", "--threads", "--vs", "--json", "--readme", "--help"} <= set(options)
    for option in options:
        assert option in text
        assert re.search(rf"{option}\b", page) or option == "-h"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--vs", "torch,paper"], "unknown peer paper; available: fastnn-step, torch"),
        (["--check"], "--check goes with --readme"),
        (["--threads", "0"], "must be a whole number of at least 1, got '0'"),
        (["--quick", "--full"], "not allowed with"),
        (["--full", "--only", "training"], "not allowed with"),
        (["--only", "kernels"], "invalid choice: 'kernels'"),
        (["--compare", "a", "b", "c"], "--compare takes one file (measures) or two (does not)"),
    ],
)
def test_wrong_options_are_named(arguments: list[str], words: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        run.main(arguments)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err


def test_missing_matplotlib_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ModuleNotFoundError('none here')\n")
    done = command("--readme", path=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"bench/run.py: {plot.MISSING}\n"


# ---- tables


def test_table_names_the_fastest_peer() -> None:
    row = copy.deepcopy(FOUND["cases"][0])
    row["ratios"]["torch"] = {"median": 1.04, "low": 0.98, "high": 1.11, "pairs": 30}
    names = ["numpy", "torch", "jax"]
    head, text = report.heading("Products", names, TITLES)[-1], report.line(row, names, TITLES)
    assert report.fastest_peer(row) == "torch"
    assert head.endswith("share  NumPy PyTorch    JAX   range*")
    assert text.endswith(" 0.50   3.14    1.04*     -   0.98-1.11")
    assert report.line({**row, "ratios": {}}, names, TITLES).endswith(" 0.50      -       -      -")


@pytest.mark.parametrize("mode, most", [("--quick", 105), ("--full", 140)])
def test_tables_fit_on_a_terminal(mode: str, most: int) -> None:
    row = {**full()["cases"][0], "name": max(cases.BY_NAME, key=len)}
    names = (
        ["numpy", "torch"] if mode == "--quick" else ["numpy", "torch", "torch-compile", "jax", "deepspeed"]
    )
    row["ratios"] = dict.fromkeys(names, RATIO)
    assert len(report.line(row, names, TITLES)) <= most


def test_text_of_times() -> None:
    assert [report.time_text(s) for s in (2.5e-7, 1.25e-4, 0.0125, 3.0)] == [
        "250 ns",
        "125 us",
        "12.5 ms",
        "3 s",
    ]


# ---- comparison


def slower(found: dict[str, Any], factor: float) -> dict[str, Any]:
    """The same run with fastnn's first case slower by a factor."""
    changed = copy.deepcopy(found)
    row = changed["cases"][0]
    row["seconds"]["fastnn"] *= factor
    row["spreads"]["fastnn"] = [factor * second for second in row["spreads"]["fastnn"]]
    return changed


@pytest.mark.parametrize(
    "factor, words, status",
    [
        (1.5, "slower, beyond the 10 to 90 % ranges of both runs: 1\n    GEMM 8x8x8", 1),
        (1.05, "unchanged within the ranges: 1", 0),
        (0.5, "faster, beyond the 10 to 90 % ranges of both runs: 1\n    GEMM 8x8x8", 0),
    ],
)
def test_compare_names_what_moved_beyond_the_spreads(
    factor: float, words: str, status: int, tmp_path: Path, capsys: Any
) -> None:
    report.save(FOUND, tmp_path / "old.json")
    report.save(slower(FOUND, factor), tmp_path / "new.json")
    assert run.main(["--compare", str(tmp_path / "old.json"), str(tmp_path / "new.json")]) == status
    text = capsys.readouterr().out
    assert words in text
    assert f"{factor:.2f} times the time" in text or factor == 1.05
    assert "differ in more than fastnn" not in text


def test_compare_says_what_else_differs() -> None:
    new = copy.deepcopy(FOUND)
    new["machine"]["cpu"], new["options"]["threads"] = "B CPU", 4
    new["peers"]["numpy"]["version"] = "2.1"
    new["peers"]["fastnn"]["version"] = "1.1"  # not a difference: it is what is compared
    new["cases"][0]["name"] = "GEMM 9x9x9"
    text, worse = compare.lines(FOUND, new)
    assert not worse
    joined = "\n".join(text)
    for words in (
        "machine: A CPU then, B CPU now",
        "threads: 2 then, 4 now",
        "NumPy: 2.0 (OpenBLAS Haswell) then, 2.1 (OpenBLAS Haswell) now",
        "only then: GEMM 8x8x8",
        "only now: GEMM 9x9x9",
    ):
        assert words in joined
    assert not any(line.strip().startswith("fastnn:") for line in text)


def test_compare_refuses_what_it_cannot_read(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "old.json"
    older = copy.deepcopy(FOUND)
    del older["cases"][0]["spreads"]
    for content, words in (
        (json.dumps(older), "has no spreads (an older format): measure it again"),
        ("[]", "holds no results of bench/run.py"),
        ("{", "holds no results of bench/run.py"),
    ):
        path.write_text(content)
        assert run.main(["--compare", str(path)]) == 1
        assert words in capsys.readouterr().err
    assert run.main(["--compare", str(tmp_path / "none.json")]) == 1
    assert "none.json" in capsys.readouterr().err


# ---- pictures


def test_full_pictures_show_every_case_and_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(plot, "DPI", 30)  # quick to draw
    found = full()
    drawn = plot_full.draw(found, tmp_path / "cpu-a-full.json")
    assert drawn == plot_full.paths(tmp_path / "cpu-a-full.json")
    assert all(plot.source_of(path) == plot.digest(found) for path in drawn)
    kernels = [case.name for case in cases.ALL if case.group in (*plot_full.KERNELS, "call")]
    labels = [text.get_text() for axes in plot_full.ratios(found).axes for text in axes.get_yticklabels()]
    assert sorted(label for label in labels if label) == sorted(kernels)
    dots = sum(len(dots.get_offsets()) for dots in plot_full.roofline(found).axes[0].collections)
    assert dots == len(kernels) - sum(case.group == "call" for case in cases.ALL)
