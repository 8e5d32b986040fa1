"""recalibrate_bn: the statistics of a whole data set in place of running averages."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fastnn._arrays import Array, FloatArray, as_array, as_float32, check_int
from fastnn._device import refuse_model
from fastnn.nn.batchnorm import BatchNorm1d
from fastnn.nn.module import Module, evaluating


def recalibrate_bn(model: Module, X: Array, *, batch_size: int = 1024) -> None:
    """Set the running statistics of every `BatchNorm1d` in the model to those of its inputs over all of X.

    mean = sum(h) / n and var = sum((h - mean)^2) / (n - 1), or / n in a layer with `running_var="biased"`,
    over the n rows of h, the layer's input for the rows of X in evaluation mode. Layer after layer: what a
    layer sees comes from layers before it that have their new statistics already. Sums are in float64,
    merged from batch to batch (Chan et al. 1979), so the result does not depend on `batch_size` but for
    rounding. `updates` of layers with `debias` stays.

    Parameters
    ----------
    model : a module with at least one BatchNorm1d; each may be used once in a forward
    X : the inputs of a training set, at least two rows; of any real dtype, also a memory map
    batch_size : rows at a time; a model with k batch-norms goes over X k times, up to each of them

    PyTorch's `swa_utils.update_bn` takes the mean of the variances of single batches, which leaves out how
    their means differ, and lets all layers see batches in training mode.

    Raises TypeError or ValueError for a wrong argument, for a model without batch-norm, and for inputs of a
    batch-norm that are not finite; then no statistic has changed.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> model = nn.Sequential(nn.BatchNorm1d(2, running_var="biased"))
    >>> nn.recalibrate_bn(model, np.array([[0, 1], [4, 1], [8, 5], [4, 5]]), batch_size=2)
    >>> model[0].running_mean, model[0].running_var
    (array([4., 3.], dtype=float32), array([8., 4.], dtype=float32))
    """
    where = "recalibrate_bn"
    if not isinstance(model, Module):
        raise TypeError(f"{where}: model must be an nn.Module, got {type(model).__name__}")
    refuse_model(where, model)
    X = as_array(X, f"{where}: X")
    if X.ndim == 0 or len(X) < 2:
        raise ValueError(f"{where}: X must have at least two rows, got shape {X.shape}")
    size = check_int(batch_size, f"{where}: batch_size", 1)
    layers = {name: m for name, m in model.named_modules() if isinstance(m, BatchNorm1d)}
    if not layers:
        raise ValueError(f"{where}: the model has no BatchNorm1d, there is nothing to recalibrate")
    before = {name: (layer.running_mean.copy(), layer.running_var.copy()) for name, layer in layers.items()}
    try:
        with evaluating(model):
            for name in _order(model, layers, as_float32(X[:size], f"{where}: X")):
                layer, moments = layers[name], _Moments()
                for start in range(0, len(X), size):
                    rows = as_float32(X[start : start + size], f"{where}: X")
                    _run_up_to(model, layer, rows, moments.add)
                if not (np.isfinite(moments.mean).all() and np.isfinite(moments.squares).all()):
                    raise ValueError(
                        f"{where}: the input of {name or 'the layer'!r} is not finite for some rows of X"
                    )
                layer.running_mean[...] = moments.mean
                layer.running_var[...] = moments.squares / (moments.n - layer.unbiased)
    except BaseException:
        for name, (mean, var) in before.items():
            layers[name].running_mean[...] = mean
            layers[name].running_var[...] = var
        raise


class _Moments:
    """Mean and sum of squared distances from it of the columns of all batches added so far."""

    def __init__(self) -> None:
        self.n = 0
        self.mean: npt.NDArray[np.float64] = np.zeros(())
        self.squares: npt.NDArray[np.float64] = np.zeros(())

    def add(self, x: FloatArray) -> None:
        rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
        with np.errstate(
            invalid="ignore"
        ):  # inf - inf: whoever reads the result looks for what is not finite
            mean = rows.mean(axis=0)
            rows -= mean
            gap, total = mean - self.mean, self.n + len(rows)
            self.squares = self.squares + (rows * rows).sum(axis=0) + gap * gap * (self.n * len(rows) / total)
            self.mean = self.mean + gap * (len(rows) / total)
        self.n = total


class _Reached(BaseException):
    """The layer in question has seen its input: what follows it need not run."""


def _run_up_to(model: Module, layer: BatchNorm1d, x: FloatArray, see: Callable[[FloatArray], None]) -> None:
    """Run the model on x until `layer` is called, whose input `see` gets."""

    def observe(rows: FloatArray) -> None:
        see(rows)
        raise _Reached

    layer._observe = observe
    try:
        model.forward(x)
    except _Reached:
        pass
    finally:
        del layer._observe


def _order(model: Module, layers: dict[str, BatchNorm1d], x: FloatArray) -> list[str]:
    """The names of the batch-norms in the order in which a forward calls them."""
    called: list[str] = []
    for name, layer in layers.items():
        layer._observe = lambda _, name=name: called.append(name)
    try:
        model.forward(x)
    finally:
        for layer in layers.values():
            del layer._observe
    for name in called:
        if called.count(name) > 1:
            raise ValueError(f"recalibrate_bn: {name!r} is called {called.count(name)} times in one forward")
    return called
