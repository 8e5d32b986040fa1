"""What fastnn costs in conditions that its table does not show: few threads, other work on the cores, awkward
strides, denormals, a new process. Each is a figure beside the bound it is held to (docs/performance.md).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np

import cases
from peers.peer import Peer
from timing import Budget, check, ratio, thread_turns
from worker import Worker

ROUNDS, FIRST_CALLS = 30, 3
# A turn of a training step is an epoch: fewer of them say as much.
GAIN, BUSY_TURNS = Budget(least=3, most=15, seconds=6), Budget(least=16, most=160, seconds=20)
LEAST_GAIN = 0.98
FIRST = "GEMM 128x784x256 (first layer)"
CALL = "GEMM 8x8x8 (the call)"
FIRST_STEP = cases.networks.FIRST_STEP.name
MEMORY_STEPS = 100_000
SMALL_STEP = 2e-3  # seconds: in longer steps a microsecond cannot be told
# What is timed while other processes use every core: a product, both kinds of streams, a loss, a whole step.
BUSY = (
    "GEMM 512x512x512",
    "batch-norm forward (512, 2048)",
    "Adam 1 million",
    "softmax cross-entropy 512x1000",
    "step 784-256-128-10 with BN, batch 128",
)
Row = dict[str, Any]


def row(name: str, values: Sequence[float], unit: str, *, most: float | None = None, **more: Any) -> Row:
    """A figure: the median of `values` and their 10 to 90 % range; `most` (or `least`): its bound."""
    low, middle, high = (float(q) for q in np.percentile(values, [10, 50, 90]))
    return {"name": name, "value": middle, "low": low, "high": high, "unit": unit, "most": most, **more}


def gain(fastnn: Worker, threads: int, rounds: int | None) -> dict[str, Any]:
    """How many times as fast the case that fastnn's worker has prepared is on all threads as on one."""
    own, one = thread_turns(fastnn, threads, Budget(rounds, rounds) if rounds else GAIN)
    return asdict(ratio(one, own))


def measure(fastnn: Worker, rows: Sequence[Row], rounds: int | None) -> list[Row]:
    """All of them but the first calls; `rows` are those of the cases."""
    n = rounds or ROUNDS
    found = of_training(fastnn, rows, rounds) + call(rows)
    if fastnn.about["info"]["threads"] > 1:
        found += busy_cores(fastnn, Budget(rounds, rounds) if rounds else BUSY_TURNS)
        seconds = fastnn.ask("fork_join", rounds=10 * n)
        found += [
            row("an empty region, workers awake", [1e6 * s for s in seconds["hot"]], "us", most=1.0),
            row("an empty region, workers asleep", [1e6 * s for s in seconds["parked"]], "us", most=10.0),
        ]
    seconds = fastnn.ask("alternating", rounds=max(1, n // 2))
    shares = np.divide(seconds["both"], np.add(seconds["matmul"], seconds["step"]))
    found.append(row("np.matmul 256^3 and a step in turn, over the sum of both alone", shares, "x", most=1.2))
    for name, (power, more) in fastnn.ask("strides", rounds=n).items():
        found.append(row(f"{name}: row stride 1024 over 1040", np.divide(power, more), "x", most=1.1))
    for name, (denormal, normal) in fastnn.ask("denormals", rounds=10 * n).items():
        found.append(
            row(f"{name}: denormal moments over normal ones", np.divide(denormal, normal), "x", most=1.2)
        )
    return [*found, *passes(fastnn, n)]


def passes(fastnn: Worker, rounds: int) -> list[Row]:
    """What rides on a product, and activations beside a copy stream and in cache."""
    found = []
    for name, (fused, plain) in fastnn.ask("epilogues", rounds=rounds).items():
        most = 1.05 if "x128x" in name else 1.03  # of a sum of 128 terms, of more
        found.append(row(f"{name}: with bias and ReLU over without", np.divide(fused, plain), "x", most=most))
    others = {}
    for name, (own, copy) in fastnn.ask("copies", rounds=rounds).items():
        if name.endswith("L2"):
            found.append(row(f"{name}, beyond a copy", 1e6 * np.subtract(own, copy), "us", most=1.5))
        elif "relu" in name:
            found.append(row(f"{name}, over a copy", np.divide(own, copy), "x", most=1.18))
        else:
            others[name] = np.divide(own, copy)
    name = max(others, key=lambda one: float(np.median(others[one])))
    title = f"activations that take exponentials, over a copy, slowest of {len(others)}: {name}"
    found.append(row(title, others[name], "x", most=1.18))
    times = fastnn.ask("exponentials", rounds=rounds)
    slowest = max(times, key=lambda kind: float(np.median(times[kind])))
    name = f"16 numbers in cache on one thread, slowest of {len(times)} activations: {slowest}"
    return [*found, row(name, 1e9 * np.array(times[slowest]), "ns", most=2.2)]


def fusions(fastnn: Worker, rounds: int) -> list[Row]:
    """What each fusion gives: its parts one by one over the fused call; and what lowering costs."""
    found = [
        row(f"{name}: kernels one by one over fused", np.divide(parts, fused), "x")
        for name, (fused, parts) in fastnn.ask("fusions", rounds=rounds).items()
    ]
    seconds = fastnn.ask("lowering", rounds=rounds)["seconds"]
    return [*found, row("lowering a network of 20 Linear layers", [1e3 * s for s in seconds], "ms", most=1.0)]


def of_training(fastnn: Worker, rows: Sequence[Row], rounds: int | None) -> list[Row]:
    """Those that a run of the training alone has as well."""
    return one_thread(rows) + training(fastnn, rows, MEMORY_STEPS) + fusions(fastnn, rounds or ROUNDS)


def call(rows: Sequence[Row]) -> list[Row]:
    """A product that is too small to matter."""
    return [
        row(
            case["name"],
            [1e9 * s for s in (*case["spreads"]["fastnn"], case["seconds"]["fastnn"])],
            "ns",
            most=250,
        )
        for case in rows
        if case["name"] == CALL
    ]


def one_thread(rows: Sequence[Row]) -> list[Row]:
    """The lowest gain of all cases by more threads: 1 is none, below 1 they are in the way.

    Pairs of turns that both use one thread (small cases) differ by a few percent too, so a case is `below`
    the bound only when the whole range of its pairs is.
    """
    gains = {case["name"]: case["one_thread"] for case in rows if "one_thread" in case}
    if not gains:
        return []
    lowest = min(gains, key=lambda name: gains[name]["median"])
    found = gains[lowest]
    return [
        {
            "name": f"all threads over 1, lowest of {len(gains)}: {lowest}",
            "value": found["median"],
            "low": found["low"],
            "high": found["high"],
            "unit": "x",
            "most": None,
            "least": LEAST_GAIN,
            "below": sorted(name for name, gain in gains.items() if gain["high"] < LEAST_GAIN),
        }
    ]


@contextmanager
def busy(count: int) -> Iterator[None]:
    """A process that computes for ever on each of the first `count` cores that this one may use."""
    spin = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"
    cores = sorted(os.sched_getaffinity(0))[:count]
    others = [subprocess.Popen([sys.executable, "-c", spin, str(core)]) for core in cores]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def training(fastnn: Worker, rows: Sequence[Row], steps: int) -> list[Row]:
    """What a step in a loop costs beyond one of a fit, where a step is short; how the memory grows."""
    found = [
        {
            "name": f"{case['name'].removeprefix('step ')}: Trainer.step beyond a step of fit",
            **dict(zip(("low", "value", "high"), (1e6 * s for s in case["loop_seconds"]), strict=True)),
            "unit": "us",
            "most": 1.0,
        }
        for case in rows
        if "loop_seconds" in case and case["seconds"]["fastnn"] < SMALL_STEP
    ]
    for how in ("fit", "step"):
        grown = fastnn.ask("memory_growth", how=how, steps=steps)["grown"]
        name = f"resident memory after {steps:,} more steps of {how}"
        found.append(row(name, [grown / 1e6], "MB", most=1.0))
    return found


def busy_cores(fastnn: Worker, budget: Budget) -> list[Row]:
    """Time on all threads over time on one, while every core has other work too.

    A turn is shorter than the system's time slices, so single pairs say nothing: sums of many are compared.
    """
    threads = fastnn.about["info"]["threads"]
    found = []
    for name in BUSY:
        case = cases.BY_NAME[name]
        check(case, fastnn, case.expectation())
        with busy(threads):
            own, one = (np.array(seconds) for seconds in thread_turns(fastnn, threads, budget))
        groups = min(8, len(own))
        parts = [a.sum() / b.sum() for a, b in zip(np.array_split(own, groups), np.array_split(one, groups))]
        figure = row(f"{name}: all threads over 1, every core busy", parts, "x", most=1.3)
        found.append({**figure, "value": float(own.sum() / one.sum())})
    return found


def imports() -> list[float]:
    """Milliseconds of `import fastnn` in new processes that find bytecode, as pip leaves it."""
    code = "import time; begin = time.perf_counter(); import fastnn; print(time.perf_counter() - begin)"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", code]
    seconds = [float(subprocess.check_output(command, text=True, env=env)) for _ in range(FIRST_CALLS + 1)]
    return [1e3 * s for s in seconds[1:]]


def first_calls(peers: Sequence[Peer], threads: int) -> list[Row]:
    """In new processes: fastnn's import; of each library, import and first call of a product beyond NumPy's
    import, and its memory then."""
    found = [row("import fastnn, NumPy's import in it", imports(), "ms", most=150)]
    for peer in peers:
        replies = in_new_processes(peer, threads, FIRST)
        if replies:
            seconds = [1e3 * (r["import_seconds"] + r["seconds"]) for r in replies]
            found.append(row(f"import and first call, {peer.title}", seconds, "ms"))
            found.append(row(f"peak memory after it, {peer.title}", [r["peak"] / 1e6 for r in replies], "MB"))
    return found


def first_steps(peers: Sequence[Peer], threads: int) -> list[Row]:
    """From arrays to the end of the first training step in a new process: building the network and its
    optimizer, lowering or compiling, and the step."""
    name = FIRST_STEP.removeprefix("first step ")
    return [
        row(f"{name}: time to first step, {peer.title}", [1e3 * r["seconds"] for r in replies], "ms")
        for peer in peers
        if (replies := in_new_processes(peer, threads, FIRST_STEP))
    ]


def in_new_processes(peer: Peer, threads: int, case: str) -> list[dict[str, Any]]:
    """The replies of new processes to a first call of a case; none where the library has no such thing."""
    replies: list[dict[str, Any]] = []
    for _ in range(FIRST_CALLS):
        with Worker(peer, threads) as worker:
            if worker.absent or cases.BY_NAME[case].op not in worker.about["ops"]:
                break
            reply = worker.ask("first_call", case=case)
            replies.append({**reply, "import_seconds": worker.about["import_seconds"]})
    return replies


def missed(found: Row) -> bool:
    """Whether a figure is beyond its bound."""
    most = found["most"]
    return bool(found.get("below")) or (most is not None and found["value"] > most)


def _text(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def lines(found: Sequence[Row]) -> list[str]:
    """The table for the terminal."""
    text = ["", f"{'Conditions':<74}{'figure':>9}  {'10 to 90 %':<15} bound"]
    for item in found:
        most, least = item["most"], item.get("least")
        bound = f"at least {least:g}" if least is not None else "" if most is None else f"at most {most:g}"
        unit = "" if item["unit"] == "x" else f" {item['unit']}"
        spread = f"{_text(item['low'])}-{_text(item['high'])}"
        text.append(
            f"  {item['name']:<72}{_text(item['value']):>9}{unit}  {spread:<15} {bound}"
            f"{': missed' if missed(item) else ''}".rstrip()
        )
        if item.get("below"):
            text.append(f"    below {least:g}: {', '.join(item['below'])}")
    return text
