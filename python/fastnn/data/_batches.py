"""The order in which rows form batches: a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn._arrays import check_flag, check_int
from fastnn._shuffle import knows_rows, shuffled, take_rows


def batches(
    X: ArrayLike,
    Y: ArrayLike,
    batch_size: int,
    *,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = True,
    drop_last: bool = False,
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """One epoch of `(x, y)` batches: the rows of X and Y in an order that depends on (seed, epoch) only.

    Parameters
    ----------
    X, Y : arrays or memory maps of any dtype with the same number of rows
    batch_size : rows of a batch; the last batch is shorter if the rows do not divide evenly
    seed, epoch : whole numbers >= 0; count epochs from 0 for the batches of `Trainer.fit`
    shuffle : False keeps the rows in their order
    drop_last : leave a shorter last batch out

    Each x and y is a fresh C-contiguous copy of the dtype of X and Y, so a memory map is read a batch at a
    time and writing to a batch never reaches the data. Arguments are checked at the call, not later.

    Raises TypeError for an argument of the wrong kind, ValueError for unequal lengths, for no rows, and when
    `drop_last` would leave no batch at all.

    >>> X = np.arange(10).reshape(5, 2)
    >>> for x, y in batches(X, np.arange(5), 2, shuffle=False):
    ...     print(x.tolist(), y.tolist())
    [[0, 1], [2, 3]] [0, 1]
    [[4, 5], [6, 7]] [2, 3]
    [[8, 9]] [4]
    """
    x_rows, y_rows = _rows("X", X), _rows("Y", Y)
    if len(x_rows) != len(y_rows):
        raise ValueError(
            f"batches: X and Y must have the same number of rows, got {len(x_rows)} and {len(y_rows)}; "
            "row i of Y belongs to row i of X"
        )
    order, bounds = epoch_rows(
        len(x_rows),
        batch_size,
        seed=seed,
        epoch=epoch,
        shuffle=shuffle,
        drop_last=drop_last,
        caller="batches",
    )
    places = pairwise(bounds.tolist())
    if knows_rows(x_rows) and knows_rows(y_rows):
        return (take_rows(x_rows, y_rows, order, start, stop) for start, stop in places)
    selections = (order[start:stop] for start, stop in places)
    return ((take(x_rows, rows), take(y_rows, rows)) for rows in selections)


def steps_per_epoch(n: int, batch_size: int, drop_last: bool = False) -> int:
    """Batches (= optimizer steps) in one epoch of n rows: n / batch_size rounded up, down with drop_last.

    >>> steps_per_epoch(8000, 128), steps_per_epoch(8000, 128, drop_last=True)
    (63, 62)
    """
    n = check_int(n, "steps_per_epoch: n", 0)
    batch_size = check_int(batch_size, "steps_per_epoch: batch_size", 1)
    drop_last = check_flag(drop_last, "steps_per_epoch: drop_last")
    return n // batch_size if drop_last else -(-n // batch_size)


def epoch_rows(
    n: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    shuffle: bool,
    drop_last: bool,
    join_single_row: bool = False,
    caller: str,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(order, bounds): batch i of an epoch is the rows order[bounds[i]:bounds[i + 1]].

    `caller` is the function that error texts name.

    `join_single_row` joins a last batch of one row to the one before it (batch-norm cannot train on one row).
    """
    batch_size = check_int(batch_size, f"{caller}: batch_size", 1)
    seed, epoch = check_int(seed, f"{caller}: seed", 0), check_int(epoch, f"{caller}: epoch", 0)
    shuffle = check_flag(shuffle, f"{caller}: shuffle")
    drop_last = check_flag(drop_last, f"{caller}: drop_last")
    if n == 0:
        raise ValueError(f"{caller}: X has no rows; give at least one row to train on")
    count = steps_per_epoch(n, batch_size, drop_last)
    if count == 0:
        raise ValueError(
            f"{caller}: drop_last leaves no batch, X has {n} rows and batch_size is {batch_size}; "
            f"pass drop_last=False or a batch_size of at most {n}"
        )
    bounds = np.arange(count + 1, dtype=np.int64) * min(batch_size, n)  # which may be any number
    bounds[-1] = min(n, bounds[-1])
    if join_single_row and count > 1 and bounds[-2] == n - 1:
        bounds = np.delete(bounds, -2)
    return shuffled(n, seed, epoch) if shuffle else np.arange(n, dtype=np.int64), bounds


def take(values: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """A fresh C-contiguous copy of these rows (indexing alone keeps the column order of a Fortran array)."""
    return np.ascontiguousarray(values[rows])


def _rows(name: str, values: ArrayLike) -> NDArray[Any]:
    """The values as a plain array with rows; a memory map stays on disk."""
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(
            f"batches: {name} is a masked array and its mask would be lost; pass {name}.filled(value)"
        )
    array = np.asarray(values)
    if array.dtype.kind in "OSU":
        raise TypeError(
            f"batches: {name} must hold numbers, got dtype {array.dtype}; convert it with astype first"
        )
    if array.ndim == 0:
        raise ValueError(
            f"batches: {name} must have rows, got a single value; pass an array of shape (rows, ...)"
        )
    return array
