"""The picture of a quick run: the training on both sides, how much faster each operation is, how near its
limit; and what it shares with the pictures of a full run (plot_full.py).
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

# Told apart by colour-blind readers too (Okabe and Ito's palette); lines have markers of their own as well.
COLOURS = {
    "fastnn": "#000000",
    "fastnn-step": "#888888",
    "numpy": "#0072B2",
    "numpy-haswell": "#56B4E9",
    "numpy-skylakex": "#56B4E9",
    "torch": "#D55E00",
    "torch-compile": "#E69F00",
    "jax": "#CC79A7",
    "jax-scan": "#882255",
    "sklearn": "#009E73",
    "deepspeed": "#999933",
}
MARKERS = dict(zip(COLOURS, "os^^Dv<>XpP", strict=True))
DPI = 160  # 10 inches: 1600 pixels, shown at half of that
BAR = "#0b7a5c"  # a bar that speaks of fastnn alone
SOURCE = "fastnn-bench-source"  # PNG text chunk: which JSON the picture was drawn from

MISSING = 'matplotlib is not installed, so no picture is drawn; pip install ".[bench]" brings it'


def available() -> bool:
    """Whether matplotlib can be imported."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def digest(found: dict[str, Any]) -> str:
    """What identifies the results a picture shows."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def source_of(path: Path) -> str | None:
    """The digest a picture was drawn from (its PNG text chunk), or None."""
    content, at = path.read_bytes(), 8
    while at + 8 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        kind, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        if kind == b"tEXt" and body.startswith(SOURCE.encode() + b"\0"):
            return body.partition(b"\0")[2].decode()
        at += length + 12
    return None


def draw(found: dict[str, Any], results: Path) -> list[Path]:
    """Draws `found` (a document of report.py) beside its file `results`, readable 800 pixels wide."""
    from matplotlib.figure import Figure

    rows = bars(found)
    peers = [name for name in COLOURS if any(name in row["ratios"] for row in rows)]
    figure = Figure(figsize=(10, 4.9 + 0.115 * len(rows) * (1 + len(peers))), dpi=DPI, layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[3.3, figure.get_figheight() - 3.3])
    _curves(top, found)
    left, right = bottom.subplots(1, 2, sharey=True, width_ratios=[1.5, 1])
    _ratios(left, rows, peers, found)
    _shares(right, rows)
    bottom.legend(loc="outside lower center", ncols=len(peers), fontsize=10, frameon=False)
    figure.suptitle(title(found), fontsize=11)
    return [save(figure, found, results.with_suffix(".png"))]


def save(figure: Any, found: dict[str, Any], path: Path) -> Path:
    """Writes the PNG, with the digest of what it shows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={SOURCE: digest(found)})
    return path


def title(found: dict[str, Any]) -> str:
    """Machine, instruction set, threads and versions."""
    options = found["options"]
    versions = ", ".join(
        f"{peer['title']} {peer['version']}" for peer in found["peers"].values() if not peer["missing"]
    )
    return f"{found['machine']['cpu']}, {options['isa']}, {options['threads']} threads; {versions}"


def bars(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The main job and every case: name, ratios, share."""
    job = found["main_job"]
    libraries = job["libraries"]
    first = {
        "name": "main job (whole training)",
        "ratios": {name: value["ratio"] for name, value in libraries.items() if "ratio" in value},
        "share": job["share"],
    }
    return [first, *found["cases"]]


def _curves(area: Any, found: dict[str, Any]) -> None:
    """Test accuracy and training loss over seconds: a thin line a seed, a thick one for the median."""
    job = found["main_job"]
    accuracy, loss = area.subplots(1, 2)
    for name in job["libraries"]:
        runs = [run["epochs"][name] for run in job["runs"]]
        for axes, key in ((accuracy, "accuracy"), (loss, "loss")):
            for run in runs:
                axes.plot(
                    _elapsed([run]), [epoch[key] for epoch in run], color=COLOURS[name], lw=0.7, alpha=0.35
                )
            middle = [median(run[i][key] for run in runs) for i in range(len(runs[0]))]
            axes.plot(
                _elapsed(runs),
                middle,
                "o-",
                color=COLOURS[name],
                lw=2,
                ms=4,
                label=found["peers"][name]["title"],
            )
    accuracy.axhline(0.95, color="0.45", lw=1, ls="--")
    place = {"transform": accuracy.get_yaxis_transform(), "ha": "right", "va": "top"}
    accuracy.text(0.99, 0.9497, "95 %", fontsize=9, color="0.35", **place)
    lowest = min(run["epochs"][name][0]["accuracy"] for run in job["runs"] for name in job["libraries"])
    accuracy.set_ylim(max(0.0, lowest - 0.01), None)
    accuracy.set_title("accuracy on 2,000 test digits", fontsize=11)
    accuracy.legend(loc="lower right", fontsize=10, frameon=False)
    loss.set_yscale("log")
    ticks = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    loss.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    loss.minorticks_off()
    loss.set_title("training loss", fontsize=11)
    end = max(_elapsed([run["epochs"][name] for run in job["runs"]])[-1] for name in job["libraries"])
    for axes in (accuracy, loss):
        axes.set_xlim(0, 1.25 * end)  # one slow seed on a busy machine does not squeeze the others
        axes.set_xlabel(f"seconds of training ({job['network']}, {len(job['runs'])} seeds)", fontsize=10)
        axes.tick_params(labelsize=9)
        plain(axes)


def _elapsed(runs: Sequence[Sequence[dict[str, float]]]) -> list[float]:
    """Seconds since the start at the end of every epoch, the median over runs of each."""
    total, at = 0.0, []
    for epoch in range(len(runs[0])):
        total += median(run[epoch]["seconds"] for run in runs)
        at.append(total)
    return at


def _ratios(axes: Any, rows: list[dict[str, Any]], peers: list[str], found: dict[str, Any]) -> None:
    """Horizontal bars from 1: how many times faster fastnn is, with the 10 to 90 % range of the pairs."""
    height = 0.8 / max(1, len(peers))
    for place, name in enumerate(peers):
        at = [i - 0.4 + height * (place + 0.5) for i, row in enumerate(rows) if name in row["ratios"]]
        ratios = [row["ratios"][name] for row in rows if name in row["ratios"]]
        middle = [r["median"] for r in ratios]
        spread = [[r["median"] - r["low"] for r in ratios], [r["high"] - r["median"] for r in ratios]]
        axes.barh(
            at,
            [value - 1 for value in middle],
            height,
            left=1,
            color=COLOURS[name],
            xerr=spread,
            error_kw={"lw": 1, "ecolor": "0.2"},
            label=f"fastnn against {found['peers'][name]['title']}",
        )
        for y, r in zip(at, ratios, strict=True):
            end = max(1.0, r["high"])
            axes.annotate(
                f"{r['median']:.0f}" if r["median"] >= 10 else f"{r['median']:.2g}",
                (end, y),
                xytext=(4, 0),
                textcoords="offset points",
                fontsize=8,
                va="center",
            )
    axes.axvline(1, color="0.1", lw=1.2)
    ends = [r[key] for row in rows for r in row["ratios"].values() for key in ("low", "high")]
    low, high = min([*ends, 1.0]) * 0.8, max([*ends, 1.0]) * 1.5
    ticks = [2.0**power for power in range(-9, 12) if low <= 2.0**power <= high]
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_xticks(ticks, [f"{tick:g}" if tick >= 1 else f"1/{1 / tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_title("times as fast (thin lines: 10 to 90 % of pairs)", fontsize=10)
    plain(axes)


def _shares(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Horizontal bars from 0 to 1: the machine's limit over the time taken."""
    axes.barh(range(len(rows)), [row["share"] for row in rows], 0.62, color=BAR)
    for y, row in enumerate(rows):
        axes.annotate(
            f"{row['share']:.2f}",
            (row["share"], y),
            xytext=(4, 0),
            textcoords="offset points",
            fontsize=8,
            va="center",
        )
    axes.axvline(1, color="0.1", lw=1.2)
    axes.set_xlim(0, 1.12)
    axes.set_title("share of the machine's limit", fontsize=10)
    axes.tick_params(axis="y", length=0)
    plain(axes)


def plain(axes: Any) -> None:
    """No frame but the axes themselves, and a quiet grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="0.9", lw=0.8)
    axes.set_axisbelow(True)


def sized_figure(height: float, title: str, found: dict[str, Any], more: str = "") -> Any:
    """A figure with a title, and below it the machine, threads and date."""
    from matplotlib.figure import Figure

    options = found["options"]
    threads = f"{options['threads']} thread{'s' * (options['threads'] > 1)}"
    where = f"{found['machine']['cpu']}, {options['isa']}, {threads}, {found['date'][:10]}"
    figure = Figure(figsize=(10, height), dpi=DPI, layout="constrained")
    lines = 1 + more.count("\n")
    figure.suptitle(title + "\n" * lines, fontsize=14, fontweight="bold", linespacing=1.25)
    figure.text(0.5, 1 - 0.36 / height, where + more, ha="center", va="top", fontsize=10, color="0.35")
    return figure


def ratio_axis(axes: Any, low: float, high: float) -> None:
    """A logarithmic axis of ratios, with plain numbers."""
    step = 2 if high / low < 2**7 else 4 if high / low < 2**12 else 16
    ticks = [float(step) ** power for power in range(-9, 12) if low <= float(step) ** power <= high]
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_xticks(ticks, [f"{tick:g}" if tick >= 1 else f"1/{1 / tick:g}" for tick in ticks], fontsize=10)
    axes.minorticks_off()
