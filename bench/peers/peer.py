"""What a peer offers to its worker process, and how that process is started."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cases.case import Arrays


@dataclass
class Prepared:
    """A case made ready by a peer: `call()` does `steps` steps, `results()` shows what came out."""

    call: Callable[[], object]
    results: Callable[[], Arrays]
    steps: int = 1


# setup(inputs, sizes, lr) -> Prepared: arrays in the peer's own form, nothing left to allocate while timing.
# None: the library has nothing to do this case with.
Setup = Callable[[Arrays, Mapping[str, Any], float], "Prepared | None"]


@dataclass(frozen=True)
class Peer:
    """A library to time, in a process of its own.

    `module` (in bench/peers) has `describe(threads) -> dict`, a `Setup` under the name of every op the
    library has, and may have `COMMANDS: dict[str, Callable[..., dict]]`; importing it imports the library.
    """

    name: str
    title: str
    module: str
    environment: Mapping[str, str] = field(default_factory=dict)
    needs_cpu_flag: str | None = None

    def not_applicable(self) -> str | None:
        """Why this peer says nothing on this CPU, or None."""
        if self.needs_cpu_flag is None or self.needs_cpu_flag in cpu_flags():
            return None
        return f"not applicable: this CPU has no {self.needs_cpu_flag}"

    def process_environment(self, threads: int, isa: str | None) -> dict[str, str]:
        """The environment of the worker: the same number of threads for all, OpenBLAS as shipped."""
        env = {key: value for key, value in os.environ.items() if key != "OPENBLAS_CORETYPE"}
        for variable in ("OMP", "OPENBLAS", "MKL", "FASTNN"):
            env[f"{variable}_NUM_THREADS"] = str(threads)
        if isa is not None:
            env["FASTNN_ISA"] = isa
        return {**env, **self.environment}


def cpu_flags() -> set[str]:
    """The CPU's features as Linux names them; empty where it names none (aarch64)."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    lines = (line.partition(":") for line in text.splitlines())
    return next((set(value.split()) for key, _, value in lines if key.strip() == "flags"), set())
