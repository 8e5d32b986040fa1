"""The limits of a machine, and the shares of them that the benchmark tells."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
if not BENCH.is_dir():
    pytest.skip("the benchmark is not in this tree", allow_module_level=True)
sys.path.insert(0, str(BENCH))

import cases  # noqa: E402
import limits  # noqa: E402


def test_share_above_the_limit_aborts() -> None:
    assert limits.checked_share("case", lambda: 1.02, seconds=1.0) == 1.02
    with pytest.raises(limits.LimitError, match=r"GEMM: 1\.03 of the machine's limit is impossible"):
        limits.checked_share("GEMM", lambda: 1.03, seconds=1.0)
    floors = [1.5, 1.2]  # a limit that other work had hidden: measuring again finds it
    assert limits.checked_share("case", lambda: floors[-1], 1.0, lambda: floors.append(0.9)) == 0.9


class SteadyWorker:
    """Measures the same limits for ever: 100 GFLOP/s, 200 in bfloat16, streams of 10 (read) and 8 GB/s."""

    def ask(self, do: str, kind: str = "", **arguments: Any) -> dict[str, float]:
        rate = {"fma": 100e9, "bf16": 200e9, "read": 10e9}.get(kind, 8e9)
        return {"rate": rate, "empty_call": 5e-8, "fork_join": 1e-6}


def test_floor_of_arithmetic_and_of_memory() -> None:
    worker: Any = SteadyWorker()
    machine = limits.Limits(worker, "avx2", 2)
    machine.survey(["avx2", "scalar"])
    chosen = [cases.BY_NAME[n] for n in ("GEMM 512x512x512", "GEMM bf16 128x128x128", "Adam 1 million")]
    for case in chosen:
        machine.measure_for(case)
    floors = [2 * 512**3 / 100e9, 2 * 128**3 / 200e9, max(16e6 / 10e9, 24e6 / 8e9)]
    assert [machine.floor(case) for case in chosen] == pytest.approx(floors)
    assert "100, 2 threads 100" in "\n".join(limits.lines(json.loads(json.dumps(machine.as_json()))))


class SlowSpells(SteadyWorker):
    """Streams are at half their speed over 300 MB."""

    def ask(self, do: str, kind: str = "", **arguments: Any) -> dict[str, float]:
        found = super().ask(do, kind, **arguments)
        slow = kind != "fma" and arguments.get("footprint") == 3e8
        return {**found, "rate": found["rate"] / 2} if slow else found


def test_arrays_in_memory_have_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "cache_bytes", lambda level: 32 << 20)
    worker: Any = SlowSpells()
    machine = limits.Limits(worker, "avx2", 2)
    machine.survey(["avx2"])
    momentum, sgd = cases.BY_NAME["momentum 25 million"], cases.BY_NAME["SGD 25 million"]
    machine.measure_for(momentum)
    assert machine.floor(momentum) == pytest.approx(4e8 / 8e9)  # by the survey
    machine.streams.clear()
    assert machine.floor(momentum) == pytest.approx(4e8 / 4e9)
    machine.measure_for(sgd)
    assert machine.floor(momentum) == pytest.approx(4e8 / 8e9)
    in_cache = cases.BY_NAME["momentum 1 million"]
    machine.measure_for(in_cache)
    machine._footprints["update", in_cache.stream.footprint] = 1e9
    assert machine.floor(in_cache) == pytest.approx(16e6 / 1e9)


def test_batch_norm_is_told_in_passes() -> None:
    worker: Any = SteadyWorker()
    machine = limits.Limits(worker, "avx2", 2)
    machine.survey(["avx2"])
    for way, shape, passes in (
        ("forward", (6272, 256), 2),
        ("forward", (50176, 64), 3),
        ("backward", (50176, 64), 5),
    ):
        case = cases.BY_NAME[f"batch-norm {way} {shape}"]
        machine.measure_for(case)
        assert machine.stream_share(case, 1.0) == pytest.approx(passes * 4 * shape[0] * shape[1] / 8e9)
    assert machine.stream_share(cases.BY_NAME["GEMM 512x512x512"], 1.0) is None
