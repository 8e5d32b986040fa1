"""The processes that the benchmark runs its libraries in, a run of a few cases, examples of docstrings."""

from __future__ import annotations

import doctest
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
if not BENCH.is_dir():
    pytest.skip("the benchmark is not in this tree", allow_module_level=True)
sys.path.insert(0, str(BENCH))

import cases  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402
import timing  # noqa: E402
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


@pytest.mark.parametrize("module", [cases, report, timing])
def test_examples_of_docstrings(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
