"""Report: rows with a number for each column, sentences of advice, a table on the screen, a figure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, Any]

_LONGEST = 40  # lines of a printed table; the middle of a longer one is left out


def _seconds(value: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def as_bytes(value: float) -> str:
    """A number of bytes in words: 1.5 MiB."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"


# What a column holds -> how it is printed.
_FORMATS: dict[str, Callable[[Any], str]] = {
    "word": str,
    "count": "{:,}".format,
    "number": "{:.3g}".format,
    "share": "{:.1%}".format,
    "seconds": _seconds,
    "bytes": as_bytes,
}


class Report(ABC):
    """What a diagnostic found. Prints as a table.

    `rows` is a list of dicts (None where a number has no meaning), `summary` holds sentences about all rows,
    `warnings` those about what is wrong (empty: nothing was found). `plot(path=None)` draws the rows.
    """

    title: str
    columns: ClassVar[Mapping[str, str]]  # key of a row that is printed -> what it holds (_FORMATS)

    def __init__(self, rows: list[Row], summary: Sequence[str] = (), warnings: Sequence[str] = ()) -> None:
        self.rows = rows
        self.summary = list(summary)
        self.warnings = list(warnings)

    def __str__(self) -> str:
        # A column that holds nothing at all is left out.
        keys = [key for key in self.columns if any(row[key] is not None for row in self.rows)]
        lines = [[key.replace("_", " ") for key in keys]]
        for row in self.rows:
            lines.append(["-" if row[k] is None else _FORMATS[self.columns[k]](row[k]) for k in keys])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        words = [self.columns[key] == "word" for key in keys]
        text = [
            "  ".join(
                cell.ljust(width) if word else cell.rjust(width)
                for cell, width, word in zip(line, widths, words, strict=True)
            ).rstrip()
            for line in lines
        ]
        if (extra := len(text) - _LONGEST) > 0:
            half = _LONGEST // 2
            text[half : half + extra] = [f"... {extra:,} more"]
        return "\n".join([self.title, *text, *self.summary, *(f"! {line}" for line in self.warnings)])

    __repr__ = __str__

    def plot(self, path: str | PathLike[str] | None = None) -> Figure:
        """Draw the rows; save the figure when given a path. Returns the figure, so a notebook shows it.

        Needs matplotlib, which is imported here only.
        """
        return drawn(type(self).__name__, self._draw, path)

    @abstractmethod
    def _draw(self, figure: Figure) -> None:
        """Draw into an empty figure of 8 by 4.2 inches."""

    def values(self, key: str) -> list[float]:
        """A column of the rows; NaN where a row has no number."""
        return [np.nan if row[key] is None else row[key] for row in self.rows]


def drawn(name: str, draw: Callable[[Figure], None], path: str | PathLike[str] | None) -> Figure:
    """A figure of 8 by 4.2 inches, drawn into by `draw`; saved when given a path."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"{name}.plot needs matplotlib; pip install matplotlib") from error
    figure = Figure(figsize=(8, 4.2), dpi=100, layout="constrained")
    draw(figure)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def name_ticks(axes: Axes, names: Sequence[str]) -> None:
    """Names below the axis, as many as fit."""
    step = max(1, -(-len(names) // 16))
    axes.set_xticks(range(0, len(names), step), names[::step], rotation=90, fontsize=9)
    axes.grid(alpha=0.3)


def log_scale(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis where there is a positive number to show."""
    if any(np.isfinite(value) and value > 0 for value in values):
        axes.set_yscale("log")
