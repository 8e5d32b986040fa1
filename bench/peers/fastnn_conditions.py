"""What the fastnn worker measures of itself: strides, denormals, a sleeping team, NumPy in one process."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fastnn
import numpy as np
from fastnn import _core, data, losses, ops, optim

from cases.case import TIMING_RATE, Array, random_array
from job import BATCH
from peers.fastnn_job import Job
from peers.fastnn_network import network

Call = Callable[[], object]
TURN = 0.004  # seconds of calls a turn
POWER, MORE = 1024, 16  # row strides in floats: POWER, and POWER + MORE
PARAMETERS = 235_146  # those of the main job's network
DENORMAL = 1e-40
EPILOGUES = (128, 128, 512), (128, 256, 512), (128, 784, 512)  # m, k, n
EXPONENTIALS = ("sigmoid", "tanh", "gelu", "gelu_tanh", "silu", "elu", "selu", "softplus")
CACHED = 1 << 15  # numbers, twice as many of which a second-level cache holds
RELUS = ("relu", "leaky_relu")
OF_X = ("gelu", "gelu_tanh", "silu")  # whose gradients read x, and not the result
PLACES = {"L2": 2 * CACHED, "DRAM": 1 << 24}  # numbers of an array
COPIES = [
    (kind, place) for place in PLACES for kind in (*RELUS, *EXPONENTIALS) if place == "DRAM" or kind in RELUS
]


def in_turns(calls: Sequence[Call], rounds: int, turn: float = TURN, pause: float = 0.0) -> list[list[float]]:
    """Seconds a call, by call and round; the calls take turns, each after one call that is not counted."""
    repeats = []
    for call in calls:
        call()
        repeats.append(max(1, round(turn / _seconds(call, 1))))
    found: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, n, seconds in zip(calls, repeats, found, strict=True):
            time.sleep(pause)
            call()
            seconds.append(_seconds(call, n))
    return found


def _seconds(call: Call, n: int) -> float:
    begin = time.perf_counter()
    for _ in range(n):
        call()
    return (time.perf_counter() - begin) / n


# ---- row strides


def _rows(rng: np.random.Generator, rows: int, stride: int) -> Array:
    """(rows, POWER) whose rows lie `stride` floats apart."""
    return random_array(rng, rows, stride)[:, :POWER]


def stride_calls(stride: int, rows: int = 512) -> dict[str, Call]:
    """Products and batch-norm on matrices whose rows lie `stride` floats apart."""
    rng = np.random.default_rng(0)
    x, y, w, dw = (_rows(rng, n, stride) for n in (rows, rows, POWER, POWER))
    gamma, beta = random_array(rng, POWER), random_array(rng, POWER)
    _, mean, rstd = ops.batch_norm(x, gamma, beta)
    dx, sums = _rows(rng, rows, stride), (np.empty_like(gamma), np.empty_like(gamma))
    return {
        f"GEMM {rows}x{POWER}x{POWER}": lambda: ops.gemm(x, w, out=y),
        f"GEMM {rows}x{POWER}x{POWER} (dX)": lambda: ops.gemm(x, w, out=y, trans_b=True),
        f"GEMM {POWER}x{rows}x{POWER} (dW)": lambda: ops.gemm(x, y, out=dw, trans_a=True),
        f"batch-norm forward ({rows}, {POWER})": lambda: ops.batch_norm(x, gamma, beta, out=y),
        f"batch-norm backward ({rows}, {POWER})": lambda: ops.batch_norm_backward(
            y, x, gamma, mean, rstd, out=(dx, *sums)
        ),
    }


def strides(rounds: int) -> dict[str, Any]:
    """Seconds with a stride of POWER and of POWER + MORE, by name."""
    power, more = stride_calls(POWER), stride_calls(POWER + MORE)
    return {name: in_turns([power[name], more[name]], rounds) for name in power}


# ---- denormal moments


def denormals(rounds: int) -> dict[str, Any]:
    """Seconds of an update with denormal moments and gradients, and with normal ones, by name.

    Every call begins with the moments written anew: a step leaves zeros where denormals were.
    """
    rng = np.random.default_rng(0)
    param, grad, m, v = (random_array(rng, PARAMETERS) for _ in range(4))
    updates: dict[str, tuple[Call, Sequence[Array]]] = {
        "Adam": (lambda: ops.adam_(param, grad, m, v, step=1, lr=TIMING_RATE), (m, v)),
        "RMSProp": (lambda: ops.rmsprop_(param, grad, v, lr=TIMING_RATE), (v,)),
        "momentum": (lambda: ops.momentum_(param, grad, m, lr=TIMING_RATE), (m,)),
        "AdaGrad": (lambda: ops.adagrad_(param, grad, v, lr=TIMING_RATE), (v,)),
    }
    found = {}
    for name, (call, moments) in updates.items():
        seconds: list[list[float]] = [[], []]
        for _ in range(rounds):
            for place, value in enumerate((DENORMAL, 0.01)):
                for array in (grad, *moments):
                    array.fill(value)
                seconds[place].append(_seconds(call, 1))
        found[name] = seconds
    return found


# ---- what rides on a product, and passes over memory


def epilogues(rounds: int) -> dict[str, Any]:
    """Seconds of a product with bias and ReLU, and of the same without, by name."""
    rng = np.random.default_rng(0)
    found = {}
    for m, k, n in EPILOGUES:
        a, b, bias = random_array(rng, m, k), random_array(rng, k, n), random_array(rng, n)
        c = np.empty((m, n), np.float32)
        found[f"GEMM {m}x{k}x{n}"] = in_turns(
            [
                functools.partial(ops.gemm, a, b, out=c, bias=bias, activation="relu"),
                functools.partial(ops.gemm, a, b, out=c),
            ],
            rounds,
        )
    return found


def exponentials(rounds: int) -> dict[str, Any]:
    """Seconds of 16 numbers of each activation, on one thread and in cache."""
    x = random_array(np.random.default_rng(0), CACHED)
    y = np.empty_like(x)
    calls = [functools.partial(ops.activation, x, kind, out=y) for kind in EXPONENTIALS]
    threads = fastnn.get_num_threads()
    fastnn.set_num_threads(1)
    try:
        found = in_turns(calls, rounds)
    finally:
        fastnn.set_num_threads(threads)
    return {
        kind: [16 * one / CACHED for one in seconds]
        for kind, seconds in zip(EXPONENTIALS, found, strict=True)
    }


def copies(rounds: int) -> dict[str, Any]:
    """Seconds of activations and gradients, and of a copy stream over as many bytes, by name and place."""
    found = {}
    for kind, place in COPIES:
        numbers = PLACES[place]
        x, dy = random_array(np.random.default_rng(0), 2, numbers)
        y, dx = np.empty_like(x), np.empty_like(x)
        forward = functools.partial(ops.activation, x, kind, out=y)
        forward()
        result = None if kind in OF_X else y
        backward = functools.partial(ops.activation_backward, dy, x, kind, y=result, out=dx)
        for way, call, arrays in (("forward", forward, 2), ("backward", backward, 3)):
            seconds: list[list[float]] = [[], []]
            for _ in range(rounds):
                seconds[0] += in_turns([call], 1)[0]
                rate = _core.limit_stream("copy", arrays * numbers // fastnn.get_num_threads())
                seconds[1].append(arrays * x.nbytes / rate)
            found[f"{kind} {way} in {place}"] = seconds
    return found


# ---- the team


def fork_join(rounds: int, repeats: int = 1000, pause: float = 0.001) -> dict[str, Any]:
    """Seconds of an empty region right after another, and after a pause in which the workers fell asleep."""
    parked = []
    for _ in range(rounds):
        time.sleep(pause)
        parked.append(_core.fork_join(1))
    return {"hot": [_core.fork_join(repeats) for _ in range(rounds)], "parked": parked}


def set_threads(threads: int) -> dict[str, Any]:
    """Changes the number of threads of what is timed next; all of them have started when this returns."""
    fastnn.set_num_threads(threads)
    _core.fork_join(1000)
    return {}


def alternating(rounds: int, size: int = 256, turn: float = 0.1) -> dict[str, Any]:
    """Seconds of np.matmul alone, of a step of the main job alone, and of both in turn, in this process."""
    rng = np.random.default_rng(0)
    a, b, c = (random_array(rng, size, size) for _ in range(3))
    job = Job(seed=0)
    x, y = job.X[:BATCH], job.Y[:BATCH]

    def matmul() -> None:
        np.matmul(a, b, out=c)

    def step() -> None:
        job.trainer.step(x, y)

    def both() -> None:
        matmul()
        step()

    # NumPy's threads spin for up to 30 ms after their work: what comes next alone must not meet them.
    names = ("matmul", "step", "both")
    return dict(zip(names, in_turns([matmul, step, both], rounds, turn, pause=0.05), strict=True))


def memory_growth(how: str, steps: int, rows: int = 1 << 18) -> dict[str, Any]:
    """Bytes by which the resident memory of this process grows in `steps` training steps of a small network
    at batch 32, after as many as a tenth of them: by `Trainer.fit`, or by `Trainer.step` in a loop."""
    model = network((64, 64, 10), batch_norm=True, seed=0)
    optimizer = optim.Adam(model.parameters(), lr=TIMING_RATE)
    trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optimizer)
    rng = np.random.default_rng(0)
    X, Y = random_array(rng, rows, 64), rng.integers(0, 10, rows)

    def train(count: int) -> None:
        while count > 0:
            n = min(rows, 32 * count)
            count -= n // 32
            if how == "fit":
                trainer.fit(X[:n], Y[:n], batch_size=32, epochs=1, progress=False)
                continue
            for x, y in data.batches(X[:n], Y[:n], 32):
                trainer.step(x, y)

    train(max(1, steps // 10))
    before = resident()
    train(steps)
    return {"grown": resident() - before}


def resident() -> int:
    """Bytes of memory that this process has in use now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS"))


COMMANDS = {
    "memory_growth": memory_growth,
    "strides": strides,
    "denormals": denormals,
    "epilogues": epilogues,
    "exponentials": exponentials,
    "copies": copies,
    "fork_join": fork_join,
    "set_threads": set_threads,
    "alternating": alternating,
}
