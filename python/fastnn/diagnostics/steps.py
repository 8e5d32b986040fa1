"""step_report: what the next step of a trainer would do, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from fastnn._arrays import Array, FloatArray, as_float32
from fastnn._precision import products_in
from fastnn.diagnostics._report import Report, log_scale, name_ticks
from fastnn.diagnostics._watch import (
    Signals,
    Watched,
    checked_batch,
    checked_trainer,
    first_non_finite,
    moments,
    norm,
    twin,
)
from fastnn.diagnostics.signals import draw_signals, verdicts
from fastnn.nn import BatchNorm1d, Module
from fastnn.optim import Optimizer
from fastnn.trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Loss = Callable[..., tuple[float, FloatArray]]

# ||update|| / ||weights|| of a layer outside of this is named.
SLOW, FAST = 1e-5, 0.1
# A gradient is small below this share of what the loss asks of the outputs; a loss is high from this share
# of the loss of a constant output.
SMALL, HIGH = 0.01, 0.95


class Overheard:
    """A loss that remembers what it was asked and what it said."""

    def __init__(self, loss: Loss) -> None:
        self._loss = loss

    def __call__(self, *arguments: Any) -> tuple[float, FloatArray]:
        self.arguments = arguments  # predictions, targets, weights
        self.value, gradient = self._loss(*arguments)
        return self.value, gradient

    @property
    def total_weight(self) -> Any:
        """What a batch counts: its own, if it has one."""
        return self._loss.total_weight  # type: ignore[attr-defined]

    def of_a_constant(self) -> float:
        """The loss of the mean prediction for every row."""
        pred, *others = self.arguments
        return float(self._loss(np.broadcast_to(pred.mean(axis=0), pred.shape).copy(), *others)[0])


class StepSignals(Signals):
    """Also sees how far the statistics of a batch are from the running ones, and what the update does.

    `before` the step, then forward, loss, backward and update with `model`, `loss` and the optimizer, then
    `report`.
    """

    loss: Overheard

    def __init__(self, model: Module) -> None:
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        super().__init__(model)
        self._own = [(w, parameters) for w in self.layers if (parameters := w.own_parameters())]

    def before(self, loss: Loss, optimizer: Optimizer) -> None:
        self.begin()
        for row in self.rows:
            row.update(dict.fromkeys(("drift", "drift_std", "grad_norm", "update_ratio")))
        self.loss, self._optimizer, self._skipped = Overheard(loss), optimizer, optimizer.skipped_steps
        self.step = optimizer.step_count + 1
        self._input_seen = False
        updated = {id(p) for group in optimizer.param_groups for p in group["params"]}
        self._moved = []
        for watched, parameters in self._own:
            moved = [p.data for p in parameters if p.trainable and id(p) in updated]
            self._moved.append((watched, norm(moved), moved, [array.copy() for array in moved]))

    def enter(self, watched: Watched, x: Array) -> None:
        if not self._input_seen:
            self._input_seen = True
            self.see_input(as_float32(x, "x"))
        if isinstance(watched.layer, BatchNorm1d):
            self._running = Running.of(watched.layer)

    def forward(self, watched: Watched, x: Array, y: FloatArray) -> None:
        super().forward(watched, x, y)
        if isinstance(watched.layer, BatchNorm1d):
            watched.row["drift"], watched.row["drift_std"] = drift(self._running, x)

    def report(self) -> StepReport:
        """Of the step that has been done, or was refused for its gradients."""
        with np.errstate(all="ignore"):  # a training that runs away is told in words
            return self._report()

    def _report(self) -> StepReport:
        squares = 0.0
        for watched, parameters in self._own:
            size = watched.row["grad_norm"] = norm([parameter.grad for parameter in parameters])
            squares += size**2
            if self.non_finite is None and not math.isfinite(size):
                places = (first_non_finite(self._names[id(p)], p.grad) for p in parameters)
                self.non_finite = "first value that is not finite: gradient " + next(filter(None, places))
        if self._optimizer.skipped_steps == self._skipped:
            for watched, size, now, old in self._moved:
                if size > 0:
                    change = norm([np.subtract(a, b, out=b) for a, b in zip(now, old, strict=True)])
                    watched.row["update_ratio"] = change / size
        pred = self.loss.arguments[0]
        # What the last layer was given back is dloss/dpred.
        wanted = math.sqrt(len(pred) * pred.size) * self.rows[-1]["grad_rms"]
        return StepReport(self, math.sqrt(squares), wanted)


class Running(NamedTuple):
    """What a batch-norm knows before a batch."""

    layer: BatchNorm1d
    mean: FloatArray
    var: FloatArray
    begun: bool

    @classmethod
    def of(cls, layer: BatchNorm1d) -> Running:
        begun = not layer.debias or bool(layer.updates)
        return cls(layer, layer.running_mean.copy(), layer.running_var.copy(), begun)


def drift(running: Running, x: FloatArray) -> tuple[float | None, float | None]:
    """How far the statistics of x are from the running ones, in running deviations.

    Root mean square over the columns of (mean - running mean) / std and of (std of x - std) / std, with
    std = sqrt(running variance + eps).
    """
    if not running.begun:
        return None, None  # nothing to compare with
    layer, found = running.layer, moments(x)
    var = found.column_squares / (found.rows - layer.unbiased)
    std = np.sqrt(running.var.astype(np.float64) + layer.eps)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_gap = (found.column_means - running.mean) / std
        std_gap = (np.sqrt(var + layer.eps) - std) / std
        squares = float(mean_gap @ mean_gap), float(std_gap @ std_gap)
    mean_drift, std_drift = (math.sqrt(total / layer.num_features) for total in squares)
    return mean_drift, std_drift


class StepReport(Report):
    """What `step_report` returns: `step`, the number of the update, `loss`, `grad_norm`, `stuck` and the laws
    of depth beside the rows.
    """

    title = "the next step"
    columns: ClassVar = {
        "layer": "word",
        "kind": "word",
        "mean": "number",
        "std": "number",
        "grad_mean": "number",
        "grad_std": "number",
        "saturated": "share",
        "dead": "share",
        "drift": "number",
        "update_ratio": "number",
    }

    def __init__(self, signals: StepSignals, grad_norm: float, wanted: float) -> None:
        self.forward, self.backward, summary, warnings = verdicts(signals)
        self.step = signals.step
        self.non_finite = signals.non_finite
        self.loss = loss = float(signals.loss.value)
        self.constant_loss = constant_loss = signals.loss.of_a_constant()
        self.grad_norm = grad_norm
        # Where both are NaN nothing is said: the first place that is not finite is.
        self.stuck = self.grad_norm <= SMALL * wanted and loss >= HIGH * constant_loss
        summary = [
            f"loss {loss:.4g} (a constant output: {constant_loss:.4g}), gradient norm {self.grad_norm:.3g}",
            *summary,
        ]
        if self.stuck:
            warnings.append(
                "small gradient, high loss: a saddle point, a plateau, or a network whose outputs do not "
                "depend on its inputs; see check_init"
            )
        super().__init__(signals.rows, summary, warnings)
        for row in self.rows:
            name, ratio = f"{row['kind']} {row['layer']}".strip(), row["update_ratio"]
            if ratio is not None and not SLOW <= ratio <= FAST:
                how = "hardly moves; raise" if ratio < SLOW else "moves far; lower"
                self.warnings.append(f"{name}: an update of {ratio:.2g} of its weights {how} the rate")

    def _draw(self, figure: Figure) -> None:
        figure.set_size_inches(8, 6.4)
        parts: Any = figure.subfigures(2, 1)
        draw_signals(parts[0], self)
        axes = parts[1].subplots()
        rows = [row for row in self.rows if row["update_ratio"] is not None]
        ratios = [row["update_ratio"] for row in rows]
        axes.plot(ratios, marker="o", ms=4)
        log_scale(axes, ratios)
        axes.axhline(1e-3, color="0.5", ls="--", lw=1, label="1e-3")
        axes.set(title="norm of the update / norm of the weights", xlabel="layer")
        name_ticks(axes, [row["layer"] or row["kind"] for row in rows])
        axes.legend(fontsize=9)


def step_report(trainer: Trainer, x: Array, y: Array) -> StepReport:
    """What `trainer.step(x, y)` would do, layer by layer, without doing it.

    Rows and keys are those of `signal_report`, with the gradients of the trainer's loss, and:

    drift, drift_std : for batch-norm, how far mean and deviation of this batch are from the running ones, in
        running deviations (root mean square over the columns): about 1 / sqrt(rows of the batch) where
        layers in front stand still, larger while they move or the running statistics still follow
    grad_norm : the norm of the layer's gradients
    update_ratio : ||change|| / ||weights|| over all numbers of the layer that the optimizer updates, None
        where there are none, or all are 0. Around 1e-3 is common; below 1e-5 and above 0.1 a layer is named
        in `warnings`

    `loss`; `constant_loss`, that of outputs which are the batch's mean output for every row; `grad_norm`, of
    all gradients; `stuck` ("small gradient, high loss"): the loss is at least 95 % of `constant_loss` while
    `grad_norm` is at most 1 % of sqrt(n) ||dloss/dpred||, the gradient that a bias would get if all n rows
    pulled the same way; `forward`, `backward` and `non_finite` as in `signal_report`.

    Model and optimizer are copied and the copies take the step, so nothing of the trainer changes (its loss
    is called twice). A report takes as long as 8 steps of a network of 235,000 weights, 94 of a tiny one
    (measured in docs/diagnostics.md): call it now and then. For reports of the steps of a fit, `StepReports`.

    Raises TypeError or ValueError for a wrong argument, and as model and loss do.

    >>> import numpy as np, fastnn
    >>> from fastnn import diagnostics, losses, nn, optim
    >>> X = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2), seed=0)
    >>> trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1))
    >>> report = diagnostics.step_report(trainer, X, (X[:, 0] > 0).astype(int))
    >>> [row["layer"] for row in report.rows], report.stuck
    (['0', '1', '2'], False)
    >>> report.loss == trainer.step(X, (X[:, 0] > 0).astype(int))
    True
    """
    where = "step_report"
    checked_trainer(where, trainer)
    batch = checked_batch(where, x)
    copied = twin(trainer)
    signals = StepSignals(copied.model)
    if copied.optimizer.nonfinite == "raise":
        copied.optimizer.nonfinite = "skip"  # the report names the place
    signals.before(trainer.loss, copied.optimizer)
    with products_in(trainer.precision):
        pred = signals.model.forward(batch)
    _, dpred = signals.loss(pred, y)
    signals.model.backward(dpred, input_grad=False)
    copied.optimizer.step()
    return signals.report()
