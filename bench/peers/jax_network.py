"""Training in JAX: gather of random rows, forward, loss, gradients and Adam in one function; of one network
or many.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cases.batch_norm import EPS, MOMENTUM
from cases.case import Array, Arrays
from cases.networks import weights_of

# step number, learning rate, parameters, first and second moments, running statistics
State = tuple[Any, Any, Any, Any, Any, Any]


def first_state(v: Arrays, sizes: Mapping[str, Any], lr: float) -> State:
    """The case's initial weights, biases of 0, moments of 0."""
    params, running = [], []
    for weight in weights_of(v)[:-1]:
        width = vector_shape(weight)
        vectors = [jnp.ones(width), jnp.zeros(width)] if sizes["batch_norm"] else [jnp.zeros(width)]
        params.append([jnp.array(weight), *vectors])
        running.append([jnp.zeros(width), jnp.ones(width)] if sizes["batch_norm"] else [])
    last = weights_of(v)[-1]
    params.append([jnp.array(last), jnp.zeros(vector_shape(last))])
    # Two trees of their own: a donated state may not hold one array twice.
    m, s = jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params)
    return jnp.zeros((), jnp.int32), jnp.float32(lr), params, m, s, running


def vector_shape(weight: Array) -> tuple[int, ...]:
    """The shape of a layer's vectors: its width, behind the axis of a stack of networks."""
    return (*weight.shape[:-2], weight.shape[-1])


def _loss(params: Any, running: Any, x: Any, y: Any, batch_norm: bool, mse: bool) -> Any:
    moved = []
    for (weight, *vectors), old in zip(params[:-1], running, strict=True):
        x = x @ weight
        if batch_norm:
            mean, var, rows = x.mean(0), x.var(0), len(x)
            x = (x - mean) * jax.lax.rsqrt(var + EPS) * vectors[0] + vectors[1]
            new = mean, var * (rows / (rows - 1))
            moved.append([(1 - MOMENTUM) * a + MOMENTUM * b for a, b in zip(old, new, strict=True)])
        else:
            x = x + vectors[0]
            moved.append([])
        x = jax.nn.relu(x)
    logits = x @ params[-1][0] + params[-1][1]
    if mse:
        return jnp.square(logits - y).mean(), moved
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1)
    return -picked.mean(), moved


def one_step(state: State, x: Any, y: Any, batch_norm: bool, mse: bool) -> tuple[State, Any]:
    """The next state, and the loss before the update."""
    t, lr, params, m, s, running = state
    gradient = jax.value_and_grad(_loss, has_aux=True)
    (loss, running), grads = gradient(params, running, x, y, batch_norm, mse)
    t = t + 1
    m = jax.tree.map(lambda old, g: 0.9 * old + 0.1 * g, m, grads)
    s = jax.tree.map(lambda old, g: 0.999 * old + 0.001 * g * g, s, grads)
    rate, root = lr / (1 - 0.9**t), (1 - 0.999**t) ** -0.5
    params = jax.tree.map(lambda p, m, s: p - rate * m / (jnp.sqrt(s) * root + 1e-8), params, m, s)
    return (t, lr, params, m, s, running), loss


def predict(state: State, x: Any) -> Any:
    """The outputs of a network with batch-norm in evaluation mode."""
    _, _, params, _, _, running = state
    for (weight, gamma, beta), (mean, var) in zip(params[:-1], running, strict=True):
        x = jax.nn.relu((x @ weight - mean) * jax.lax.rsqrt(var + EPS) * gamma + beta)
    return x @ params[-1][0] + params[-1][1]


class Kind(NamedTuple):
    """What decides the compiled function of a network, beside shapes."""

    batch_norm: bool
    mse: bool
    many: bool


def kind(sizes: Mapping[str, Any]) -> Kind:
    """That of a case."""
    return Kind(sizes["batch_norm"], sizes["mse"], "networks" in sizes)


def update(which: Kind) -> Callable[..., tuple[State, Any]]:
    """`(state, x, y) -> (state, loss)`; of many networks through `vmap`, with the batch shared by all."""
    one = functools.partial(one_step, batch_norm=which.batch_norm, mse=which.mse)
    if not which.many:
        return one
    stacked = (None, None, 0, 0, 0, 0)
    return jax.vmap(one, in_axes=(stacked, None, None), out_axes=(stacked, 0))


@functools.cache
def step(which: Kind) -> Callable[..., Any]:
    """`(state, X, Y, order) -> (state, loss)`, compiled once for each shape of the arrays."""
    after = update(which)

    def run(state: State, X: Any, Y: Any, order: Any) -> tuple[State, Any]:
        rows = order[state[0] % len(order)]
        return after(state, X[rows], Y[rows])

    return jax.jit(run, donate_argnums=0)


@functools.cache
def scan(which: Kind, steps: int) -> Callable[..., Any]:
    """`(state, X, Y, order) -> (state, losses)`: `steps` steps in one call."""
    after = update(which)

    def run(state: State, X: Any, Y: Any, order: Any) -> Any:
        def body(state: State, _: None) -> tuple[State, Any]:
            rows = order[state[0] % len(order)]
            return after(state, X[rows], Y[rows])

        return jax.lax.scan(body, state, length=steps)

    return jax.jit(run, donate_argnums=0)
