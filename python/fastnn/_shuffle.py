"""The random order of an epoch, and rows taken in it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import _core


def shuffled(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """0 to n - 1 in an order that depends on (seed, epoch) only.

    >>> sorted(shuffled(5, seed=0, epoch=1).tolist())
    [0, 1, 2, 3, 4]
    """
    # The spawn key keeps (seed, epoch) apart for every pair of numbers: a plain [seed, epoch] is read as one
    # string of 32-bit words, in which a large seed runs into the epoch.
    key = np.random.SeedSequence(seed, spawn_key=(epoch,)).generate_state(1, np.uint64)
    return _core.shuffled(n, int(key[0]))


take_rows = _core.take_rows


def knows_rows(values: NDArray[Any]) -> bool:
    """Whether `take_rows` does: integers, float32 or float64, each row contiguous."""
    dtype = values.dtype
    known = values.size > 0 and (dtype.kind in "iu" or dtype in (np.float32, np.float64))
    return known and dtype.isnative and values.flags.aligned and values[:1].flags.c_contiguous
