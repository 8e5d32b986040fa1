"""check_init: whether the weights that a model begins with can learn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fastnn._arrays import Array, FloatArray
from fastnn.diagnostics._report import Report, Row, name_ticks
from fastnn.diagnostics._watch import (
    Signals,
    Watched,
    checked_batch,
    checked_model,
    copied,
    drawn_rows,
    moments,
    norm,
)
from fastnn.diagnostics.signals import verdicts
from fastnn.init import gain
from fastnn.nn import Dropout, Linear, Module
from fastnn.nn.activations import Activation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DRAWN_ROWS = 64
# The activations that let half of a signal through: their gain is needed, not a matter of taste.
_RECTIFIERS = ("relu", "leaky_relu")


class InitReport(Report):
    """What `check_init` returns; `ok` is whether nothing was found."""

    title = "initial weights"
    columns: ClassVar = {
        "layer": "word",
        "kind": "word",
        "std": "number",
        "gain": "number",
        "wanted": "number",
        "identical": "count",
        "stuck": "count",
        "grad_norm": "number",
    }

    @property
    def ok(self) -> bool:
        """Whether there are no warnings."""
        return not self.warnings

    def _draw(self, figure: Figure) -> None:
        scale, neurons = figure.subplots(1, 2)
        names = [row["layer"] or row["kind"] for row in self.rows]
        scale.plot(self.values("gain"), "o", label="gain of the weights")
        scale.plot(self.values("wanted"), "_", ms=14, mew=2, label="the activation's")
        scale.set(title="gain = root mean square * sqrt(fan_in)", xlabel="layer")
        scale.set_ylim(bottom=0)
        for shift, key in ((-0.2, "identical"), (0.2, "stuck")):
            neurons.bar([i + shift for i in range(len(self.rows))], self.values(key), 0.4, label=key)
        most = max(1, *np.nan_to_num(self.values("identical")))
        neurons.set(title="neurons that equal another one", xlabel="layer", ylim=(0, 1.1 * most))
        for axes in (scale, neurons):
            name_ticks(axes, names)
            axes.legend(fontsize=9)


def check_init(model: Module, x: Array | None = None) -> InitReport:
    """Whether the weights that a model begins with can learn; a row for each layer with parameters.

    x : a batch of inputs; None draws 64 rows of standard normal numbers, as wide as the first layer that says
        how wide its inputs are (Linear, BatchNorm1d, Standardize)

    Keys of a row:

    std : of the weight matrix
    gain : its root mean square * sqrt(fan_in): a layer of gain g gives outputs of variance g**2 times the
        mean square of its inputs
    wanted : `init.gain` of the activation behind it (not where batch-norm comes first: it makes any scale
        right)
    identical : neurons of a Linear with the same weights and bias as another one: they compute the same
    stuck : those among them whose gradients are equal too: they stay equal for ever (equal weights to the
        next layer; random ones there, or dropout, set them apart)
    grad_norm : of the layer's gradients for a random gradient of the outputs

    Warnings name stuck neurons, layers that no gradient reaches (a dead network: zeros in front of ReLU or
    tanh), gains that are wrong for the activation (Xavier's in front of ReLU), vanishing and exploding
    signals, and dead units. The model is copied, nothing in it changes.

    Raises TypeError for what is no module, ValueError for a model without parameters, and for x=None where
    no layer says how wide the inputs are.

    >>> from fastnn import diagnostics, init, nn
    >>> zeros = init.Zeros()
    >>> model = nn.Sequential(
    ...     nn.Linear(3, 3, weight_init=zeros), nn.Sigmoid(), nn.Linear(3, 1, weight_init=zeros)
    ... )
    >>> report = diagnostics.check_init(model)
    >>> report.ok, report.rows[0]["stuck"]
    (False, 3)
    >>> diagnostics.check_init(nn.Sequential(nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 1), seed=0)).ok
    True
    """
    where = "check_init"
    checked_model(where, model)
    if not any(True for _ in model.named_parameters()):
        raise ValueError(f"{where}: the model has no parameters, there is nothing to check")
    batch = drawn_rows(where, model, _DRAWN_ROWS) if x is None else checked_batch(where, x)
    signals = Signals(copied(model))
    signals.see_input(batch)
    y = signals.model.train().forward(batch)
    signals.model.backward(np.random.default_rng(1).standard_normal(y.shape, np.float32))
    _, _, summary, warnings = verdicts(signals)
    rows = []
    for i, watched in enumerate(signals.layers):
        if watched.own_parameters():
            row, found = _checked(watched, _activation_behind(watched, signals.layers[i + 1 :]))
            rows.append(row)
            warnings += found
    matrices = [p for w in signals.layers for p in w.own_parameters() if p.data.ndim == 2]
    if matrices and not any(p.grad.any() for p in matrices):
        warnings.insert(0, "dead network: no weight matrix gets a gradient, so none ever changes")
    return InitReport(rows, summary, warnings)


def _checked(watched: Watched, activation: Activation | None) -> tuple[Row, list[str]]:
    """The row of a layer and what is wrong with it."""
    layer, parameters = watched.layer, watched.own_parameters()
    row: Row = {"layer": watched.row["layer"], "kind": watched.row["kind"]}
    row.update(dict.fromkeys(("std", "gain", "wanted", "identical", "stuck")))
    row["grad_norm"] = norm([parameter.grad for parameter in parameters])
    name, warnings = f"{row['kind']} {row['layer']}".strip(), []
    if row["grad_norm"] == 0 and not watched.asleep:
        warnings.append(f"{name}: no gradient reaches it in the first step")
    if isinstance(layer, Linear):
        weight = moments(layer.weight.data)
        row["std"] = weight.std
        row["gain"] = weight.rms * math.sqrt(layer.in_features)
        row["wanted"] = None if activation is None else _gain_of(activation)
        row["identical"], row["stuck"] = _identical(layer)
        if row["stuck"]:
            warnings.append(
                f"{name}: {row['stuck']} of {layer.out_features} neurons are equal and get equal gradients, "
                "so they stay equal; draw the weights at random"
            )
        if activation is not None and row["wanted"] is not None and not _fits(row["gain"], activation):
            warnings.append(
                f"{name}: gain {row['gain']:.2g}, the {type(activation).__name__} behind it wants "
                f"{row['wanted']:.3g}; init.KaimingNormal(nonlinearity={activation.kind!r}) gives it"
            )
    return row, warnings


def _identical(layer: Linear) -> tuple[int, int]:
    """Neurons equal to another one, and those of them with equal gradients."""
    arrays = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
    values = np.vstack([p.data for p in arrays])
    both = np.vstack([values, *(p.grad for p in arrays)])
    return _repeated(values), _repeated(both)


def _repeated(columns: FloatArray) -> int:
    """How many columns are equal to another one."""
    _, counts = np.unique(columns, axis=1, return_counts=True)
    return int(counts[counts > 1].sum())


def _activation_behind(watched: Watched, behind: list[Watched]) -> Activation | None:
    """The activation that a layer's result goes into, at most through Dropout; None: another layer."""
    following = next((other for other in behind if not isinstance(other.layer, Dropout)), None)
    places = [w.row["layer"].rpartition(".")[0] for w in (watched, following) if w is not None]
    if following is None or not isinstance(following.layer, Activation) or len(set(places)) > 1:
        return None
    return following.layer


def _gain_of(activation: Activation) -> float | None:
    if activation.kind in ("relu", "leaky_relu", "sigmoid", "tanh", "selu"):
        return gain(activation.kind, getattr(activation, "negative_slope", 0.0))
    return None


def _fits(found: float, activation: Activation) -> bool:
    """Whether a gain is near enough, 0.75 to 1.5 times; 1 is right for all but rectifiers."""
    wanted = _gain_of(activation)
    assert wanted is not None
    low = wanted if activation.kind in _RECTIFIERS else min(wanted, 1.0)
    return 0.75 * low <= found <= 1.5 * max(wanted, 1.0)
