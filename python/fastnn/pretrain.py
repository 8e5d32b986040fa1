"""Layer-wise pre-training: each hidden layer first learns to keep what its input says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, cast

import numpy as np

from fastnn import _device
from fastnn._arrays import Array, FloatArray, check_int, check_number
from fastnn._fitting import as_rows
from fastnn.history import History
from fastnn.losses import MSELoss
from fastnn.nn import BatchNorm1d, Dropout, Identity, Linear, Module, Sequential
from fastnn.nn.activations import Activation
from fastnn.nn.module import evaluating
from fastnn.optim import Adam
from fastnn.trainer import Trainer

__all__ = ["pretrain_layerwise"]

_WHERE = "pretrain_layerwise"


def pretrain_layerwise(
    model: Sequential,
    X: Array,
    *,
    kind: Literal["autoencoder", "denoising"] = "autoencoder",
    epochs: int,
    batch_size: int = 128,
    lr: float = 1e-3,
    noise: float = 0.3,
    seed: int = 0,
) -> list[History]:
    """Train the hidden layers of a model one after the other, without labels, each as an autoencoder.

    Layer k sees h, the output of the finished layers before it (X, for the first), and together with a linear
    decoder, which is thrown away afterwards, minimises the mean of (decoder(layer(h)) - h)**2. A layer is a
    `Linear` with the activation behind it, and a `BatchNorm1d` between them; a `Linear` without an activation
    (the output layer) is left as it is, as are layers inside a `Residual` or a module of your own, through
    which rows only pass. `fit` then trains the whole model on labels.

    Parameters
    ----------
    model : `Sequential`, perhaps of `Sequential`s; trained in place
    X : rows, (n, ...); of a model on a GPU they are copied there, if they are on the host
    kind : "autoencoder" shows the layer h itself; "denoising" (Vincent et al. 2008) h with each number set
        to 0 with probability `noise`, the others scaled by 1 / (1 - noise) as by `nn.Dropout`, and still asks
        for h
    epochs, batch_size, lr : of each layer's training, with `optim.Adam`
    noise : 0 < noise < 1; "denoising" only
    seed : of decoders, noise and row order: the same seed gives the same bits

    Returns a `History` for each trained layer, in order. Greedy layer-wise training: Bengio et al., 2007.
    PyTorch, Keras and scikit-learn offer nothing of the kind (`BernoulliRBM` is one layer). With today's
    initialisation and batch-norm it pays where labels are few and unlabelled rows many.

    Raises TypeError or ValueError for a wrong argument, ValueError when the model has no such layer, before
    anything is trained.

    >>> import numpy as np, fastnn
    >>> from fastnn import nn
    >>> X = np.random.default_rng(0).random((200, 8))
    >>> model = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2), seed=0)
    >>> histories = fastnn.pretrain_layerwise(model, X, epochs=20, batch_size=20, lr=0.01)
    >>> [bool(h["loss"][-1] < 0.5 * h["loss"][0]) for h in histories]
    [True, True]
    """
    if not isinstance(model, Sequential):
        raise TypeError(f"{_WHERE}: model must be an nn.Sequential, got {type(model).__name__}")
    device, what = "cuda" if _device.holds(model) else "cpu", f"{_WHERE}: X"
    rows = _device.as_floats(as_rows(_WHERE, "X", _device.rows(what, X, device == "cuda")), what)
    if kind not in ("autoencoder", "denoising"):
        raise ValueError(f'{_WHERE}: kind must be "autoencoder" or "denoising", got {kind!r}')
    epochs = check_int(epochs, f"{_WHERE}: epochs", 1)
    batch_size = check_int(batch_size, f"{_WHERE}: batch_size", 1)
    seed = check_int(seed, f"{_WHERE}: seed", 0)
    check_number(lr, f"{_WHERE}: lr", 0)
    noise = check_number(noise, f"{_WHERE}: noise", 0, 1)
    if kind == "denoising" and noise == 0:
        raise ValueError(
            f'{_WHERE}: noise must be above 0 for kind="denoising"; without it use "autoencoder"'
        )
    layers = list(_flat(model))
    units = _units(layers)
    if not units:
        raise ValueError(
            f"{_WHERE}: model has no Linear with an activation behind it; there is nothing to train"
        )
    if len(rows) == 0:
        raise ValueError(f"{_WHERE}: X has no rows; give at least one row to train on")
    rows = _device.moved(rows, device)
    _check_rows(layers, units, rows)
    rng = np.random.default_rng(seed)
    names = [(parameter, parameter.name) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    histories, done = [], 0
    try:
        for start, stop in units:
            rows = _through(layers[done:start], rows)
            linear = cast(Linear, layers[start])
            rows = rows.reshape(-1, linear.in_features)
            encoder = [layer for layer in layers[start:stop] if not isinstance(layer, (Dropout, Identity))]
            decoder = Linear(linear.out_features, linear.in_features, rng=rng)
            noisy = [Dropout(noise, rng=rng)] if kind == "denoising" else []
            whole = Sequential(*noisy, *encoder, decoder).train()
            trainer = Trainer(whole, MSELoss(), Adam(whole.parameters(), lr), device=device, seed=seed)
            histories.append(trainer.fit(rows, rows, batch_size=batch_size, epochs=epochs, progress=False))
            rows, done = _through(layers[start:stop], rows), stop
    finally:
        for parameter, name in names:
            parameter.name = name
        for module, training in modes:
            module.training = training
    return histories


def _flat(model: Module) -> Iterator[Module]:
    """The layers in the order in which rows pass them; a `Sequential` inside is opened."""
    for layer in cast(Sequential, model):
        if isinstance(layer, Sequential):
            yield from _flat(layer)
        else:
            yield layer


def _units(layers: list[Module]) -> list[tuple[int, int]]:
    """(first, behind the last) of each `Linear` with its activation."""
    units = []
    for start, layer in enumerate(layers):
        if isinstance(layer, Linear):
            stop = start + 1
            while stop < len(layers) and isinstance(layers[stop], (BatchNorm1d, Dropout, Identity)):
                stop += 1
            if stop < len(layers) and isinstance(layers[stop], Activation):
                units.append((start, stop + 1))
    return units


def _check_rows(layers: list[Module], units: list[tuple[int, int]], rows: FloatArray) -> None:
    """Raise where a layer cannot take the rows that it would get; one of them passes all layers."""
    count, row, done = len(rows), rows[:1], 0
    for start, stop in units:
        row = _through(layers[done:start], row)
        inputs = cast(Linear, layers[start]).in_features
        if row.ndim < 2 or row.shape[-1] != inputs:
            shape = (count * row.shape[0], *row.shape[1:])
            raise ValueError(f"{_WHERE}: a Linear of {inputs} inputs gets rows of shape {shape}")
        row = row.reshape(-1, inputs)
        if count * len(row) < 2 and any(isinstance(layer, BatchNorm1d) for layer in layers[start:stop]):
            raise ValueError(f"{_WHERE}: X must have at least two rows, for batch-norm, got {count}")
        row, done = _through(layers[start:stop], row), stop


def _through(layers: list[Module], rows: FloatArray) -> FloatArray:
    """The rows behind these layers in evaluation mode, 1024 at a time."""
    for layer in layers:
        with evaluating(layer):
            rows = _device.concatenated([layer(rows[i : i + 1024]) for i in range(0, len(rows), 1024)])
    return rows
