"""fastnn: every operation through its public function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fastnn
import numpy as np
from fastnn import ops

from cases.case import Array, Arrays
from cases.losses import P, dropout_results
from cases.networks import CHECK_STEPS, one_of_many, weights_of
from cases.updates import DECAY
from peers import fastnn_conditions, fastnn_fusions, fastnn_job
from peers.fastnn_network import FirstLosses, in_fit_order, trainer
from peers.peer import Prepared

COMMANDS = {**fastnn_job.COMMANDS, **fastnn_conditions.COMMANDS, **fastnn_fusions.COMMANDS}


def describe(threads: int) -> dict[str, Any]:
    """What was built and what runs."""
    info = fastnn.info()
    return {"version": info["version"], "detail": f"{info['isa']}, {info['threads']} threads", "info": info}


def gemm(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    a, b, c = v["a"], v["b"], np.empty((sizes["m"], sizes["n"]), np.float32)
    call = ops.gemm
    if "bias" in v:
        bias = v["bias"]
        return Prepared(lambda: call(a, b, out=c, bias=bias, activation="relu"), lambda: {"c": c})
    if sizes["trans_a"] or sizes["trans_b"]:
        trans_a, trans_b = sizes["trans_a"], sizes["trans_b"]
        return Prepared(lambda: call(a, b, out=c, trans_a=trans_a, trans_b=trans_b), lambda: {"c": c})
    return Prepared(lambda: call(a, b, out=c), lambda: {"c": c})


def linear_backward(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    dy, x, w = v["dy"], v["x"], v["w"]
    found: list[tuple[Array, ...]] = [()]

    def call() -> None:
        found[0] = ops.linear_backward(dy, x, w)

    return Prepared(call, lambda: dict(zip(("dx", "dw", "db"), found[0])))


def gemm_bf16(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    from ml_dtypes import bfloat16  # of the extra bench

    a, b = v["a"].astype(bfloat16), v["b"].astype(bfloat16)
    c, call = np.empty((sizes["m"], sizes["n"]), bfloat16), ops.gemm
    return Prepared(lambda: call(a, b, out=c), lambda: {"c": c.astype(np.float32)})


def batch_norm(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    x, gamma, beta, y = v["x"], v["gamma"], v["beta"], np.empty_like(v["x"])
    running_mean, running_var = np.zeros_like(gamma), np.ones_like(gamma)
    activation = "relu" if sizes["relu"] else None
    return Prepared(
        lambda: ops.batch_norm(x, gamma, beta, running_mean, running_var, activation=activation, out=y),
        lambda: {"y": y, "running_mean": running_mean, "running_var": running_var},
    )


def batch_norm_backward(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    dy, x, gamma = v["dy"], v["x"], v["gamma"]
    _, mean, rstd = ops.batch_norm(x, gamma, v["beta"])
    out = np.empty_like(x), np.empty_like(gamma), np.empty_like(gamma)
    relu: dict[str, Any] = {"activation": "relu", "y": v["y"]} if sizes["relu"] else {}
    return Prepared(
        lambda: ops.batch_norm_backward(dy, x, gamma, mean, rstd, out=out, **relu),
        lambda: dict(zip(("dx", "dgamma", "dbeta"), out, strict=True)),
    )


def batch_norm_both(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    dy, x, gamma, beta, y = v["dy"], v["x"], v["gamma"], v["beta"], np.empty_like(v["x"])
    running_mean, running_var = np.zeros_like(gamma), np.ones_like(gamma)
    out = np.empty_like(x), np.empty_like(gamma), np.empty_like(gamma)

    def call() -> None:
        _, mean, rstd = ops.batch_norm(x, gamma, beta, running_mean, running_var, out=y)
        ops.batch_norm_backward(dy, x, gamma, mean, rstd, out=out)

    return Prepared(call, lambda: {"y": y, **dict(zip(("dx", "dgamma", "dbeta"), out, strict=True))})


def update_lists(v: Arrays, sizes: Mapping[str, Any], slots: int) -> list[list[Array]]:
    """Parameters, gradients and `slots` lists of zeros, one array a parameter."""
    params, grads = ([v[f"{key}{i}"] for i in range(sizes["arrays"])] for key in "pg")
    return [params, grads, *([np.zeros_like(p) for p in params] for _ in range(slots))]


def update_results(params: list[Array]) -> Arrays:
    return {f"p{i}": p for i, p in enumerate(params)}


def adam(v: Arrays, sizes: Mapping[str, Any], lr: float, **decay: Any) -> Prepared:
    params, grads, m, second = update_lists(v, sizes, 2)
    step = 0

    def call() -> None:
        nonlocal step
        step += 1
        ops.adam_(params, grads, m, second, step=step, lr=lr, **decay)

    return Prepared(call, lambda: update_results(params))


def rmsprop(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    params, grads, average = update_lists(v, sizes, 1)
    return Prepared(lambda: ops.rmsprop_(params, grads, average, lr=lr), lambda: update_results(params))


def momentum(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    params, grads, velocity = update_lists(v, sizes, 1)
    return Prepared(lambda: ops.momentum_(params, grads, velocity, lr=lr), lambda: update_results(params))


def sgd(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    params, grads = update_lists(v, sizes, 0)
    return Prepared(lambda: ops.sgd_(params, grads, lr=lr), lambda: update_results(params))


def adagrad(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    params, grads, total = update_lists(v, sizes, 1)
    return Prepared(lambda: ops.adagrad_(params, grads, total, lr=lr), lambda: update_results(params))


def adamw(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return adam(v, sizes, lr, weight_decay=DECAY, decoupled=True)


def activation(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    x, kind, y = v["x"], sizes["kind"], np.empty_like(v["x"])
    return Prepared(lambda: ops.activation(x, kind, out=y), lambda: {"y": y})


def activation_backward(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    dy, x, y, kind, dx = v["dy"], v["x"], v["y"], sizes["kind"], np.empty_like(v["x"])
    return Prepared(lambda: ops.activation_backward(dy, x, kind, y=y, out=dx), lambda: {"dx": dx})


def loss(function: Any, *arguments: Array) -> Prepared:
    """A loss function that returns its value and gradient."""
    found: dict[str, Array] = {}

    def call() -> None:
        found["value"], found["gradient"] = function(*arguments)

    return Prepared(call, lambda: {key: np.asarray(value) for key, value in found.items()})


def softmax_cross_entropy(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return loss(ops.softmax_cross_entropy, v["logits"], v["labels"])


def sigmoid_cross_entropy(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return loss(ops.sigmoid_cross_entropy, v["logits"], v["targets"])


def mse(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return loss(ops.mse, v["pred"], v["target"])


def quadratic_cost(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return loss(ops.quadratic_cost, v["pred"], v["target"])


def huber(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return loss(ops.huber, v["pred"], v["target"])


def dropout(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    x, step = v["x"], 0
    found: dict[str, Array] = {}

    def call() -> None:
        nonlocal step
        step += 1
        found["y"] = ops.dropout(x, P, seed=0, step=step)

    return Prepared(call, lambda: dropout_results(x, found["y"]))


def dropout_backward(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    """The same mask on dy: drawn again, since nothing of it is stored."""
    dy = v["dy"]
    found: dict[str, Array] = {}

    def call() -> None:
        found["dx"] = ops.dropout(dy, P, seed=0, step=1)

    return Prepared(call, lambda: dropout_results(dy, found["dx"]))


def train_step(v: Arrays, sizes: Mapping[str, Any], lr: float, **options: Any) -> Prepared:
    """A call is an epoch of `Trainer.fit`."""
    initial, batch, steps = weights_of(v), sizes["batch"], len(v["order"])
    X, Y = in_fit_order(v)
    timed = trainer(initial, sizes, lr, **options)

    def call() -> None:
        timed.fit(X, Y, batch_size=batch, epochs=1, progress=False)

    def results() -> Arrays:
        """Of a second fit: an epoch tells only the mean of its losses."""
        first, checked = FirstLosses(), trainer(initial, sizes, lr, **options)
        checked.fit(X, Y, batch_size=batch, epochs=1, progress=False, callbacks=[first])
        return {"losses": np.array(first.found)}

    return Prepared(call, results, steps=steps)


def train_step_bf16(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return train_step(v, sizes, lr, precision="bfloat16")


def swept_step(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    """`Trainer.step`, a call a step."""
    step, batch = trainer(weights_of(v), sizes, lr).step, sizes["batch"]
    X, Y, order = v["X"], v["Y"], v["order"]
    x = np.empty((batch, X.shape[1]), np.float32)
    values: list[float] = []

    def call() -> None:
        rows = order[len(values) % len(order)]
        X.take(rows, 0, x, "clip")
        values.append(step(x, Y[rows]))

    return Prepared(call, lambda: {"losses": np.array(values)})


def many_steps(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    """A call is an epoch of `fit_many`."""
    batch, initial = sizes["batch"], [weights_of(one_of_many(v, k)) for k in range(sizes["networks"])]
    X, Y = in_fit_order(v)
    first = in_fit_order({**v, "order": v["order"][:CHECK_STEPS]})
    timed = [trainer(weights, sizes, lr) for weights in initial]

    def results() -> Arrays:
        """Of a second fit, over the rows of the first steps alone."""
        checked = [trainer(weights, sizes, lr) for weights in initial]
        found = fastnn.fit_many(checked, *first, batch_size=batch, epochs=1)
        return {"mean_losses": np.array([history["loss"][0] for history in found])}

    return Prepared(
        lambda: fastnn.fit_many(timed, X, Y, batch_size=batch, epochs=1), results, steps=len(v["order"])
    )
