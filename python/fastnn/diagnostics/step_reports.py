"""StepReports: reports of the steps that a fit does."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from time import perf_counter
from typing import TYPE_CHECKING, Any

from fastnn import _device, cuda
from fastnn._arrays import check_int, check_number
from fastnn.callbacks import Watcher
from fastnn.diagnostics._report import Row, drawn, log_scale
from fastnn.diagnostics.steps import Loss, StepReport, StepSignals
from fastnn.nn import Module
from fastnn.optim import NonFiniteGradientError, Optimizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Without `every` a step is watched only when this share of the steps so far has passed since the last one: a
# long training has a thousand reports, not a million.
_APART = 0.01
# A report is counted so many times its own time: native steps are left and begun again, with threads asleep
# and other things in the caches (docs/diagnostics.md).
_AROUND = 1.5
_LONGEST_LEGEND = 16


class _Clock:
    """When a report may be made: what reports have taken, what a fit takes, and how long a step is."""

    def __init__(self) -> None:
        self.spent = 0.0  # by reports
        self.cost = 0.0  # of the last one
        self.steps = 0  # seen
        self._last = 0  # of them, that was watched
        self._past = 0.0  # seconds of the fits before
        self._begun: float | None = None  # when the running one began

    def begin(self, step: int) -> None:
        self._begun = self._asked = perf_counter()
        self._step, self._a_step = step, math.inf

    def end(self) -> None:
        self._past, self._begun = self.total(), None

    def total(self) -> float:
        """Seconds of all fits."""
        return self._past + (0.0 if self._begun is None else perf_counter() - self._begun)

    @property
    def share(self) -> float:
        """What reports have taken of it."""
        return self.spent / total if (total := self.total()) else 0.0

    def asked(self, step: int) -> None:
        """Steps up to this one have been done."""
        now, done = perf_counter(), step - self._step
        if done > 0:
            # The quickest: between two epochs there is more than steps.
            self._a_step = min(self._a_step, (now - self._asked) / done)
            self.steps += done
        self._asked, self._step = now, step

    def watched(self, begun: float, step: int) -> None:
        """A report was made, in a step that began then; `step` updates are done."""
        self.steps += max(step - self._step, 0)
        self._asked, self._step, self._last = perf_counter(), step, self.steps
        seconds = self._asked - begun
        self.cost = seconds - (self._a_step if self._a_step < seconds else 0.0)
        self.spent += self.cost

    def steps_ahead(self, share: float) -> int:
        """Steps before another report of that cost is within its share; 0 too before the first."""
        if not self.cost:
            return 0
        seconds = _AROUND * (self.spent + self.cost) / share - self.total() - self.cost
        least = self._last - self.steps - 1 + _APART * self._last
        if seconds > 0:
            least = max(least, 1.0 if self._a_step == math.inf else seconds / max(self._a_step, 1e-9))
        return max(math.ceil(least), 0)


class StepReports(Watcher):
    """A callback of `Trainer.fit`: reports of the steps that it does, without changing one bit of them.

    Parameters
    ----------
    every : whole number, at least 1: watch the updates `every`, 2 `every`, ... (of `optimizer.step_count`),
        whatever that costs. None: the first step, then as often as reports take at most `share` of the time,
        and not before another 1 % of the steps so far is done, so that a long training has about a thousand
    share : above 0 and below 1; of the time of the fits. Time is measured, and counted half as much again for
        what the native steps around a report lose. The first report is made in any case, so a fit that is
        shorter than its time / `share` spends more. Not looked at with `every`

    A watched step is done layer by layer with the model's own layers and the optimizer itself, which gives
    the bits of a native step: parameters, slots, running statistics, masks (docs/program.md; the value of an
    element-wise loss that the history holds, up to rounding). All others run as without the callback.

    What there is then:

    reports : a `StepReport` for each watched step, as `step_report` would have given it before, with `step`,
        the number of the update that it saw. A step whose gradients were not finite, so that its update was
        refused, has one too: no `update_ratio`, and `non_finite` names the place
    rows : the rows of all reports, each with its `step`
    share_taken : the share of the time of the fits that reports took, 0..1, as measured

    `plot(path=None)` draws, over the steps, for each layer the update ratio and the root mean squares of
    outputs and gradients. Printed: the last report, and how many there are.

    The loss is called once more in a watched step, with its mean prediction for every row. Reports go on in
    further fits of the same model and begin anew with another. `Trainer.save` leaves them out.

    Raises TypeError or ValueError for a wrong argument; `fit` raises ValueError for two of them at once and
    `fastnn.CudaError` for a model on the device, where `step_report` can be called from `on_step_end`.

    >>> import numpy as np, fastnn
    >>> from fastnn import diagnostics, losses, nn, optim
    >>> X = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2), seed=0)
    >>> trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1))
    >>> reports = diagnostics.StepReports(every=3)
    >>> _ = trainer.fit(X, (X[:, 0] > 0).astype(int), batch_size=16, epochs=2, callbacks=[reports])
    >>> [report.step for report in reports.reports], len(reports.rows)
    ([3, 6], 6)
    """

    def __init__(self, every: int | None = None, *, share: float = 0.05) -> None:
        self.every = None if every is None else check_int(every, "StepReports: every", 1)
        self.share = check_number(share, "StepReports: share", 0, 1)
        if self.share == 0:
            raise ValueError("StepReports: share must be above 0, got 0")
        self._begin()

    def _begin(self) -> None:
        self.reports: list[StepReport] = []
        self._clock = _Clock()
        self._signals: StepSignals | None = None
        self._layers: list[Module] = []  # of the model when it was taken apart
        self._tried: int | None = None  # the update that was watched last

    # ---- what was seen

    @property
    def rows(self) -> list[Row]:
        """The rows of all reports, each with its `step`."""
        return [{"step": report.step, **row} for report in self.reports for row in report.rows]

    @property
    def share_taken(self) -> float:
        """What reports have taken of the time of the fits, 0..1."""
        return self._clock.share

    def __str__(self) -> str:
        if not self.reports:
            return "no reports yet"
        count = f"{len(self.reports):,} report{'s' * (len(self.reports) > 1)}"
        return f"{self.reports[-1]}\n{count}, {self.share_taken:.1%} of the time of training"

    __repr__ = __str__

    def plot(self, path: str | PathLike[str] | None = None) -> Figure:
        """Draw over the steps what each layer did; save the figure when given a path. Needs matplotlib."""
        return drawn("StepReports", self._draw, path)

    def _draw(self, figure: Figure) -> None:
        figure.set_size_inches(8, 6.4)
        from matplotlib import colormaps

        places = figure.subplot_mosaic([["update_ratio", "update_ratio"], ["rms", "grad_rms"]])
        titles = {
            "rms": "root mean square of outputs",
            "grad_rms": "... of gradients of the outputs",
            "update_ratio": "norm of the update / norm of the weights",
        }
        rows = self.rows
        layers = list(dict.fromkeys((row["layer"], row["kind"]) for row in rows))
        colors = [colormaps["turbo"](0.05 + 0.9 * i / max(len(layers) - 1, 1)) for i in range(len(layers))]
        lines: dict[str, Any] = {}
        for key, title in titles.items():
            axes = places[key]
            for layer, color in zip(layers, colors, strict=True):
                # Neither None nor 0, which a logarithmic axis does not have.
                seen = [row for row in rows if (row["layer"], row["kind"]) == layer and row[key]]
                if seen:
                    steps, values = [row["step"] for row in seen], [row[key] for row in seen]
                    (line,) = axes.plot(steps, values, color=color, lw=1.2, marker=".", ms=3)
                    lines[" ".join(layer).strip()] = line
            log_scale(axes, [row[key] for row in rows if row[key]])
            axes.set(title=title, xlabel="step")
            axes.grid(alpha=0.3)
        places["update_ratio"].axhline(1e-3, color="0.5", ls="--", lw=1)
        shown = list(lines)[:: -(-len(lines) // _LONGEST_LEGEND) or 1]
        figure.legend([lines[label] for label in shown], shown, loc="outside right upper", fontsize=9)

    # ---- what a fit calls

    def on_fit_begin(self, trainer: Any) -> None:
        if _device.holds(trainer.model):
            raise cuda.CudaError(
                "StepReports: steps are watched on the CPU and this model is on the device; call step_report "
                "from on_step_end of a callback, it takes a copy"
            )
        if self._model not in (None, trainer.model):
            self._begin()
        self._model = trainer.model
        self._tried = None
        self._clock.begin(trainer.optimizer.step_count)

    def on_fit_end(self, trainer: Any) -> None:
        if self._model is trainer.model:
            self._clock.end()
        self._signals = None

    def steps_ahead(self, step: int) -> int:
        self._clock.asked(step)
        if self.every is None:
            return self._clock.steps_ahead(self.share)
        # An update that is refused again and again is watched once.
        return self.every - 1 - step % self.every or (self.every if step == self._tried else 0)

    @contextmanager
    def watching(self, model: Module, loss: Loss, optimizer: Optimizer) -> Iterator[tuple[Module, Loss]]:
        begun = perf_counter()
        self._tried = optimizer.step_count
        layers = model.modules()
        if self._signals is None or layers != self._layers:
            self._signals, self._layers = StepSignals(model), layers
        signals = self._signals
        signals.before(loss, optimizer)
        try:
            try:
                yield signals.model, signals.loss
            finally:
                # A program is lowered anew where layers hold a batch.
                for layer in layers:
                    if layer._saved is not None:
                        layer._saved = None
        except NonFiniteGradientError:
            self._keep(signals)
            raise
        self._keep(signals)
        self._clock.watched(begun, optimizer.step_count)

    def _keep(self, signals: StepSignals) -> None:
        report = signals.report()
        report.title = f"step {report.step}"
        self.reports.append(report)
