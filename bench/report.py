"""The tables for the terminal, and the JSON with everything a reader needs to judge the figures."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from cases.case import Case
from limits import Limits
from timing import Timing, ratio
from worker import Worker

STEP_LOOP = "fastnn-step"  # the peer that is fastnn itself


def case_row(case: Case, timing: Timing, limits: Limits) -> dict[str, Any]:
    """One case as it stands in the JSON; raises LimitError for a share above 1.02."""
    quantiles = {name: timing.quantiles(name) for name in timing.seconds}
    seconds = {name: median for name, (_, median, _) in quantiles.items()}
    own = timing.seconds["fastnn"]
    loop = timing.seconds.get(STEP_LOOP)
    beyond = {} if loop is None else {"loop_seconds": np.percentile(np.subtract(loop, own), [10, 50, 90])}
    return {
        "name": case.name,
        "group": case.group,
        "sizes": dict(case.sizes),
        "flops": case.flops,
        "bytes": case.traffic,
        "seconds": seconds,
        "spreads": {name: [low, high] for name, (low, _, high) in quantiles.items()},
        "ratios": {
            name: asdict(ratio(times, own)) for name, times in timing.seconds.items() if name != "fastnn"
        },
        "errors": timing.errors,
        "wrong": timing.wrong,
        **{key: value.tolist() for key, value in beyond.items()},
        **limit_figures(case, seconds["fastnn"], limits),
    }


def limit_figures(case: Case, seconds: float, limits: Limits) -> dict[str, Any]:
    """The part of a row that speaks of the machine's limit, as it is known by now."""
    share = limits.share(case, seconds)
    limit = case.stream.kind if case.stream else "fma"
    figures = {"limit": limit, "floor_seconds": share * seconds, "share": share}
    of_stream = limits.stream_share(case, seconds)
    return figures if of_stream is None else {**figures, "stream_share": of_stream}


def time_text(seconds: float) -> str:
    """Seconds in the unit a reader wants.

    >>> time_text(2.5e-7), time_text(1.25e-4), time_text(0.0125)
    ('250 ns', '125 us', '12.5 ms')
    """
    for limit, unit, factor in ((1e-6, "ns", 1e9), (1e-3, "us", 1e6), (1.0, "ms", 1e3)):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def rate_text(row: dict[str, Any]) -> str:
    """GFLOP/s or GB/s of fastnn, by what limits the case."""
    seconds = row["seconds"]["fastnn"]
    amount, unit = (row["flops"], "GFLOP/s") if row["limit"] == "fma" else (row["bytes"], "GB/s")
    return f"{amount / seconds / 1e9:.3g} {unit}"


def ratio_text(found: dict[str, Any] | None) -> str:
    """`2.31 (2.20-2.45)`: median and 10 to 90 % range."""
    return "-" if found is None else f"{found['median']:.2f} ({found['low']:.2f}-{found['high']:.2f})"


def fastest_peer(row: dict[str, Any]) -> str | None:
    """The peer that fastnn's lead over is smallest; None when nobody else does this."""
    peers = [name for name in row["ratios"] if name != STEP_LOOP]
    return min(peers, key=lambda name: row["ratios"][name]["median"], default=None)


def heading(title: str, peers: list[str], titles: dict[str, str]) -> list[str]:
    """The head of a group's table that `line` fills."""
    columns = "".join(f"{titles[name]:>{_width(titles[name])}} " for name in peers)
    return ["", f"{title:<43}{'time':>9}  {'rate':>12}  {'share':>5} {columns}  range*"]


def line(row: dict[str, Any], peers: list[str], titles: dict[str, str]) -> str:
    """One case for the terminal; the star marks the fastest peer, whose range stands at the end."""
    fastest = fastest_peer(row)
    columns = ""
    for name in peers:
        found = row["ratios"].get(name)
        text = "-" if found is None else f"{found['median']:.2f}"
        columns += f"{text:>{_width(titles[name])}}{'*' if name == fastest else ' '}"
    spread = row["ratios"].get(fastest)
    return (
        f"  {row['name']:<41}{time_text(row['seconds']['fastnn']):>9}  {rate_text(row):>12}  "
        f"{row['share']:>5.2f} {columns}  " + (f"{spread['low']:.2f}-{spread['high']:.2f}" if spread else "")
    ).rstrip()


def alone_row(case: Case, timing: Timing) -> dict[str, Any]:
    """A case that fastnn has nothing for, as it stands in the JSON: who did it, and in what time."""
    quantiles = {name: timing.quantiles(name) for name in timing.seconds}
    return {"name": case.name, "quantiles": quantiles, "errors": timing.errors, "wrong": timing.wrong}


def alone_line(row: dict[str, Any], titles: dict[str, str]) -> str:
    """Such a case for the terminal."""
    found = [
        f"{titles[name]} {time_text(middle)} ({time_text(low)}-{time_text(high)})"
        for name, (low, middle, high) in row["quantiles"].items()
    ]
    return f"  {row['name']:<41} not in this fastnn; {', '.join(found) or 'nor in any peer here'}"


def wrong_lines(row: dict[str, Any], titles: dict[str, str]) -> list[str]:
    """A line for each peer that was not timed on this case because its result is off."""
    return [
        f"    {titles[name]} was not timed: its result is off by {error:.1e} of the largest element"
        for name, error in row["wrong"].items()
    ]


def _width(title: str) -> int:
    return max(6, len(title))


EXPLANATION = (
    "Time of a call, share of this machine's limit, and how many times as fast as each peer fastnn is (the\n"
    "median over pairs; below 1 fastnn is slower). *: the fastest peer, and the middle 80 % of its pairs"
)


class OtherWork:
    """How much of the machine others used since this object was made (stolen processor time included).

    Other work slows libraries whose threads spin far more than fastnn: such a run flatters it.
    """

    def __init__(self) -> None:
        self.begin = time.perf_counter(), self._busy(), self._own()

    def share(self) -> float:
        """The share of all processor time; right once the workers have ended."""
        wall, busy, own = self.begin
        passed = (time.perf_counter() - wall) * (os.cpu_count() or 1)
        return max(0.0, (self._busy() - busy) - (self._own() - own)) / passed

    @staticmethod
    def _busy() -> float:
        fields = Path("/proc/stat").read_text().split()[1:9]  # user nice system idle iowait irq softirq steal
        return sum(int(fields[i]) for i in (0, 1, 2, 5, 6, 7)) / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def _own() -> float:
        return sum(os.times()[:4])


def cpu_name(cpuinfo: str) -> str:
    """The model of the first CPU, with its numbers where a virtual machine hides all others.

    >>> cpu_name("cpu family : 26\\nmodel : 2\\nmodel name : AMD EPYC\\n\\nmodel name : another\\n")
    'AMD EPYC (family 26, model 2)'
    >>> cpu_name("cpu family : 25\\nmodel : 1\\nmodel name : AMD EPYC 7B13\\n")
    'AMD EPYC 7B13'
    >>> cpu_name("CPU implementer : 0x41\\n")
    ''
    """
    lines = (line.partition(":") for line in cpuinfo.partition("\n\n")[0].splitlines())
    found = {name.strip(): value.strip() for name, _, value in lines}
    model = found.get("model name", "")
    if not model or any(c.isdigit() for c in model):
        return model
    return f"{model} (family {found['cpu family']}, model {found['model']})"


def machine() -> dict[str, Any]:
    """The machine, in the words of its kernel."""
    model = cpu_name(Path("/proc/cpuinfo").read_text())
    return {
        "cpu": model or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def commit() -> str:
    """The commit of the tree this file stands in, with `+changes` when it is not clean; "unknown" without
    git.
    """
    here = Path(__file__).resolve().parent
    try:
        git = ["git", "-C", str(here)]
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + "+changes" * bool(changed.strip())


def document(
    options: dict[str, Any],
    workers: list[Worker],
    limits: dict[str, Any],
    rows: list[dict[str, Any]],
    alone: list[dict[str, Any]],
    job: dict[str, Any],
    other_work: float,
) -> dict[str, Any]:
    """Everything measured and everything one must know to judge it."""
    return {
        "format": 2,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "options": options,
        "machine": machine(),
        "other_work": other_work,
        "peers": {
            worker.peer.name: {"title": worker.peer.title, "missing": worker.absent, **worker.about}
            for worker in workers
        },
        "limits": limits,
        "cases": rows,
        "peers_alone": alone,
        "main_job": job,
    }


def save(found: dict[str, Any], path: Path) -> None:
    """Writes the JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
