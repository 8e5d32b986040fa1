"""The pictures of a full run: every kernel on a roofline, ratios to all peers, training steps over networks,
batch and width. Each is readable at a width of 800 pixels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import cases
from plot import COLOURS, plain, save
from report import fastest_peer, time_text

DPI = 160  # 10 inches: 1600 pixels, shown at half of that
MARKERS = dict(zip(COLOURS, "os^Dv<>Xp", strict=True))
# group -> (colour, marker) of a kernel on the roofline
KERNELS = {
    "gemm": ("#0072B2", "o"),
    "batch_norm": ("#D55E00", "s"),
    "activation": ("#E69F00", "^"),
    "loss": ("#CC79A7", "D"),
    "update": ("#009E73", "v"),
}


def paths(results: Path) -> list[Path]:
    """The pictures of a result file."""
    return [results.with_name(f"{results.stem}-{name}.png") for name in ("roofline", "ratios", "steps")]


def draw(found: dict[str, Any], results: Path) -> list[Path]:
    """Draws all pictures of `found` (a document of report.py) beside its file `results`."""
    pictures = (roofline(found), ratios(found), steps(found))
    return [save(figure, found, path) for figure, path in zip(pictures, paths(results), strict=True)]


def _figure(height: float, title: str, found: dict[str, Any], more: str = "") -> Any:
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


# ---- roofline


def roofline(found: dict[str, Any]) -> Any:
    """Arithmetic over traffic against arithmetic per second, under the lines this machine cannot pass."""
    limits, isa, threads = found["limits"], found["options"]["isa"], found["options"]["threads"]
    peak = _at(limits["fma"][isa], threads) / 1e9
    figure = _figure(7.2, "Every kernel under the limits of this machine: higher is better", found)
    axes = figure.subplots()
    rows = [row for row in found["cases"] if row["group"] in KERNELS]
    intensity = [row["flops"] / row["bytes"] for row in rows]
    low, high = min(intensity) / 1.6, max(intensity) * 1.6
    x = np.geomspace(low, high, 200)
    rates = {level: max(_at(streams, threads).values()) / 1e9 for level, streams in limits["streams"].items()}
    for level, rate in rates.items():
        axes.plot(x, np.minimum(peak, rate * x), color="0.45", lw=1.2)
        above = rate == max(rates.values())
        axes.text(
            low * 1.08,
            rate * low * 1.08 * (1.08 if above else 0.92),
            f"{level} {rate:.0f} GB/s",
            rotation=math.degrees(math.atan(rate)),  # the line's slope, which the axes then turn
            rotation_mode="anchor",
            transform_rotates_text=True,
            va="bottom" if above else "top",
            fontsize=10,
            color="0.3",
        )
    axes.annotate(
        f"FMA peak {peak:.0f} GFLOP/s",
        (high, peak),
        xytext=(-4, 5),
        textcoords="offset points",
        ha="right",
        fontsize=10,
        color="0.3",
    )
    for group, (colour, marker) in KERNELS.items():
        mine = [row for row in rows if row["group"] == group]
        axes.scatter(
            [row["flops"] / row["bytes"] for row in mine],
            [row["flops"] / row["seconds"]["fastnn"] / 1e9 for row in mine],
            s=34,
            color=colour,
            marker=marker,
            edgecolor="white",
            linewidth=0.5,
            label=cases.GROUPS[group],
            zorder=3,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(None, peak * 1.8)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("operations of the formula for each byte that must be read or written", fontsize=11)
    axes.set_ylabel("GFLOP/s (exp, root and quotient count as one)", fontsize=11)
    axes.tick_params(labelsize=10)
    axes.legend(loc="lower right", fontsize=11, frameon=False)
    plain(axes)
    axes.grid(axis="y", color="0.9", lw=0.8)
    return figure


def _at(by_threads: dict[Any, Any], threads: int) -> Any:
    """A figure by thread count, from memory (int keys) or from JSON (text keys)."""
    return by_threads[threads] if threads in by_threads else by_threads[str(threads)]


# ---- ratios


def ratios(found: dict[str, Any]) -> Any:
    """A bar for the fastest peer of every kernel, marks for the others."""
    groups = [group for group in (*KERNELS, "call") if any(row["group"] == group for row in found["cases"])]
    columns = _split([(group, [r for r in found["cases"] if r["group"] == group]) for group in groups])
    tallest = max(sum(len(rows) + 1 for _, rows in column) for column in columns)
    figure = _figure(
        2.0 + 0.2 * tallest,
        "How many times as fast as its peers fastnn is: right of 1 is faster",
        found,
        "\nbar: against the fastest peer, thin line: its 10 to 90 % range; marks: the other peers",
    )
    shown = [row for row in found["cases"] if row["group"] in groups]
    everyone = [ratio["median"] for row in shown for ratio in row["ratios"].values()]
    ends = [row["ratios"][n][key] for row in shown if (n := fastest_peer(row)) for key in ("low", "high")]
    limits = min([*everyone, *ends, 1.0]) / 1.3, max([*everyone, *ends, 1.0]) * 1.3
    for axes, column in zip(figure.subplots(1, 2), columns, strict=True):
        _ratio_column(axes, column, limits, tallest)
    handles = _legend([name for name in COLOURS if any(name in row["ratios"] for row in shown)], found)
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=10, frameon=False)
    return figure


def _split(groups: list[tuple[str, list[Any]]]) -> list[list[tuple[str, list[Any]]]]:
    """The groups in two columns of about the same height; the first group stands in the first."""

    def height(column: Sequence[tuple[str, list[Any]]]) -> int:
        return sum(len(rows) + 1 for _, rows in column)

    sides = (
        [[pair for pair, at in zip(groups, (0, *rest)) if at == side] for side in (0, 1)]
        for rest in itertools.product((0, 1), repeat=len(groups) - 1)
    )
    return min(sides, key=lambda columns: abs(height(columns[0]) - height(columns[1])))


def _ratio_column(
    axes: Any, groups: list[tuple[str, list[Any]]], limits: tuple[float, float], height: int
) -> None:
    names: list[str] = []
    for group, rows in groups:
        axes.text(
            -0.02,
            len(names),
            cases.GROUPS[group].partition(":")[0],
            fontsize=10,
            fontweight="bold",
            ha="right",
            va="center",
            transform=axes.get_yaxis_transform(),
        )
        names.append("")
        for row in rows:
            _ratio_bar(axes, len(names), row)
            names.append(row["name"])
    axes.axvline(1, color="0.1", lw=1.4)
    _ratio_axis(axes, *limits)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(height - 0.4, -0.6)
    plain(axes)


def _ratio_bar(axes: Any, y: float, row: dict[str, Any]) -> None:
    fastest = fastest_peer(row)
    for name, ratio in row["ratios"].items():
        middle = ratio["median"]
        if name != fastest:
            axes.plot(middle, y, MARKERS[name], color=COLOURS[name], ms=4, zorder=3)
            continue
        spread = [[middle - ratio["low"]], [ratio["high"] - middle]]
        axes.barh(
            y,
            middle - 1,
            0.7,
            left=1,
            color=COLOURS[name],
            alpha=0.75,
            xerr=spread,
            error_kw={"lw": 1.1, "ecolor": "0.1", "zorder": 4},
        )


def _ratio_axis(axes: Any, low: float, high: float) -> None:
    """A logarithmic axis of ratios, with plain numbers."""
    step = 2 if high / low < 2**7 else 4 if high / low < 2**12 else 16
    ticks = [float(step) ** power for power in range(-9, 12) if low <= float(step) ** power <= high]
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_xticks(ticks, [f"{tick:g}" if tick >= 1 else f"1/{1 / tick:g}" for tick in ticks], fontsize=10)
    axes.minorticks_off()


def _legend(names: Sequence[str], found: dict[str, Any]) -> list[Any]:
    """A coloured mark for each peer."""
    from matplotlib.lines import Line2D

    return [
        Line2D(
            [],
            [],
            color=COLOURS[name],
            marker=MARKERS[name],
            ls="",
            ms=8,
            label=found["peers"][name]["title"],
        )
        for name in names
    ]


# ---- training steps


def steps(found: dict[str, Any]) -> Any:
    """Ratios on whole networks, and step time against the floor of arithmetic over batch and width."""
    rows = [row for row in found["cases"] if row["group"] == "step"]
    names = [name for name in COLOURS if any(name in row["ratios"] for row in rows)]
    top = 0.9 + 0.14 * len(rows) * (len(names) + 0.8)
    figure = _figure(top + 5.6, "One training step with Adam", found)
    above, below = figure.subfigures(2, 1, height_ratios=[top + 0.9, 4.7])
    _step_bars(above.subplots(), rows, names, found)
    swept = [row for row in found["cases"] if row["group"] == "sweep"]
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
    _ratio_axis(axes, min([*ends, 1.0]) / 1.2, max([*ends, 1.0]) * 1.2)
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
