"""The README's table and picture, made from committed results between two markers; CI compares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import plot
from report import rate_text, ratio_text, time_text

# Share of the machine that other work took, above which results are not published.
BUSY = 0.1
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
ROOT = Path(__file__).resolve().parents[1]


class ReadmeError(RuntimeError):
    """The README or the committed results are not as they must be; the text is the cure."""


def newest(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The committed results with the latest date inside, and what they hold."""
    held = [(path, json.loads(path.read_text())) for path in sorted(folder.glob("cpu-*.json"))]
    if not held:
        raise ReadmeError(
            f"no cpu-*.json in {folder}: run `python bench/run.py --full --json {folder}/cpu-NAME.json`"
        )
    path, found = max(held, key=lambda pair: str(pair[1]["date"]))
    if found["other_work"] > BUSY:
        raise ReadmeError(
            f"{path.name} was measured while other work took {found['other_work']:.0%} of the machine "
            f"(allowed: {BUSY:.0%}); measure again on a quiet one"
        )
    return path, found


def block(found: dict[str, Any], picture: str) -> str:
    """The text between the markers: where it was measured, the table, the picture."""
    peers = [name for name in found["peers"] if name != "fastnn"]
    titles = [found["peers"][name]["title"] for name in peers]
    options, job = found["options"], found["main_job"]
    head = ["", "fastnn", "share of limit", *(f"times {title}" for title in titles)]
    own = job["libraries"]["fastnn"]
    cells = [
        [
            f"train {job['network']}, {job['epochs']} epochs of 8,000 digits",
            f"{own['seconds']:.2f} s",
            f"{job['share']:.2f}",
            *(_cell(found, name, job["libraries"].get(name, {}).get("ratio")) for name in peers),
        ]
    ]
    for row in found["cases"]:
        speed = f"{time_text(row['seconds']['fastnn'])}, {rate_text(row)}"
        cells.append(
            [
                row["name"],
                speed,
                f"{row['share']:.2f}",
                *(_cell(found, name, row["ratios"].get(name)) for name in peers),
            ]
        )
    versions = ", ".join(
        f"{peer['title']}: {peer['missing']}"
        if peer["missing"]
        else f"{peer['title']} {peer['version']} ({peer['detail']})"
        for peer in found["peers"].values()
    )
    accuracy = ", ".join(
        f"{found['peers'][name]['title']} {value['accuracy_mean']:.2%}"
        for name, value in job["libraries"].items()
    )
    table = [_markdown(head), _markdown(["---"] * len(head)), *map(_markdown, cells)]
    return "\n".join(
        [
            f"Measured on {found['machine']['cpu']}, {options['isa']}, {options['threads']} threads, "
            f"{found['date'][:10]}. {versions}.",
            f"Accuracy on the test digits, mean of {len(job['runs'])} seeds: {accuracy}.",
            "",
            *table,
            "",
            "*times X*: how many times as fast as X, median of pairs and their 10 to 90 % range. "
            "*share of limit*: the time this machine needs at least (FMA peak or memory stream, measured in "
            "the same run) over the time taken.",
            "",
            f"![training curves, ratios and shares of the limit]({picture})",
        ]
    )


def _cell(found: dict[str, Any], name: str, ratio: dict[str, Any] | None) -> str:
    return "not applicable" if found["peers"][name]["missing"] else ratio_text(ratio)


def _markdown(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def replaced(text: str, content: str) -> str:
    """The README with `content` between its markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ReadmeError(f"README.md has no {BEGIN} ... {END} for the benchmark's table")
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def write(root: Path = ROOT) -> list[Path]:
    """Draws the picture of the newest committed results and writes the README's block; returns the files."""
    if not plot.available():
        raise ReadmeError(plot.MISSING)
    readme, (results, found) = root / "README.md", newest(root / "bench" / "results")
    picture = results.with_suffix(".png")
    text = replaced(readme.read_text(), block(found, picture.relative_to(root).as_posix()))
    plot.draw(found, picture)
    readme.write_text(text)
    return [readme, picture]


def check(root: Path = ROOT) -> None:
    """Raises ReadmeError when the README's block or its picture is not of the newest committed results."""
    readme, (results, found) = root / "README.md", newest(root / "bench" / "results")
    picture = results.with_suffix(".png")
    cure = "run `python bench/run.py --readme` and commit the result"
    if not picture.exists() or plot.source_of(picture) != plot.digest(found):
        raise ReadmeError(f"{picture.relative_to(root)} was not drawn from {results.name}: {cure}")
    text = readme.read_text()
    if replaced(text, block(found, picture.relative_to(root).as_posix())) != text:
        raise ReadmeError(f"README.md differs from {results.name}: {cure}")
