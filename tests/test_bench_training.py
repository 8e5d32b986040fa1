"""The benchmark of training: every library takes the same steps, and what is wrong or missed is named."""

from __future__ import annotations

import importlib
import json
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

import cases  # noqa: E402
import conditions  # noqa: E402
import job  # noqa: E402
import main_job  # noqa: E402
import plot_training  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402
import small_digits  # noqa: E402
import timing  # noqa: E402
from cases.case import CHECK_RATE, Case, worst_error  # noqa: E402
from cases.networks import MANY, many_case, step_case  # noqa: E402
from peers import FASTNN, TITLES, fastnn_conditions, fastnn_job, fastnn_network  # noqa: E402
from peers.peer import Peer  # noqa: E402

# Networks of the same kinds as those that are timed, on few rows.
FEW = 1 << 13
NETWORKS = [
    step_case((16, 12, 5), 8, batch_norm=True, data_bytes=FEW),
    step_case((16, 12, 12, 5), 8, data_bytes=FEW),
    step_case((9, 12, 3), 8, mse=True, data_bytes=FEW),
    many_case((16, 12, 5), 8, data_bytes=FEW),
]
MODULES = {
    "numpy_peer": "numpy",
    "fastnn_peer": "fastnn",
    "fastnn_step_peer": "fastnn",
    "torch_peer": "torch",
    "jax_peer": "jax",
    "jax_scan_peer": "jax",
}


def error_of(case: Case, module: str, rate: float = CHECK_RATE) -> float | None:
    """The error of a library's results; None when it has no such operation."""
    pytest.importorskip(MODULES[module])
    setup = getattr(importlib.import_module(f"peers.{module}"), case.op, None)
    prepared = setup and setup(case.inputs(), case.sizes, rate)
    if prepared is None:
        return None
    for _ in range(-(-case.check_steps // prepared.steps)):
        prepared.call()
    return worst_error(prepared.results(), case.expectation())


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("case", NETWORKS, ids=lambda case: case.name)
def test_every_library_takes_the_same_steps(case: Case, module: str) -> None:
    error = error_of(case, module)
    if error is None:
        assert case.op == "many_steps"
        assert module in ("fastnn_peer", "fastnn_step_peer")
    else:
        assert error <= case.tolerance


def test_bfloat16_takes_nearly_the_same_steps() -> None:
    case = step_case((16, 12, 12, 5), 8, bfloat16=True, op="train_step_bf16", data_bytes=FEW)
    error = error_of(case, "fastnn_peer")
    assert error is not None
    assert NETWORKS[1].tolerance < error <= case.tolerance


@pytest.mark.parametrize("module", MODULES)
def test_another_learning_rate_is_caught(module: str) -> None:
    case = NETWORKS[0]
    error = error_of(case, module, 1.1 * CHECK_RATE)
    assert error is not None
    assert error > case.tolerance


def test_scikit_learn_takes_the_same_steps() -> None:
    peer = pytest.importorskip("peers.sklearn_peer", reason="scikit-learn", exc_type=ImportError)
    case = step_case(peer.NETWORK, 8, data_bytes=8 * 64 * 4 * peer.STEPS)
    prepared = peer.train_step(case.inputs(), case.sizes, CHECK_RATE)
    prepared.call()
    assert worst_error(prepared.results(), case.expectation()) <= case.tolerance
    other = step_case((16, 12, 5), 8, data_bytes=FEW)
    assert peer.train_step(other.inputs(), other.sizes, CHECK_RATE) is None


def test_every_target_of_training_is_a_case() -> None:
    names = {case.name for case in cases.chosen("training")}
    assert names == {
        "step 64-32-10 with BN, batch 32",
        "step 64-64-64-10, batch 32",
        "step 17-64-64-6 with MSE, batch 64",
        "step 64-100-10, batch 200",
        "step 784-128-10, batch 64",
        "step 784-256-128-10 with BN, batch 128",
        "step 784-512-512-10 with BN, batch 128",
        "step 784-2048-2048-10, batch 512",
        "step 784-2048-2048-10 in bf16, batch 512",
        "8 networks 64-64-10, batch 32",
    }
    assert all(case.arrays.__closure__ for case in cases.chosen("training"))
    assert cases.networks.DATA_BYTES >= 64 << 20


def test_fit_sees_the_batches_of_the_case_in_order() -> None:
    v = NETWORKS[0].inputs()
    X, Y = fastnn_network.in_fit_order(v)
    seen = list(fastnn_network.data.batches(X, Y, v["order"].shape[1], seed=0))
    assert len(seen) == len(v["order"])
    for (x, y), rows in zip(seen, v["order"], strict=True):
        assert np.array_equal(x, v["X"][rows])
        assert np.array_equal(y, v["Y"][rows])


def test_many_networks_are_checked() -> None:
    case = NETWORKS[-1]
    error = error_of(case, "fastnn_peer")
    assert error is not None
    assert error <= case.tolerance
    assert case.expectation()["mean_losses"].shape == (MANY,)


class Stub:
    """A worker that offers one step's losses, or nothing, and takes a millisecond for it."""

    def __init__(self, name: str, offered: bool) -> None:
        self.peer, self.offered = Peer(name, name, "none"), offered

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        if do == "prepare" and self.offered:
            np.savez(arguments["results"], **NETWORKS[0].expectation())
        return {"offered": self.offered, "seconds": 1e-3}

    def wait_until_quiet(self) -> None:
        pass


def test_peers_are_timed_alone_where_fastnn_has_nothing() -> None:
    workers: Any = [Stub("fastnn", False), Stub("torch", True)]
    found = timing.take_turns(NETWORKS[0], workers, timing.Budget(3, 3))
    row = json.loads(json.dumps(report.alone_row(NETWORKS[0], found)))
    assert row["quantiles"] == {"torch": [1e-3] * 3}
    assert report.alone_line(row, TITLES).endswith("not in this fastnn; PyTorch 1 ms (1 ms-1 ms)")
    nobody = {**row, "quantiles": {}}
    assert report.alone_line(nobody, TITLES).endswith("not in this fastnn; nor in any peer here")


def test_the_loop_of_steps_is_no_peer_and_its_cost_is_told() -> None:
    class Machine:
        def share(self, case: Case, seconds: float) -> float:
            return 0.5

        def stream_share(self, case: Case, seconds: float) -> None:
            return None

    seconds = {"fastnn": [1e-3, 2e-3], "fastnn-step": [2e-3, 3e-3], "torch": [9e-3, 9e-3]}
    machine: Any = Machine()
    row = report.case_row(NETWORKS[0], timing.Timing(seconds, {}, {}), machine)
    assert row["loop_seconds"] == pytest.approx([1e-3] * 3)
    assert report.fastest_peer(row) == "torch"
    assert report.fastest_peer({"ratios": {"fastnn-step": row["ratios"]["fastnn-step"]}}) is None


# ---- the main job of every library


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = str(tmp_path_factory.mktemp("job"))
    fastnn_job.share_job(found, [0])
    return found


@pytest.mark.parametrize("module", ["numpy_peer", "torch_peer", "jax_peer", "jax_scan_peer"])
def test_the_main_job_of_every_library(module: str, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first losses, then an epoch of five batches, the last one short, against fastnn."""
    pytest.importorskip(MODULES[module])
    commands: dict[str, Callable[..., Any]] = importlib.import_module(f"peers.{module}").COMMANDS
    theirs = fastnn_job.first_losses(folder, 0, 5)["losses"]
    losses = commands["first_losses"](folder, 0, main_job.FEW_STEPS)["losses"]
    np.testing.assert_allclose(losses, theirs[: main_job.FEW_STEPS], atol=main_job.BOUND)
    batches = job.Run.batches
    monkeypatch.setattr(job.Run, "batches", lambda self, epoch: [*batches(self, epoch)[:4], np.arange(64)])
    monkeypatch.setattr(job.Run, "rates", lambda self, epoch: [job.RATE] * 5)
    commands["start"](folder, 0)
    found = commands["epoch"]()
    assert found["seconds"] > 0
    assert 0.3 < found["accuracy"] <= 1
    assert found["loss"] == pytest.approx(np.dot([*theirs[:4], 1.5], [128] * 4 + [64]) / 8000, rel=0.2)


def test_rates_follow_the_cosine_over_all_epochs(folder: str) -> None:
    run_of = job.load(folder, 0)
    rates = np.concatenate([run_of.rates(epoch) for epoch in range(job.EPOCHS)])
    assert len(rates) == job.EPOCHS * len(run_of.batches(0)) == 630
    assert rates[0] == job.RATE
    assert np.all(np.diff(rates) < 0)
    assert 0 < rates[-1] < 1e-7


EPOCHS = [{"seconds": 1.0, "loss": 0.5, "accuracy": a} for a in (0.9, 0.945, 0.94)]
SHORT = [{**epoch, "accuracy": epoch["accuracy"] - 0.01} for epoch in EPOCHS]


def test_time_to_an_accuracy_counts_the_runs_that_miss_it() -> None:
    found = main_job.times_to_accuracy([EPOCHS, SHORT, [{**e, "seconds": 2.0} for e in EPOCHS]])
    assert found["seconds"] == [2.0, None, 4.0]
    assert (found["missed"], found["median"], found["low"], found["high"]) == (1, 3.0, 2.0, 4.0)
    never = main_job.times_to_accuracy([SHORT])
    assert (never["missed"], never["median"]) == (1, None)
    libraries = {"fastnn": {"time_to_accuracy": found}, "torch": {"time_to_accuracy": never}}
    text = main_job.accuracy_lines(libraries, TITLES)
    assert text[0].startswith("  time to 94.5% of the test digits, 3 seeds")
    assert text[1].endswith("3.00 s (2.00 to 4.00); 1 of 3 runs missed it")
    assert text[2].endswith("never; 1 of 1 runs missed it")


class Trained:
    """A worker of the main job that answers with these losses."""

    def __init__(self, name: str, losses: list[float], commands: list[str]) -> None:
        self.peer, self.losses, self.about = Peer(name, name, "none"), losses, {"commands": commands}
        self.asked: list[str] = []

    def ask(self, do: str, steps: int = 0, **arguments: Any) -> Any:
        self.asked.append(do)
        if do == "compare":
            return {"worst": 0.0, "followed": 0, "agrees": True}
        return {"losses": self.losses[:steps], **EPOCHS[1]}

    def wait_until_quiet(self) -> None:
        pass


def test_a_library_whose_first_losses_differ_is_named_and_not_trained() -> None:
    right = [1.0] * main_job.STEPS
    workers: Any = [
        Trained("fastnn", right, []),
        Trained("numpy", right, ["compare"]),
        Trained("torch", right, []),
        Trained("jax", [1.0, 1.0, 1.0001], []),
    ]
    found = main_job.run(workers[0], workers[1:], [0, 1])
    assert list(found["libraries"]) == ["fastnn", "numpy", "torch"]
    assert found["wrong"] == pytest.approx({"jax": 1e-4})
    assert workers[3].asked == ["first_losses"]
    text = "\n".join(main_job.lines({**found, "share": 0.5}, TITLES))
    assert "JAX was not trained: its first 3 losses are off by 1.0e-04" in text
    # Beside fastnn, only NumPy's runs must reach the accuracy; those of the others are counted.
    assert {problem.split(":")[0] for problem in found["problems"]} <= {"fastnn", "numpy"}


@pytest.mark.parametrize("mode", ["training", "full"])
def test_accuracy_picture_shows_every_library_and_what_it_missed(mode: str) -> None:
    pytest.importorskip("matplotlib")
    names, runs = ("fastnn", "numpy", "torch"), [EPOCHS, SHORT]
    reached = {"time_to_accuracy": main_job.times_to_accuracy(runs)}
    found = {
        "options": {"mode": mode, "isa": "avx2", "threads": 2},
        "machine": {"cpu": "A CPU"},
        "date": "2026-01-02",
        "peers": {name: {"title": TITLES[name]} for name in names},
        "main_job": {
            "network": "784-256-128-10",
            "batch": 128,
            "epochs": 3,
            "libraries": dict.fromkeys(names, reached),
            "runs": [{"seed": i, "epochs": dict.fromkeys(names, epochs)} for i, epochs in enumerate(runs)],
        },
    }
    above, below = plot_training.accuracy(found).axes
    assert [text.get_text() for text in above.get_legend().get_texts()] == [TITLES[name] for name in names]
    labels = [text.get_text() for text in below.get_yticklabels()]
    assert labels == [f"{TITLES[name]}: 2 s\n1 of 2 missed it" for name in names]


# ---- the rest


def test_memory_of_many_steps_and_first_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for how in ("fit", "step"):
        grown = fastnn_conditions.memory_growth(how, steps=20, rows=32 * 8)["grown"]
        assert abs(grown) < 50e6
    monkeypatch.setattr(conditions, "FIRST_CALLS", 1)
    (found,) = conditions.first_steps([FASTNN], 1)
    assert found["name"] == "64-64-64-10, batch 32: time to first step, fastnn"
    assert 0 < found["value"] < 60_000


def test_rounds_bound_every_mode() -> None:
    options = run.parser().parse_args(["--only", "training"])
    options.mode = "training"
    assert run.budget(options, "step") == run.TRAINING
    options.rounds = 2
    assert run.budget(options, "step") == timing.Budget(2, 2)


def test_small_digits_of_scikit_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = pytest.importorskip("peers.sklearn_peer", reason="scikit-learn", exc_type=ImportError)
    monkeypatch.setattr(small_digits, "EPOCHS", 10)
    peer.share_small_digits(str(tmp_path))
    X, Y, X_test, _ = small_digits.parts(str(tmp_path))
    assert (X.shape, Y.shape, len(X_test), X.dtype) == ((1400, 64), (1400,), 397, np.float32)
    assert X.min() == 0
    assert X.max() == 1
    fits = [side.small_digits(str(tmp_path), seed=0) for side in (fastnn_job, peer)]
    assert all(fit["accuracy"] > 0.8 and fit["seconds"] > 0 for fit in fits)


@pytest.mark.parametrize("other, equal", [(0.98, True), (0.97, False)])
def test_unequal_accuracies_of_small_digits_are_named(other: float, equal: bool) -> None:
    class Fits(Trained):
        def ask(self, do: str, **arguments: Any) -> Any:
            return {"seconds": self.losses[0], "accuracy": self.losses[1]}

    workers: Any = Fits("fastnn", [1.0, 0.982], []), Fits("sklearn", [2.0, other], [])
    found = small_digits.run(*workers, seeds=[0, 1])
    assert found["equal"] == equal
    assert found["ratio"]["median"] == 2.0
    assert any("PROBLEM" in line for line in small_digits.lines(found, TITLES)) == (not equal)
