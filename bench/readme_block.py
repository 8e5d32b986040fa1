"""The README's table and picture, made from committed results between two markers; CI compares."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plot
import plot_full
import targets
from report import rate_text, ratio_text, time_text

# Share of the machine that other work took, above which results are not published.
BUSY = 0.1
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
ROOT = Path(__file__).resolve().parents[1]


class ReadmeError(RuntimeError):
    """The README or the committed results are not as they must be; the text is the cure."""


Results = tuple[Path, dict[str, Any]]


def newest(folder: Path, mode: str, isa: str | None = None) -> Results | None:
    """The committed results of this mode with the latest date inside, and what they hold: those of this ISA,
    or of what each machine runs by itself."""
    held = [(path, json.loads(path.read_text())) for path in sorted(folder.glob("cpu-*.json"))]
    held = [
        (path, found)
        for path, found in held
        if found["options"]["mode"] == mode
        and found["options"]["isa"] == (isa or next(iter(found["limits"]["fma"])))
    ]
    if not held:
        return None
    path, found = max(held, key=lambda pair: str(pair[1]["date"]))
    if found["other_work"] > BUSY:
        raise ReadmeError(
            f"{path.name} was measured while other work took {found['other_work']:.0%} of the machine "
            f"(allowed: {BUSY:.0%}); measure again on a quiet one"
        )
    return path, found


@dataclass(frozen=True)
class Committed:
    """What is committed in bench/results: the newest quick results, which the block is made of, and, if there
    are any, the newest full ones, which it points to, and those of AVX2."""

    root: Path
    quick: Results
    full: Results | None
    avx2: Results | None

    def pictures(self) -> dict[Path, dict[str, Any]]:
        """Picture -> the results it must show; the quick one first."""
        path, found = self.quick
        pictures = {path.with_suffix(".png"): found}
        if self.full:
            pictures.update(dict.fromkeys(plot_full.paths(self.full[0]), self.full[1]))
        return pictures

    def readme(self) -> str:
        """The README as it must be."""
        first, *more = (picture.relative_to(self.root).as_posix() for picture in self.pictures())
        return replaced((self.root / "README.md").read_text(), block(self.quick[1], first, more))

    def targets(self) -> dict[Path, str]:
        """The page of targets as it must be, if there are full results."""
        if not self.full:
            return {}
        (path, found), avx2 = self.full, self.avx2
        page = targets.page(found, path.name, None if avx2 is None else (avx2[1], avx2[0].name))
        return {self.root / "docs" / "targets.md": page}


def committed(root: Path) -> Committed:
    """Reads bench/results."""
    folder = root / "bench" / "results"
    quick = newest(folder, "quick")
    if quick is None:
        raise ReadmeError(
            f"no cpu-*.json of --quick in {folder}: run "
            f"`python bench/run.py --quick --vs torch --json {folder}/cpu-NAME.json`"
        )
    return Committed(root, quick, newest(folder, "full"), newest(folder, "full", "avx2"))


def block(found: dict[str, Any], picture: str, full_pictures: Sequence[str] = ()) -> str:
    """The text between the markers: where it was measured, the table, the picture, where there is more."""
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
            *_more(full_pictures),
        ]
    )


def _more(pictures: Sequence[str]) -> list[str]:
    """The pointer to the pictures of the full run."""
    if not pictures:
        return []
    titles = (
        "every kernel under the machine's limits",
        "every kernel against every peer",
        "training steps",
        "time to an accuracy",
    )
    links = [f"[{title}]({picture})" for title, picture in zip(titles, pictures, strict=True)]
    return ["", f"More, from `python bench/run.py --full`: {', '.join(links)}."]


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
    """Draws the pictures of the newest committed results and writes the README's block; returns the files."""
    if not plot.available():
        raise ReadmeError(plot.MISSING)
    found = committed(root)
    text = found.readme()
    (path, quick), full = found.quick, found.full
    drawn = [*plot.draw(quick, path), *(plot_full.draw(full[1], full[0]) if full else [])]
    pages = {root / "README.md": text, **found.targets()}
    for page, words in pages.items():
        page.write_text(words)
    return [*pages, *drawn]


def check(root: Path = ROOT) -> None:
    """Raises ReadmeError when the README's block or a picture is not of the newest committed results."""
    found = committed(root)
    cure = "run `python bench/run.py --readme` and commit the result"
    for picture, shown in found.pictures().items():
        if not picture.exists() or plot.source_of(picture) != plot.digest(shown):
            raise ReadmeError(f"{picture.relative_to(root)} was not drawn from the committed results: {cure}")
    if found.readme() != (root / "README.md").read_text():
        raise ReadmeError(f"README.md differs from {found.quick[0].name}: {cure}")
    for page, words in found.targets().items():
        if not page.exists() or page.read_text() != words:
            raise ReadmeError(f"{page.relative_to(root)} differs from the newest full results: {cure}")
