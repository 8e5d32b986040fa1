"""The benchmark: it compares what it says it compares, and refuses results that cannot be true."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
if not BENCH.is_dir():
    pytest.skip("the benchmark is not in this tree", allow_module_level=True)
sys.path.insert(0, str(BENCH))

import agreement  # noqa: E402
import cases  # noqa: E402
import job  # noqa: E402
import limits  # noqa: E402
import main_job  # noqa: E402
import plot  # noqa: E402
import readme_block  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402
import timing  # noqa: E402
from cases.case import CHECK_RATE, worst_error  # noqa: E402
from numpy_mlp import BatchNormReLU, NumpyMLP  # noqa: E402
from peers import fastnn_peer, numpy_job, numpy_peer  # noqa: E402
from peers.peer import Peer  # noqa: E402
from worker import Worker, WorkerError  # noqa: E402

# ---- the main job


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., agreement.Agreement]:
    """Compares fastnn's first losses of a seed with the NumPy loop's, as the workers do."""
    folder = str(tmp_path_factory.mktemp("job"))
    fastnn_peer.share_job(folder, [0, 1])

    def compare(seed: int, eps: float = 1e-8, change: float = 0.0) -> agreement.Agreement:
        theirs = np.array(fastnn_peer.first_losses(folder, seed, agreement.STEPS)["losses"])
        theirs[30] += change
        numpy_run = numpy_job.Job(folder, seed)
        masks = numpy_job.read_masks(folder, seed)
        batches, rates = numpy_run.first_batches(agreement.STEPS)
        return agreement.follow(theirs, masks, numpy_run.weights, batches, rates, eps=eps)

    return compare


@pytest.mark.parametrize("seed", [0, 1])
def test_first_losses_agree(compared: Callable[..., agreement.Agreement], seed: int) -> None:
    found = compared(seed)
    assert found.agrees, f"the losses differ by {found.worst}"


@pytest.mark.parametrize("seed", [0, 1])
def test_planted_error_is_caught(compared: Callable[..., agreement.Agreement], seed: int) -> None:
    """Adam with eps 1e-7 in one implementation: taking the other's side near zero must not hide it."""
    found = compared(seed, eps=1e-7)
    assert not found.agrees
    assert found.worst > agreement.BOUND
    assert found.followed > agreement.MOST_FOLLOWED


@pytest.mark.parametrize("change", [float("nan"), 2e-5])
def test_one_wrong_loss_is_caught(compared: Callable[..., agreement.Agreement], change: float) -> None:
    assert not compared(0, change=change).agrees


def test_only_decisions_near_zero_are_followed() -> None:
    passed = np.array([[True, False, True, False]])
    norm = agreement.FollowingNorm(1, 4, [passed])
    y, mask = np.array([[-1e-5, 1e-5, -1.0, 1.0]], np.float32), np.empty((1, 4), np.float32)
    norm.relu(y, mask)
    assert (mask.tolist(), norm.followed) == ([[1, 0, 0, 1]], 2)


def test_numpy_gradients_against_central_differences() -> None:
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape) for shape in ((5, 6), (6, 4), (4, 3))]
    net = NumpyMLP(weights, batch=9, dtype=np.float64)
    net.flat += 0.1 * rng.normal(size=net.flat.size)
    x, y = rng.normal(size=(9, 5)), rng.integers(0, 3, 9)
    logits = net.forward(x)
    net.loss(logits, y)
    net.backward(x, logits)
    expected = np.empty_like(net.flat)
    for i, value in enumerate(net.flat.copy()):
        ends = []
        for moved in (value + 1e-6, value - 1e-6):
            net.flat[i] = moved
            ends.append(net.loss(net.forward(x), y))
        net.flat[i] = value
        expected[i] = (ends[0] - ends[1]) / 2e-6
    np.testing.assert_allclose(net.flat_grad, expected, atol=2e-9)


@pytest.mark.parametrize("relu", [False, True])
def test_numpy_batch_norm_in_blocks_of_rows_equals_one_block(relu: bool) -> None:
    rng = np.random.default_rng(1)
    x, dy, gamma, beta = (rng.normal(size=shape) for shape in ((11, 3), (11, 3), (3,), (3,)))
    results = []
    for block in (11, 4):
        norm = BatchNormReLU(11, 3, dtype=np.float64)
        norm.block = block
        y = norm.forward(x, gamma, beta).copy()
        dgamma, dbeta = np.empty(3), np.empty(3)
        dx = norm.backward(dy.copy(), dgamma, dbeta, np.empty((11, 3)), relu=relu)
        results.append([y, dx, dgamma, dbeta, norm.running_mean, norm.running_var])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def test_flops_of_the_main_job() -> None:
    products = 2 * 784 * 256 + 3 * 256 * 128 + 3 * 128 * 10
    assert job.step_flops(128) == 2 * 128 * products


def test_problems_of_the_main_job_are_named() -> None:
    agreements = [{"seed": 3, "library": "numpy", "worst": 2e-4, "followed": 1, "agrees": False}]
    libraries = {"fastnn": {"accuracy": [0.951, 0.94], "accuracy_mean": 0.9455}}
    texts = main_job.problems(agreements, libraries)
    assert [text.split(":")[0] for text in texts] == ["seed 3", "fastnn", "fastnn"]
    assert "2.0e-04" in texts[0]
    assert "94.00%" in texts[1]
    assert main_job.problems([], {"fastnn": {"accuracy": [0.951], "accuracy_mean": 0.951}}) == []


# ---- cases, checks, statistics

SMALL = [case for case in cases.ALL if not case.name.startswith(("GEMM 1024", "GEMM 512"))]


@pytest.mark.parametrize("peer", [numpy_peer, fastnn_peer], ids=["numpy", "fastnn"])
@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_results_match_the_expectation(case: cases.Case, peer: Any) -> None:
    prepared = peer.SETUPS[case.op](case.inputs(), case.sizes, CHECK_RATE)
    for _ in range(case.check_calls):
        prepared.call()
    assert worst_error(prepared.results(), case.expectation()) <= case.tolerance


def test_names_are_unique_and_quick_is_a_part_of_full() -> None:
    assert len(cases.BY_NAME) == len(cases.ALL)
    assert set(map(id, cases.chosen(full=False))) < set(map(id, cases.chosen(full=True)))


def test_worst_error_sees_what_is_wrong() -> None:
    want = {"y": np.array([1.0, -4.0])}
    assert worst_error({"y": np.array([1.0, -4.4])}, want) == pytest.approx(0.1)
    assert worst_error({"y": np.array([1.0, np.nan])}, want) == float("inf")
    with pytest.raises(ValueError, match=r"\['y'\] are missing"):
        worst_error({}, want)
    with pytest.raises(ValueError, match="shape"):
        worst_error({"y": np.zeros(3)}, want)


class WrongWorker:
    """A worker whose results are always off."""

    peer = Peer("wrong", "Wrong", "none")
    turns = 0

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        self.turns += do == "turn"
        case = cases.BY_NAME[arguments["case"]]
        np.savez(arguments["results"], **{key: a * 1.01 for key, a in case.expectation().items()})
        return {}


def test_wrong_result_is_never_timed() -> None:
    worker: Any = WrongWorker()
    with pytest.raises(timing.WrongResult, match=r"Adam 10 thousand: the result of Wrong is off by 1\.0e-02"):
        timing.take_turns(cases.BY_NAME["Adam 10 thousand"], [worker], rounds=3)
    assert worker.turns == 0


def test_ratio_is_the_median_of_pairs() -> None:
    own = [1.0, 2.0, 4.0, 1.0, 1.0]
    peer = [2.0, 4.0, 8.0, 10.0, 1.0]  # pairs 2, 2, 2, 10, 1
    found = timing.ratio(peer, own)
    assert found.median == 2
    assert (found.low, found.high) == pytest.approx((1.4, 6.8))
    assert found.pairs == 5
    with pytest.raises(ValueError, match="got 1 and 2"):
        timing.ratio([1.0], [1.0, 2.0])


def test_share_above_the_limit_aborts() -> None:
    assert limits.checked_share("case", lambda: 1.02, seconds=1.0) == 1.02
    with pytest.raises(limits.LimitError, match=r"GEMM: 1\.03 of the machine's limit is impossible"):
        limits.checked_share("GEMM", lambda: 1.03, seconds=1.0)
    floors = [1.5, 1.2]  # a limit that other work had hidden: measuring again finds it
    assert limits.checked_share("case", lambda: floors[-1], 1.0, lambda: floors.append(0.9)) == 0.9


class SteadyWorker:
    """Measures the same limits for ever: 100 GFLOP/s, streams of 10 (read) and 8 GB/s."""

    def ask(self, do: str, kind: str = "", **arguments: Any) -> dict[str, float]:
        rate = {"fma": 100e9, "read": 10e9}.get(kind, 8e9)
        return {"rate": rate, "empty_call": 5e-8, "fork_join": 1e-6}


def test_floor_of_arithmetic_and_of_memory() -> None:
    worker: Any = SteadyWorker()
    machine = limits.Limits(worker, "avx2", 2)
    machine.survey(["avx2", "scalar"])
    gemm, adam = cases.BY_NAME["GEMM 512x512x512"], cases.BY_NAME["Adam 1 million"]
    for case in (gemm, adam):
        machine.measure_for(case)
    assert machine.floor(gemm) == pytest.approx(2 * 512**3 / 100e9)
    assert machine.floor(adam) == pytest.approx(max(16e6 / 10e9, 24e6 / 8e9))
    text = "\n".join(limits.lines(json.loads(json.dumps(machine.as_json()))))
    assert "1 thread 100, 2 threads 100" in text


# ---- worker processes


def test_worker_prepares_and_takes_turns(tmp_path: Path) -> None:
    with Worker(Peer("numpy", "NumPy", "numpy_peer"), threads=1) as worker:
        assert worker.absent is None
        assert worker.about["version"] == np.__version__
        with pytest.raises(WorkerError, match="no case is prepared"):
            worker.ask("turn")
        case = cases.BY_NAME["momentum 10 thousand"]
        assert timing.check(case, worker, case.expectation()) <= case.tolerance
        assert 0 < worker.ask("turn")["seconds"] < 0.1
        worker.wait_until_quiet()
        with pytest.raises(WorkerError, match=r"NumPy, prepare .*\n(.*\n)*KeyError: 'no such case'"):
            worker.ask("prepare", case="no such case", results=str(tmp_path / "r.npz"))
    with pytest.raises(WorkerError, match=r"NumPy: no worker runs \(closed\)"):
        worker.ask("turn")


def test_absent_peer_is_named(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")\n")
    peer = Peer("torch", "PyTorch", "torch_peer", environment={"PYTHONPATH": str(tmp_path)})
    with Worker(peer, threads=1) as worker:
        assert worker.absent == "absent: No module named 'torch'"
        with pytest.raises(WorkerError, match="PyTorch: no worker runs"):
            worker.ask("turn")


def test_worker_that_dies_is_named(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("import os\nos._exit(7)\n")
    peer = Peer("torch", "PyTorch", "torch_peer", environment={"PYTHONPATH": str(tmp_path)})
    with pytest.raises(WorkerError, match="PyTorch: the worker ended with exit status 7"):
        Worker(peer, threads=1)


def test_peer_for_another_cpu_says_so() -> None:
    peer = Peer("numpy-x", "NumPy (x)", "numpy_peer", needs_cpu_flag="flag9000")
    with Worker(peer, threads=1) as worker:
        assert worker.absent == "not applicable: this CPU has no flag9000"


def test_every_library_gets_the_same_threads_and_openblas_as_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    plain = Peer("numpy", "NumPy", "numpy_peer").process_environment(2, "avx2")
    assert {plain[f"{name}_NUM_THREADS"] for name in ("OMP", "OPENBLAS", "MKL", "FASTNN")} == {"2"}
    assert plain["FASTNN_ISA"] == "avx2"
    assert "OPENBLAS_CORETYPE" not in plain


# ---- the command line


def command(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = os.environ if path is None else {**os.environ, "PYTHONPATH": str(path)}
    line = [sys.executable, str(BENCH / "run.py"), *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, env=env)


def test_help_lists_all_options() -> None:
    text = command("--help").stdout
    for option in ("quick", "full", "isa", "threads", "vs", "json", "readme", "check", "help"):
        assert f"--{option}" in text


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--vs", "torch,paper"], "unknown peer paper; available: torch"),
        (["--check"], "--check goes with --readme"),
        (["--threads", "0"], "must be a whole number of at least 1, got '0'"),
        (["--quick", "--full"], "not allowed with"),
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
LIBRARY = {"seconds": 1.25, "samples_per_second": 64000.0, "accuracy": [0.952], "accuracy_mean": 0.952}
FOUND: dict[str, Any] = {
    "date": "2026-01-02T03:04:05+00:00",
    "options": {"mode": "quick", "isa": "avx2", "threads": 2},
    "machine": {"cpu": "A CPU", "cores": 2},
    "other_work": 0.02,
    "peers": {
        "fastnn": {"title": "fastnn", "version": "1.0", "detail": "avx2, 2 threads", "missing": None},
        "numpy": {"title": "NumPy", "version": "2.0", "detail": "OpenBLAS Haswell", "missing": None},
        "numpy-skylakex": {"title": "NumPy (SkylakeX)", "missing": "not applicable: this CPU has no avx512f"},
    },
    "cases": [
        {
            "name": "GEMM 8x8x8",
            "flops": 1024.0,
            "bytes": 0,
            "seconds": {"fastnn": 2.5e-7, "numpy": 1e-6},
            "ratios": {"numpy": RATIO},
            "share": 0.5,
        }
    ],
    "main_job": {
        "network": "784-256-128-10",
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


def test_text_of_times() -> None:
    assert [report.time_text(s) for s in (2.5e-7, 1.25e-4, 0.0125, 3.0)] == [
        "250 ns",
        "125 us",
        "12.5 ms",
        "3 s",
    ]


def tree(root: Path, found: dict[str, Any]) -> Path:
    (root / "bench" / "results").mkdir(parents=True)
    (root / "README.md").write_text(f"# x\n{readme_block.BEGIN}\nold\n{readme_block.END}\nafter\n")
    report.save(found, root / "bench" / "results" / "cpu-a.json")
    return root


def test_readme_is_written_from_the_newest_results_and_checked(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    root = tree(tmp_path, FOUND)
    older = copy.deepcopy(FOUND)
    older["date"] = "2025-01-01T00:00:00+00:00"
    report.save(older, root / "bench" / "results" / "cpu-b.json")
    with pytest.raises(readme_block.ReadmeError, match=r"cpu-a\.png was not drawn from cpu-a\.json"):
        readme_block.check(root)
    readme_block.write(root)
    readme_block.check(root)
    text = (root / "README.md").read_text()
    assert text.startswith(f"# x\n{readme_block.BEGIN}\nMeasured on A CPU")
    assert text.endswith(f"{readme_block.END}\nafter\n")
    picture = root / "bench" / "results" / "cpu-a.png"
    assert plot.source_of(picture) == plot.digest(FOUND)
    (root / "README.md").write_text(text.replace("250 ns", "100 ns"))
    with pytest.raises(readme_block.ReadmeError, match=r"README\.md differs from cpu-a\.json: run"):
        readme_block.check(root)


def test_readme_without_markers_or_results_is_explained(tmp_path: Path) -> None:
    with pytest.raises(readme_block.ReadmeError, match="has no <!-- bench:begin -->"):
        readme_block.replaced("# nothing here\n", "table")
    with pytest.raises(readme_block.ReadmeError, match=r"no cpu-\*\.json"):
        readme_block.newest(tmp_path)
    report.save({**FOUND, "other_work": 0.3}, tmp_path / "cpu-a.json")
    with pytest.raises(readme_block.ReadmeError, match="other work took 30% of the machine"):
        readme_block.newest(tmp_path)
