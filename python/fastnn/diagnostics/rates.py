"""lr_find: the loss over a learning rate that grows from step to step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fastnn import data
from fastnn._arrays import Array, as_float32, check_int, check_number
from fastnn.diagnostics._report import Report, Row
from fastnn.diagnostics._watch import checked_data, checked_trainer, twin
from fastnn.optim import NonFiniteGradientError
from fastnn.trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KEPT = 0.9  # of the mean so far in the smoothed loss
_DIVERGED = 4.0  # times the lowest smoothed loss
_CLEAR = 4.0  # standard errors by which the loss must fall


class RateReport(Report):
    """What `lr_find` returns: `suggestion`, `lowest` and `diverged` beside a row for each step."""

    title = "loss over the learning rate"
    columns: ClassVar = {"step": "count", "lr": "number", "loss": "number", "smoothed": "number"}

    def __init__(self, rows: list[Row], diverged: bool) -> None:
        self.diverged = diverged
        self.suggestion, self.lowest = _choice(rows)
        summary, warnings = [], []
        if math.isfinite(self.suggestion):
            summary = [
                f"steepest descent at lr={self.suggestion:.2g}, lowest smoothed loss at {self.lowest:.2g}"
            ]
        if diverged and rows:
            summary.append(f"diverged at {rows[-1]['lr']:.2g}")
        if not math.isfinite(self.suggestion):
            warnings.append(
                "the loss never fell by more than its noise: begin with fresh weights, and look at "
                "check_init and step_report"
            )
        elif not diverged:
            warnings.append("the loss had not diverged at the largest rate; pass a larger max_lr")
        super().__init__(rows, summary, warnings)

    def _draw(self, figure: Figure) -> None:
        axes = figure.subplots()
        rates = self.values("lr")
        axes.plot(rates, self.values("loss"), ".", color="0.6", ms=4, label="loss of each batch")
        axes.plot(rates, self.values("smoothed"), lw=2, label="smoothed")
        if math.isfinite(self.suggestion):
            axes.axvline(self.suggestion, color="C1", ls="--", label=f"steepest: {self.suggestion:.2g}")
            axes.axvline(self.lowest, color="C2", ls=":", label=f"lowest: {self.lowest:.2g}")
        falling = [row["loss"] for row in self.rows if row["lr"] <= self.lowest]
        shown = [value for value in (*self.values("smoothed"), *falling) if math.isfinite(value)]
        if shown:
            margin = 0.1 * (max(shown) - min(shown)) + 1e-6
            axes.set_ylim(min(shown) - margin, max(shown) + margin)
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss", title=self.title)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)


def lr_find(
    trainer: Trainer,
    X: Array,
    Y: Array,
    *,
    batch_size: int,
    min_lr: float = 1e-6,
    max_lr: float = 10.0,
    steps: int = 100,
) -> RateReport:
    """Train with a rate that grows from step to step, and see where the loss falls and where it explodes.

    The rate of step i is min_lr * (max_lr / min_lr)**(i / (steps - 1)) (Smith 2015, "LR range test"); batches
    are those of `data.batches`, epoch after epoch, without a shorter last one. It ends early where the loss
    is not finite or its smoothed value is above 4 times the lowest one. Rows have step, lr, loss (before the
    update) and smoothed, the mean with weights that fade by 0.9 a step, debiased.

    `suggestion` is the rate in front of `lowest` at which the loss falls steepest over log(lr), by lines
    through a tenth of the steps: a good first rate (fastai's "steep"). `lowest` is that of the lowest
    smoothed loss, which is already too large: a tenth of it is another usual choice. Both
    are NaN where that loss is not 4 standard errors below the first ones, as with a trained model. Schedules
    and rates of single groups play no part: all groups get the same rate.

    It runs on copies of the model and the optimizer, so the trainer is never touched: nothing need be
    restored after an error or Ctrl-C. The rows are read a batch at a time.

    Raises TypeError or ValueError for a wrong argument, and as a step of the trainer does.

    >>> import numpy as np, fastnn
    >>> from fastnn import diagnostics, losses, nn, optim
    >>> X = np.random.default_rng(0).standard_normal((256, 4)).astype(np.float32)
    >>> Y = (X[:, 0] > X[:, 1]).astype(int)
    >>> model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2), seed=0)
    >>> trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1))
    >>> report = diagnostics.lr_find(trainer, X, Y, batch_size=32, max_lr=1000)
    >>> 1e-3 < report.suggestion < report.lowest < 1000
    True
    """
    where = "lr_find"
    checked_trainer(where, trainer)
    X, Y = checked_data(where, trainer, X, Y)
    low = check_number(min_lr, f"{where}: min_lr", 0)
    high = check_number(max_lr, f"{where}: max_lr", 0)
    if not 0 < low < high:
        raise ValueError(f"{where}: min_lr must be above 0 and below max_lr, got {low:g} and {high:g}")
    steps = check_int(steps, f"{where}: steps", 2)
    batches = batches_of(where, trainer, X, Y, batch_size)
    copied, rows, diverged = twin(trainer, trainer.device), [], False
    mean, lowest = 0.0, math.inf
    for i in range(steps):
        rate = low * (high / low) ** (i / (steps - 1))
        x, y = next(batches)
        copied.optimizer.lr = rate
        try:
            loss = float(copied.step(x, y))
        except NonFiniteGradientError:
            diverged = True
            break
        mean = _KEPT * mean + (1 - _KEPT) * loss
        smoothed = mean / (1 - _KEPT ** (i + 1))
        rows.append({"step": i + 1, "lr": rate, "loss": loss, "smoothed": smoothed})
        lowest = min(lowest, smoothed)
        diverged = not math.isfinite(loss) or smoothed > _DIVERGED * lowest
        if diverged:
            break
    return RateReport(rows, diverged)


def batches_of(
    where: str, trainer: Trainer, X: Array, Y: Array, batch_size: int
) -> Iterator[tuple[Array, Array]]:
    """Whole batches for ever, in the trainer's own order; all rows at once where there are fewer."""
    size = check_int(batch_size, f"{where}: batch_size", 1)
    epochs = (
        data.batches(X, Y, size, seed=trainer.seed, epoch=epoch, drop_last=len(X) >= size)
        for epoch in count(trainer.epoch)
    )
    return ((as_float32(x, f"{where}: X"), y) for epoch in epochs for x, y in epoch)


def _choice(rows: list[Row]) -> tuple[float, float]:
    """The rate of the steepest descent before the lowest point, and that of the lowest point; NaN both where
    the loss does not fall by more than the noise of its batches.
    """
    finite = [row for row in rows if math.isfinite(row["smoothed"])]
    if not finite:
        return math.nan, math.nan
    smoothed = [row["smoothed"] for row in finite]
    end = int(np.argmin(smoothed))
    # Lines through the losses of single batches: the smoothed loss lags behind, and begins with one batch.
    reach = max(1, len(rows) // 20)
    width = 2 * reach + 1
    losses = np.array([row["loss"] for row in finite[: end + 1]])
    if len(losses) < width:
        return math.nan, math.nan
    noise = np.sqrt(np.square(np.diff(losses)).mean() / 2)  # of one batch
    error = noise * math.sqrt(1 / width + (1 - _KEPT) / (1 + _KEPT))
    slopes = np.correlate(losses, np.arange(-reach, reach + 1), "valid")  # times a constant
    steepest = int(slopes.argmin())
    if losses[:width].mean() - smoothed[end] <= _CLEAR * error or slopes[steepest] >= 0:
        return math.nan, math.nan
    return float(finite[steepest + reach]["lr"]), float(finite[end]["lr"])
