"""Made-up results of the benchmark, for tests of what is made from such. Needs bench/ on the path."""

from __future__ import annotations

import json
from typing import Any

import cases
from peers import OPTIONAL, TITLES

RATIO = {"median": 3.14159, "low": 2.5, "high": 4.0, "pairs": 30}
EPOCHS = [{"seconds": 0.1, "loss": 0.6, "accuracy": 0.9}, {"seconds": 0.1, "loss": 0.2, "accuracy": 0.952}]
REACHED = {"accuracy": 0.945, "seconds": [0.2], "missed": 0, "median": 0.2, "low": 0.2, "high": 0.2}
LIBRARY = {
    "seconds": 1.25,
    "samples_per_second": 64000.0,
    "accuracy": [0.952],
    "accuracy_mean": 0.952,
    "time_to_accuracy": REACHED,
}
FOUND: dict[str, Any] = {
    "commit": "0123456789abcdef",
    "date": "2026-01-02T03:04:05+00:00",
    "options": {"mode": "quick", "isa": "avx2", "threads": 2},
    "limits": {"fma": {"avx2": {"2": 2e11}}},
    "machine": {"cpu": "A CPU", "cores": 2, "system": "Linux", "python": "3.12"},
    "other_work": 0.02,
    "peers": {
        "fastnn": {"title": "fastnn", "version": "1.0", "detail": "avx2, 2 threads", "missing": None},
        "numpy": {"title": "NumPy", "version": "2.0", "detail": "OpenBLAS Haswell", "missing": None},
        "numpy-skylakex": {"title": "NumPy (SkylakeX)", "missing": "not applicable: this CPU has no avx512f"},
    },
    "cases": [
        {
            "name": "GEMM 8x8x8",
            "group": "gemm",
            "sizes": {},
            "limit": "fma",
            "flops": 1024.0,
            "bytes": 768.0,
            "seconds": {"fastnn": 2.5e-7, "numpy": 1e-6},
            "spreads": {"fastnn": [2.4e-7, 2.6e-7], "numpy": [0.9e-6, 1.1e-6]},
            "ratios": {"numpy": RATIO},
            "share": 0.5,
        }
    ],
    "main_job": {
        "network": "784-256-128-10",
        "batch": 128,
        "epochs": 10,
        "share": 0.25,
        "libraries": {"fastnn": LIBRARY, "numpy": {**LIBRARY, "ratio": RATIO}},
        "runs": [{"seed": 0, "epochs": {"fastnn": EPOCHS, "numpy": EPOCHS}}],
    },
}


BELOW = {"value": 0.9, "low": 0.8, "high": 1.1, "unit": "x", "most": None, "least": 0.98}


def full() -> dict[str, Any]:
    """Made-up results of every case and every peer."""
    rows = []
    for case in cases.ALL:
        names = ["numpy", *OPTIONAL]
        seconds = max(case.flops / 1e11, case.traffic / 1e11) + 1e-6
        rows.append(
            {
                "name": case.name,
                "group": case.group,
                "sizes": json.loads(json.dumps(dict(case.sizes))),
                "limit": case.stream.kind if case.stream else "fma",
                "flops": case.flops,
                "bytes": case.traffic,
                "seconds": {"fastnn": seconds, **dict.fromkeys(names, 2 * seconds)},
                "spreads": {"fastnn": [0.9 * seconds, 1.1 * seconds]},
                "ratios": dict.fromkeys(names, RATIO),
                "floor_seconds": seconds / 2,
                "share": 0.5,
            }
        )
    peers = {
        name: {"title": title, "version": "1", "detail": "", "missing": None}
        for name, title in TITLES.items()
    }
    streams = {level: {"2": {"read": rate}} for level, rate in (("L2", 3e11), ("L3", 2e11), ("DRAM", 4e10))}
    return {
        **FOUND,
        "options": {**FOUND["options"], "mode": "full"},
        "small_digits": {"ratio": RATIO},
        "conditions": [
            {"name": "a call", "value": 2.0, "low": 1.0, "high": 3.0, "unit": "us", "most": 1.0},
            {**BELOW, "name": "threads", "below": []},
            {**BELOW, "name": "more threads", "below": ["GEMM"]},
            {"name": "a start", "value": 9.0, "low": 9.0, "high": 9.0, "unit": "ms", "most": None},
        ],
        "cases": rows,
        "peers": peers,
        "limits": {**FOUND["limits"], "streams": streams},
    }
