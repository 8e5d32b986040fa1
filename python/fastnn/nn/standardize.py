"""Standardize: the scaling of inputs as the first layer of a model, and its folding into the next one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn._arrays import Array, FloatArray, aligned_zeros, check_int
from fastnn._columns import scale_columns
from fastnn._device import as_floats, refuse_model
from fastnn.nn.flatten import Flatten
from fastnn.nn.linear import Linear
from fastnn.nn.module import Module
from fastnn.nn.sequential import Sequential
from fastnn.preprocessing import ColumnScaler, Scaler

Float64 = npt.NDArray[np.float64]

# |mean| / std from which a folded model would be off by more than about 1e-3 (see fold_scaling).
_FARTHEST = 1e4


class Standardize(Module):
    """y = (x - shift) * scale + offset for each column, for x of shape (..., num_features): a fitted scaler.

    Parameters
    ----------
    scaler : a fitted `preprocessing.StandardScaler` or `MinMaxScaler`; or a whole number of columns, which
        gives y = x until `load_state_dict` brings the numbers of another one

    As first layer it takes raw inputs: the scaling of the training data is then saved, loaded and moved with
    the model, and nobody has to remember it. The scaler's numbers are copied as float32 (`shift`, `scale`,
    `offset`, in `state_dict`, not trained, untouched by `reset_parameters`); y is `scaler.transform(x)` up to
    one rounding. float64 is rounded to float32 first, as by every layer: where that loses the data (1e8 with
    a standard deviation of 1), use `scaler.transform`. dx = dy * scale.

    PyTorch has no such layer; Keras has `Normalization`, which divides by max(std, 1e-7).

    Raises RuntimeError for a scaler without `fit`, TypeError for what is no scaler of columns (`Whitening`
    mixes them), ValueError for `MinMaxScaler(clip=True)` and for an x of another shape.

    >>> import numpy as np
    >>> from fastnn import nn, preprocessing
    >>> X = np.array([[0, 100], [2, 300]])
    >>> model = nn.Sequential(nn.Standardize(preprocessing.StandardScaler().fit(X)), nn.Linear(2, 1), seed=0)
    >>> model[0](X).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    >>> model[0].backward(np.ones((2, 2))).tolist()
    [[1.0, 0.009999999776482582], [1.0, 0.009999999776482582]]
    """

    buffers: Mapping[str, float] = {"shift": 0.0, "scale": 1.0, "offset": 0.0}

    def __init__(self, scaler: ColumnScaler | int) -> None:
        if isinstance(scaler, ColumnScaler):
            numbers = scaler.affine()
        elif isinstance(scaler, (int, np.integer)):
            columns = check_int(scaler, "Standardize: scaler", 1)
            zero, one = np.zeros(columns, np.float32), np.ones(columns, np.float32)
            numbers = zero, one, zero
        else:
            hint = ""
            if isinstance(scaler, Scaler):
                hint = "; it mixes columns, so transform the data, or let a Linear hold its matrix"
            elif isinstance(scaler, type) and issubclass(scaler, ColumnScaler):
                hint = "; pass an object of it that was fitted"
            raise TypeError(
                "Standardize: scaler must be a fitted StandardScaler or MinMaxScaler, or a whole number of "
                f"columns, got {scaler!r}{hint}"
            )
        self.num_features = len(numbers[0])
        self.shift, self.scale, self.offset = (aligned_zeros((self.num_features,)) for _ in range(3))
        for name, values in zip(self.buffers, numbers, strict=True):
            getattr(self, name)[...] = values

    def _reset(self, rng: np.random.Generator) -> None:
        """Nothing: what a scaler learned is no state of training."""

    def forward(self, x: Array) -> FloatArray:
        x = as_floats(x, "Standardize: x", self.scale)
        if x.ndim < 2 or x.shape[-1] != self.num_features:
            raise ValueError(self._wrong(x.shape))
        self._saved = x.shape if self.training else None
        return self._scaled(x, self.shift, self.offset)

    def backward(self, dy: Array, *, accumulate: bool = False, input_grad: bool = True) -> FloatArray | None:
        shape = self._take_saved()
        dy = as_floats(dy, "Standardize.backward: dy", self.scale)
        if dy.shape != shape:
            raise ValueError(f"Standardize.backward: dy must have shape {shape}, got {dy.shape}")
        return self._scaled(dy, None, None) if input_grad else None

    def _scaled(self, x: FloatArray, shift: FloatArray | None, offset: FloatArray | None) -> FloatArray:
        if isinstance(x, np.ndarray):  # of a device it is so already
            x = np.require(x, requirements=("C", "A"))
        return scale_columns(x, shift, self.scale, offset)

    def _lower(self, lowering: Any, x: Any) -> Any:
        if not x.shape or x.shape[-1] != self.num_features:
            raise ValueError(self._wrong(lowering.full(x)))
        y = lowering.value(x.shape)
        lowering.emit("scale", x, y, x.rows, self.num_features, self.shift, self.scale, self.offset)

        def backward(dy: Any, wanted: bool) -> Any:
            if not wanted:
                return None
            dx = lowering.value(x.shape)
            lowering.emit("scale", dy, dx, x.rows, self.num_features, None, self.scale, None)
            return dx

        return y, backward

    def _wrong(self, shape: tuple[int, ...]) -> str:
        return f"Standardize: x must have shape (..., {self.num_features}) and at least two axes, got {shape}"

    def _config(self) -> dict[str, Any]:
        return {"scaler": self.num_features}  # its numbers are buffers

    def _arguments(self) -> str:
        return f"{self.num_features}"


def fold_scaling(model: Sequential) -> Sequential:
    """A new model without its `Standardize` layer, whose first `Linear` does the scaling as well.

    With y = ((x - shift) * scale + offset) W + b: W' = scale * W (row i times scale_i) and b' = b +
    (offset - shift * scale) W, formed in float64. The other layers are copies, in the same mode; `model` is
    unchanged. A Linear without bias gets one. For deployment: one pass less over the inputs, and raw inputs
    for any runtime that knows Linear.

    Predictions agree to about 1e-6 of the largest one while |mean| / std is around 1; the error grows with
    the largest |mean| / std (x - mean is no longer formed before it is multiplied), so beyond 10,000 it is
    refused. A model that goes on training after folding trains other parameters: fold at the end. PyTorch,
    Keras and scikit-learn have nothing of the kind.

    Raises TypeError for what is no Sequential, ValueError where `Standardize` is not the first layer (behind
    `Flatten` at most) or no Linear follows it.

    >>> import numpy as np
    >>> from fastnn import nn, preprocessing
    >>> X = np.random.default_rng(0).normal(3, 5, (100, 4)).astype(np.float32)
    >>> scaler = preprocessing.StandardScaler().fit(X)
    >>> model = nn.Sequential(nn.Standardize(scaler), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2), seed=0)
    >>> folded = nn.fold_scaling(model)
    >>> len(folded), bool(np.allclose(folded(X), model(X), rtol=0, atol=2e-6))
    (3, True)
    """
    if not isinstance(model, Sequential):
        raise TypeError(f"fold_scaling: model must be a Sequential, got {type(model).__name__}")
    refuse_model("fold_scaling", model)
    at = next((i for i, layer in enumerate(model) if not isinstance(layer, Flatten)), 0)
    scaling = model[at]
    if not isinstance(scaling, Standardize):
        raise ValueError(
            f"fold_scaling: the first layer must be a Standardize (behind Flatten at most), "
            f"got {type(scaling).__name__}"
        )
    following = model[at + 1] if at + 1 < len(model) else None
    if not isinstance(following, Linear):
        found = "nothing" if following is None else type(following).__name__
        raise ValueError(f"fold_scaling: a Linear must follow the Standardize layer, got {found}")
    shift, scale, offset = (getattr(scaling, name).astype(np.float64) for name in scaling.buffers)
    added = offset - shift * scale
    if (farthest := np.abs(added).max()) > _FARTHEST:
        raise ValueError(
            f"fold_scaling: a column lies {farthest:.0f} standard deviations from zero, and float32 products "
            "of raw inputs would lose it; keep the Standardize layer"
        )
    layers, linear = copy.deepcopy((list(model), following))
    _take_in(linear, scale, added)
    layers[at : at + 2] = [linear]
    folded = Sequential(*layers)
    folded.training = model.training
    return folded


def _take_in(layer: Linear, scale: Float64, added: Float64) -> None:
    """Let the layer give for x what it gave for x * scale + added."""
    weight = layer.weight.data.astype(np.float64)
    if layer.bias is None:
        layer.bias = Linear(layer.in_features, layer.out_features, rng=0).bias
    assert layer.bias is not None
    layer.bias.data = layer.bias.data + added @ weight
    layer.weight.data = scale[:, None] * weight
