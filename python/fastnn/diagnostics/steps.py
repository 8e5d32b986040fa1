"""step_report: what the next step of a trainer would do, layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastnn._arrays import Array, FloatArray
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
    on_host,
    twin,
)
from fastnn.diagnostics.signals import draw_signals, verdicts
from fastnn.nn import BatchNorm1d, Module
from fastnn.trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# ||update|| / ||weights|| of a layer outside of this is named.
SLOW, FAST = 1e-5, 0.1
# A gradient is small below this share of what the loss asks of the outputs; a loss is high from this share
# of the loss of a constant output.
SMALL, HIGH = 0.01, 0.95


class _StepSignals(Signals):
    """Also sees how far the statistics of a batch are from the running ones."""

    def __init__(self, model: Module, originals: dict[int, Module]) -> None:
        self.originals = originals  # id of a layer's copy -> the layer
        super().__init__(model)
        for row in self.rows:
            row.update(dict.fromkeys(("drift", "drift_std", "grad_norm", "update_ratio")))

    def forward(self, watched: Watched, x: Array, y: FloatArray) -> None:
        super().forward(watched, x, y)
        layer = self.originals.get(id(watched.layer))
        if isinstance(layer, BatchNorm1d):
            watched.row["drift"], watched.row["drift_std"] = drift(layer, x)


def drift(layer: BatchNorm1d, x: FloatArray) -> tuple[float | None, float | None]:
    """How far the statistics of x are from the running ones of the layer, in running deviations.

    Root mean square over the columns of (mean - running mean) / std and of (std of x - std) / std, with
    std = sqrt(running variance + eps).
    """
    if layer.debias and not layer.updates:
        return None, None  # nothing to compare with
    found = moments(x)
    n = x.size // layer.num_features
    var = found.column_vars * (n / (n - 1)) if layer.unbiased else found.column_vars
    std = np.sqrt(layer.running_var.astype(np.float64) + layer.eps)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_gap = (found.column_means - layer.running_mean) / std
        std_gap = (np.sqrt(var + layer.eps) - std) / std
    return float(np.sqrt(np.square(mean_gap).mean())), float(np.sqrt(np.square(std_gap).mean()))


class StepReport(Report):
    """What `step_report` returns: `loss`, `grad_norm`, `stuck` and the laws of depth beside the rows."""

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

    def __init__(self, signals: _StepSignals, loss: float, constant_loss: float, gradients: dict[str, float]):
        self.forward, self.backward, summary, warnings = verdicts(signals)
        self.non_finite = signals.non_finite
        self.loss = loss
        self.constant_loss = constant_loss
        self.grad_norm = gradients["parameters"]
        wanted = gradients["wanted"]
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
    is called twice). A report takes as long as 4 to 5 steps of a network of 235,000 weights, 45 of a tiny one
    (measured in docs/diagnostics.md): call it once in a hundred or a thousand steps, for example from
    `Callback.on_step_end`.

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
    model = on_host(trainer.model)
    originals = zip(copied.model.modules(), model.modules(), strict=True)
    before = zip(copied.model.named_parameters(), model.named_parameters(), strict=True)
    old = {id(new): (name, parameter.data) for (_, new), (name, parameter) in before}
    signals = _StepSignals(copied.model, {id(new): layer for new, layer in originals})
    signals.see_input(batch)
    with products_in(trainer.precision):
        pred = signals.model.train().forward(batch)
    loss, dpred = trainer.loss(pred, y)
    signals.model.backward(dpred, input_grad=False)
    constant, _ = trainer.loss(np.broadcast_to(pred.mean(axis=0), pred.shape).copy(), y)
    copied.optimizer.nonfinite = "skip"
    copied.optimizer.step()
    skipped = copied.optimizer.skipped_steps > trainer.optimizer.skipped_steps
    updated = {id(p) for group in copied.optimizer.param_groups for p in group["params"]}
    norms = []
    for watched in signals.layers:
        parameters = watched.own_parameters()
        if not parameters:
            continue
        norms.append(norm([parameter.grad for parameter in parameters]))
        watched.row["grad_norm"] = norms[-1]
        if signals.non_finite is None and not np.isfinite(norms[-1]):
            places = (first_non_finite(old[id(p)][0], p.grad) for p in parameters)
            signals.non_finite = "first value that is not finite: gradient " + next(filter(None, places))
        moved = [parameter for parameter in parameters if parameter.trainable and id(parameter) in updated]
        size = norm([old[id(p)][1] for p in moved])
        if size > 0 and not skipped:
            change = norm([p.data - old[id(p)][1] for p in moved])
            watched.row["update_ratio"] = change / size
    gradients = {
        "parameters": float(np.sqrt(np.square(norms).sum())),
        "wanted": float(np.sqrt(len(pred))) * norm([dpred]),
    }
    return StepReport(signals, float(loss), float(constant), gradients)
