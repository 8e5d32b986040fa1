"""What products in bfloat16 cost in accuracy: paired fits of `Trainer(precision=...)`, seed by seed.

    python bench/precision.py --json bench/results/precision.json

Both fits of a pair start from the same weights and see the same batches of the digits that ship with
fastnn. Printed and saved: the accuracy on the 2,000 test digits after the last epoch, in percent, the mean
difference bfloat16 - float32 in points with its 95 % interval (percentiles of 10,000 bootstrap means), and
whether that mean is within the bound of 0.3 points. Exit status 1 where it is not.

A fit has the same bits on every machine, but for bfloat16 with avx512bf16.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import fastnn
import numpy as np
from fastnn import data, losses, nn, optim, schedulers

BOUND = 0.3  # points
BATCH, RATE = 128, 1e-3
NETWORKS = {"784-256-128-10 with BN": (True, (784, 256, 128, 10)), "784-128-10": (False, (784, 128, 10))}
DRAWS = 10_000


def network(batch_norm: bool, widths: Sequence[int], seed: int) -> nn.Sequential:
    """ReLU between Linear layers, batch-norm in front of each if asked."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        layers += [nn.Linear(before, after, bias=not batch_norm)]
        layers += [*([nn.BatchNorm1d(after)] if batch_norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(*widths[-2:]), seed=seed)


def accuracies(batch_norm: bool, widths: Sequence[int], seed: int, epochs: int) -> tuple[float, ...]:
    """In percent, float32's and bfloat16's, of fits with Adam and a cosine down to 0, side by side."""
    (X, Y), test = data.digits()
    trainers = []
    for precision in ("float32", "bfloat16"):
        model = network(batch_norm, widths, seed)
        rate = schedulers.CosineAnnealingDecay(RATE, epochs * data.steps_per_epoch(len(X), BATCH))
        optimizer = optim.Adam(model.parameters(), lr=rate)
        loss = losses.CrossEntropyLoss()
        trainers.append(fastnn.Trainer(model, loss, optimizer, precision=precision, seed=seed))
    fastnn.fit_many(trainers, X, Y, batch_size=BATCH, epochs=epochs)
    return tuple(round(100 * trainer.evaluate(*test)["accuracy"], 4) for trainer in trainers)


def summary(pairs: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Mean difference (second - first of each pair) and its interval."""
    differences = np.diff(np.array(pairs), axis=1)[:, 0]
    drawn = np.random.default_rng(0).integers(len(pairs), size=(DRAWS, len(pairs)))
    low, high = np.quantile(differences[drawn].mean(axis=1), [0.025, 0.975])
    mean = float(differences.mean())
    return {
        "mean": round(mean, 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        "within": abs(mean) < BOUND,
    }


def compared(name: str, seeds: int, epochs: int) -> dict[str, Any]:
    """All pairs of a network."""
    pairs = [accuracies(*NETWORKS[name], seed, epochs) for seed in range(seeds)]
    return {"network": name, "pairs": pairs, **summary(pairs)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--json", type=Path, help="where to save the results")
    given = parser.parse_args(arguments)
    results = []
    for name in NETWORKS:
        found = compared(name, given.seeds, given.epochs)
        means = np.mean(found["pairs"], axis=0)
        print(
            f"{name}: float32 {means[0]:.2f} %, bfloat16 {means[1]:.2f} %, difference {found['mean']:+.3f} "
            f"points, 95 % interval {found['low']:+.3f} to {found['high']:+.3f}, {given.seeds} seeds"
            + ("" if found["within"] else f": MORE THAN {BOUND}"),
            flush=True,
        )
        results.append(found)
    if given.json:
        head = {"fastnn": fastnn.info()["version"], "isa": fastnn.get_isa(), "seeds": given.seeds}
        given.json.write_text(
            json.dumps({**head, "epochs": given.epochs, "results": results}, indent=1) + "\n"
        )
    return 0 if all(found["within"] for found in results) else 1


if __name__ == "__main__":
    sys.exit(main())
