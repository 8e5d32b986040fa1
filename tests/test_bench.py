"""The benchmark: it compares what it says it compares, and refuses results that cannot be true."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastnn import ops

BENCH = Path(__file__).resolve().parents[1] / "bench"
if not BENCH.is_dir():
    pytest.skip("the benchmark is not in this tree", allow_module_level=True)
sys.path.insert(0, str(BENCH))

import agreement  # noqa: E402
import cases  # noqa: E402
import job  # noqa: E402
import main_job  # noqa: E402
import plot  # noqa: E402
import plot_full  # noqa: E402
import report  # noqa: E402
import timing  # noqa: E402
from cases.case import CHECK_RATE, worst_error  # noqa: E402
from numpy_mlp import BatchNormReLU, NumpyMLP  # noqa: E402
from peers import OPTIONAL, fastnn_job, fastnn_peer, numpy_job, numpy_peer  # noqa: E402
from peers.peer import Peer  # noqa: E402
from worker import Worker, WorkerError  # noqa: E402

# ---- the main job


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., agreement.Agreement]:
    """Compares fastnn's first losses of a seed with the NumPy loop's, as the workers do."""
    folder = str(tmp_path_factory.mktemp("job"))
    fastnn_job.share_job(folder, [0, 1])

    def compare(seed: int, eps: float = 1e-8, change: float = 0.0) -> agreement.Agreement:
        theirs = np.array(fastnn_job.first_losses(folder, seed, agreement.STEPS)["losses"])
        theirs[30] += change
        run = job.load(folder, seed)
        masks = numpy_job.read_masks(folder, seed)
        batches = [(run.X[rows], run.Y[rows]) for rows in run.batches(0)[: agreement.STEPS]]
        rates = run.rates(0)[: agreement.STEPS]
        return agreement.follow(theirs, masks, run.weights, batches, rates, eps=eps)

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


@pytest.mark.parametrize("batch_norm, mse", [(True, False), (False, False), (False, True)])
def test_numpy_gradients_against_central_differences(batch_norm: bool, mse: bool) -> None:
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape) for shape in ((5, 6), (6, 4), (4, 3))]
    net = NumpyMLP(weights, batch=9, batch_norm=batch_norm, mse=mse, dtype=np.float64)
    net.flat += 0.1 * rng.normal(size=net.flat.size)
    x, y = rng.normal(size=(9, 5)), rng.normal(size=(9, 3)) if mse else rng.integers(0, 3, 9)
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
    assert job.step_flops(4, (3, 5, 2)) == 2 * 4 * (2 * 15 + 3 * 10)


def test_the_main_job_and_what_it_must_reach() -> None:
    assert (job.WIDTHS, job.BATCH, job.EPOCHS, job.RATE) == ((784, 256, 128, 10), 128, 10, 1e-3)
    assert job.SEEDS == (0, 1, 2, 3, 4)
    assert (job.ACCURACY_EACH, job.ACCURACY_MEAN) == (0.945, 0.95)
    assert (agreement.STEPS, agreement.BOUND) == (50, 1e-5)
    net = NumpyMLP([np.zeros((3, 2)), np.zeros((2, 2))], batch=4)
    assert {array.dtype for array in (net.flat, net.flat_grad, *net.optimizer.m)} == {np.dtype(np.float32)}
    assert net.optimizer.eps == 1e-8


def test_problems_of_the_main_job_are_named() -> None:
    agreements = [{"seed": 3, "library": "numpy", "worst": 2e-4, "followed": 1, "agrees": False}]
    libraries = {"fastnn": {"accuracy": [0.951, 0.94], "accuracy_mean": 0.9455}}
    texts = main_job.problems(agreements, libraries)
    assert [text.split(":")[0] for text in texts] == ["seed 3", "fastnn", "fastnn"]
    assert "2.0e-04" in texts[0]
    assert "94.00%" in texts[1]
    assert main_job.problems([], {"fastnn": {"accuracy": [0.951], "accuracy_mean": 0.951}}) == []


# ---- cases, checks, statistics

# The large ones are checked by every run of the benchmark before they are timed, and so are the networks
# (test_bench_training.py has some of few rows).
SMALL = [
    case
    for case in cases.ALL
    if (case.traffic < 7e6 and case.flops < 2e7) and case.group not in (*cases.TRAINING, "sweep")
]
LIBRARIES = {"torch_peer": "torch", "jax_peer": "jax", "jax_scan_peer": "jax", "sklearn_peer": "sklearn"}
KERNELS = [module for module in LIBRARIES if module in ("torch_peer", "jax_peer")]


@functools.cache
def expectation(name: str) -> dict[str, np.ndarray]:
    """Shared by the peers of a case."""
    return cases.BY_NAME[name].expectation()


def error_of(case: cases.Case, peer: Any) -> float | None:
    """The error of a peer's results; None when it has no such operation."""
    setup = getattr(peer, case.op, None)
    prepared = setup and setup(case.inputs(), case.sizes, CHECK_RATE)
    if prepared is None:
        return None
    for _ in range(-(-case.check_steps // prepared.steps)):
        prepared.call()
    return worst_error(prepared.results(), expectation(case.name))


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_results_match_the_expectation(case: cases.Case) -> None:
    for peer in (numpy_peer, fastnn_peer):
        error = error_of(case, peer)
        if error is None:  # NumPy has no erf, and no bfloat16 products
            assert peer is numpy_peer
            assert case.op == "gemm_bf16" or case.sizes["kind"] == "gelu"
        else:
            assert error <= case.tolerance, peer.__name__


@pytest.mark.parametrize("module", KERNELS)
def test_results_of_other_libraries_match_the_expectation(module: str) -> None:
    peer = peer_module(module)
    errors = {case.name: (error_of(case, peer), case.tolerance) for case in SMALL}
    assert any(error is not None for error, _ in errors.values())
    wrong = {name: error for name, (error, most) in errors.items() if error is not None and error > most}
    assert not wrong


def peer_module(name: str) -> Any:
    if name in LIBRARIES:
        pytest.importorskip(LIBRARIES[name])
    return importlib.import_module(f"peers.{name}")


@pytest.mark.parametrize("module", ["numpy_peer", "fastnn_peer", *LIBRARIES])
def test_what_bears_the_name_of_an_operation_prepares_it(module: str) -> None:
    """Setups are found by name, so nothing else may have such a name."""
    peer = peer_module(module)
    ops = {case.op for case in cases.ALL}
    found = {op: getattr(peer, op) for op in ops if hasattr(peer, op)}
    assert module != "fastnn_peer" or found.keys() == ops
    for op, setup in found.items():
        assert setup.__module__ == f"peers.{module}", op
        assert list(inspect.signature(setup).parameters)[:3] == ["v", "sizes", "lr"], op


def test_every_kernel_has_a_case() -> None:
    """All of fastnn.ops but batch-norm step by step, which is NumPy."""
    assert {name.rstrip("_") for name in ops.__all__} - {case.op for case in cases.ALL} == {
        "batch_norm_steps"
    }


def test_every_optional_peer_has_a_module_a_colour_and_a_mark() -> None:
    for name, peer in OPTIONAL.items():
        assert (BENCH / "peers" / f"{peer.module}.py").is_file()
        assert name in plot.COLOURS
        assert name in plot.MARKERS


def test_names_are_unique_and_quick_is_a_part_of_full() -> None:
    assert len(cases.BY_NAME) == len({case.name for case in cases.ALL}) + 1 == len(cases.ALL) + 1
    assert {case.group for case in cases.ALL} == set(cases.GROUPS)
    assert all(case.flops > 0 for case in cases.ALL)
    assert all(case.traffic > 0 for case in cases.ALL if case.group in plot_full.KERNELS)
    named = {case.name for case in cases.chosen("quick")}
    assert named >= {
        *(
            "GEMM 512x512x512",
            "GEMM 1024x1024x1024",
            "GEMM 128x784x512 + bias + ReLU",
            "GEMM 8x8x8 (the call)",
        ),
        *(f"batch-norm {way} (512, 2048)" for way in ("forward", "backward")),
        *(f"{rule} 1 million" for rule in ("Adam", "RMSProp", "momentum")),
    }
    quick, training, full = (set(map(id, cases.chosen(mode))) for mode in ("quick", "training", "full"))
    assert quick < full
    assert training < full
    assert not quick & training


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
        return {"offered": True}


def test_wrong_result_is_never_timed() -> None:
    worker: Any = WrongWorker()
    with pytest.raises(timing.WrongResult, match=r"Adam 10 thousand: the result of Wrong is off by 1\.0e-02"):
        timing.take_turns(cases.BY_NAME["Adam 10 thousand"], [worker], timing.Budget(3, 3))
    assert worker.turns == 0


class RightWorker:
    """Its results are right and its turns take a second of `clock`; or it offers nothing."""

    def __init__(self, name: str, clock: list[float], offered: bool = True) -> None:
        self.peer, self.clock, self.offered = Peer(name, name, "none"), clock, offered

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        if do == "turn":
            self.clock[0] += 1
            return {"seconds": 1e-3}
        if self.offered:
            np.savez(arguments["results"], **expectation(arguments["case"]))
        return {"offered": self.offered}

    def wait_until_quiet(self) -> None:
        pass


def test_a_wrong_peer_is_named_and_not_timed() -> None:
    wrong: Any = WrongWorker()
    right: Any = RightWorker("fastnn", [0.0])
    case = cases.BY_NAME["Adam 10 thousand"]
    timing_of = timing.take_turns(case, [right, wrong], timing.Budget(3, 3))
    assert wrong.turns == 0
    assert list(timing_of.seconds) == ["fastnn"]
    assert len(timing_of.seconds["fastnn"]) == 3
    assert timing_of.wrong == pytest.approx({"wrong": 0.01}, rel=1e-3)
    (line,) = report.wrong_lines({"wrong": timing_of.wrong}, {"wrong": "Wrong"})
    assert "Wrong was not timed: its result is off by 1.0e-02" in line


@pytest.mark.parametrize(
    "budget, rounds",
    [
        (timing.Budget(2, 4), 4),
        (timing.Budget(2, 4, seconds=0.5), 2),
        (timing.Budget(1, 100, seconds=2.5), 3),
    ],
)
def test_budget_bounds_the_rounds_and_absent_operations_are_left_out(
    budget: timing.Budget, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("timing.time.perf_counter", lambda: clock[0])
    workers: Any = [RightWorker("fastnn", clock), RightWorker("other", clock, offered=False)]
    found = timing.take_turns(cases.BY_NAME["SGD 10 thousand"], workers, budget)
    assert list(found.seconds) == ["fastnn"]
    assert len(found.seconds["fastnn"]) == rounds
    assert found.quantiles("fastnn") == [1e-3, 1e-3, 1e-3]


def test_ratio_is_the_median_of_pairs() -> None:
    own = [1.0, 2.0, 4.0, 1.0, 1.0]
    peer = [2.0, 4.0, 8.0, 10.0, 1.0]  # pairs 2, 2, 2, 10, 1
    found = timing.ratio(peer, own)
    assert found.median == 2
    assert (found.low, found.high) == pytest.approx((1.4, 6.8))
    assert found.pairs == 5
    with pytest.raises(ValueError, match="got 1 and 2"):
        timing.ratio([1.0], [1.0, 2.0])


# ---- worker processes


def test_worker_prepares_and_takes_turns(tmp_path: Path) -> None:
    with Worker(Peer("numpy", "NumPy", "numpy_peer"), threads=1) as worker:
        assert worker.absent is None
        assert worker.about["version"] == np.__version__
        assert "gemm" in worker.about["ops"]
        with pytest.raises(WorkerError, match="no case is prepared"):
            worker.ask("turn")
        gelu = cases.BY_NAME["gelu forward (512, 1024)"]  # NumPy has no erf
        assert timing.check(gelu, worker, {}) is None
        with pytest.raises(WorkerError, match="no case is prepared"):
            worker.ask("turn")
        case = cases.BY_NAME["momentum 10 thousand"]
        error = timing.check(case, worker, case.expectation())
        assert error is not None
        assert error <= case.tolerance
        assert worker.ask("turn")["seconds"] > 0
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
