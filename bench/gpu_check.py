"""What bench/gpu_check.sh runs: training on the device against the CPU."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path
from typing import Any

import fastnn
import numpy as np
from fastnn import cuda, losses, optim

from gpu_steps import network, write

SIZES = (784, 256, 128, 10)


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
            model = network(SIZES)
            adam = optim.Adam(model.parameters())
            run = fastnn.Trainer(model, losses.CrossEntropyLoss(), adam, precision=own, device=device)
            losses_of.append([float(run.step(x, y)) for _ in range(3)])
        found[precision] = float(np.max(np.abs(np.subtract(*losses_of)) / losses_of[1]))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("word", choices=("test", "sanitize"))
    parser.add_argument("--commit", default="unknown")
    parser.add_argument("--tool")
    given = parser.parse_args()
    reason = cuda.why_not()
    if reason is not None:
        print(f"no GPU: {reason}")
        return 77
    found = compare(range(160) if given.word == "test" else range(6))
    name = f"gpu-{given.word}.json" if given.tool is None else f"gpu-{given.word}-{given.tool}.json"
    write(Path(os.environ.get("RESULTS", ".")) / name, given.commit, found)
    print(found)
    far = [name for name, distance in found["precisions"].items() if not distance < 5e-3]
    return 1 if found["not the same bits"] or far else 0


if __name__ == "__main__":
    raise SystemExit(main())
