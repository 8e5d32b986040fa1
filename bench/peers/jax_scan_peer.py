"""JAX with the loop inside: 40 training steps a call through `lax.scan`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cases.case import Arrays
from cases.networks import CHECK_STEPS
from peers.jax_network import State, first_state, scan
from peers.peer import Prepared

STEPS = 40


def describe(threads: int) -> dict[str, Any]:
    """The version."""
    return {"version": jax.__version__, "detail": f"lax.scan, {STEPS} steps a call"}


def train_step(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    X, Y, order = (jnp.array(v[key]) for key in ("X", "Y", "order"))
    compiled = scan(sizes["batch_norm"], STEPS)
    held: list[State] = [first_state(v, sizes, lr)]
    losses: list[Any] = []

    def call() -> None:
        held[0], losses[:] = jax.block_until_ready(compiled(held[0], X, Y, order))

    return Prepared(call, lambda: {"losses": np.array(losses[:CHECK_STEPS])}, steps=STEPS)


swept_step = train_step
