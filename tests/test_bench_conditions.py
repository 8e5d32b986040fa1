"""The conditions of a full benchmark run: each line is what it says, and a missed bound is named."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from typing import Any

import fastnn
import numpy as np
import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
if not BENCH.is_dir():
    pytest.skip("the benchmark is not in this tree", allow_module_level=True)
sys.path.insert(0, str(BENCH))

import cases  # noqa: E402
import conditions  # noqa: E402
import limits  # noqa: E402
import run  # noqa: E402
import timing  # noqa: E402
from peers import FASTNN, NUMPY, fastnn_conditions, fastnn_fusions  # noqa: E402
from peers.peer import Peer  # noqa: E402
from worker import Worker, WorkerError  # noqa: E402

REPLIES: dict[str, Any] = {
    "fork_join": {"hot": [5e-7, 6e-7], "parked": [11e-6, 12e-6]},
    "alternating": {"matmul": [1.0, 1.0], "step": [2.0, 2.0], "both": [3.3, 3.3]},
    "strides": {"GEMM": [[1.2, 1.2], [1.0, 1.0]]},
    "memory_growth": {"grown": 2_000_000},
    "fusions": {"product": [[1.0, 1.0], [1.5, 1.7]]},
    "lowering": {"seconds": [5e-4, 1.3e-3]},
    "denormals": {"Adam": [[1.1, 1.1], [1.0, 1.0]]},
    "epilogues": {"GEMM 2x128x2": [[1.04, 1.04], [1.0, 1.0]], "GEMM 2x256x2": [[1.04, 1.04], [1.0, 1.0]]},
    "exponentials": {"tanh": [2e-9, 2e-9], "gelu": [3e-9, 3e-9]},
    "copies": {
        "relu forward in L2": [[5e-6, 5e-6], [4e-6, 4e-6]],
        "relu forward in DRAM": [[1.1, 1.1], [1.0, 1.0]],
        "tanh forward in DRAM": [[1.2, 1.2], [1.0, 1.0]],
        "gelu backward in DRAM": [[1.1, 1.1], [1.0, 1.0]],
    },
}


class Answers:
    """A worker with these replies."""

    def __init__(self, peer: Peer) -> None:
        self.peer, self.about = peer, {"info": {"threads": 2}}

    def ask(self, do: str, rounds: int = 1, **arguments: Any) -> Any:
        assert rounds > 0
        return REPLIES[do]


def measured(monkeypatch: pytest.MonkeyPatch, own: float, one: float) -> list[dict[str, Any]]:
    """All conditions, as if fastnn took `own` seconds on all threads of busy cores and `one` on one."""
    monkeypatch.setattr(conditions, "thread_turns", lambda *_: ([own] * 8, [one] * 8))
    monkeypatch.setattr(conditions, "check", lambda *_: 0.0)
    rows = [
        {
            "name": "step a",
            "one_thread": {"median": 0.97, "low": 0.96, "high": 0.975},
            "seconds": {"fastnn": 1e-5},
            "loop_seconds": [0.9e-6, 1.2e-6, 2e-6],
        },
        {
            "name": "step b",
            "one_thread": {"median": 1.9, "low": 1.8, "high": 2.0},
            "seconds": {"fastnn": 0.1},  # too long for microseconds to be told
            "loop_seconds": [-1e-3, 2e-3, 5e-3],
        },
        {"name": "c", "one_thread": {"median": 0.95, "low": 0.9, "high": 1.0}},
        {
            "name": conditions.CALL,
            "seconds": {"fastnn": 2.6e-7},
            "spreads": {"fastnn": [2.4e-7, 2.8e-7]},
        },
    ]
    return conditions.measure(Answers(FASTNN), rows, rounds=8)  # type: ignore[arg-type]


def test_figures_beyond_their_bounds_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {item["name"]: item for item in measured(monkeypatch, own=1.4, one=1.0)}
    missed = sorted(name for name, item in found.items() if conditions.missed(item))
    busy = [name for name in missed if name.endswith("every core busy")]
    assert len(busy) == len(conditions.BUSY)
    assert [name for name in missed if name not in busy] == [
        "16 numbers in cache on one thread, slowest of 2 activations: gelu",
        "GEMM 2x256x2: with bias and ReLU over without",
        "GEMM 8x8x8 (the call)",
        "GEMM: row stride 1024 over 1040",
        "a: Trainer.step beyond a step of fit",
        "activations that take exponentials, over a copy, slowest of 2: tanh forward in DRAM",
        "all threads over 1, lowest of 3: c",
        "an empty region, workers asleep",
        "resident memory after 100,000 more steps of fit",
        "resident memory after 100,000 more steps of step",
    ]
    assert found["relu forward in L2, beyond a copy"]["value"] == pytest.approx(1.0)
    assert found[conditions.CALL]["value"] == pytest.approx(260)
    assert found["all threads over 1, lowest of 3: c"]["below"] == ["step a"]
    (turns,) = (item for name, item in found.items() if name.startswith("np.matmul"))
    assert turns["value"] == pytest.approx(1.1)
    assert found["product: kernels one by one over fused"]["value"] == pytest.approx(1.6)
    text = conditions.lines(list(found.values()))
    assert sum(line.endswith(": missed") for line in text) == len(missed)
    assert "    below 0.98: step a" in text
    assert max(map(len, text)) <= 140


def test_figures_within_their_bounds_are_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured(monkeypatch, own=1.2, one=1.0)
    assert not any(conditions.missed(item) for item in found if item["name"].endswith("busy"))


def test_busy_cores_are_busy_and_then_not() -> None:
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    if not children.exists():
        pytest.skip("this kernel does not tell a process's children")
    before = children.read_text().split()
    with conditions.busy(2):
        assert len(children.read_text().split()) == len(before) + min(2, len(os.sched_getaffinity(0)))
    assert children.read_text().split() == before


def test_what_the_worker_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastnn_conditions, "PARAMETERS", 1000)
    monkeypatch.setattr(fastnn_conditions, "TURN", 1e-5)
    monkeypatch.setattr(fastnn_conditions, "EPILOGUES", [(3, 4, 5)])
    monkeypatch.setattr(fastnn_conditions, "CACHED", 1024)
    monkeypatch.setattr(fastnn_conditions, "COPIES", [("relu", "L2"), ("gelu", "DRAM")])
    monkeypatch.setattr(fastnn_conditions, "PLACES", {"L2": 1024, "DRAM": 2048})
    threads = fastnn.get_num_threads()
    for reply in (
        fastnn_conditions.denormals(2),
        fastnn_conditions.epilogues(2),
        fastnn_conditions.copies(2),
        {"exponentials": list(fastnn_conditions.exponentials(2).values())},
        {name: fastnn_conditions.in_turns([call], 2, 1e-5) for name, call in small_strides().items()},
    ):
        for seconds in reply.values():
            assert all(len(part) == 2 and min(part) > 0 for part in seconds)
    assert fastnn.get_num_threads() == threads
    assert {len(part) for part in fastnn_conditions.fork_join(2, repeats=3).values()} == {2}
    found = fastnn_conditions.alternating(1, size=8, turn=1e-5)
    assert found.keys() == {"matmul", "step", "both"}


def test_fused_calls_and_their_parts_agree() -> None:
    for fused, parts in (
        fastnn_fusions.product(5, 7, 9),
        *fastnn_fusions.batch_norm(6, 20),
        fastnn_fusions.step((4, 8, 3), True, 5),
    ):
        results = [np.array(call()) for call in (fused, parts)]
        assert results[0].any()
        np.testing.assert_allclose(*results, rtol=1e-6)


def test_lowering_is_told_once_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.accumulate([0, 9, 0, 3, 0, 2, 0, 4] * 2)  # four steps a round: of 9, 3, 2 and 4 seconds
    monkeypatch.setattr("peers.fastnn_fusions.time.perf_counter", lambda: next(ticks))
    assert fastnn_fusions.lowering(2)["seconds"] == [7, 7]


def small_strides() -> dict[str, Any]:
    return fastnn_conditions.stride_calls(fastnn_conditions.POWER + fastnn_conditions.MORE, rows=8)


def test_rows_lie_a_stride_apart() -> None:
    rows = fastnn_conditions._rows(np.random.default_rng(0), 3, 1040)
    assert rows.shape == (3, 1024)
    assert rows.strides == (4160, 4)


def test_first_calls_of_new_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "FIRST_CALLS", 1)
    found = conditions.first_calls([FASTNN, NUMPY], 1)
    assert [item["unit"] for item in found] == ["ms", *["ms", "MB"] * 2]
    assert (found[0]["name"], found[0]["most"]) == ("import fastnn, NumPy's import in it", 150)
    assert all(item["value"] > 1 for item in found)


def test_turns_on_all_threads_and_on_one() -> None:
    with Worker(FASTNN, 2) as worker:
        case = cases.BY_NAME["GEMM 64x64x64"]
        timing.check(case, worker, case.expectation())
        own, one = timing.thread_turns(worker, 2, timing.Budget(3, 3))
        assert len(own) == len(one) == 3
        assert min(own + one) > 0
        assert conditions.gain(worker, 2, 2)["pairs"] == 2
        with pytest.raises(WorkerError, match="set_num_threads"):
            worker.ask("set_threads", threads=0)


def test_cases_of_the_conditions_exist() -> None:
    assert cases.BY_NAME.keys() >= {*conditions.BUSY, conditions.FIRST}


@pytest.mark.parametrize(("hidden", "attempts"), [(0, 1), (2, 3), (3, 3)])
def test_a_case_above_its_limit_is_timed_again(hidden, attempts, monkeypatch) -> None:
    """The limit is hidden while a case is measured so many times; after the third the run is given up."""
    turns: list[str] = []

    def take_turns(case, workers, budget):
        turns.append(case.name)
        return timing.Timing({"fastnn": [1.0]}, {}, {})

    class Machine:
        def measure_for(self, case) -> None: ...

    def case_row(case, timing, machine):
        if len(turns) <= hidden:
            raise limits.LimitError("hidden")
        return {"name": case.name}

    monkeypatch.setattr(run, "take_turns", take_turns)
    monkeypatch.setattr(run.report, "case_row", case_row)
    if hidden == 3:
        with pytest.raises(limits.LimitError):
            run._time_case(cases.ALL[0], [], Machine(), run.QUICK)
    else:
        assert run._time_case(cases.ALL[0], [], Machine(), run.QUICK)[1] == {"name": cases.ALL[0].name}
    assert len(turns) == attempts
