"""The pictures of training: steps over networks, batch and width; the time to an accuracy."""

from __future__ import annotations

from itertools import accumulate
from statistics import median
from typing import Any

import cases
from plot import COLOURS, MARKERS, plain, ratio_axis, sized_figure
from report import time_text


def steps(found: dict[str, Any]) -> Any:
    """Ratios on whole networks, and step time against the floor of arithmetic over batch and width."""
    rows = [row for row in found["cases"] if row["group"] in cases.TRAINING]
    names = [name for name in COLOURS if any(name in row["ratios"] for row in rows)]
    top = 0.9 + 0.14 * len(rows) * (len(names) + 0.8)
    swept = [row for row in found["cases"] if row["group"] == "sweep"]
    if not swept:
        figure = sized_figure(top + 0.9, "Training with Adam, a step of a fit", found)
        _step_bars(figure.subplots(), rows, names, found)
        return figure
    figure = sized_figure(top + 5.6, "Training with Adam: a step of a fit; and single steps", found)
    above, below = figure.subfigures(2, 1, height_ratios=[top + 0.9, 4.7])
    _step_bars(above.subplots(), rows, names, found)
    left, right = below.subplots(1, 2)
    batch, width = cases.networks.SWEEP_BATCH, cases.networks.SWEEP_WIDTH
    _sweep(
        left,
        [r for r in swept if r["sizes"]["widths"][1] == width],
        lambda r: r["sizes"]["batch"],
        f"784-{width}-{width}-10: rows of a batch",
        found,
    )
    _sweep(
        right,
        [r for r in swept if r["sizes"]["batch"] == batch],
        lambda r: r["sizes"]["widths"][1],
        f"784-n-n-10, batch {batch}: hidden width n",
        found,
    )
    handles, labels = left.get_legend_handles_labels()
    below.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=10, frameon=False)
    return figure


def _step_bars(axes: Any, rows: list[dict[str, Any]], names: list[str], found: dict[str, Any]) -> None:
    height = 0.84 / max(1, len(names))
    for place, name in enumerate(names):
        mine = [(i, row["ratios"][name]) for i, row in enumerate(rows) if name in row["ratios"]]
        middle = [ratio["median"] for _, ratio in mine]
        spread = [[r["median"] - r["low"] for _, r in mine], [r["high"] - r["median"] for _, r in mine]]
        axes.barh(
            [i - 0.42 + height * (place + 0.5) for i, _ in mine],
            [value - 1 for value in middle],
            height,
            left=1,
            color=COLOURS[name],
            xerr=spread,
            error_kw={"lw": 1.1, "ecolor": "0.1"},
            label=found["peers"][name]["title"],
        )
    axes.axvline(1, color="0.1", lw=1.4)
    ends = [r[key] for row in rows for r in row["ratios"].values() for key in ("low", "high")]
    ratio_axis(axes, min([*ends, 1.0]) / 1.2, max([*ends, 1.0]) * 1.2)
    labels = [
        f"{row['name'].removeprefix('step ')}\n{time_text(row['seconds']['fastnn'])}, "
        f"floor {time_text(row['floor_seconds'])}"
        for row in rows
    ]
    axes.set_yticks(range(len(rows)), labels, fontsize=10)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.set_title(
        "times as fast as each peer: right of 1, fastnn is faster (thin lines: 10 to 90 %)", fontsize=11
    )
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=10, frameon=False)
    plain(axes)


def _sweep(axes: Any, rows: list[dict[str, Any]], key: Any, label: str, found: dict[str, Any]) -> None:
    rows = sorted(rows, key=key)
    x = [key(row) for row in rows]
    axes.plot(x, [row["floor_seconds"] for row in rows], "--", color="0.45", lw=1.6, label="FLOP floor")
    for name in [name for name in COLOURS if any(name in row["seconds"] for row in rows)]:
        axes.plot(
            x,
            [row["seconds"].get(name, float("nan")) for row in rows],
            marker=MARKERS[name],
            color=COLOURS[name],
            lw=2.4 if name == "fastnn" else 1.4,
            ms=5,
            label=found["peers"][name]["title"],
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(x, [str(value) for value in x], fontsize=10, rotation=45)
    axes.minorticks_off()
    ticks = [10.0**power for power in range(-7, 3)]
    low, high = axes.get_ylim()
    shown = [tick for tick in ticks if low <= tick <= high]
    axes.set_yticks(shown, [time_text(tick) for tick in shown], fontsize=10)
    axes.set_ylim(low, high)
    axes.set_xlabel(label, fontsize=11)
    axes.set_title("time of a step: lower is better", fontsize=11)
    plain(axes)
    axes.grid(axis="y", color="0.9", lw=0.8)


# ---- time to an accuracy


def accuracy(found: dict[str, Any]) -> Any:
    """Test accuracy over seconds of training, and the seconds that each seed takes to the accuracy asked."""
    job = found["main_job"]
    libraries = {
        name: job["libraries"][name]["time_to_accuracy"] for name in COLOURS if name in job["libraries"]
    }
    first = next(iter(libraries.values()))
    more = (
        f"\n{job['network']} with batch-norm, batch {job['batch']}, Adam, cosine over {job['epochs']} epochs"
    )
    title = f"Time to {first['accuracy']:.1%} of the test digits: left is faster"
    figure = sized_figure(4.2 + 0.45 * len(libraries), title, found, more)
    above, below = figure.subplots(2, 1, height_ratios=[3, 0.5 + 0.45 * len(libraries)], sharex=True)
    _curves(above, job, list(libraries), found)
    above.axhline(first["accuracy"], color="0.45", lw=1, ls="--")
    place = {"transform": above.get_yaxis_transform(), "ha": "right", "va": "top"}
    above.text(0.99, first["accuracy"] - 3e-4, f"{first['accuracy']:.1%}", fontsize=9, color="0.35", **place)
    _reached(below, libraries, found)
    return figure


def _curves(axes: Any, job: dict[str, Any], names: list[str], found: dict[str, Any]) -> None:
    """A thin line a seed, a thick one for the medians."""
    ends = []
    for name in names:
        runs = [run["epochs"][name] for run in job["runs"]]
        seconds = [list(accumulate(epoch["seconds"] for epoch in run)) for run in runs]
        values = [[epoch["accuracy"] for epoch in run] for run in runs]
        for x, y in zip(seconds, values, strict=True):
            axes.plot(x, y, color=COLOURS[name], lw=0.7, alpha=0.3)
        middle = [[median(column) for column in zip(*table, strict=True)] for table in (seconds, values)]
        style = {"color": COLOURS[name], "marker": MARKERS[name], "lw": 2, "ms": 5}
        axes.plot(*middle, label=found["peers"][name]["title"], **style)
        ends += [median(epochs[0] for epochs in seconds), middle[0][-1]]
    axes.set_xscale("log")
    axes.set_xlim(min(ends) * 0.7, max(ends) * 1.4)
    axes.set_ylabel("accuracy on 2,000 test digits", fontsize=11)
    axes.legend(loc="lower right", fontsize=10, frameon=False)
    axes.tick_params(labelsize=10)
    plain(axes)


def _reached(axes: Any, libraries: dict[str, Any], found: dict[str, Any]) -> None:
    """A row for each library: a mark for every seed, a line at the median, how many missed."""
    labels = []
    for at, (name, times) in enumerate(libraries.items()):
        held = [seconds for seconds in times["seconds"] if seconds is not None]
        axes.plot(held, [at] * len(held), MARKERS[name], color=COLOURS[name], ms=6, alpha=0.5, mew=0)
        labels.append(found["peers"][name]["title"])
        if held:
            axes.plot([times["median"]] * 2, [at - 0.35, at + 0.35], color=COLOURS[name], lw=2.5)
            labels[-1] += f": {time_text(times['median'])}"
        if times["missed"]:
            labels[-1] += f"\n{times['missed']} of {len(times['seconds'])} missed it"
    axes.set_yticks(range(len(labels)), labels, fontsize=10)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    axes.tick_params(which="both", labelsize=10)
    axes.set_xlabel(
        "seconds of training, compiling and evaluation not counted (line: median of the seeds)", fontsize=11
    )
    plain(axes)
