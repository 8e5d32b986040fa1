"""The main job in the fastnn worker, and the machine's limits as its compiled module measures them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import fastnn
import numpy as np
from fastnn import _core, data, losses, nn, optim, schedulers

import small_digits as small_digits_job
from cases.case import Array
from job import BATCH, EPOCHS, RATE, WIDTHS, Files
from peers.fastnn_network import network, weights


class Job:
    """The main job: one run of a seed."""

    def __init__(self, seed: int) -> None:
        (self.X, self.Y), (self.X_test, self.Y_test) = data.digits()
        self.model = network(WIDTHS, batch_norm=True, seed=seed)
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
        initial = dict(
            zip(Files.WEIGHT_KEYS, weights(network(WIDTHS, batch_norm=True, seed=seed)), strict=True)
        )
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


def small_digits(folder: str, seed: int) -> dict[str, Any]:
    """One timed fit on scikit-learn's digits, from a new network on, and its accuracy."""
    X, Y, X_test, Y_test = small_digits_job.parts(folder)
    begin = time.perf_counter()
    model = network(
        (X.shape[1], small_digits_job.HIDDEN, small_digits_job.CLASSES), batch_norm=False, seed=seed
    )
    optimizer = optim.Adam(model.parameters(), lr=small_digits_job.RATE)
    trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optimizer, seed=seed)
    trainer.fit(X, Y, batch_size=small_digits_job.BATCH, epochs=small_digits_job.EPOCHS, progress=False)
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "accuracy": trainer.evaluate(X_test, Y_test)["accuracy"]}


def limit(kind: str, isa: str, threads: int, footprint: float = 0) -> dict[str, Any]:
    """FLOP/s ("fma", "bf16") or bytes/s ("read", "copy", "update" over `footprint` bytes in all) of one
    configuration.
    """
    before = fastnn.get_isa(), fastnn.get_num_threads()
    fastnn.set_isa(isa)
    fastnn.set_num_threads(threads)
    try:
        if kind in ("fma", "bf16"):
            return {"rate": _core.limit_fma(bfloat16=kind == "bf16")}
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


COMMANDS = {
    "share_job": share_job,
    "first_losses": first_losses,
    "start": start,
    "epoch": epoch,
    "small_digits": small_digits,
    "limit": limit,
    "call_overhead": call_overhead,
}
