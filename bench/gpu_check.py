"""What bench/gpu_check.sh runs: training on the device against the CPU and against float64."""

from __future__ import annotations

import argparse
import itertools
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import fastnn
import numpy as np
from fastnn import cuda, losses, ops, optim

import gpu_float64
from gpu_results import Put, Results
from gpu_steps import network

SIZES = (784, 256, 128, 10)


class Time:
    """So many seconds, after which nothing is begun."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self.ran_out = False

    def seconds_left(self) -> float:
        return self._end - time.monotonic()

    def left(self) -> bool:
        """Whether something may begin."""
        self.ran_out = self.seconds_left() <= 0
        return not self.ran_out


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


def difference(seed: int) -> dict[str, Any] | None:
    """Three steps and a fit of a drawn network, every fourth with a loss of one's own: what is not the CPU's,
    whose bits are promised."""
    from networks import seeded

    problem = seeded(seed)
    if seed % 4 == 3:  # layer by layer
        problem.loss = partial(problem.loss)
    one, other = problem.trainer(seed=3), problem.trainer(seed=3, device="cuda")
    batches = [batch for epoch in range(3) for batch in problem.batches(epoch)][:3]
    losses_of = [[run.step(*batch) for batch in batches] for run in (one, other)]  # queued
    losses_of = [list(map(float, found)) for found in losses_of]
    given = {"batch_size": problem.batch_size, "epochs": 2, "sample_weight": problem.weight}
    for run in (one, other):
        run.fit(problem.X, problem.Y, validation=(problem.X, problem.Y), progress=False, **given)
    differ, worst = distances(one, other)
    if not differ and np.allclose(*losses_of, rtol=1e-5, equal_nan=True):
        return None
    return {"seed": seed, "differ": differ, "worst": worst, "losses": losses_of}


def compare(seeds: range, put: Put, limit: Time) -> bool:
    """Lists the networks that differ as they are found; whether there was time for any, and none did."""
    problems: list[dict[str, Any]] = []
    put("not the same bits", problems)
    done = 0
    for seed in seeds:
        if not limit.left():
            break
        found = difference(seed)
        if found is not None:
            print(f"not the same bits: {found}", flush=True)
            problems.append(found)
        put("networks", done := done + 1)
    return done > 0 and not problems


def calls_of_ops(put: Put, limit: Time) -> bool:
    """Calls `ops` on CuPy's arrays over the shapes of its test, each function in turn; whether there was time
    for one of each, and all gave the CPU's bits."""
    from device_places import place
    from test_cuda_ops import FAMILIES, assert_same

    where, problems = place("CuPy"), []
    put("not the CPU's bits", problems)
    calls: dict[str, list[Any]] = {}
    for function, given in itertools.chain.from_iterable(family() for family in FAMILIES):
        calls.setdefault(function, []).append((function, given))
    turns = itertools.chain.from_iterable(itertools.zip_longest(*calls.values()))
    done = 0
    for function, given in filter(None, turns):
        if not limit.left():
            break
        on_device = where.all(given)
        call = getattr(ops, function)
        try:
            assert_same(where.back(call(**on_device)), call(**given), function)
            for name, array in given.items():
                assert_same(where.back(on_device[name]), array, f"{function}: {name}")
        except AssertionError as error:
            print(error, flush=True)
            problems.append(str(error))
        put("calls", done := done + 1)
    return done >= len(calls) and not problems


# ---- numbers that are not the CPU's


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


def tensor_cores(put: Put) -> bool:
    put("precisions", found := precisions())
    print(f"tensor cores, relatively: {found}", flush=True)
    return all(distance < 5e-3 for distance in found.values())


def float64(put: Put) -> bool:
    """Whether steps of each rule are near those of tests/reference.py."""
    near = True
    for sizes, rule in itertools.product(gpu_float64.SIZES, gpu_float64.RULES):
        found = gpu_float64.steps(rule, sizes, rows=64)
        put(name := f"{rule}, {'-'.join(map(str, sizes))}", found)
        print(f"from float64, relatively: {name}: {found}", flush=True)
        near &= gpu_float64.is_near(found)
    return near


# ---- the words


def test(results: Results, limit: Time) -> bool:
    """Whether all was done and right."""
    good = [
        float64(results.part("from float64")),
        tensor_cores(results.put),
        compare(range(160), results.put, limit),
    ]
    return all(good) and not limit.ran_out


def sanitize(results: Results, limit: Time) -> bool:
    """As much as there is time for, each array in memory of its own; whether it was right."""
    import cupy

    cupy.cuda.set_allocator(None)
    half = Time(0.5 * limit.seconds_left())
    good = [calls_of_ops(results.put, half), compare(range(6), results.put, limit)]
    return all(good)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("word", choices=("test", "sanitize"))
    parser.add_argument("--commit", default="unknown")
    parser.add_argument("--tool", help="the sanitizer that it runs under")
    parser.add_argument("--seconds", type=float, required=True, help="after which nothing is begun")
    given = parser.parse_args()
    reason = cuda.why_not()
    if reason is not None:
        print(f"no GPU: {reason}")
        return 77
    name = f"gpu-{given.word}.json" if given.tool is None else f"gpu-{given.word}-{given.tool}.json"
    results = Results(Path(os.environ.get("RESULTS", ".")) / name, given.commit)
    limit = Time(given.seconds)
    good = {"test": test, "sanitize": sanitize}[given.word](results, limit)
    if limit.ran_out:
        print("out of time")
    else:
        results.complete()
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
