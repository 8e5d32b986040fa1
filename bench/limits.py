"""What this machine can do at most, measured in the same run, and each result as a share of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cases.case import Case
from worker import Worker

# A result above its limit means that the yardstick, the count of the work or the clock is wrong.
HIGHEST_SHARE = 1.02
SURVEYS, REMEASURE = 2, 8
STREAMS = ("read", "copy", "update")
IN_DRAM = 4  # times the size of L3: arrays of which next to nothing stays there


class LimitError(RuntimeError):
    """A result beats the limit of the machine: nothing of the run is to be believed."""


def cache_bytes(level: int) -> int:
    """Size of the data cache of this level as the kernel tells it; 0 where it does not."""
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, at = (index / "type").read_text().strip(), int((index / "level").read_text())
            size = (index / "size").read_text().strip()
        except (OSError, ValueError):
            continue
        if at == level and kind != "Instruction":
            return int(size.rstrip("KM")) * {"K": 1 << 10, "M": 1 << 20}.get(size[-1], 1)
    return 0


def level_footprints(threads: int) -> dict[str, float]:
    """Bytes, of all threads together, that lie in L2, in L3 and in DRAM for sure."""
    l2, l3 = cache_bytes(2) or 512 << 10, cache_bytes(3) or 16 << 20
    return {
        "L2": threads * l2 / 2,
        "L3": max(threads * l2 * 2, min(threads * (4 << 20), l3 / 2)),
        "DRAM": max(256 << 20, 6.0 * l3),
    }


@dataclass
class Limits:
    """The yardsticks of one run; every figure is the best that was seen, since other work only slows them.

    `worker` is fastnn's: its compiled module has the loops.
    """

    worker: Worker
    isa: str
    threads: int
    fma: dict[str, dict[int, float]] = field(default_factory=dict)
    bf16: float = 0.0  # the FMA peak of bfloat16, all threads; that of float32 where the ISA has no other
    streams: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    overhead: dict[str, float] = field(default_factory=dict)
    _footprints: dict[tuple[str, float], float] = field(default_factory=dict)

    def survey(self, isas: list[str]) -> None:
        """FMA peak of every instruction set, streams at every level, for 1 and all threads; call overhead."""
        counts = sorted({1, self.threads})
        for _ in range(SURVEYS):
            for isa in isas:
                peaks = self.fma.setdefault(isa, {})
                for n in counts:
                    peaks[n] = max(peaks.get(n, 0.0), self._measure("fma", isa, n))
            for level in level_footprints(1):
                for n in counts:
                    rates = self.streams.setdefault(level, {}).setdefault(n, {})
                    for kind in STREAMS:
                        rate = self._measure(kind, self.isa, n, level_footprints(n)[level])
                        rates[kind] = max(rates.get(kind, 0.0), rate)
        self.overhead = self.worker.ask("call_overhead")

    def measure_for(self, case: Case) -> None:
        """Measures again what this case is held against; called before and after its timing."""
        if case.stream is None:
            self.measure_peak(case.bfloat16)
            return
        for kind in ("read", case.stream.kind):
            key = kind, case.stream.footprint
            rate = self._measure(kind, self.isa, self.threads, case.stream.footprint)
            self._footprints[key] = max(self._footprints.get(key, 0.0), rate)

    def measure_peak(self, bfloat16: bool = False) -> None:
        """Measures the FMA peak again, or that of bfloat16."""
        if bfloat16:
            self.bf16 = max(self.bf16, self._measure("bf16", self.isa, self.threads))
            return
        seen = self.fma[self.isa]
        seen[self.threads] = max(seen[self.threads], self._measure("fma", self.isa, self.threads))

    def arithmetic_floor(self, flops: float, bfloat16: bool = False) -> float:
        """Seconds that `flops` take at the FMA peak, or at that of bfloat16."""
        return flops / (self.bf16 if bfloat16 else self.fma[self.isa][self.threads])

    def floor(self, case: Case) -> float:
        """Seconds below which no implementation can be.

        Arithmetic: flops at the FMA peak. Memory, R bytes read and W written: the reads alone at the speed of
        a reading stream, and W reads with W writes, which a copying (or updating) stream does and nothing
        else.
        """
        arithmetic = self.arithmetic_floor(case.flops, case.bfloat16)
        if case.stream is None:
            return arithmetic
        traffic = case.stream
        read = traffic.read / self._rate("read", traffic.footprint)
        both = 2 * min(traffic.read, traffic.written) / self._rate(traffic.kind, traffic.footprint)
        return max(arithmetic, read, both)

    def stream_share(self, case: Case, seconds: float) -> float | None:
        """The bytes that the targets count (`Stream.yardstick`) at the speed of the stream, as a share of the
        time taken; not a limit: who keeps more in cache is above 1."""
        if case.stream is None or case.stream.yardstick is None:
            return None
        traffic = case.stream
        return traffic.yardstick / self._rate(traffic.kind, traffic.footprint) / seconds

    def _rate(self, kind: str, footprint: float) -> float:
        """The best that was seen at this footprint; all that lie in DRAM are alike."""
        least = IN_DRAM * cache_bytes(3)
        if not 0 < least <= footprint:
            return self._footprints[kind, footprint]
        alike = [rate for (what, size), rate in self._footprints.items() if what == kind and size >= least]
        return max(*alike, self.streams.get("DRAM", {}).get(self.threads, {}).get(kind, 0.0))

    def share(self, case: Case, seconds: float) -> float:
        """The floor as a share of the time taken: 1 is perfect, more is an error (`LimitError`)."""
        return checked_share(
            case.name, lambda: self.floor(case), seconds, again=lambda: self.measure_for(case)
        )

    def as_json(self) -> dict[str, Any]:
        return {"fma": self.fma, "streams": self.streams, "overhead": self.overhead, "isa": self.isa}

    def _measure(self, kind: str, isa: str, threads: int, footprint: float = 0) -> float:
        reply = self.worker.ask("limit", kind=kind, isa=isa, threads=threads, footprint=footprint)
        rate: float = reply["rate"]
        if not rate > 0 and isa == self.isa:
            raise LimitError(
                f"the limit {kind!r} of {isa} was measured as {rate}; no share of it can be told"
            )
        return rate


def checked_share(
    name: str, floor: Callable[[], float], seconds: float, again: Callable[[], None] = lambda: None
) -> float:
    """`floor() / seconds`, or LimitError when that is above 1.02.

    Other work on the machine can hide the limit while it is measured, so `again` measures it a few times more
    before the run is given up.
    """
    for _ in range(REMEASURE):
        if floor() / seconds <= HIGHEST_SHARE:
            break
        again()
    share = floor() / seconds
    if share > HIGHEST_SHARE:
        raise LimitError(
            f"{name}: {share:.2f} of the machine's limit is impossible (allowed: {HIGHEST_SHARE}); it took "
            f"{seconds:.3g} s, the limit is {floor():.3g} s. The yardstick or the timing is wrong: stop "
            "other work on this machine and run again"
        )
    return share


def lines(limits: Mapping[str, Any]) -> list[str]:
    """The table of `Limits.as_json()` for the terminal."""
    text = ["", "This machine's limits (measured now)"]
    for isa, by_threads in limits["fma"].items():
        rates = ", ".join(
            f"{n} thread{'s' * (int(n) > 1)} {rate / 1e9:.3g}" for n, rate in by_threads.items()
        )
        text.append(f"  FMA {isa:<10} GFLOP/s  {rates}")
    for level, by_threads in limits["streams"].items():
        for n, rates in by_threads.items():
            values = "  ".join(f"{kind} {rate / 1e9:5.0f}" for kind, rate in rates.items())
            text.append(f"  {level:<5} GB/s, {n} thread{'s' * (int(n) > 1):<1}   {values}")
    overhead = limits["overhead"]
    if overhead:
        text.append(
            f"  empty call {overhead['empty_call'] * 1e9:.0f} ns, empty parallel region "
            f"{overhead['fork_join'] * 1e6:.2f} us"
        )
    return text
