"""Models whose layers tell what passes through them, and what is measured of an array.

Reports that are asked for run on copies of the model (and of the optimizer), so that nothing of the trainer
can change: mode, running statistics, counters of dropout, gradients and slots stay as they are, also after an
error. `StepReports` watches the model itself, in steps that it does anyway.
"""

from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastnn._arrays import Array, FloatArray, as_float32
from fastnn._columns import column_moments
from fastnn._fitting import checked_rows
from fastnn.diagnostics._report import Row
from fastnn.nn import BatchNorm1d, Linear, Module, Parameter, Residual, Sequential, Standardize
from fastnn.nn.activations import Activation
from fastnn.trainer import Trainer

Float64 = npt.NDArray[np.float64]

# A derivative of at most this share of its largest value is counted as saturated.
SATURATED = 0.05
_STEEPEST = {"sigmoid": 0.25}  # of the others: about 1


def checked_model(where: str, model: Any) -> Module:
    if not isinstance(model, Module):
        raise TypeError(f"{where}: model must be an nn.Module, got {type(model).__name__}")
    return model


def checked_trainer(where: str, trainer: Any) -> Trainer:
    if not isinstance(trainer, Trainer):
        raise TypeError(f"{where}: trainer must be a fastnn.Trainer, got {type(trainer).__name__}")
    return trainer


def checked_batch(where: str, x: Any) -> FloatArray:
    """x as float32 with at least one row."""
    batch = as_float32(x, f"{where}: x")
    if batch.ndim < 2 or batch.size == 0:
        raise ValueError(
            f"{where}: x must have shape (rows, ...) and at least one row, got {batch.shape}; "
            "pass x[None] for a single one"
        )
    return batch


def checked_data(where: str, trainer: Trainer, X: Any, Y: Any) -> tuple[Array, Array]:
    """X and Y with equal numbers of rows.

    X holds real numbers, which are converted a batch at a time, Y targets that the trainer's loss takes.
    """
    X, Y, _ = checked_rows(where, X, Y, None)
    for name, array in (("X", X), ("Y", Y)):
        if isinstance(array, np.ma.MaskedArray):
            raise TypeError(
                f"{where}: {name} is a masked array and its mask would be lost; pass .filled(value)"
            )
    as_float32(X[:0], f"{where}: X")
    if len(X) == 0:
        raise ValueError(f"{where}: X has no rows; give at least one row to train on")
    twin(trainer)._steps.check_data(where, X, Y)
    return X, Y


def drawn_rows(where: str, model: Module, count: int) -> FloatArray:
    """Rows of standard normal numbers, as wide as the first layer that says how wide its inputs are."""
    for module in model.modules():
        if isinstance(module, (Linear, BatchNorm1d, Standardize)):
            width = module.in_features if isinstance(module, Linear) else module.num_features
            return np.random.default_rng(0).standard_normal((count, width), np.float32)
    raise ValueError(
        f"{where}: no layer of the model says how wide the inputs are; begin it with Linear, BatchNorm1d or "
        "Standardize, or pass a batch where there is an x"
    )


def copied(model: Module) -> Module:
    """A copy on the CPU, where layers are called one by one."""
    return copy.deepcopy(model).to("cpu")


def twin(trainer: Trainer, device: str = "cpu") -> Trainer:
    """A trainer like this one, on copies of its model (in training mode) and optimizer: what it does never
    reaches this one. Whole steps are taken on the trainer's own `device`, layers called on the CPU.
    """
    model, optimizer = copy.deepcopy((trainer.model, trainer.optimizer))
    try:
        list(optimizer._numbers_now())
    except ValueError:  # of a `PerEpoch` that no fit has told the epoch, which the trainer knows
        begun = trainer._epoch_begun
        optimizer.set_steps_per_epoch(trainer._epochs(1 if begun is None else 1 + begun.steps))
    return Trainer(
        model.train().to(device),
        trainer.loss,
        optimizer,
        precision=trainer.precision,
        device=device,
        seed=trainer.seed,
    )


class Moments(NamedTuple):
    """Mean and biased variance of an array and of each column, in float64."""

    mean: float
    var: float
    column_means: Float64
    column_squares: Float64  # sums of squared differences from the mean
    rows: int

    @property
    def column_vars(self) -> Float64:
        return self.column_squares / self.rows

    @property
    def std(self) -> float:
        return math.sqrt(self.var)

    @property
    def rms(self) -> float:
        return math.sqrt(self.var + self.mean * self.mean)


def moments(array: FloatArray) -> Moments:
    """One pass; NaN or infinity anywhere makes mean and variance not finite."""
    rows = _rows(array)
    means, squares = column_moments(rows)
    count, columns = rows.shape
    mean, var = float(np.add.reduce(means)) / columns, math.nan
    if math.isfinite(mean):
        gaps = means - mean
        var = (float(np.add.reduce(squares)) / count + float(gaps.dot(gaps))) / columns
    return Moments(mean, var, means, squares, count)


def norm(arrays: list[FloatArray]) -> float:
    """The Euclidean norm of all numbers together, in float64."""
    total = 0.0
    for array in arrays:
        rows = _rows(array)
        means, squares = column_moments(rows)
        total += float(np.add.reduce(squares)) + len(rows) * float(means.dot(means))
    return math.sqrt(total)


def _rows(array: FloatArray) -> FloatArray:
    if array.ndim == 2 and array.flags.c_contiguous:
        return array
    return np.ascontiguousarray(array.reshape(-1, array.shape[-1] if array.ndim else 1))


def first_non_finite(name: str, array: FloatArray) -> str | None:
    """The place of the first NaN or infinity in words."""
    wrong = np.argwhere(~np.isfinite(array))
    if not len(wrong):
        return None
    place = tuple(int(i) for i in wrong[0])
    return f"{name}[{', '.join(map(str, place))}] is {array[place]}"


def _adds_nothing(residual: Residual) -> bool:
    """Whether the last batch-norm of the block still has the gammas of 0 that were asked for."""
    norms = [module for module in residual.block.modules() if isinstance(module, BatchNorm1d)]
    return residual.zero_gamma and not norms[-1].gamma.data.any()


class Watched(Module):
    """A layer with its row: what comes out of it, and the gradient that comes back to its result."""

    asleep = False  # in a block that adds nothing yet, on purpose (Residual, zero_gamma)

    def __init__(self, layer: Module, watch: Watch, row: Row) -> None:
        self.layer = layer
        self.training = layer.training
        self.passes_on = layer.passes_on
        # Whether it holds a matrix: the layers that the law of depth counts.
        self.multiplies = any(parameter.data.ndim == 2 for parameter in self.own_parameters())
        self._watch = watch
        self.row = row

    def own_parameters(self) -> list[Parameter]:
        """Those of the layer itself, not of layers inside it that have rows of their own."""
        return [] if type(self.layer) is Residual else [p for _, p in self.layer.named_parameters()]

    def forward(self, x: Array) -> FloatArray:
        self._watch.enter(self, x)
        y = self.layer(x)
        self._watch.forward(self, x, y)
        return y

    def backward(self, dy: Array, *, accumulate: bool = False, input_grad: bool = True) -> FloatArray | None:
        self._watch.backward(self, dy, input_grad)
        return self.layer.backward(dy, accumulate=accumulate, input_grad=input_grad)


class Watch:
    """Takes a model apart: `model` does what the given one does, with its layers, and each of them has a row.

    Sequential and Residual are looked into; any other module, also a container of the user's own, is one
    layer. Rows stand in the order of a forward, a Residual behind its block and shortcut. Activations are
    run as layers of their own, which changes no bit. A watch may see several batches: `begin` before each.
    """

    def __init__(self, model: Module) -> None:
        self.layers: list[Watched] = []
        self._blocks: list[tuple[Residual, ...]] = []  # around each layer
        names = [(parameter, parameter.name) for _, parameter in model.named_parameters()]
        self.model = self._wrap(model, "", ())
        for parameter, name in names:  # a Sequential gives its own
            parameter.name = name
        self.begin()

    def begin(self) -> None:
        """A batch comes: new rows, those of the last one stay with whoever has them."""
        self.non_finite: str | None = None
        for watched, blocks in zip(self.layers, self._blocks, strict=True):
            watched.row = {key: watched.row[key] for key in ("layer", "kind")}
            watched.asleep = any(map(_adds_nothing, blocks))

    @property
    def rows(self) -> list[Row]:
        return [watched.row for watched in self.layers]

    def _wrap(self, module: Module, name: str, blocks: tuple[Residual, ...]) -> Module:
        prefix = f"{name}." if name else ""
        if type(module) is Sequential:
            return Sequential(*(self._wrap(layer, f"{prefix}{i}", blocks) for i, layer in enumerate(module)))
        layer = module
        if type(module) is Residual:
            shortcut = module.shortcut
            past = None if shortcut is None else self._wrap(shortcut, f"{prefix}shortcut", blocks)
            layer = Residual(self._wrap(module.block, f"{prefix}block", (*blocks, module)), past)
        row = {"layer": name, "kind": type(module).__name__}
        self.layers.append(Watched(layer, self, row))
        self._blocks.append(blocks)
        return self.layers[-1]

    def enter(self, watched: Watched, x: Array) -> None:
        """A layer is given x."""

    def forward(self, watched: Watched, x: Array, y: FloatArray) -> None:
        """A layer has made y of x."""

    def backward(self, watched: Watched, dy: FloatArray, input_grad: bool) -> None:
        """A layer is given the gradient of its result."""


_MEASURED = ("mean", "std", "rms", "grad_mean", "grad_std", "grad_rms", "saturated", "dead")


class Signals(Watch):
    """A watch that measures both directions."""

    def begin(self) -> None:
        super().begin()
        for row in self.rows:
            row.update(dict.fromkeys(_MEASURED))

    def see_input(self, x: FloatArray) -> None:
        """Looks for NaN and infinity in what goes into the model."""
        if not np.isfinite(x).all():
            self.non_finite = "first value that is not finite: " + str(first_non_finite("x", x))

    def forward(self, watched: Watched, x: Array, y: FloatArray) -> None:
        found = moments(y)
        watched.row.update(mean=found.mean, std=found.std, rms=found.rms)
        self._look_for_non_finite(watched, y, found, "output")

    def backward(self, watched: Watched, dy: FloatArray, input_grad: bool) -> None:
        found = moments(dy)
        watched.row.update(grad_mean=found.mean, grad_std=found.std, grad_rms=found.rms)
        self._look_for_non_finite(watched, dy, found, "gradient")
        if isinstance(watched.layer, Activation):
            # dy * f'(x) for dy = 1.
            slope = watched.layer.backward(np.ones_like(dy))
            assert slope is not None
            slope = np.abs(slope, out=slope).reshape(-1, slope.shape[-1])
            flat = slope <= SATURATED * _STEEPEST.get(watched.layer.kind, 1.0)
            watched.row["saturated"] = np.count_nonzero(flat) / slope.size
            watched.row["dead"] = np.count_nonzero(slope.max(axis=0) == 0) / slope.shape[1]

    def _look_for_non_finite(self, watched: Watched, array: FloatArray, found: Moments, what: str) -> None:
        if self.non_finite is None and not math.isfinite(found.var):
            name = watched.row["layer"] or watched.row["kind"]
            place = first_non_finite(f"{what} of {name} ", array)
            if place is not None:
                self.non_finite = f"first value that is not finite: {place}"
