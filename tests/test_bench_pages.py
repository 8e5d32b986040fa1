"""What is written from the benchmark's committed results: the README's block, the page of targets."""

from __future__ import annotations

import copy
import re
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
if not BENCH.is_dir():
    pytest.skip("the benchmark is not in this tree", allow_module_level=True)
sys.path.insert(0, str(BENCH))

import plot  # noqa: E402
import readme_block  # noqa: E402
import report  # noqa: E402
import targets  # noqa: E402
from bench_documents import FOUND, full  # noqa: E402


def test_the_page_of_the_benchmark_names_every_file() -> None:
    table = (BENCH / "README.md").read_text().partition("## The files")[2]
    files = {path.name for ending in ("*.py", "*.sh") for path in BENCH.glob(ending)}
    folders = {f"{path.name}/" for path in BENCH.iterdir() if path.is_dir() and path.name[0] not in "._"}
    named = {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.M) for name in re.findall(r"`(.+?)`", row)
    }
    assert named == files | folders


def test_readme_table() -> None:
    text = readme_block.block(FOUND, "bench/results/cpu-a.png")
    assert "Measured on A CPU, avx2, 2 threads, 2026-01-02." in text
    assert "| GEMM 8x8x8 | 250 ns, 4.1 GFLOP/s | 0.50 | 3.14 (2.50-4.00) | not applicable |" in text
    assert "|  | fastnn | share of limit | times NumPy | times NumPy (SkylakeX) |" in text
    assert "NumPy (SkylakeX): not applicable: this CPU has no avx512f" in text
    assert "(bench/results/cpu-a.png)" in text


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
    assert f"\n{met} of {len(rows)} are met.\n" in page
    kernels = sum(map(len, targets.SECTIONS.values()))
    of_kernels = sum(row.endswith("| met |") for row in rows[:kernels])
    # 512^3 is 1.06 times NumPy as it was found.
    assert (
        f"Of the {kernels} kernels and steps {of_kernels} are met, and {of_kernels - 1} where NumPy" in page
    )
    assert "(../bench/results/cpu-a-full.json)" in page
    found["cases"] = [case for case in found["cases"] if case["name"] != "GEMM 64x784x128"]
    older = targets.page(found, "cpu-a-full.json")
    assert "| GEMM 64x784x128 | not measured in this run | missed |" in older
    assert f"\n{met} of {len(rows)} are met.\n" in older
    in_time = page[page.index("## The misses in time") :].splitlines()
    assert sum(line.startswith("| ") for line in in_time) == 2 + kernels - of_kernels
    seconds = {case["name"]: case["seconds"]["fastnn"] for case in full()["cases"]}
    for name, asked in (
        ("GEMM 64x784x128", 0.9),  # a NumPy that is faster decides
        ("GEMM 256x256x256", 1.79 / 1.8),
        ("GEMM bf16 64x64x64", 3.14159 / 40),
    ):
        enough = report.time_text(asked * seconds[name]) + ", which no code can" * (asked < 0.5)
        limit = report.time_text(seconds[name] / 2)
        assert f"| {name} | {report.time_text(seconds[name])} | {enough} | {limit} |" in in_time


def test_products_on_avx2_are_judged_by_a_run_of_their_own(tmp_path: Path) -> None:
    found, avx2 = full(), full()
    page = targets.page(found, "cpu-a-full.json", (avx2, "cpu-a-avx2-full.json"))
    assert "| GEMM 1024x1024x1024 | 0.50 of the limit (0.92) | missed |" in page.splitlines()
    assert "3.14 times NumPy on AVX2 kernels (1) | met |" in page
    products = [case for case in avx2["cases"] if case["group"] == "gemm" and "bf16" not in case["name"]]
    for case, both in zip(products[:2], ((1.3, 0.9), (0.7, 1.2))):
        numpy, haswell = both
        case["ratios"] = {"numpy": {"median": numpy}, "numpy-haswell": {"median": haswell}}
    page = targets.page(found, "cpu-a-full.json", (avx2, "cpu-a-avx2-full.json"))
    first = products[0]["name"]
    assert (
        f"| lowest of {len(products)}: {first} | 0.9 times NumPy on AVX2 kernels (1); below 1: {first} 0.9 | "
        "missed |"
    ) in page.splitlines()
    (tmp_path / "bench" / "results").mkdir(parents=True)
    for name, isa, fma in (
        ("own", "avx512", "avx512"),
        ("forced", "avx2", "avx512"),
        ("older", "avx2", "avx2"),
    ):
        held = {
            **found,
            "options": {**found["options"], "isa": isa},
            "limits": {"fma": {fma: {}, "scalar": {}}},
        }
        held["date"] = "2025" if name == "older" else "2026"
        report.save(held, tmp_path / f"cpu-{name}.json")
    for isa, name in ((None, "own"), ("avx2", "forced")):
        newest = readme_block.newest(tmp_path, "full", isa)
        assert newest is not None
        assert newest[0].name == f"cpu-{name}.json"


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
