"""The page of the experiments, made from their JSON files alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.experiments import EXPERIMENTS
from fastnn.experiments._design import Experiment, at_the_edge, plain
from fastnn.experiments._plots import pictures
from fastnn.experiments._statistics import NEVER

FOLDER = "experiments"

HEAD = """\
# Experiments

What the source documents claim, tried on the shipped digits. Made from the JSON files in `{folder}/` by
`python -m fastnn experiments --redraw --out docs`; `python -m fastnn experiments --out docs` runs them
again.

- The claim and the deciding number stood in the text of each experiment before it ran.
- Runs are paired: in a pair all arms have the same seed, so the same first weights (where the layers agree)
  and the same batches.
- Each arm uses its own best rate of one grid of six, chosen on 1,000 rows held out of the training digits
  with other seeds (by the median of two, of one below five pairs, or as said there). The curves are of these
  rows too. The test rows are looked at once, by each deciding run, after its last update. A rate with * is
  the first or last of its grid; some grids were moved after a trial run with three pairs for that reason.
- A diverged run (a value that is not finite, or a loss that ends above its first epoch's) is a cross in the
  plots; its test accuracy counts as 0.1, a guess. A run that never got to its target counts as later than
  any other.
- Verdict: the 95 % bootstrap interval (10,000 draws, percentiles) of the median paired difference lies on
  the claimed side of 0 (held), on the other (reversed), or holds 0 (undecided). Fewer than six pairs decide
  nothing. One interval in twenty is wrong by chance, and there are many here: read them together.
- Tables: median [10 %, 90 %] over the pairs. Plots: median and the band from 10 to 90 %.
"""


def save(found: Mapping[str, Any], folder: Path) -> None:
    """Write the results of one experiment, with what they were measured on, as a JSON file."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, separators=(",", ":"))
    # A line for each run, so that files can be compared.
    text = text.replace('{"seed":', '\n{"seed":').replace('],"verdicts"', '],\n"verdicts"')
    (folder / f"{found['experiment']}.json").write_text(text + "\n", encoding="utf-8")


def load(folder: Path) -> dict[str, dict[str, Any]]:
    """The results that the folder holds, in the order of the page; ValueError for none, and for others."""
    found = {}
    for name, experiment in EXPERIMENTS.items():
        path = folder / f"{name}.json"
        if not path.exists():
            continue
        try:
            found[name] = json.loads(path.read_text(encoding="utf-8"))
            known = list(found[name]["parts"]) == list(experiment.parts)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} does not hold results ({error}); run {name} again") from error
        if not known:
            raise ValueError(f"{path} holds results of another version; run {name} again")
    if not found:
        raise ValueError(f"no results in {folder}; run without --redraw first")
    return found


def shown(value: float, *, difference: bool = False) -> str:
    """A number as the page says it."""
    late = NEVER / 100  # a percentile that lies between a number and NEVER is never too
    if difference and abs(value) >= late:
        return "only the second arrives" if value > 0 else "only the first arrives"
    if value >= late:
        return "never"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def page(results: Mapping[str, dict[str, Any]]) -> str:
    """The text of experiments.md for these results."""
    lines = [HEAD.format(folder=FOLDER)]
    found_so = [row["verdict"] for row in _verdicts(results)]
    counts = ", ".join(f"{found_so.count(word)} {word}" for word in ("held", "reversed", "undecided"))
    lines += [
        "## Verdicts",
        "",
        f"Of {len(found_so)} claims: {counts}.",
        "",
        "| experiment | claim | verdict |",
        "| --- | --- | --- |",
    ]
    for name, found in results.items():
        for part, content in found["parts"].items():
            for row in content["verdicts"]:
                lines.append(f"| [{name}](#{name}) | {part}: {row['claim']} | {row['verdict']} |")
    for name, found in results.items():
        lines += ["", *_section(EXPERIMENTS[name], found)]
    return "\n".join(lines) + "\n"


def _verdicts(results: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    parts = [content for found in results.values() for content in found["parts"].values()]
    return [row for content in parts for row in content["verdicts"]]


def _section(experiment: Experiment, found: dict[str, Any]) -> list[str]:
    title, _, body = found["text"].strip().partition("\n")
    lines = [f"## {experiment.name}", "", f"**{title}**", body.rstrip(), ""]
    for name, part in experiment.parts.items():
        content = found["parts"][name]
        lines += [f"### {experiment.name}: {name}", ""]
        if part.panels:
            lines += [f"![{experiment.title}: {name}]({FOLDER}/{pictures(experiment)[name]})", ""]
        lines += [*_arms(content["arms"], part.numbers), ""]
        lines += [
            "| claim | number | median difference [95 % interval] | verdict |",
            "| --- | --- | --- | --- |",
        ]
        lines += [_verdict(row, part.numbers) for row in content["verdicts"]]
        lines.append("")
    return [*lines, _conditions(found)]


def _arms(arms: Mapping[str, Any], numbers: Mapping[str, str]) -> list[str]:
    columns = ["arm", "rate", "n", "diverged", *numbers.values()]
    lines = ["| " + " | ".join(columns) + " |", "| --- " * len(columns) + "|"]
    for name, arm in arms.items():
        runs = arm["runs"]
        rate = "-" if arm["rate"] is None else f"{arm['rate']:g}" + "*" * at_the_edge(arm)
        cells = [name, rate, str(len(runs)), str(sum(run["diverged"] for run in runs))]
        for key in numbers:
            values = [np.nan if run[key] is None else run[key] for run in runs]
            low, middle, high = np.percentile(values, [10, 50, 90])
            spread = "" if len(runs) == 1 else f" [{shown(low)}, {shown(high)}]"
            cells.append(f"{shown(middle)}{spread}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _verdict(row: Mapping[str, Any], numbers: Mapping[str, str]) -> str:
    second = f"{row['second']:.2g}" if isinstance(row["second"], float) else row["second"]
    middle, low, high = (shown(row[key], difference=True) for key in ("median", "low", "high"))
    difference = middle if row["exact"] or low == high else f"{middle} [{low}, {high}]"
    sides = f"{numbers[row['number']]}: {row['first']} - {second}"
    return f"| {row['claim']} | {sides} | {difference} | **{row['verdict']}** |"


def _conditions(found: Mapping[str, Any]) -> str:
    where = found["conditions"]
    return (
        f"{found['run_seconds']:.0f} s, threads: {where['threads']}, {where['cpu']} ({where['isa']}), "
        f"{where['date']}; fastnn {where['version']}, NumPy {where['numpy']}, Python {where['python']}; "
        f"seeds 0 to {where['seeds'] - 1}. {where['note']}".rstrip()
    )


def conditions(seeds: int, note: str) -> dict[str, Any]:
    """What a run was measured on."""
    import datetime

    from fastnn._runtime import info

    about = info()
    found: dict[str, Any] = plain(
        {
            "date": datetime.date.today().isoformat(),
            "seeds": seeds,
            "cpu": _cpu(),
            "isa": about["isa"],
            "threads": about["threads"],
            "version": about["version"],
            "numpy": about["numpy"],
            "python": about["python"],
            "note": note,
        }
    )
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "an unknown CPU"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "a CPU")
