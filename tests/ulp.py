"""How far the activations lie from the truth, in ULP, over the float32 values: the table of docs/numerics.md.

    python tests/ulp.py [--step N] [kind ...]

prints a row per kind, from every N-th bit pattern (1: all 2^32 of them).
"""

import argparse

import fastnn
import numpy as np
import reference as ref
from bounds import activation_bound, counted_in_ulp, ulp_of
from fastnn import ops

CHUNK = 1 << 13  # values at a time: the arrays stay in the first caches
STEP = 0.5  # ULP between two columns of the table
EDGES = tuple(STEP * i for i in range(1, 7))


def chunks(step):
    """Every `step`-th of all float32 bit patterns, NaNs among them."""
    for first in range(0, 1 << 32, CHUNK * step):
        bits = np.arange(first, min(first + CHUNK * step, 1 << 32), step, dtype=np.uint64)
        yield bits.astype(np.uint32).view(np.float32)


class Histogram:
    """Results of one kind by their distance from the truth."""

    def __init__(self, kind):
        self.kind = kind
        self.counts = np.zeros(len(EDGES) + 1, np.int64)  # of results that are counted in ULP
        self.largest, self.at = 0.0, 0.0
        self.wrong = []  # an input for each chunk with a result beyond its bound

    def add(self, x):
        got = ops.activation(x, self.kind)
        nan = np.isnan(x)
        if not np.array_equal(nan, np.isnan(got)):
            self.wrong.append(float(x[nan != np.isnan(got)][0]))
        if nan.any():
            x, got = x[~nan], got[~nan]
        want = ref.activation(x, self.kind)
        with np.errstate(invalid="ignore", over="ignore"):
            error = np.abs(got - want)
            if not np.isfinite(error).all():  # an infinity is right where the truth rounds to it, else 2^128
                number = np.where(np.isinf(got), np.copysign(np.float64(2.0**128), got), got)
                error = np.where(got == want.astype(np.float32), 0.0, np.abs(number - want))
        beyond = ~(error <= activation_bound(self.kind, x, want))
        if beyond.any():
            self.wrong.append(float(x[beyond][0]))
        counted = counted_in_ulp(self.kind, x, want)
        distance = (error if counted.all() else np.where(counted, error, 0.0)) / ulp_of(want)
        place = np.minimum(np.ceil(distance / STEP), len(EDGES) + 1).astype(np.intp)
        if not counted.all():
            place = place[counted]
        counts = np.bincount(place, minlength=len(EDGES) + 2)
        self.counts += np.r_[counts[0] + counts[1], counts[2:]]
        worst = distance.argmax() if distance.size else 0
        if distance.size and distance[worst] > self.largest:
            self.largest, self.at = float(distance[worst]), float(x[worst])

    def row(self):
        shares = " | ".join(f"{n:.3f}" for n in 100.0 * np.cumsum(self.counts)[:-1] / self.counts.sum())
        return f"| {self.kind} | {shares} | {self.largest:.2f} at {self.at:.9g} |"


def sweep(kind, step=1):
    """The histogram of one kind."""
    histogram = Histogram(kind)
    for x in chunks(step):
        histogram.add(x)
    return histogram


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", default=list(ref.ACTIVATIONS))
    parser.add_argument("--step", type=int, default=1)
    arguments = parser.parse_args()
    fastnn.set_num_threads(1)
    print("| Kind | " + " | ".join(f"<= {edge:g}" for edge in EDGES) + " | Largest |")
    print("| --- " * (len(EDGES) + 2) + "|")
    for kind in arguments.kinds:
        histogram = sweep(kind, arguments.step)
        print(histogram.row(), *(f" WRONG at {x!r}" for x in histogram.wrong[:3]), flush=True)


if __name__ == "__main__":
    main()
