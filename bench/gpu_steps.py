"""`bench/run.py --device cuda`: whole epochs with the data on the device against PyTorch, and kernels
(gpu_kernels.py)."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import fastnn
import numpy as np
from fastnn import cuda, losses, nn, optim

from gpu_results import Put, Results

ROUNDS = 10

Epoch = Callable[[], float | None]  # its seconds, where the caller need not take them


class Job(NamedTuple):
    """A network without batch-norm, and an epoch of so many steps."""

    sizes: tuple[int, ...]
    batch: int
    steps: int

    @property
    def name(self) -> str:
        return f"{'-'.join(map(str, self.sizes))}, batch {self.batch}"

    def data(self) -> tuple[Any, Any]:
        rng = np.random.default_rng(0)
        X = rng.standard_normal((self.batch * self.steps, self.sizes[0]), np.float32)
        return X, rng.integers(0, self.sizes[-1], len(X))


SMALL = Job((784, 256, 128, 10), 64, 500)
LARGE = Job((784, 2048, 2048, 10), 4096, 20)


def network(sizes: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, o in itertools.pairwise(sizes):
        layers += [nn.Linear(i, o), nn.ReLU()]
    return nn.Sequential(*layers[:-1], seed=0)


def fastnn_epoch(job: Job, precision: str = "float32") -> Epoch:
    """The second epoch of a fit: the data is on the device then."""
    model, (X, Y) = network(job.sizes), job.data()
    adam = optim.Adam(model.parameters())
    run = fastnn.Trainer(model, losses.CrossEntropyLoss(), adam, precision=precision, device="cuda")
    return lambda: run.fit(X, Y, batch_size=job.batch, epochs=2, progress=False)["seconds"][1]


def torch_epoch(job: Job, *, graph: bool = False, compiled: bool = False, autocast: bool = False) -> Epoch:
    """With fused Adam, rows taken in random order on the device."""
    import torch

    parts: list[Any] = []
    for i, o in itertools.pairwise(job.sizes):
        parts += [torch.nn.Linear(i, o), torch.nn.ReLU()]
    model = torch.nn.Sequential(*parts[:-1]).cuda()
    optimizer = torch.optim.Adam(model.parameters(), fused=True, capturable=graph)
    loss = torch.nn.CrossEntropyLoss()
    x, y = (torch.from_numpy(of).cuda() for of in job.data())
    bx, by = x[: job.batch].clone(), y[: job.batch].clone()

    def loss_of(rows: Any, labels: Any) -> Any:
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            return loss(model(rows), labels)

    forward = torch.compile(loss_of) if compiled else loss_of

    def step() -> None:
        optimizer.zero_grad(set_to_none=not graph)
        forward(bx, by).backward()
        optimizer.step()

    replay = step
    if graph:
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded):
            step()
        replay = recorded.replay

    def epoch() -> None:
        order = torch.randperm(len(x), device="cuda")
        for rows in order.split(job.batch):
            torch.index_select(x, 0, rows, out=bx)
            torch.index_select(y, 0, rows, out=by)
            replay()
        torch.cuda.synchronize()

    return epoch


def seconds_of(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in each round (what it returns, if anything); they take turns, and are warm."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            own = call()
            times[name].append(time.perf_counter() - start if own is None else own)
    return times


def steps_of(job: Job, makers: dict[str, Callable[[], Epoch]], put: Put) -> None:
    """Microseconds a step of each; what cannot be had here says why."""
    calls: dict[str, Epoch] = {}
    found: dict[str, Any] = {}
    for name, make in makers.items():
        try:
            calls[name] = make()
            calls[name]()
        except Exception as error:  # a compiler that is not there, memory
            calls.pop(name, None)
            found[name] = {"failed": repr(error)}
            put(job.name, found)
    each: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, (seconds,) in seconds_of(calls, 1).items():
            each[name].append(1e6 * seconds / job.steps)
            found[name] = {"us a step": statistics.median(each[name]), "all": each[name]}
        put(job.name, found)
    for name in calls:
        print(f"{job.name}: {name} {found[name]['us a step']:.1f} us a step", flush=True)


def copy_of_cupy() -> float:
    """GB/s, read and written."""
    import cupy

    a, b = cupy.zeros(1 << 28, np.float32), cupy.empty(1 << 28, np.float32)

    def copy() -> None:
        b[...] = a
        cupy.cuda.get_current_stream().synchronize()

    copy()
    return 2 * a.nbytes / statistics.median(seconds_of({"copy": copy}, 20)["copy"]) / 1e9


def measure(path: Path, commit: str) -> int:
    """Measures, prints and saves; 77 where there is no GPU."""
    reason = cuda.why_not()
    if reason is not None:
        print(f"no GPU: {reason}")
        return 77
    from gpu_backward import backward
    from gpu_kernels import kernels

    results = Results(path, commit)
    of_torch = {
        "torch eager": lambda: torch_epoch(SMALL),
        "torch CUDA graph": lambda: torch_epoch(SMALL, graph=True),
    }
    of_small = {
        "fastnn": lambda: fastnn_epoch(SMALL),
        "fastnn, bfloat16": lambda: fastnn_epoch(SMALL, "bfloat16"),
        "fastnn, TF32": lambda: fastnn_epoch(SMALL, "tf32"),
    }
    steps_of(SMALL, {**of_small, **of_torch}, results.part("steps"))
    of_large = {
        "fastnn, bfloat16": lambda: fastnn_epoch(LARGE, "bfloat16"),
        "torch eager, bfloat16": lambda: torch_epoch(LARGE, autocast=True),
        "torch.compile, bfloat16": lambda: torch_epoch(LARGE, compiled=True, autocast=True),
    }
    steps_of(LARGE, of_large, results.part("steps"))
    results.put("CuPy copy GB/s", copy_of_cupy())
    kernels(results.part("kernels"))
    backward(results.part("backward"))
    results.complete()
    return 0
