"""What a fit needs beside its loop: checked rows, metrics and callbacks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn._arrays import Array, FloatArray, as_array
from fastnn._device import as_floats, on_host
from fastnn.callbacks import Callback, Checkpoint, Watcher

Trainer = Any  # fastnn.Trainer, which imports this module

Metric = Callable[[FloatArray, Array], float]
Rows = tuple[Array, Array, FloatArray | None]  # X, Y and their weights

# Columns of the history that metrics of one's own may not replace.
_TAKEN = {"epoch", "step", "lr", "loss", "penalty", "seconds", "samples_per_second"}
_TAKEN |= {"accuracy", "rmse", "mae", "r2"}


def checked_metrics(given: Mapping[str, Metric] | None) -> dict[str, Metric]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(
            f"Trainer: metrics must be a dict of name -> f(pred, target), got {type(given).__name__}"
        )
    for name, metric in given.items():
        if not isinstance(name, str) or isinstance(metric, type) or not callable(metric):
            raise TypeError(f"Trainer: metrics must be name -> f(pred, target), got {name!r} -> {metric!r}")
        if name in _TAKEN or name.startswith("val_"):
            raise ValueError(f"Trainer: metrics: the name {name!r} is taken; choose another")
    return dict(given)


def values_of(metrics: Mapping[str, Metric], pred: FloatArray, target: Array) -> dict[str, float]:
    """What metrics of one's own give; TypeError for what is no number."""
    values = {}
    for name, metric in metrics.items():
        value = metric(pred, target)
        try:
            values[name] = float("no number" if isinstance(value, str) else value)
        except (TypeError, ValueError):
            raise TypeError(f"Trainer: metrics: {name!r} must give a number, got {value!r}") from None
    return values


def checked_rows(where: str, X: Array, Y: Array, weight: Array | None) -> Rows:
    """X, Y and the weights, checked for kind and for equal numbers of rows."""
    given = {"X": X, "Y": Y} if weight is None else {"X": X, "Y": Y, "sample_weight": weight}
    arrays = []
    for name, array in given.items():
        arrays.append(as_rows(where, name, array))
        if len(arrays[-1]) != len(arrays[0]):
            raise ValueError(
                f"{where}: {name} must have one row for each of the {len(arrays[0])} of X, "
                f"got {len(arrays[-1])}"
            )
    weights = None if weight is None else as_floats(arrays[2], f"{where}: sample_weight")
    return arrays[0], arrays[1], weights


def as_pair(validation: Any) -> tuple[Array, Array]:
    """The validation of a fit, if it is two of a kind."""
    if not isinstance(validation, (tuple, list)) or len(validation) != 2:
        raise TypeError("Trainer.fit: validation must be a pair (X, Y)")
    X, Y = validation
    return X, Y


def names_of(trainer: Trainer, validated: bool) -> list[str]:
    """What says in the logs of an epoch how good it was."""
    names = ["loss", *getattr(trainer._scores(), "names", ()), *trainer.metrics]
    names += [f"val_{name}" for name in names] if validated else []
    return names + ["penalty"] * trainer.optimizer.regularises


def monitored(plateau: Any, names: Sequence[str], validated: bool) -> str:
    """The name of the metric that a `ReduceOnPlateau` is told, one of `names`."""
    name: str = plateau.monitor or ("val_loss" if validated else "loss")
    if name not in names:
        raise ValueError(
            f"Trainer.fit: ReduceOnPlateau: monitor {name!r} is not among {', '.join(names)}"
            + ("" if validated else "; pass validation=(X, Y) for those of a validation")
        )
    return name


def check_callbacks(where: str, callbacks: Sequence[Callback], names: Sequence[str], validated: bool) -> None:
    """Raise for what is no callback, one that monitors what the history will not have, and two watchers."""
    if not isinstance(callbacks, (list, tuple)):
        raise TypeError(f"{where}: callbacks must be a list of callbacks, got {callbacks!r}")
    columns = {"epoch", "step", "lr", "seconds", "samples_per_second", *names}
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise TypeError(f"{where}: callbacks must be objects of fastnn.callbacks, got {callback!r}")
        if callback.monitor is not None and callback.monitor not in columns:
            cure = "" if validated else "; pass validation= for those that begin with val_"
            raise ValueError(
                f"{where}: {type(callback).__name__} monitors {callback.monitor!r}, which the "
                f"history will not have; it will have {', '.join(sorted(columns))}{cure}"
            )
    if len(watchers := [type(c).__name__ for c in callbacks if isinstance(c, Watcher)]) > 1:
        raise ValueError(
            f"{where}: callbacks: {' and '.join(watchers)} would watch the same steps; pass one of them"
        )


def taken_on(
    trainer: Trainer, callbacks: Sequence[Callback], names: Sequence[str], validated: bool
) -> list[Callback]:
    """The callbacks of a fit, checked, in their order, with the state that a file or a copied trainer has of
    them.
    """
    check_callbacks("Trainer.fit", callbacks, names, validated)
    taken = sorted(callbacks, key=lambda callback: isinstance(callback, Checkpoint))
    own = [callback for callback in trainer._callbacks if callback._model is trainer.model]
    for callback in taken:
        # A copy of a trainer goes on from its copy of the callback.
        copied = [one for one in own if type(one) is type(callback)]
        if callback._model not in (None, trainer.model) and copied:
            callback.load_state_dict(copied[0].state_dict())
        for i, (kind, state) in enumerate(trainer._callback_states):
            if kind == type(callback).__name__:
                callback.load_state_dict(state)
                del trainer._callback_states[i]
                break
    return taken


def drop_other_plan(trainer: Trainer, plan: dict[str, int]) -> None:
    """Let an epoch begin again that was begun with another plan."""
    begun = trainer._epoch_begun
    if begun is not None and begun.plan != plan:
        warnings.warn(
            f"Trainer.fit: epoch {trainer.epoch + 1} was left after {begun.steps} steps with {begun.plan}; "
            f"now it is {plan}, so it begins again",
            stacklevel=3,
        )
        trainer._epoch_begun = None


def total_weight(target: Array, weight: Array | None) -> float:
    """What a batch counts in the mean of an epoch, for a loss that is a function without `total_weight`."""
    return float(len(target)) if weight is None else float(on_host(weight).sum(dtype=np.float64))


def as_rows(where: str, name: str, array: Array) -> Array:
    rows = as_array(array, f"{where}: {name}", on_device=True)
    if rows.ndim == 0:
        raise ValueError(f"{where}: {name} must have rows, got a single value")
    return rows
