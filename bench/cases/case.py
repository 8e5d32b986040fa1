"""What one benchmark case is: sizes, data, the float64 expectation, and the work it cannot avoid."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = dict[str, Array]

# Learning rates: the check's is large enough to see a wrong update, the timing's leaves the data as they are
# (thousands of real steps on the same data end in denormals, where some libraries are 10 to 1000 times
# slower).
CHECK_RATE, TIMING_RATE = 1e-3, 1e-9


@dataclass(frozen=True)
class Stream:
    """Memory traffic that no implementation can avoid, in bytes a call.

    `kind`: the stream that writes as this case does: "update" in place, "copy" to other memory. `footprint`:
    bytes of all arrays, which decides the cache level; the limit is measured at just this size. `yardstick`:
    bytes that the targets count where they are told in passes over the arrays; these may be more than needed.
    """

    kind: str
    read: float
    written: float
    footprint: float
    yardstick: float | None = None


@dataclass(frozen=True)
class Case:
    """One row of the benchmark.

    name       what tables print, and the key of the row in the JSON
    group      which table and which picture it stands in: a key of `cases.GROUPS`
    op         the function of each peer's module that prepares it; a peer without one sits the case out
    arrays     rng -> the inputs, float32, filled with random numbers
    expected   inputs in float64 -> results of the first `check_steps` steps
    tolerance  allowed error of every result, as a share of its largest element
    flops      arithmetic of a call: every operation of the formula counts as one, exp and sqrt too
    sizes      anything else a peer's setup wants to know
    stream     memory traffic a call; None where arithmetic is the limit
    bfloat16   the multiply-adds are of bfloat16, for which an instruction set may have a peak of its own
    bytes      what must be read and written at least where `stream` does not say it
    """

    name: str
    group: str
    op: str
    arrays: Callable[[np.random.Generator], Arrays]
    expected: Callable[[Arrays], Arrays]
    tolerance: float
    flops: float
    sizes: Mapping[str, Any] = field(default_factory=dict)
    stream: Stream | None = None
    bytes: float = 0.0
    bfloat16: bool = False
    check_steps: int = 1
    full_only: bool = False

    @property
    def traffic(self) -> float:
        """Bytes that must be read and written at least."""
        return self.stream.read + self.stream.written if self.stream else self.bytes

    def inputs(self) -> Arrays:
        """The inputs: the same numbers in every process."""
        return self.arrays(np.random.default_rng(zlib.crc32(self.name.encode())))

    def expectation(self) -> Arrays:
        """What a correct library returns for `inputs()`, computed in float64."""
        return self.expected(
            {key: a.astype(np.float64) if a.dtype == np.float32 else a for key, a in self.inputs().items()}
        )


def random_array(rng: np.random.Generator, *shape: int) -> Array:
    """Random normal float32 in memory as `np.empty` gives it: no zero pages, no special alignment."""
    a = np.empty(shape, np.float32)
    rng.standard_normal(dtype=np.float32, out=a)
    return a


def worst_error(got: Mapping[str, Array], want: Mapping[str, Array]) -> float:
    """The largest error of any result, as a share of that result's largest element."""
    if missing := set(want) - set(got):
        raise ValueError(f"results {sorted(missing)} are missing")
    worst = 0.0
    for key, expected in want.items():
        if got[key].shape != expected.shape:
            raise ValueError(f"result {key!r} has shape {got[key].shape}, expected {expected.shape}")
        if not np.all(np.isfinite(got[key])):
            return float("inf")
        scale = float(np.max(np.abs(expected))) or 1.0
        worst = max(worst, float(np.max(np.abs(got[key] - expected))) / scale)
    return worst
