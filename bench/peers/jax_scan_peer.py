"""JAX with the loop inside: 40 training steps a call through `lax.scan`; fewer where a step is so large that
the call no longer counts.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cases.case import Arrays
from cases.networks import CHECK_STEPS
from job import step_flops
from peers.jax_job import Job
from peers.jax_network import State, first_state, kind, scan
from peers.job_commands import commands
from peers.peer import Prepared

STEPS, FEWEST = 40, 4
CALL_FLOPS = 2e10  # a tenth of a second on two cores
COMMANDS = commands(functools.partial(Job, scans=True))


def describe(threads: int) -> dict[str, Any]:
    """The version."""
    return {
        "version": jax.__version__,
        "detail": f"lax.scan, {STEPS} steps a call ({FEWEST} in the largest networks)",
    }


def scanned(v: Arrays, sizes: Mapping[str, Any], lr: float, name: str, shown: Any) -> Prepared:
    """`shown`: from the losses of the first steps to the result called `name`."""
    X, Y, order = (jnp.array(v[key]) for key in ("X", "Y", "order"))
    flops = step_flops(sizes["batch"], sizes["widths"]) * sizes.get("networks", 1)
    steps = max(FEWEST, min(STEPS, int(CALL_FLOPS / flops)))
    compiled = scan(kind(sizes), steps)
    held: list[State] = [first_state(v, sizes, lr)]
    losses: list[Any] = []

    def call() -> None:
        held[0], losses[:] = jax.block_until_ready(compiled(held[0], X, Y, order))

    return Prepared(call, lambda: {name: shown(np.array(losses[:CHECK_STEPS]))}, steps=steps)


def train_step(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return scanned(v, sizes, lr, "losses", lambda losses: losses)


def many_steps(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return scanned(v, sizes, lr, "mean_losses", lambda losses: losses.mean(0))


swept_step = train_step
