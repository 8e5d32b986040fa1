"""fastnn: every operation through its public function, and the machine's limits as its compiled module
measures them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import fastnn
import numpy as np
from fastnn import _core, data, losses, nn, ops, optim, schedulers

from cases.case import Array, Arrays
from cases.train_step import weights_of
from job import BATCH, EPOCHS, RATE, WIDTHS, Files
from peers.peer import Prepared, Setup


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


def batch_norm(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    x, gamma, beta, y = v["x"], v["gamma"], v["beta"], np.empty_like(v["x"])
    running_mean, running_var = np.zeros_like(gamma), np.ones_like(gamma)
    return Prepared(
        lambda: ops.batch_norm(x, gamma, beta, running_mean, running_var, out=y),
        lambda: {"y": y, "running_mean": running_mean, "running_var": running_var},
    )


def batch_norm_backward(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    dy, x, gamma = v["dy"], v["x"], v["gamma"]
    _, mean, rstd = ops.batch_norm(x, gamma, v["beta"])
    out = np.empty_like(x), np.empty_like(gamma), np.empty_like(gamma)
    return Prepared(
        lambda: ops.batch_norm_backward(dy, x, gamma, mean, rstd, out=out),
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


def adam(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    params, grads, m, second = update_lists(v, sizes, 2)
    step = 0

    def call() -> None:
        nonlocal step
        step += 1
        ops.adam_(params, grads, m, second, step=step, lr=lr)

    return Prepared(call, lambda: update_results(params))


def rmsprop(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    params, grads, average = update_lists(v, sizes, 1)
    return Prepared(lambda: ops.rmsprop_(params, grads, average, lr=lr), lambda: update_results(params))


def momentum(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    params, grads, velocity = update_lists(v, sizes, 1)
    return Prepared(lambda: ops.momentum_(params, grads, velocity, lr=lr), lambda: update_results(params))


def network(seed: int | None = None) -> nn.Sequential:
    """The network of the main job."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(WIDTHS[:-1]):
        layers += [nn.Linear(fan_in, fan_out, bias=False), nn.BatchNorm1d(fan_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(WIDTHS[-2], WIDTHS[-1]), seed=seed)


def weights(model: nn.Sequential) -> list[Array]:
    """The memory of the Linear weights, in order."""
    return [p.data for p in model.parameters() if p.data.ndim == 2]


def train_step(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    model = network(0)
    for memory, initial in zip(weights(model), weights_of(v), strict=True):
        memory[...] = initial
    trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=lr))
    X, Y, order = v["X"], v["Y"], v["order"]
    x = np.empty((BATCH, WIDTHS[0]), np.float32)
    values: list[float] = []

    def call() -> None:
        rows = order[len(values) % len(order)]
        X.take(rows, 0, x, "clip")
        values.append(trainer.step(x, Y[rows]))

    return Prepared(call, lambda: {"losses": np.array(values)})


class Job:
    """The main job: one run of a seed."""

    def __init__(self, seed: int) -> None:
        (self.X, self.Y), (self.X_test, self.Y_test) = data.digits()
        self.model = network(seed)
        steps = EPOCHS * data.steps_per_epoch(len(self.X), BATCH)
        schedule = schedulers.CosineAnnealingDecay(RATE, T_max=steps)
        optimizer = optim.Adam(self.model.parameters(), lr=schedule)
        self.trainer = fastnn.Trainer(self.model, losses.CrossEntropyLoss(), optimizer, seed=seed)
        self.seed = seed


_running: list[Job] = []


def share_job(folder: str, seeds: list[int]) -> dict[str, Any]:
    """Writes the digits, and each seed's initial weights and row orders, for the other processes."""
    (X, Y), (X_test, Y_test) = data.digits()
    digits = dict(zip(Files.DIGITS_KEYS, (X, Y, X_test, Y_test), strict=True))
    np.savez(Path(folder) / Files.DIGITS, **digits)
    ids = np.arange(len(X))
    for seed in seeds:
        epochs = [data.batches(ids, ids, BATCH, seed=seed, epoch=epoch) for epoch in range(EPOCHS)]
        rows = np.array([np.concatenate([batch for batch, _ in epoch]) for epoch in epochs])
        initial = dict(zip(Files.WEIGHT_KEYS, weights(network(seed)), strict=True))
        np.savez(Path(folder) / Files.run(seed), rows=rows, **initial)
    return {}


def first_losses(folder: str, seed: int, steps: int) -> dict[str, Any]:
    """The losses of the first steps, by `Trainer.step`; the sides that the ReLUs took go into a file.

    The layers are called one by one to see those sides; nothing but the running statistics notices.
    """
    job, found = Job(seed), []
    masks: dict[str, list[Array]] = {}
    for (x, y), _ in zip(data.batches(job.X, job.Y, BATCH, seed=seed), range(steps), strict=False):
        h = x
        for index, layer in enumerate(job.model):
            h = layer(h)
            if isinstance(layer, nn.ReLU):
                masks.setdefault(str(index), []).append(np.packbits(h > 0, axis=-1))
        found.append(job.trainer.step(x, y))
    np.savez(Path(folder) / Files.masks(seed), **{key: np.array(packed) for key, packed in masks.items()})
    return {"losses": found}


def start(folder: str, seed: int) -> dict[str, Any]:
    """Makes the run of this seed ready."""
    _running[:] = [Job(seed)]
    return {}


def epoch() -> dict[str, Any]:
    """One timed epoch of `Trainer.fit`, then the accuracy on the test digits, untimed."""
    job = _running[0]
    begin = time.perf_counter()
    history = job.trainer.fit(job.X, job.Y, batch_size=BATCH, epochs=1, progress=False)
    seconds = time.perf_counter() - begin
    accuracy = job.trainer.evaluate(job.X_test, job.Y_test)["accuracy"]
    return {"seconds": seconds, "loss": history["loss"][-1], "accuracy": accuracy}


def limit(kind: str, isa: str, threads: int, footprint: float = 0) -> dict[str, Any]:
    """FLOP/s ("fma") or bytes/s ("read", "copy", "update" over `footprint` bytes in all) of one
    configuration.
    """
    before = fastnn.get_isa(), fastnn.get_num_threads()
    fastnn.set_isa(isa)
    fastnn.set_num_threads(threads)
    try:
        if kind == "fma":
            return {"rate": _core.limit_fma()}
        return {"rate": _core.limit_stream(kind, max(64, int(footprint / 4 / threads)))}
    finally:
        fastnn.set_isa(before[0])
        fastnn.set_num_threads(before[1])


def call_overhead(calls: int = 100_000) -> dict[str, Any]:
    """Seconds of a call into the compiled module that does nothing, and of an empty parallel region."""
    empty = _core.empty_call
    begin = time.perf_counter()
    for _ in range(calls):
        empty()
    return {"empty_call": (time.perf_counter() - begin) / calls, "fork_join": _core.fork_join(10_000)}


SETUPS: dict[str, Setup] = {
    "gemm": gemm,
    "batch_norm": batch_norm,
    "batch_norm_backward": batch_norm_backward,
    "batch_norm_both": batch_norm_both,
    "adam": adam,
    "rmsprop": rmsprop,
    "momentum": momentum,
    "train_step": train_step,
}
COMMANDS = {
    "share_job": share_job,
    "first_losses": first_losses,
    "start": start,
    "epoch": epoch,
    "limit": limit,
    "call_overhead": call_overhead,
}
