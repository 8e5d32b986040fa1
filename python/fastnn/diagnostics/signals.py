"""signal_report: how signals and gradients pass through the layers of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fastnn._arrays import Array
from fastnn.diagnostics._depth import DepthLaw, depth_law
from fastnn.diagnostics._report import Report, log_scale, name_ticks
from fastnn.diagnostics._watch import Signals, checked_batch, checked_model, copied
from fastnn.nn import Module

if TYPE_CHECKING:
    from matplotlib.figure import Figure, FigureBase

# Shares of saturated elements and of dead units from which a layer is named.
MOSTLY_SATURATED, MANY_DEAD = 0.5, 0.25
_HALVED = ("ReLU", "LeakyReLU")  # flat on one side: half of the values there is what they are for


def verdicts(signals: Signals) -> tuple[DepthLaw, DepthLaw, list[str], list[str]]:
    """The laws of outputs and gradients, both in words, and what is wrong."""
    matrices = [w.row for w in signals.layers if w.multiplies and not w.asleep]
    forward = depth_law([row["rms"] for row in matrices if row["rms"] is not None])
    backward = depth_law([row["grad_rms"] for row in reversed(matrices) if row["grad_rms"] is not None])
    summary = [forward.sentence("signal, first to last layer"), backward.sentence("gradient, last to first")]
    warnings = [] if signals.non_finite is None else [signals.non_finite]
    laws = {"signals": forward.verdict, "gradients": backward.verdict}
    if small := [what for what, verdict in laws.items() if verdict in ("vanishing", "dead")]:
        warnings.append(
            f"{' and '.join(small)} vanish: use larger initial weights (init.KaimingNormal for ReLU), "
            "BatchNorm1d or Residual"
        )
    if large := [what for what, verdict in laws.items() if verdict == "exploding"]:
        warnings.append(
            f"{' and '.join(large)} explode: use smaller initial weights, BatchNorm1d, or clip= in the "
            "optimizer"
        )
    for row in signals.rows:
        name = f"{row['kind']} {row['layer']}".strip()
        if row["dead"] is not None and row["dead"] > MANY_DEAD:
            warnings.append(f"{name}: {row['dead']:.0%} of the units let no gradient through in any row")
        elif (
            row["saturated"] is not None
            and row["saturated"] > MOSTLY_SATURATED
            and row["kind"] not in _HALVED
        ):
            warnings.append(f"{name}: {row['saturated']:.0%} of the values lie where its slope is nearly 0")
    return forward, backward, summary, warnings


class SignalReport(Report):
    """What `signal_report` returns: `forward` and `backward` are the laws of depth of both directions."""

    title = "signals of one batch"
    columns: ClassVar = {
        "layer": "word",
        "kind": "word",
        "mean": "number",
        "std": "number",
        "grad_mean": "number",
        "grad_std": "number",
        "saturated": "share",
        "dead": "share",
    }

    def __init__(self, signals: Signals) -> None:
        self.forward, self.backward, summary, warnings = verdicts(signals)
        self.non_finite = signals.non_finite
        super().__init__(signals.rows, summary, warnings)

    def _draw(self, figure: Figure) -> None:
        draw_signals(figure, self)


def draw_signals(figure: FigureBase, report: Report) -> None:
    """Root mean squares of outputs and gradients, and the shares of saturated values and dead units."""
    size, share = figure.subplots(1, 2)
    names = [row["layer"] or row["kind"] for row in report.rows]
    for key, label, marker in (("rms", "output", "o"), ("grad_rms", "gradient of the output", "s")):
        size.plot(report.values(key), marker=marker, ms=4, label=label)
    log_scale(size, [*report.values("rms"), *report.values("grad_rms")])
    size.set(title="root mean square", xlabel="layer")
    rows = [row for row in report.rows if row["dead"] is not None]
    for shift, key, label in ((-0.2, "saturated", "values saturated"), (0.2, "dead", "units dead")):
        share.bar([i + shift for i in range(len(rows))], [row[key] for row in rows], 0.4, label=label)
    share.set(title="activations", xlabel="layer", ylim=(0, 1))
    name_ticks(size, names)
    name_ticks(share, [row["layer"] or row["kind"] for row in rows])
    for axes in (size, share):
        axes.legend(fontsize=9)


def signal_report(model: Module, x: Array) -> SignalReport:
    """How signals and gradients pass through the layers of a model, on one batch x in training mode.

    A row for each layer, in the order of a forward; `Sequential` and `Residual` are looked into ("2.block.0",
    then "2" for the sum), any other module is one layer. Keys:

    mean, std, rms : of the layer's output, over all its elements (rms**2 = mean**2 + std**2)
    grad_mean, grad_std, grad_rms : of the gradient with respect to that output, for sum(r * model(x)) with
        standard normal numbers r, the same in every call
    saturated : for an activation f, the share of elements with |f'| at most 5 % of its largest value
        (sigmoid: |x| > 4.36, tanh: |x| > 2.18, ReLU: zeros)
    dead : the share of its units (columns) with f' = 0 for every row of the batch

    `forward` and `backward` hold the law of depth, over the layers with a matrix: size = first *
    factor**(L - 1), so `factor` is 1.5 where each of L layers multiplies by 1.5. Growth above 100 over all
    layers is called exploding, below 1 / 100 vanishing. `non_finite` is the first place with a NaN or
    infinity, or None.

    The model is copied and the copy runs, so mode, running statistics, dropout counters and gradients stay
    as they are.

    Raises TypeError for what is no module or no array of numbers, ValueError for no rows and as the model
    does.

    >>> import numpy as np
    >>> from fastnn import diagnostics, init, nn
    >>> model = nn.Sequential(*(nn.Linear(4, 4, weight_init=init.Identity(1.5), rng=0) for _ in range(9)))
    >>> report = diagnostics.signal_report(model, np.ones((8, 4)))
    >>> report.forward.factor, report.forward.growth == 1.5**8, report.forward.verdict
    (1.5, True, 'steady')
    >>> print(report.summary[0])
    signal, first to last layer: steady, times 1.5 a layer, 25.6 over 9 layers
    """
    where = "signal_report"
    checked_model(where, model)
    batch = checked_batch(where, x)
    signals = Signals(copied(model))
    signals.see_input(batch)
    y = signals.model.train().forward(batch)
    random = np.random.default_rng(0).standard_normal(y.shape, np.float32)
    signals.model.backward(random)
    return SignalReport(signals)
