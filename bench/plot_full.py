"""The pictures of a full run: every kernel on a roofline, ratios to all peers, and those of training
(plot_training.py). Each is readable at a width of 800 pixels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import cases
import plot_training
from plot import COLOURS, MARKERS, plain, ratio_axis, save, sized_figure
from report import fastest_peer

# group -> (colour, marker) of a kernel on the roofline
KERNELS = {
    "gemm": ("#0072B2", "o"),
    "batch_norm": ("#D55E00", "s"),
    "activation": ("#E69F00", "^"),
    "loss": ("#CC79A7", "D"),
    "update": ("#009E73", "v"),
}


def pictures(mode: str) -> dict[str, Callable[[dict[str, Any]], Any]]:
    """What is drawn of a "full" or a "training" run, by the end of the file's name."""
    training = {"steps": plot_training.steps, "accuracy": plot_training.accuracy}
    return {"roofline": roofline, "ratios": ratios, **training} if mode == "full" else training


def paths(results: Path, mode: str = "full") -> list[Path]:
    """The pictures of a result file."""
    return [results.with_name(f"{results.stem}-{name}.png") for name in pictures(mode)]


def draw(found: dict[str, Any], results: Path) -> list[Path]:
    """Draws all pictures of `found` (a document of report.py) beside its file `results`."""
    mode = found["options"]["mode"]
    drawn = zip(pictures(mode).values(), paths(results, mode), strict=True)
    return [save(picture(found), found, path) for picture, path in drawn]


# ---- roofline


def roofline(found: dict[str, Any]) -> Any:
    """Arithmetic over traffic against arithmetic per second, under the lines this machine cannot pass."""
    limits, isa, threads = found["limits"], found["options"]["isa"], found["options"]["threads"]
    peak = _at(limits["fma"][isa], threads) / 1e9
    figure = sized_figure(7.2, "Every kernel under the limits of this machine: higher is better", found)
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
    figure = sized_figure(
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
    ratio_axis(axes, *limits)
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
