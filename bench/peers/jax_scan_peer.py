"""JAX with the loop inside: 40 training steps a call through `lax.scan`; fewer where a step is so large that
the call no longer counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cases.case import Arrays
from cases.networks import CHECK_STEPS
from job import step_flops
from peers.jax_network import State, first_state, scan
from peers.peer import Prepared

STEPS, FEWEST = 40, 4
CALL_FLOPS = 2e10  # a tenth of a second on two cores


def describe(threads: int) -> dict[str, Any]:
    """The version."""
    return {
        "version": jax.__version__,
        "detail": f"lax.scan, {STEPS} steps a call ({FEWEST} in the largest networks)",
    }


def train_step(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    X, Y, order = (jnp.array(v[key]) for key in ("X", "Y", "order"))
    flops = step_flops(sizes["batch"], sizes["widths"])
    steps = max(FEWEST, min(STEPS, int(CALL_FLOPS / flops)))
    compiled = scan(sizes["batch_norm"], steps)
    held: list[State] = [first_state(v, sizes, lr)]
    losses: list[Any] = []

    def call() -> None:
        held[0], losses[:] = jax.block_until_ready(compiled(held[0], X, Y, order))

    return Prepared(call, lambda: {"losses": np.array(losses[:CHECK_STEPS])}, steps=steps)


swept_step = train_step
