"""Two result files: what got slower, what got faster, what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from report import time_text


class CompareError(RuntimeError):
    """A file is not one that can be compared; the text is the cure."""


def load(path: Path) -> dict[str, Any]:
    """The results in a file; raises CompareError where it holds none with spreads."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        rows = found["cases"]
        if not all("spreads" in row for row in rows):
            raise CompareError(f"{path} has no spreads (an older format): measure it again")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CompareError(f"{path} holds no results of bench/run.py: {error}") from error
    return found


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """In what the two runs differ besides fastnn's own version: machine, options, versions of the peers."""
    found = [
        f"{title}: {old[part][key]} then, {new[part][key]} now"
        for part, key, title in (
            ("machine", "cpu", "machine"),
            ("machine", "cores", "cores"),
            ("machine", "system", "system"),
            ("machine", "python", "Python"),
            ("options", "isa", "instruction set"),
            ("options", "threads", "threads"),
        )
        if old[part][key] != new[part][key]
    ]
    for name in sorted(old["peers"].keys() & new["peers"].keys() - {"fastnn"}):
        versions = [_version(side["peers"][name]) for side in (old, new)]
        if versions[0] != versions[1]:
            found.append(f"{new['peers'][name]['title']}: {versions[0]} then, {versions[1]} now")
    return found


def _version(peer: dict[str, Any]) -> str:
    return str(peer["missing"] or f"{peer['version']} ({peer['detail']})")


def moved(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(slower, faster): cases of fastnn whose 10 to 90 % ranges of seconds do not touch, worst first."""
    before = {row["name"]: row for row in old["cases"]}
    slower, faster = [], []
    for row in new["cases"]:
        if row["name"] not in before:
            continue
        then = before[row["name"]]
        factor = row["seconds"]["fastnn"] / then["seconds"]["fastnn"]
        found = {"name": row["name"], "then": then, "now": row, "factor": factor}
        if row["spreads"]["fastnn"][0] > then["spreads"]["fastnn"][1]:
            slower.append(found)
        elif row["spreads"]["fastnn"][1] < then["spreads"]["fastnn"][0]:
            faster.append(found)
    slower.sort(key=lambda found: -found["factor"])
    faster.sort(key=lambda found: found["factor"])
    return slower, faster


def lines(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[str], bool]:
    """The comparison for the terminal, and whether something got slower."""
    text = ["", f"Against {old['commit'][:12]} of {old['date'][:10]} (now {new['commit'][:12]})"]
    if differing := differences(old, new):
        text.append("  The runs differ in more than fastnn, and times may differ for that reason alone:")
        text += [f"    {difference}" for difference in differing]
    names = [{row["name"] for row in side["cases"]} for side in (old, new)]
    slower, faster = moved(old, new)
    for title, found in (("slower", slower), ("faster", faster)):
        text.append(f"  {title}, beyond the 10 to 90 % ranges of both runs: {len(found) or 'nothing'}")
        text += [
            f"    {item['name']:<40} {_times(item['then']):>34} -> {_times(item['now']):<34} "
            f"{item['factor']:.2f} times the time"
            for item in found
        ]
    text.append(f"  unchanged within the ranges: {len(names[0] & names[1]) - len(slower) - len(faster)}")
    for title, only in (("only then", names[0] - names[1]), ("only now", names[1] - names[0])):
        if only:
            text.append(f"  {title}: {', '.join(sorted(only))}")
    return text, bool(slower)


def _times(row: dict[str, Any]) -> str:
    low, high = row["spreads"]["fastnn"]
    return f"{time_text(row['seconds']['fastnn'])} ({time_text(low)} to {time_text(high)})"
