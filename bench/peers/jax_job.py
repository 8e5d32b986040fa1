"""The main job in JAX: a call a step, or all whole batches of an epoch in one `lax.scan`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cases.case import Array
from job import RATE, WIDTHS, Files, Run
from peers.jax_network import Kind, State, first_state, predict, update

SIZES = {"widths": WIDTHS, "batch_norm": True}
after = update(Kind(batch_norm=True, mse=False, many=False))


def taught(state: State, X: Any, Y: Any, rows: Any, rate: Any) -> tuple[State, Any]:
    """A step on these rows at this learning rate."""
    return after((state[0], rate, *state[2:]), X[rows], Y[rows])


@functools.partial(jax.jit, donate_argnums=0)
def one(state: State, X: Any, Y: Any, rows: Any, rate: Any) -> tuple[State, Any]:
    """A step."""
    return taught(state, X, Y, rows, rate)


@functools.partial(jax.jit, donate_argnums=0)
def several(state: State, X: Any, Y: Any, rows: Any, rates: Any) -> Any:
    """A step for each row of `rows`."""
    return jax.lax.scan(lambda state, at: taught(state, X, Y, *at), state, (rows, rates))


class Job:
    """One training run; `scans`: whole batches go through `several`."""

    def __init__(self, run: Run, scans: bool = False) -> None:
        initial = dict(zip(Files.WEIGHT_KEYS, run.weights, strict=True))
        self.state, self.scans = first_state(initial, SIZES, RATE), scans
        self.X, self.Y, self.X_test = (jnp.array(a) for a in (run.X, run.Y, run.X_test))
        self.Y_test = run.Y_test
        self.outputs = jax.jit(predict)

    def train(self, batches: Sequence[Array], rates: Sequence[float]) -> list[float]:
        """A step on the rows of each batch."""
        losses: list[float] = []
        whole = sum(len(rows) == len(batches[0]) for rows in batches) if self.scans else 0
        if whole:
            at = jnp.array(np.stack(batches[:whole])), jnp.array(rates[:whole], jnp.float32)
            self.state, found = several(self.state, self.X, self.Y, *at)
            losses += np.asarray(found).tolist()
        for rows, rate in zip(batches[whole:], rates[whole:], strict=True):
            self.state, loss = one(self.state, self.X, self.Y, rows, np.float32(rate))
            losses.append(float(loss))
        return losses

    def accuracy(self) -> float:
        """The share of the test digits it knows."""
        found = np.asarray(self.outputs(self.state, self.X_test)).argmax(1)
        return float(np.mean(found == self.Y_test))
