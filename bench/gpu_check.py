"""What bench/gpu_check.sh runs: training on the device against the CPU, and its time against PyTorch."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import fastnn
import numpy as np
from fastnn import cuda, losses, nn, optim

SIZES = (784, 256, 128, 10)
BATCH = 64


def write(word: str, given: argparse.Namespace, found: dict[str, Any]) -> None:
    """The result with the commit and the device, as gpu-<word>.json."""
    name = f"gpu-{word}.json" if given.tool is None else f"gpu-{word}-{given.tool}.json"
    path = Path(os.environ.get("RESULTS", ".")) / name
    text = {"commit": given.commit, "device": cuda.device_info(), "info": fastnn.info(), **found}
    path.write_text(json.dumps(text, indent=1, default=str) + "\n", encoding="utf-8")
    print(f"{path}: {found}")


# ---- the CPU's numbers


def distances(one: Any, other: Any) -> tuple[int, float]:
    """Of all parameters and statistics: how many differ in bits, and the largest distance, relatively."""
    differ, worst = 0, 0.0
    pairs = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    for a, b in pairs:
        differ += int(np.sum(a.view(np.uint32) != b.view(np.uint32)))
        scale = max(float(np.nanmax(np.abs(a), initial=0.0)), 1e-30)
        worst = max(worst, float(np.nanmax(np.abs(a - b), initial=0.0)) / scale)
    return differ, worst


def compare(seeds: range) -> dict[str, Any]:
    """Three steps and a fit of each drawn network, every fourth with a loss of one's own; bits are promised,
    so any that differ are listed."""
    from networks import seeded

    problems = []
    for seed in seeds:
        problem = seeded(seed)
        if seed % 4 == 3:  # layer by layer
            problem.loss = partial(problem.loss)
        one, other = problem.trainer(seed=3), problem.trainer(seed=3, device="cuda")
        batches = [batch for epoch in range(3) for batch in problem.batches(epoch)][:3]
        losses_of = [[run.step(*batch) for batch in batches] for run in (one, other)]  # queued
        losses_of = [list(map(float, found)) for found in losses_of]
        given = {"batch_size": problem.batch_size, "epochs": 2, "sample_weight": problem.weight}
        for run in (one, other):
            run.fit(problem.X, problem.Y, progress=False, **given)
        differ, worst = distances(one, other)
        near = bool(np.allclose(*losses_of, rtol=1e-5, equal_nan=True))
        if differ or not near:
            problems.append({"seed": seed, "differ": differ, "worst": worst, "losses": losses_of})
    return {"networks": len(seeds), "not the same bits": problems, "precisions": precisions()}


def precisions() -> dict[str, float]:
    """How far the loss of a step on tensor cores lies from the CPU's, relatively: of the rounded numbers in
    bfloat16, of float32 for TF32. Rounding may fall the other way behind the first layer."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((96, SIZES[0]), np.float32), rng.integers(0, SIZES[-1], 96)
    found = {}
    for precision, of_cpu in (("bfloat16", "bfloat16"), ("tf32", "float32")):
        losses_of = []
        for device, own in (("cuda", precision), ("cpu", of_cpu)):
            model = network()
            adam = optim.Adam(model.parameters())
            run = fastnn.Trainer(model, losses.CrossEntropyLoss(), adam, precision=own, device=device)
            losses_of.append([float(run.step(x, y)) for _ in range(3)])
        found[precision] = float(np.max(np.abs(np.subtract(*losses_of)) / losses_of[1]))
    return found


# ---- time


def network() -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, o in itertools.pairwise(SIZES):
        layers += [nn.Linear(i, o), nn.ReLU()]
    return nn.Sequential(*layers[:-1], seed=0)


def epoch_of_fastnn(X: Any, Y: Any, precision: str) -> Callable[[], float]:
    """Seconds of the second epoch of a fit: the data is on the device then."""
    model = network()
    adam = optim.Adam(model.parameters())
    run = fastnn.Trainer(model, losses.CrossEntropyLoss(), adam, precision=precision, device="cuda")
    return lambda: run.fit(X, Y, batch_size=BATCH, epochs=2, progress=False)["seconds"][1]


def epoch_of_torch(X: Any, Y: Any, graphs: bool) -> Callable[[], None]:
    import torch

    parts: list[Any] = []
    for i, o in itertools.pairwise(SIZES):
        parts += [torch.nn.Linear(i, o), torch.nn.ReLU()]
    model = torch.nn.Sequential(*parts[:-1]).cuda()
    optimizer = torch.optim.Adam(model.parameters(), fused=True, capturable=graphs)
    loss = torch.nn.CrossEntropyLoss()
    x, y = torch.from_numpy(X).cuda(), torch.from_numpy(Y).cuda()
    bx, by = x[:BATCH].clone(), y[:BATCH].clone()

    def step() -> None:
        optimizer.zero_grad(set_to_none=not graphs)
        loss(model(bx), by).backward()
        optimizer.step()

    replay = step
    if graphs:
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        replay = graph.replay

    def epoch() -> None:
        order = torch.randperm(len(x), device="cuda")
        for i in range(0, len(x) - BATCH + 1, BATCH):
            rows = order[i : i + BATCH]
            torch.index_select(x, 0, rows, out=bx)
            torch.index_select(y, 0, rows, out=by)
            replay()
        torch.cuda.synchronize()

    return epoch


def seconds_of(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in each round (what it returns, if anything); they take turns."""
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            own = call()
            times[name].append(time.perf_counter() - start if own is None else own)
    return times


def copy_of_cupy() -> float:
    """GB/s, read and written."""
    import cupy

    a, b = cupy.zeros(1 << 28, np.float32), cupy.empty(1 << 28, np.float32)

    def copy() -> None:
        b[...] = a
        cupy.cuda.get_current_stream().synchronize()

    return 2 * a.nbytes / statistics.median(seconds_of({"copy": copy}, 20)["copy"]) / 1e9


def bench() -> dict[str, Any]:
    """Whole epochs with the data on the device: microseconds a step; the copy bandwidth of CuPy; kernels."""
    from gpu_kernels import kernels

    rng = np.random.default_rng(0)
    X = rng.standard_normal((BATCH * 500, SIZES[0]), np.float32)
    Y = rng.integers(0, SIZES[-1], len(X))
    calls = {
        "fastnn": epoch_of_fastnn(X, Y, "float32"),
        "fastnn, bfloat16": epoch_of_fastnn(X, Y, "bfloat16"),
        "fastnn, TF32": epoch_of_fastnn(X, Y, "tf32"),
        "torch eager, fused Adam": epoch_of_torch(X, Y, graphs=False),
        "torch CUDA graph, fused Adam": epoch_of_torch(X, Y, graphs=True),
    }
    times = seconds_of(calls, 10)
    steps = len(X) / BATCH
    found: dict[str, Any] = {
        name: {"us a step": 1e6 * statistics.median(t) / steps, "all": [1e6 * s / steps for s in t]}
        for name, t in times.items()
    }
    return {**found, "CuPy copy GB/s": copy_of_cupy(), "kernels": kernels()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("word", choices=("test", "sanitize", "bench"))
    parser.add_argument("--commit", default="unknown")
    parser.add_argument("--tool")
    given = parser.parse_args()
    reason = cuda.why_not()
    if reason is not None:
        print(f"no GPU: {reason}")
        return 77
    if given.word == "bench":
        write("bench", given, bench())
        return 0
    found = compare(range(160) if given.word == "test" else range(6))
    write(given.word, given, found)
    far = [name for name, distance in found["precisions"].items() if not distance < 5e-3]
    return 1 if found["not the same bits"] or far else 0


if __name__ == "__main__":
    raise SystemExit(main())
