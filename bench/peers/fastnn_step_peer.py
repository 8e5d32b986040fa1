"""fastnn again, with the loop in Python: `Trainer.step` on the batches of `data.batches`, an epoch a call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from fastnn import data

from cases.case import Arrays
from cases.networks import CHECK_STEPS, weights_of
from peers import fastnn_peer
from peers.fastnn_network import in_fit_order, trainer
from peers.peer import Prepared


def describe(threads: int) -> dict[str, Any]:
    """As fastnn."""
    return fastnn_peer.describe(threads)


def train_step(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    X, Y = in_fit_order(v)
    step, batch = trainer(weights_of(v), sizes, lr).step, sizes["batch"]
    first: list[float] = []
    epochs = 0

    def call() -> None:
        nonlocal epochs
        values = [step(x, y) for x, y in data.batches(X, Y, batch, seed=0, epoch=epochs)]
        first.extend(values[: CHECK_STEPS - len(first)])
        epochs += 1

    return Prepared(call, lambda: {"losses": np.array(first)}, steps=len(v["order"]))
