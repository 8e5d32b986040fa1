"""The processes that the benchmark runs its libraries in, a run of a few cases, examples of docstrings."""

from __future__ import annotations

import doctest
import json
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import fastnn
import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
if not BENCH.is_dir():
    pytest.skip("the benchmark is not in this tree", allow_module_level=True)
sys.path.insert(0, str(BENCH))

import cases  # noqa: E402
import limits  # noqa: E402
import main_job  # noqa: E402
import plot  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402
import timing  # noqa: E402
from peers import FASTNN, NUMPY  # noqa: E402
from peers.peer import Peer  # noqa: E402
from worker import Worker, WorkerError  # noqa: E402


def test_worker_that_dies_is_named(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("import os\nos._exit(7)\n")
    peer = Peer("torch", "PyTorch", "torch_peer", environment={"PYTHONPATH": str(tmp_path)})
    with pytest.raises(WorkerError, match="PyTorch: the worker ended with exit status 7"):
        Worker(peer, threads=1)


def test_peer_for_another_cpu_says_so() -> None:
    peer = Peer("numpy-x", "NumPy (x)", "numpy_peer", needs_cpu_flag="flag9000")
    with Worker(peer, threads=1) as worker:
        assert worker.absent == "not applicable: this CPU has no flag9000"


def test_worker_runs_on_as_many_cores_as_it_has_threads() -> None:
    with Worker(Peer("numpy", "NumPy", "numpy_peer"), threads=1) as worker:
        assert worker._process is not None
        assert len(os.sched_getaffinity(worker._process.pid)) == 1


def test_every_library_gets_the_same_threads_and_openblas_as_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    plain = Peer("numpy", "NumPy", "numpy_peer").process_environment(2, "avx2")
    assert {plain[f"{name}_NUM_THREADS"] for name in ("OMP", "OPENBLAS", "MKL", "FASTNN")} == {"2"}
    assert plain["FASTNN_ISA"] == "avx2"
    assert "OPENBLAS_CORETYPE" not in plain


def test_cases_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run.main(["--case", "gemm 8x8x8", "--rounds", "2", "--threads", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1] for line in lines if line.startswith("  GEMM ")] == ["GEMM 8x8x8 (the call)"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--case", "conv"], "no name contains 'conv'"),
        (["--case", "GEMM", "--full"], "not allowed with"),
        (["--case", "GEMM", "--compare", "old.json"], "--compare goes with a whole run, not with --case"),
    ],
)
def test_cases_that_there_are_not(arguments: list[str], words: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        run.main(arguments)
    assert words in capsys.readouterr().err


def trained(*_: Any) -> dict[str, Any]:
    """What the main job gives where a fit takes fastnn 10 seconds, NumPy 30."""
    names = ["fastnn", "numpy"]
    epochs = [{"seconds": 1.0, "loss": 0.1, "accuracy": 0.952}] * main_job.EPOCHS
    slower = [{**epoch, "seconds": 3.0} for epoch in epochs]
    agreement = {"seed": 0, "library": "numpy", "worst": 1e-6, "followed": 0, "agrees": True}
    runs = [{"seed": seed, "epochs": dict(zip(names, (epochs, slower)))} for seed in main_job.SEEDS]
    return {**main_job.summary([agreement], runs, names), "wrong": {}}


def test_a_quick_run_prints_and_saves_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """All but the training, and one case of the many."""
    isa = "avx2" if "avx2" in fastnn.isas() else "scalar"
    monkeypatch.setattr(run.peers, "always", lambda: [FASTNN, NUMPY])
    monkeypatch.setattr(run.cases, "chosen", lambda mode: [cases.BY_NAME["GEMM 8x8x8 (the call)"]])
    monkeypatch.setattr(main_job, "run", trained)
    monkeypatch.setattr(limits, "SURVEYS", 1)
    monkeypatch.setattr(limits, "level_footprints", lambda _: dict.fromkeys(("L2", "L3", "DRAM"), 1 << 20))
    path = tmp_path / "new" / "a.json"
    options = "--quick", "--rounds", "2", "--threads", "2", "--isa", isa, "--json", str(path)
    assert run.main(list(options)) == 0
    text = capsys.readouterr().out
    built = ", ".join(fastnn.info()["isas_built"])
    first = rf"fastnn .*: built for {built}.*; CUDA: .+; runs {isa} on 2 threads"
    assert re.fullmatch(first, text.splitlines()[0])
    assert re.search(r"^  fastnn +10\.00 s +8,000 samples/s +accuracy 95\.20%", text, re.M)
    assert re.search(r"^  NumPy +30\.00 s +2,667 samples/s .* fastnn is 3\.00 times as fast", text, re.M)
    for name in (*fastnn.isas(), "L2", "L3", "DRAM", "GEMM 8x8x8 (the call)"):
        assert name in text
    found = json.loads(path.read_text())
    assert found["limits"]["fma"].keys() == set(fastnn.isas())
    assert all(rates.keys() == {"1", "2"} for rates in found["limits"]["fma"].values())
    assert found["limits"]["streams"].keys() == {"L2", "L3", "DRAM"}
    assert found["options"] == {"mode": "quick", "isa": isa, "threads": 2}
    (case,) = found["cases"]
    assert 0 < case["share"] <= limits.HIGHEST_SHARE
    assert case["ratios"].keys() == {"numpy"}
    assert 0 < found["main_job"]["share"] < 1
    pictures = [path.with_suffix(".png")] if plot.available() else []
    assert sorted(path.parent.iterdir()) == [path, *pictures]
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)


@pytest.mark.parametrize("problems, status", [([], 0), (["seed 0: the losses differ"], 1)])
def test_a_problem_of_the_main_job_is_the_exit_status(
    problems: list[str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "measure", lambda *_: {"main_job": {"problems": problems}})
    assert run.main(["--quick"]) == status


def test_an_instruction_set_that_there_is_not(capsys: pytest.CaptureFixture) -> None:
    assert run.main(["--case", "gemm 8x8x8", "--rounds", "2", "--isa", "sse9"]) == 1
    assert "unknown ISA 'sse9'; choose one of scalar, avx2" in capsys.readouterr().err


@pytest.mark.parametrize("module", [cases, report, timing])
def test_examples_of_docstrings(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
