"""What a fit did, epoch by epoch, and how it is shown while it runs."""

from __future__ import annotations

import importlib
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class History(Mapping[str, list[float]]):
    """The epochs of a fit: `h["loss"]` is a list with a number per epoch.

    Keys: `epoch` (finished epochs of the trainer), `step` (updates done), `lr` (rate of the epoch's last
    update), `loss` and the loss's metrics (means over the epoch's rows, each batch before its update),
    `seconds` and `samples_per_second` (training only); where the optimizer has weight decay or l1 `penalty`,
    its `penalty()` after the epoch, which is no part of `loss`; with validation also `val_loss` and the
    `val_` metrics.

    >>> h = History()
    >>> h.append({"epoch": 1, "loss": 0.5})
    >>> h.append({"epoch": 2, "loss": 0.25})
    >>> h["loss"]
    [0.5, 0.25]
    """

    def __init__(self) -> None:
        self._columns: dict[str, list[float]] = {}

    @classmethod
    def from_columns(cls, columns: Mapping[str, Sequence[float | None]]) -> History:
        """A history with these columns, all of one length; None is NaN: `from_columns(json.load(file))` reads
        what `save` wrote.

        >>> History.from_columns({"loss": [0.5, 0.25]}).epochs
        2
        """
        history = cls()
        if len({len(column) for column in columns.values()}) > 1:
            raise ValueError("History.from_columns: columns must have one length")
        for key, column in columns.items():
            history._columns[str(key)] = [math.nan if number is None else number for number in column]
        return history

    @property
    def epochs(self) -> int:
        """The number of epochs."""
        return len(next(iter(self._columns.values()), []))

    def append(self, logs: Mapping[str, float]) -> None:
        """Add an epoch; what it or the epochs before it lack is NaN."""
        before = self.epochs
        for key in logs:
            if key not in self._columns:
                self._columns[key] = [math.nan] * before
        for key, column in self._columns.items():
            column.append(logs.get(key, math.nan))

    def __getitem__(self, key: str) -> list[float]:
        if key not in self._columns:
            raise KeyError(f"History: no {key!r}; there are {', '.join(self._columns) or 'no epochs yet'}")
        return self._columns[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        return f"History({self.epochs} epochs; {', '.join(self._columns)})"

    def save(self, path: str | PathLike[str]) -> None:
        """Write the columns to a JSON file; NaN as null, and infinity as 1e999, which reads as infinity."""
        columns = (
            f" {json.dumps(key)}: [\n  " + ",\n  ".join(map(_as_json, column)) + "\n ]"
            for key, column in self._columns.items()
        )
        text = "{\n" + ",\n".join(columns) + "\n}\n"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def plot(self, path: str | PathLike[str] | None = None) -> Figure:
        """Draw loss and metrics over the epochs, with those of the validation; save the figure when given a
        path.

        Needs matplotlib (imported here only); the figure is returned, so a notebook shows it.
        """
        try:
            from matplotlib.figure import Figure
            from matplotlib.ticker import MaxNLocator
        except ImportError as error:
            raise ImportError("History.plot needs matplotlib; pip install matplotlib") from error
        course = {"epoch", "step", "lr", "seconds", "samples_per_second"}
        names = [key for key in self if key not in course and not key.startswith("val_")]
        if not names:
            raise ValueError("History.plot: no epochs yet; fit first")
        columns = min(len(names), 2)  # legible at 800 pixels
        rows = -(-len(names) // columns)
        figure = Figure(figsize=(4.5 * columns, 3.2 * rows), layout="constrained")
        for i, name in enumerate(names):
            axes = figure.add_subplot(rows, columns, i + 1)
            for key, label in ((name, "training"), (f"val_{name}", "validation")):
                if key in self:
                    axes.plot(self["epoch"], self[key], label=label, marker=".")
            axes.set(title=name, xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.3)
            axes.legend()
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure


def _as_json(number: float) -> str:
    """JSON has neither NaN nor infinities."""
    if math.isnan(number):
        return "null"
    return json.dumps(number) if math.isfinite(number) else f"{'-' * (number < 0)}1e999"


class Progress:
    """A fit on the terminal: a tqdm bar where tqdm is installed, else a line per epoch; elsewhere: none."""

    def __init__(self, wanted: bool, steps: int) -> None:
        self._bar: Any = None
        self._lines = wanted and sys.stderr.isatty()
        if self._lines:
            try:
                tqdm = importlib.import_module("tqdm").tqdm
            except ImportError:
                return
            self._lines = False
            self._bar = tqdm(total=steps, unit="step", dynamic_ncols=True)

    def steps(self, count: int) -> None:
        if self._bar is not None:
            self._bar.update(count)

    def epoch(self, logs: Mapping[str, float]) -> None:
        if self._bar is None and not self._lines:
            return
        shown = {key: f"{value:.4g}" for key, value in logs.items() if key not in ("step", "seconds")}
        if self._bar is not None:
            self._bar.set_postfix(shown)
        else:
            print(", ".join(f"{key} {value}" for key, value in shown.items()), file=sys.stderr)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
