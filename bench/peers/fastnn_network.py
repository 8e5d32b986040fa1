"""The networks of the benchmark as fastnn builds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import fastnn
import numpy as np
from fastnn import callbacks, data, losses, nn, optim

from cases.case import Array, Arrays
from cases.networks import CHECK_STEPS


def network(widths: Sequence[int], *, batch_norm: bool, seed: int) -> nn.Sequential:
    """Linear, batch-norm (or a bias) and ReLU for every hidden layer; Linear with a bias."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths[:-1]):
        layers.append(nn.Linear(fan_in, fan_out, bias=not batch_norm))
        layers += [nn.BatchNorm1d(fan_out), nn.ReLU()] if batch_norm else [nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]), seed=seed)


def weights(model: nn.Sequential) -> list[Array]:
    """The memory of the Linear weights, in order."""
    return [p.data for p in model.parameters() if p.data.ndim == 2]


def trainer(initial: Sequence[Array], sizes: Mapping[str, Any], lr: float, **options: Any) -> fastnn.Trainer:
    """A trainer of the case's network from these weights."""
    model = network(sizes["widths"], batch_norm=sizes["batch_norm"], seed=0)
    for memory, weight in zip(weights(model), initial, strict=True):
        memory[...] = weight
    loss = losses.MSELoss() if sizes["mse"] else losses.CrossEntropyLoss()
    return fastnn.Trainer(model, loss, optim.Adam(model.parameters(), lr=lr), **options)


def in_fit_order(v: Arrays) -> tuple[Array, Array]:
    """X and Y with their rows put where the first epoch of seed 0 takes batch after batch as the case's
    `order` has them."""
    order = v["order"]
    ids = np.arange(order.size)
    taken = np.concatenate([rows for rows, _ in data.batches(ids, ids, order.shape[1], seed=0)])
    found = []
    for a in (v["X"], v["Y"]):
        put = np.empty((order.size, *a.shape[1:]), a.dtype)
        put[taken] = a[order.ravel()]
        found.append(put)
    return found[0], found[1]


class FirstLosses(callbacks.Callback):
    """Keeps the losses of the first steps and then ends the fit."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_step_end(self, trainer: fastnn.Trainer, step: int, loss: float) -> bool:
        self.found.append(loss)
        return len(self.found) == CHECK_STEPS
