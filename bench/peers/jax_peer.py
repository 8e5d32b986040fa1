"""JAX on the CPU: every operation is one jitted function that is given arrays and waits for its results.

Updates and training steps donate their state, so that XLA may write in place.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cases.activations import SLOPE
from cases.batch_norm import EPS, MOMENTUM
from cases.case import Arrays
from cases.losses import P, dropout_results
from cases.updates import DECAY
from peers.jax_job import Job
from peers.jax_network import State, first_state, kind, step
from peers.job_commands import commands
from peers.peer import Prepared

COMMANDS = commands(Job)
Tree = dict[str, Any]


def describe(threads: int) -> dict[str, Any]:
    """The version."""
    return {"version": jax.__version__, "detail": "jit, a call a step"}


def pure(function: Callable[..., Tree], v: Arrays, *names: str) -> Prepared:
    """A jitted function of the named inputs that returns its results by name."""
    compiled = jax.jit(function)
    arguments = [jnp.array(v[name]) for name in names]
    found: Tree = {}

    def call() -> None:
        found.update(jax.block_until_ready(compiled(*arguments)))

    return Prepared(call, lambda: shown(found))


def shown(found: Tree) -> Arrays:
    return {key: np.asarray(value) for key, value in found.items()}


def gemm(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    def product(a: Any, b: Any, *bias: Any) -> Tree:
        c = (a.T if sizes["trans_a"] else a) @ (b.T if sizes["trans_b"] else b)
        return {"c": jax.nn.relu(c + bias[0]) if bias else c}

    return pure(product, v, *(name for name in ("a", "b", "bias") if name in v))


def linear_backward(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    def gradients(dy: Any, x: Any, w: Any) -> Tree:
        return {"dx": dy @ w.T, "dw": x.T @ dy, "db": dy.sum(0)}

    return pure(gradients, v, "dy", "x", "w")


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "relu": jax.nn.relu,
    "leaky_relu": functools.partial(jax.nn.leaky_relu, negative_slope=SLOPE),
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "softplus": jax.nn.softplus,
}


def activation(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    function = ACTIVATIONS[sizes["kind"]]
    return pure(lambda x: {"y": function(x)}, v, "x")


def activation_backward(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    function = ACTIVATIONS[sizes["kind"]]
    return pure(lambda dy, x: {"dx": jax.vjp(function, x)[1](dy)[0]}, v, "dy", "x")


def _normalized(x: Any) -> tuple[Any, Any, Any, Any]:
    mean, var = x.mean(0), x.var(0)
    rstd = jax.lax.rsqrt(var + EPS)
    return (x - mean) * rstd, mean, var, rstd


def _running(mean: Any, var: Any, rows: int) -> Tree:
    """The running statistics after one step from 0 and 1."""
    return {
        "running_mean": MOMENTUM * mean,
        "running_var": (1 - MOMENTUM) + MOMENTUM * (var * (rows / (rows - 1))),
    }


def batch_norm(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    def forward(x: Any, gamma: Any, beta: Any) -> Tree:
        xhat, mean, var, _ = _normalized(x)
        y = gamma * xhat + beta
        return {"y": jax.nn.relu(y) if sizes["relu"] else y, **_running(mean, var, len(x))}

    return pure(forward, v, "x", "gamma", "beta")


def _gradients(dy: Any, xhat: Any, rstd: Any, gamma: Any) -> Tree:
    dgamma, dbeta = (dy * xhat).sum(0), dy.sum(0)
    dx = gamma * rstd * (dy - dbeta / len(dy) - xhat * (dgamma / len(dy)))
    return {"dx": dx, "dgamma": dgamma, "dbeta": dbeta}


def batch_norm_backward(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    _, mean, _, rstd = _normalized(jnp.array(v["x"]))

    def backward(dy: Any, x: Any, gamma: Any, mean: Any, rstd: Any, *y: Any) -> Tree:
        masked = jnp.where(y[0] > 0, dy, 0) if y else dy
        return _gradients(masked, (x - mean) * rstd, rstd, gamma)

    left = {**v, "mean": np.asarray(mean), "rstd": np.asarray(rstd)}
    return pure(backward, left, "dy", "x", "gamma", "mean", "rstd", *(["y"] if sizes["relu"] else []))


def batch_norm_both(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    def both(dy: Any, x: Any, gamma: Any, beta: Any) -> Tree:
        xhat, mean, var, rstd = _normalized(x)
        forward = {"y": gamma * xhat + beta, **_running(mean, var, len(x))}
        return {**forward, **_gradients(dy, xhat, rstd, gamma)}

    return pure(both, v, "dy", "x", "gamma", "beta")


def softmax_cross_entropy(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    def loss(logits: Any, labels: Any) -> Any:
        log_p = jax.nn.log_softmax(logits)
        return -jnp.take_along_axis(log_p, labels[:, None], 1).mean()

    return _with_gradient(loss, v, "logits", "labels")


def sigmoid_cross_entropy(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return _with_gradient(lambda x, t: (jax.nn.softplus(x) - x * t).mean(), v, "logits", "targets")


def mse(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return _with_gradient(lambda pred, target: jnp.square(pred - target).mean(), v, "pred", "target")


def quadratic_cost(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    def cost(pred: Any, target: Any) -> Any:
        return 0.5 * jnp.square(pred - target).sum() / len(pred)

    return _with_gradient(cost, v, "pred", "target")


def huber(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    def cost(pred: Any, target: Any) -> Any:
        d = jnp.abs(pred - target)
        return jnp.where(d <= 1, 0.5 * d * d, d - 0.5).mean()

    return _with_gradient(cost, v, "pred", "target")


def _with_gradient(loss: Callable[..., Any], v: Arrays, *names: str) -> Prepared:
    both = jax.value_and_grad(loss)
    return pure(lambda *arguments: dict(zip(("value", "gradient"), both(*arguments))), v, *names)


def _mask(key: Any, shape: tuple[int, ...]) -> Any:
    return jax.random.bernoulli(key, 1 - P, shape)


def dropout(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    """A key a call, as from `jax.random.split` outside."""
    compiled = jax.jit(lambda x, key: jnp.where(_mask(key, x.shape), x / (1 - P), 0))
    x, keys = jnp.array(v["x"]), list(jax.random.split(jax.random.key(0), 64))
    found: list[Any] = []

    def call() -> None:
        keys.append(keys.pop(0))
        found[:] = [jax.block_until_ready(compiled(x, keys[-1]))]

    return Prepared(call, lambda: dropout_results(v["x"], np.asarray(found[0])))


def dropout_backward(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    mask = np.asarray(_mask(jax.random.key(0), v["dy"].shape))
    prepared = pure(
        lambda dy, mask: {"dx": jnp.where(mask, dy / (1 - P), 0)}, {**v, "mask": mask}, "dy", "mask"
    )
    return Prepared(prepared.call, lambda: dropout_results(v["dy"], prepared.results()["dx"]))


def update(v: Arrays, slots: int, rule: Callable[..., Any]) -> Prepared:
    """`rule(t, p, g, *slots) -> (p, *slots)` on every parameter, t from 1."""
    count = sum(key.startswith("p") for key in v)
    grads = [jnp.array(v[f"g{i}"]) for i in range(count)]
    state = [
        [jnp.array(v[f"p{i}"]), *(jnp.zeros(v[f"p{i}"].shape) for _ in range(slots))] for i in range(count)
    ]
    held: list[Any] = [(jnp.ones(()), state)]

    @functools.partial(jax.jit, donate_argnums=0)
    def compiled(state: Any, grads: Any) -> Any:
        t, parts = state
        return t + 1, [list(rule(t, p, g, *rest)) for (p, *rest), g in zip(parts, grads, strict=True)]

    def call() -> None:
        held[0] = jax.block_until_ready(compiled(held[0], grads))

    return Prepared(call, lambda: {f"p{i}": np.asarray(held[0][1][i][0]) for i in range(count)})


def sgd(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return update(v, 0, lambda t, p, g: (p - lr * g,))


def momentum(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    def rule(t: Any, p: Any, g: Any, velocity: Any) -> Any:
        velocity = 0.9 * velocity + g
        return p - lr * velocity, velocity

    return update(v, 1, rule)


def rmsprop(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    def rule(t: Any, p: Any, g: Any, s: Any) -> Any:
        s = 0.9 * s + 0.1 * g * g
        return p - lr * g / (jnp.sqrt(s) + 1e-8), s

    return update(v, 1, rule)


def adagrad(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    def rule(t: Any, p: Any, g: Any, s: Any) -> Any:
        s = s + g * g
        return p - lr * g / (jnp.sqrt(s) + 1e-10), s

    return update(v, 1, rule)


def adam(v: Arrays, sizes: Mapping[str, Any], lr: float, decay: float = 0.0) -> Prepared:
    def rule(t: Any, p: Any, g: Any, m: Any, s: Any) -> Any:
        m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g * g
        p = p * (1 - lr * decay) if decay else p
        return p - lr * (m / (1 - 0.9**t)) / (jnp.sqrt(s / (1 - 0.999**t)) + 1e-8), m, s

    return update(v, 2, rule)


def adamw(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return adam(v, sizes, lr, DECAY)


def stepped(v: Arrays, sizes: Mapping[str, Any], lr: float) -> tuple[Callable[[], None], list[Any]]:
    """A call that takes a step, and the losses it collects."""
    X, Y, order = (jnp.array(v[key]) for key in ("X", "Y", "order"))
    compiled = step(kind(sizes))
    held: list[State] = [first_state(v, sizes, lr)]
    losses: list[Any] = []

    def call() -> None:
        held[0], loss = compiled(held[0], X, Y, order)
        losses.append(np.asarray(loss))

    return call, losses


def train_step(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    call, losses = stepped(v, sizes, lr)
    return Prepared(call, lambda: {"losses": np.array(losses)})


def many_steps(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    call, losses = stepped(v, sizes, lr)
    return Prepared(call, lambda: {"mean_losses": np.mean(losses, 0)})


swept_step = train_step
