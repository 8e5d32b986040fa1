"""What an experiment is made of and how it is run: paired seeds, a grid of rates, verdicts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn.experiments._statistics import NEVER, Claim, judged

Run = dict[str, Any]
"""Of one seed: `score` (higher is better; for choosing a rate), `diverged`, numbers by name, and curves."""

Trial = Callable[[float, int, bool], Run]
"""(rate, seed, final) -> run. Only with `final` may it look at the test rows."""

RATES = (0.001, 0.004, 0.016, 0.063, 0.25, 1.0)
"""The usual grid: six rates, each four times the one before."""

SIGMOID_RATES = (0.016, 0.063, 0.25, 1.0, 4.0, 16.0)
"""The same, two places on: sigmoids have small slopes."""

FIRST_OTHER_SEED = 1000
"""Rates are chosen with seeds from here on, never with those that decide."""


@dataclass(frozen=True)
class Setting:
    """How large a run is: `seeds` pairs; `tiny` cuts rows and epochs, so that it only shows that all runs."""

    seeds: int = 10
    device: str = "cpu"
    tiny: bool = False
    say: Callable[[str], None] = field(default=lambda text: None, compare=False)

    def few(self, number: int, tiny: int) -> int:
        return min(number, tiny) if self.tiny else number


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: it takes the best of `rates`, or the only one.

    `choosing`: other seeds that choose it, if not two (one where fewer than five pairs decide).
    """

    trial: Trial
    rates: Sequence[float] = RATES
    choosing: int | None = None


Panel = Callable[[Any, dict[str, Any]], None]
"""Draws the results of a part on matplotlib axes."""


@dataclass(frozen=True)
class Part:
    """Arms that are compared with each other. `numbers`: name -> its heading in the table of the page.

    `exact`: nothing in it is random, so one run decides and there is no interval.
    """

    arms: Callable[[Setting], Mapping[str, Arm]]
    claims: Sequence[Claim]
    numbers: Mapping[str, str]
    panels: Sequence[Panel] = ()
    exact: bool = False


@dataclass(frozen=True)
class Experiment:
    """`text`: title, claim and deciding number, the docstring of its module. `rows`: of docs/coverage.md."""

    name: str
    text: str
    parts: Mapping[str, Part]

    @property
    def title(self) -> str:
        return self.text.strip().partition("\n")[0].rstrip(".")

    def run(self, setting: Setting) -> dict[str, Any]:
        """The results of all parts: plain numbers, lists and texts, as they go into a JSON file."""
        start = time.perf_counter()
        parts = {name: _run_part(f"{self.name}: {name}", part, setting) for name, part in self.parts.items()}
        seconds = round(time.perf_counter() - start, 1)
        return {"experiment": self.name, "text": self.text, "run_seconds": seconds, "parts": parts}


def _run_part(label: str, part: Part, setting: Setting) -> dict[str, Any]:
    seeds = [0] if part.exact else list(range(setting.seeds))
    arms: dict[str, Any] = {}
    for name, arm in part.arms(setting).items():
        start = time.perf_counter()
        rate, choice = choose(arm, setting)
        runs = [{"seed": seed, **arm.trial(rate, seed, True)} for seed in seeds]
        arms[name] = plain({"rate": rate, "choice": choice, "runs": runs})
        setting.say(f"{label}: {name}: {described(arms[name])}; {time.perf_counter() - start:.1f} s")
    verdicts = [plain(judged(claim, arms, exact=part.exact)) for claim in part.claims]
    return {"arms": arms, "verdicts": verdicts}


def choose(arm: Arm, setting: Setting) -> tuple[float, list[dict[str, float]]]:
    """The rate of the highest median score over other seeds, the lower one of equals; and all medians."""
    if len(arm.rates) == 1:
        return arm.rates[0], []
    count = arm.choosing or (2 if setting.seeds >= 5 else 1)
    table = []
    for rate in arm.rates:
        runs = [arm.trial(rate, FIRST_OTHER_SEED + i, False) for i in range(count)]
        scores = [-NEVER if run["diverged"] else run["score"] for run in runs]
        table.append({"rate": rate, "score": float(np.median(scores))})
    return max(table, key=lambda row: row["score"])["rate"], table


def at_the_edge(arm: dict[str, Any]) -> bool:
    """Whether the chosen rate is the first or the last of its grid, so that a better one may lie outside."""
    rates = [row["rate"] for row in arm["choice"]]
    return bool(rates) and arm["rate"] in (rates[0], rates[-1])


def described(arm: dict[str, Any]) -> str:
    """Rate, n and how many diverged, as legends and tables say it."""
    diverged = sum(run["diverged"] for run in arm["runs"])
    rate = "" if arm["rate"] is None else f"rate {arm['rate']:g}, "
    return f"{rate}n {len(arm['runs'])}" + (f", {diverged} diverged" if diverged else "")


def plain(value: Any) -> Any:
    """As JSON holds it: floats of five digits, and None for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value
