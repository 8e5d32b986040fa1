"""The main job: both sides train the same network from the same weights over the same batches."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from itertools import accumulate
from statistics import fmean, median
from typing import Any

import numpy as np

from agreement import BOUND, MOST_FOLLOWED, STEPS
from job import ACCURACY_EACH, ACCURACY_MEAN, BATCH, EPOCHS, ROWS, SEEDS, WIDTHS, step_flops
from timing import ratio
from worker import Worker

FEW_STEPS = 3  # so few that a ReLU within rounding of zero is hardly among them


def run(fastnn: Worker, others: Sequence[Worker], seeds: Sequence[int] = SEEDS) -> dict[str, Any]:
    """Compares the first losses of every seed, then trains every seed, an epoch a turn.

    NumPy's losses are compared over 50 steps of every seed; those of another library, which cannot be told
    the sides of ReLUs, over three steps of the first, and if they differ it is named and not trained. Seconds
    are those of the epochs alone; the accuracy on the test digits is taken between them.
    """
    agreements, runs = [], []
    wrong: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        fastnn.ask("share_job", folder=folder, seeds=list(seeds))
        for seed in seeds:
            theirs = fastnn.ask("first_losses", folder=folder, seed=seed, steps=STEPS)["losses"]
            for other in others:
                if "compare" in other.about["commands"]:
                    found = other.ask("compare", folder=folder, seed=seed, theirs=theirs)
                    agreements.append({"seed": seed, "library": other.peer.name, **found})
                elif seed == seeds[0]:
                    own = other.ask("first_losses", folder=folder, seed=seed, steps=FEW_STEPS)["losses"]
                    worst = float(np.max(np.abs(np.subtract(own, theirs[:FEW_STEPS]))))
                    if not worst <= BOUND:
                        wrong[other.peer.name] = worst
        workers = [fastnn, *(other for other in others if other.peer.name not in wrong)]
        for seed in seeds:
            for worker in workers:
                worker.ask("start", folder=folder, seed=seed)
                worker.wait_until_quiet()
            epochs: dict[str, list[dict[str, float]]] = {worker.peer.name: [] for worker in workers}
            for _ in range(EPOCHS):
                for worker in workers:
                    epochs[worker.peer.name].append(worker.ask("epoch"))
                    worker.wait_until_quiet()  # it would spin into the next one's turn
            runs.append({"seed": seed, "epochs": epochs})
    return {**summary(agreements, runs, [worker.peer.name for worker in workers]), "wrong": wrong}


def summary(
    agreements: list[dict[str, Any]], runs: list[dict[str, Any]], names: Sequence[str]
) -> dict[str, Any]:
    """The figures of the job; `names[0]` is fastnn."""
    libraries: dict[str, Any] = {}
    epoch_seconds = {name: [e["seconds"] for r in runs for e in r["epochs"][name]] for name in names}
    for name in names:
        seconds = median(sum(e["seconds"] for e in r["epochs"][name]) for r in runs)
        accuracy = [r["epochs"][name][-1]["accuracy"] for r in runs]
        libraries[name] = {
            "seconds": seconds,
            "samples_per_second": ROWS * EPOCHS / seconds,
            "accuracy": accuracy,
            "accuracy_mean": fmean(accuracy),
            "median_epoch_seconds": median(epoch_seconds[name]),
            "time_to_accuracy": times_to_accuracy([r["epochs"][name] for r in runs]),
        }
        if name != names[0]:
            libraries[name]["ratio"] = asdict(ratio(epoch_seconds[name], epoch_seconds[names[0]]))
    return {
        "network": "-".join(map(str, WIDTHS)),
        "batch": BATCH,
        "epochs": EPOCHS,
        "epoch_flops": step_flops(ROWS),
        "agreement": {"steps": STEPS, "bound": BOUND, "found": agreements},
        "libraries": libraries,
        "runs": runs,
        "problems": problems(agreements, libraries),
    }


def times_to_accuracy(
    runs: Sequence[Sequence[dict[str, float]]], accuracy: float = ACCURACY_EACH
) -> dict[str, Any]:
    """Seconds of training until a run has this accuracy at the end of an epoch; how many runs never have."""
    seconds = []
    for epochs in runs:
        sums = accumulate(epoch["seconds"] for epoch in epochs)
        reached = (s for s, epoch in zip(sums, epochs, strict=True) if epoch["accuracy"] >= accuracy)
        seconds.append(next(reached, None))
    held = [s for s in seconds if s is not None]
    return {
        "accuracy": accuracy,
        "seconds": seconds,
        "missed": len(seconds) - len(held),
        "median": median(held) if held else None,
        "low": min(held, default=None),
        "high": max(held, default=None),
    }


def problems(agreements: list[dict[str, Any]], libraries: dict[str, Any]) -> list[str]:
    """What the job must show and did not, in words; empty when all is well."""
    found = [
        f"seed {a['seed']}: the losses of fastnn and {a['library']} differ by {a['worst']:.1e} within "
        f"the first {STEPS} steps (allowed: {BOUND:.0e}), and {a['followed']} ReLU decisions near zero "
        f"(allowed: {MOST_FOLLOWED})"
        for a in agreements
        if not a["agrees"]
    ]
    asked = {"fastnn", *(a["library"] for a in agreements)}  # of the others, what is missed is counted
    for name, result in libraries.items():
        if name not in asked:
            continue
        found += [
            f"{name}: {accuracy:.2%} of the test digits with run {index} (at least {ACCURACY_EACH:.1%})"
            for index, accuracy in enumerate(result["accuracy"])
            if not accuracy >= ACCURACY_EACH
        ]
        if not result["accuracy_mean"] >= ACCURACY_MEAN:
            found.append(f"{name}: {result['accuracy_mean']:.2%} in the mean (at least {ACCURACY_MEAN:.0%})")
    return found


def lines(job: dict[str, Any], titles: dict[str, str]) -> list[str]:
    """The main job for the terminal."""
    found = job["agreement"]["found"]
    followed = sum(a["followed"] for a in found)
    worst = max(a["worst"] for a in found)
    text = [
        "",
        f"The main job: {job['network']} on 8,000 digits, batch {job['batch']}, Adam, "
        f"{job['epochs']} epochs, seeds {', '.join(str(r['seed']) for r in job['runs'])}",
        f"  losses of the first {STEPS} steps differ by {worst:.1e} at most (allowed: {BOUND:.0e} absolute); "
        f"{followed} ReLU decisions were within rounding of zero",
        f"  the products alone at the FMA peak would take {job['share']:.0%} of fastnn's time",
    ]
    for name, result in job["libraries"].items():
        row = (
            f"  {titles[name]:<18}{result['seconds']:6.2f} s {result['samples_per_second']:10,.0f} samples/s "
            f"  accuracy {result['accuracy_mean']:.2%} (lowest {min(result['accuracy']):.2%})"
        )
        if "ratio" in result:
            r = result["ratio"]
            row += f"   fastnn is {r['median']:.2f} times as fast ({r['low']:.2f} to {r['high']:.2f})"
        text.append(row)
    text += accuracy_lines(job["libraries"], titles)
    text += [
        f"  {titles[name]} was not trained: its first {FEW_STEPS} losses are off by {worst:.1e}"
        for name, worst in job["wrong"].items()
    ]
    return text + [f"  PROBLEM: {problem}" for problem in job["problems"]]


def accuracy_lines(libraries: dict[str, Any], titles: dict[str, str]) -> list[str]:
    """The time to the accuracy that every run should reach."""
    first = next(iter(libraries.values()))["time_to_accuracy"]
    text = [
        f"  time to {first['accuracy']:.1%} of the test digits, {len(first['seconds'])} seeds: the median, "
        "and the first and last to get there"
    ]
    for name, result in libraries.items():
        found = result["time_to_accuracy"]
        missed = f"; {found['missed']} of {len(found['seconds'])} runs missed it" if found["missed"] else ""
        spread = (
            "never"
            if found["median"] is None
            else f"{found['median']:6.2f} s ({found['low']:.2f} to {found['high']:.2f})"
        )
        text.append(f"  {titles[name]:<18}{spread}{missed}")
    return text
