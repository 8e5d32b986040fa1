"""Panels of the experiments: medians with the band from 10 to 90 %, over epochs, seconds or layers."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.experiments._design import Experiment, Panel, described
from fastnn.experiments._statistics import NEVER, band

# Told apart by colour-blind readers too (Okabe and Ito's palette).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255")
STYLES = ("-", "--", "-.", ":")

ACCURACY = "accuracy on held-out rows"
SECONDS = "seconds of training (median)"


def colours(arms: Mapping[str, Any]) -> dict[str, str]:
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(arms)}


def curves(key: str, label: str, *, over: str | None = None, log: str = "", x_label: str = "epoch") -> Panel:
    """A panel of the curve `key` of all arms over its index from 1, or over the median of `over`."""

    def draw(axes: Any, part: dict[str, Any]) -> None:
        arms = {name: arm for name, arm in part["arms"].items() if arm["runs"][0].get(key) is not None}
        for i, (name, colour) in enumerate(colours(arms).items()):
            arm = arms[name]
            runs = arm["runs"]
            low, middle, high = band([run[key] for run in runs])
            x = np.arange(1, len(middle) + 1) if over is None else band([run[over] for run in runs])[1]
            line = {"color": colour, "linestyle": STYLES[i % 4], "linewidth": 1.4}
            axes.plot(x, middle, label=f"{name} ({described(arm)})", marker=".", markersize=3, **line)
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            for run in runs:
                if run["diverged"]:
                    end = len(run[key]) - 1
                    there = (x[end], run[key][end]) if end >= 0 else (x[0], axes.get_ylim()[0])
                    axes.plot(*there, marker="x", color=colour, markersize=8, markeredgewidth=2)
        axes.set(xlabel=x_label, ylabel=label)
        if "x" in log:
            axes.set_xscale("log")
        if "y" in log:
            axes.set_yscale("log")

    return draw


def over_epochs_and_seconds(log: str = "") -> tuple[Panel, Panel]:
    """The two panels of a training: accuracy on held-out rows over epochs, and over seconds of training."""
    return (
        curves("held_out", ACCURACY, log=log),
        curves("held_out", ACCURACY, over="seconds", log=log, x_label=SECONDS),
    )


def bars(key: str, label: str, *, log: bool = False) -> Panel:
    """A panel of one number: the median of each arm, its 10 to 90 % range, and a cross for a diverged run."""

    def draw(axes: Any, part: dict[str, Any]) -> None:
        arms = part["arms"]
        all_values = {name: np.array([run[key] for run in arm["runs"]]) for name, arm in arms.items()}
        never = max(np.max(v) for v in all_values.values()) >= NEVER / 2
        if never:
            arrived = np.concatenate([v[v < NEVER / 2] for v in all_values.values()])
            late = 3 * float(arrived.max(initial=1.0))
            axes.axhline(late, color="#999999", linestyle=":")
            axes.text(len(arms) - 1, late, "never ", ha="right", va="top", fontsize=8)
            all_values = {name: np.minimum(v, late) for name, v in all_values.items()}
        for i, (name, colour) in enumerate(colours(arms).items()):
            low, middle, high = np.percentile(all_values[name], [10, 50, 90])
            axes.errorbar(i, middle, yerr=[[middle - low], [high - middle]], fmt="o", color=colour, capsize=4)
            gone = [v for v, run in zip(all_values[name], arms[name]["runs"], strict=True) if run["diverged"]]
            axes.plot([i] * len(gone), gone, "x", color=colour, markersize=8, markeredgewidth=2)
        axes.set_xticks(range(len(arms)), list(arms), rotation=20, ha="right")
        axes.set_ylabel(label)
        if log:
            axes.set_yscale("log")

    return draw


def pictures(experiment: Experiment) -> dict[str, str]:
    """The file name of the picture of each part that has one."""
    return {
        name: f"{experiment.name}-{name.lower().replace(' ', '-')}.png"
        for name, part in experiment.parts.items()
        if part.panels
    }


def figure_class() -> Any:
    """matplotlib's Figure, or ImportError with the cure."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("a plot needs matplotlib; pip install matplotlib") from error
    return Figure


def draw(experiment: Experiment, found: dict[str, Any], folder: Path) -> None:
    """Save a picture for each part that has panels: two in a row, 800 pixels wide."""
    for name, file in pictures(experiment).items():
        panels = experiment.parts[name].panels
        rows = [panels[i : i + 2] for i in range(0, len(panels), 2)]
        figure = figure_class()(figsize=(8, 3.7 * len(rows)), layout="constrained")
        for area, row in zip(figure.subfigures(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
            _draw_row(area, row, found["parts"][name])
        _save(figure, folder / file, digest(found["parts"][name]))


def _draw_row(area: Any, row: Sequence[Panel], part: dict[str, Any]) -> None:
    labels: dict[str, Any] = {}
    for axes, panel in zip(area.subplots(1, len(row), squeeze=False)[0], row, strict=True):
        panel(axes, part)
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=8, which="both")
        axes.xaxis.label.set_size(8)
        axes.yaxis.label.set_size(8)
        labels.update(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    if labels:
        area.legend(list(labels.values()), list(labels), loc="outside lower center", ncols=2, fontsize=7.5)


def digest(part: dict[str, Any]) -> str:
    """What a picture carries to say which results it shows."""
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()


def _save(figure: Any, path: Path, source: str) -> None:
    """A PNG with a palette, which halves its size, and with `source` in a text chunk."""
    from PIL import Image, PngImagePlugin  # comes with matplotlib

    whole = io.BytesIO()
    figure.savefig(whole, dpi=100)
    about = PngImagePlugin.PngInfo()
    about.add_text("fastnn-experiment", source)
    Image.open(whole).convert("RGB").quantize(256).save(path, optimize=True, pnginfo=about)
