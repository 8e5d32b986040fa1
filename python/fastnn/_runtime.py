"""Which instruction set runs, on how many threads, and what was built."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

import numpy as np

from fastnn._core import (
    build_info,
    get_isa,
    get_num_threads,
    isas,
    set_isa,
    set_num_threads,
    workspace_bytes,
)

__version__: str = build_info()["version"]

__all__ = ["get_isa", "get_num_threads", "info", "isas", "set_isa", "set_num_threads", "show_config"]


def info() -> dict[str, Any]:
    """Return what was built and what runs here, as a dict (put it into a bug report).

    What was built: `version`, `build_id`, `compiler`, `flags`, `isas_built`, `isas_left_out`, `cuda` (what
    it was compiled for, or why it is not there). What runs: `isas` (supported here, best first), `isa` (the
    active one), `threads`, `cpus` (those this process may use), `workspace_bytes` (memory that kernels hold
    for reuse, of all threads together; it grows with the largest call and is otherwise never allocated
    again), `python`, `numpy`, `platform`.

    >>> import fastnn
    >>> fastnn.info()["isa"] == fastnn.get_isa()
    True
    """
    return {
        **build_info(),
        "isas": isas(),
        "isa": get_isa(),
        "threads": get_num_threads(),
        "cpus": len(os.sched_getaffinity(0)),
        "workspace_bytes": workspace_bytes(),
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "platform": platform.platform(),
    }


def show_config() -> None:
    """Print `info()`, a line per entry; `python -m fastnn info` does the same."""
    for key, value in info().items():
        if isinstance(value, dict):
            value = [f"{name}: {text}" for name, text in value.items()]
        text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        print(f"{key:<14} {text or 'none'}")
