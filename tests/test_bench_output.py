"""The benchmark's command line and what it leaves: tables, comparison, pictures, the README's block."""

from __future__ import annotations

import copy
import json
import os
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
import readme_block  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402
import targets  # noqa: E402
from peers import OPTIONAL, TITLES  # noqa: E402

# ---- the command line


def command(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = os.environ if path is None else {**os.environ, "PYTHONPATH": str(path)}
    line = [sys.executable, str(BENCH / "run.py"), *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, env=env)


def test_help_lists_all_options() -> None:
    text = command("--help").stdout
    for option in (
        "quick",
        "full",
        "only",
        "isa",
        "threads",
        "vs",
        "json",
        "readme",
        "check",
        "rounds",
        "compare",
        "help",
    ):
        assert f"--{option}" in text


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


# ---- README

RATIO = {"median": 3.14159, "low": 2.5, "high": 4.0, "pairs": 30}
EPOCHS = [{"seconds": 0.1, "loss": 0.6, "accuracy": 0.9}, {"seconds": 0.1, "loss": 0.2, "accuracy": 0.952}]
REACHED = {"accuracy": 0.945, "seconds": [0.2], "missed": 0, "median": 0.2, "low": 0.2, "high": 0.2}
LIBRARY = {
    "seconds": 1.25,
    "samples_per_second": 64000.0,
    "accuracy": [0.952],
    "accuracy_mean": 0.952,
    "time_to_accuracy": REACHED,
}
FOUND: dict[str, Any] = {
    "commit": "0123456789abcdef",
    "date": "2026-01-02T03:04:05+00:00",
    "options": {"mode": "quick", "isa": "avx2", "threads": 2},
    "machine": {"cpu": "A CPU", "cores": 2, "system": "Linux", "python": "3.12"},
    "other_work": 0.02,
    "peers": {
        "fastnn": {"title": "fastnn", "version": "1.0", "detail": "avx2, 2 threads", "missing": None},
        "numpy": {"title": "NumPy", "version": "2.0", "detail": "OpenBLAS Haswell", "missing": None},
        "numpy-skylakex": {"title": "NumPy (SkylakeX)", "missing": "not applicable: this CPU has no avx512f"},
    },
    "cases": [
        {
            "name": "GEMM 8x8x8",
            "group": "gemm",
            "sizes": {},
            "limit": "fma",
            "flops": 1024.0,
            "bytes": 768.0,
            "seconds": {"fastnn": 2.5e-7, "numpy": 1e-6},
            "spreads": {"fastnn": [2.4e-7, 2.6e-7], "numpy": [0.9e-6, 1.1e-6]},
            "ratios": {"numpy": RATIO},
            "share": 0.5,
        }
    ],
    "main_job": {
        "network": "784-256-128-10",
        "batch": 128,
        "epochs": 10,
        "share": 0.25,
        "libraries": {"fastnn": LIBRARY, "numpy": {**LIBRARY, "ratio": RATIO}},
        "runs": [{"seed": 0, "epochs": {"fastnn": EPOCHS, "numpy": EPOCHS}}],
    },
}


def test_readme_table() -> None:
    text = readme_block.block(FOUND, "bench/results/cpu-a.png")
    assert "Measured on A CPU, avx2, 2 threads, 2026-01-02." in text
    assert "| GEMM 8x8x8 | 250 ns, 4.1 GFLOP/s | 0.50 | 3.14 (2.50-4.00) | not applicable |" in text
    assert "|  | fastnn | share of limit | times NumPy | times NumPy (SkylakeX) |" in text
    assert "NumPy (SkylakeX): not applicable: this CPU has no avx512f" in text
    assert "(bench/results/cpu-a.png)" in text


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


BELOW = {"value": 0.9, "low": 0.8, "high": 1.1, "unit": "x", "most": None, "least": 0.98}


def full() -> dict[str, Any]:
    """Made-up results of every case and every peer."""
    rows = []
    for case in cases.ALL:
        names = ["numpy", *OPTIONAL]
        seconds = max(case.flops / 1e11, case.traffic / 1e11) + 1e-6
        rows.append(
            {
                "name": case.name,
                "group": case.group,
                "sizes": json.loads(json.dumps(dict(case.sizes))),
                "limit": case.stream.kind if case.stream else "fma",
                "flops": case.flops,
                "bytes": case.traffic,
                "seconds": {"fastnn": seconds, **dict.fromkeys(names, 2 * seconds)},
                "spreads": {"fastnn": [0.9 * seconds, 1.1 * seconds]},
                "ratios": dict.fromkeys(names, RATIO),
                "floor_seconds": seconds / 2,
                "share": 0.5,
            }
        )
    peers = {
        name: {"title": title, "version": "1", "detail": "", "missing": None}
        for name, title in TITLES.items()
    }
    streams = {level: {"2": {"read": rate}} for level, rate in (("L2", 3e11), ("L3", 2e11), ("DRAM", 4e10))}
    return {
        **FOUND,
        "options": {**FOUND["options"], "mode": "full"},
        "small_digits": {"ratio": RATIO},
        "conditions": [
            {"name": "a call", "value": 2.0, "low": 1.0, "high": 3.0, "unit": "us", "most": 1.0},
            {**BELOW, "name": "threads", "below": []},
            {**BELOW, "name": "more threads", "below": ["GEMM"]},
            {"name": "a start", "value": 9.0, "low": 9.0, "high": 9.0, "unit": "ms", "most": None},
        ],
        "cases": rows,
        "peers": peers,
        "limits": {"fma": {"avx2": {"2": 2e11}}, "streams": streams},
    }


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


# ---- README and pictures


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


def tree(root: Path, found: dict[str, Any]) -> Path:
    (root / "bench" / "results").mkdir(parents=True)
    (root / "docs").mkdir()
    (root / "README.md").write_text(f"# x\n{readme_block.BEGIN}\nold\n{readme_block.END}\nafter\n")
    report.save(found, root / "bench" / "results" / "cpu-a.json")
    return root


def test_readme_is_written_from_the_newest_results_and_checked(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    root = tree(tmp_path, FOUND)
    older = copy.deepcopy(FOUND)
    older["date"] = "2025-01-01T00:00:00+00:00"
    report.save(older, root / "bench" / "results" / "cpu-b.json")
    with pytest.raises(
        readme_block.ReadmeError, match=r"cpu-a\.png was not drawn from the committed results"
    ):
        readme_block.check(root)
    readme_block.write(root)
    readme_block.check(root)
    text = (root / "README.md").read_text()
    assert text.startswith(f"# x\n{readme_block.BEGIN}\nMeasured on A CPU")
    assert text.endswith(f"{readme_block.END}\nafter\n")
    picture = root / "bench" / "results" / "cpu-a.png"
    assert plot.source_of(picture) == plot.digest(FOUND)
    assert "--full" not in text
    (root / "README.md").write_text(text.replace("250 ns", "100 ns"))
    with pytest.raises(readme_block.ReadmeError, match=r"README\.md differs from cpu-a\.json: run"):
        readme_block.check(root)


def test_targets_are_judged_by_the_medians() -> None:
    found = full()
    given = {
        "GEMM 512x512x512": (0.93, {"numpy-haswell": 2.2, "numpy": 1.06, "torch": 2.2, "jax": 2.2}),
        "GEMM 1024x784x256": (0.5, {"numpy": 1.6, "torch": 3.0}),  # one of the two is enough
        "GEMM 64x784x128": (0.95, {"numpy": 1.5, "numpy-skylakex": 0.9}),  # but not with a faster NumPy
        "GEMM 256x256x256": (0.9, {"numpy": 1.79, "torch": 3.0}),
        "Adam 10 thousand": (0.2, {"torch": 6.0, "deepspeed": 4.0}),
    }
    for case in found["cases"]:
        if case["name"] in given:
            case["share"], medians = given[case["name"]]
            case["ratios"] = {name: {"median": median} for name, median in medians.items()}
    page = targets.page(found, "cpu-a-full.json")
    for line in (
        "| GEMM 512x512x512 | 2.2 times NumPy on AVX2 kernels (2); 2.2 times PyTorch (2.2); "
        "2.2 times JAX (1.02); 0.93 of the limit (0.93); 1.06 times NumPy on AVX-512 kernels (1.05) | met |",
        "| GEMM 64x784x128 | 1.5 times NumPy on AVX2 kernels (1.6); 0.95 of the limit (0.9); "
        "0.9 times NumPy on AVX-512 kernels (1) | in part |",
        "| GEMM 1024x784x256 | 1.6 times NumPy (1.6); 0.50 of the limit (0.9) | met |",
        "| GEMM 256x256x256 | 1.79 times NumPy (1.8); 0.90 of the limit (0.9) | in part |",
        "| Adam 10 thousand | 6 times PyTorch (5); 4 times DeepSpeed (5) | in part |",
        "| a call | 2 us (at most 1 us) | missed |",
        "| threads | 0.9 x, 0.80 to 1.10 (at least 0.98 x) | met |",
        "| more threads | 0.9 x, 0.80 to 1.10 (at least 0.98 x) | missed |",
    ):
        assert line in page.splitlines()
    assert "a start" not in page  # no bound
    rows = [line for line in page.splitlines() if line.endswith(("| met |", "| in part |", "| missed |"))]
    met = sum(line.endswith("| met |") for line in rows)
    assert page.endswith(f"\n{met} of {len(rows)} are met.\n")
    assert "(../bench/results/cpu-a-full.json)" in page


def test_readme_points_to_the_full_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(plot, "DPI", 30)  # quick to draw
    root = tree(tmp_path, FOUND)
    later = {**full(), "date": "2027-01-01T00:00:00+00:00"}
    report.save(later, root / "bench" / "results" / "cpu-a-full.json")
    wrote = readme_block.write(root)
    assert [path.name for path in wrote[1:]] == [
        "targets.md",
        "cpu-a.png",
        "cpu-a-full-roofline.png",
        "cpu-a-full-ratios.png",
        "cpu-a-full-steps.png",
        "cpu-a-full-accuracy.png",
    ]
    text = (root / "README.md").read_text()
    assert "Measured on A CPU, avx2, 2 threads, 2026-01-02." in text  # the table stays that of the quick run
    assert "[training steps](bench/results/cpu-a-full-steps.png)" in text
    readme_block.check(root)
    wrote[-1].unlink()
    with pytest.raises(readme_block.ReadmeError, match=r"cpu-a-full-accuracy\.png was not drawn"):
        readme_block.check(root)


def test_readme_without_markers_or_results_is_explained(tmp_path: Path) -> None:
    with pytest.raises(readme_block.ReadmeError, match="has no <!-- bench:begin -->"):
        readme_block.replaced("# nothing here\n", "table")
    with pytest.raises(readme_block.ReadmeError, match=r"no cpu-\*\.json of --quick"):
        readme_block.committed(tmp_path)
    report.save({**FOUND, "other_work": 0.3}, tmp_path / "cpu-a.json")
    with pytest.raises(readme_block.ReadmeError, match="other work took 30% of the machine"):
        readme_block.newest(tmp_path, "quick")
