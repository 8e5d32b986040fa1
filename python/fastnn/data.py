"""Training data: the digits that ship with fastnn, and the order in which rows form batches.

The order of the rows is a pure function of (seed, epoch), so a run can be repeated or resumed at any epoch,
and an own loop over `batches` sees exactly the batches of `Trainer.fit`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn._arrays import check_int

__all__ = ["batches", "digits", "steps_per_epoch"]

Pair = tuple[NDArray[np.float32], NDArray[np.int64]]


def digits() -> tuple[Pair, Pair]:
    """The embedded handwritten digits: `((X, Y), (X_test, Y_test))`.

    Returns
    -------
    X, X_test : float32 in 0..1, shapes (8000, 784) and (2000, 784); a row is a 28 x 28 image, row by row
    Y, Y_test : int64 labels 0..9, shapes (8000,) and (2000,)

    Nothing is downloaded; every call returns new arrays. Two pairs, as in Keras' `load_data`: the second is
    what `Trainer.fit(validation=...)` takes. The images are 10,000 of MNIST's 70,000, shuffled once and
    split; `datasets/mnist10k-LICENSE.txt` names their source.

    >>> (X, Y), (X_test, Y_test) = digits()
    >>> X.shape, X_test.shape, X.dtype, Y.dtype
    ((8000, 784), (2000, 784), dtype('float32'), dtype('int64'))
    """
    path = Path(__file__).parent / "datasets" / "mnist10k.npz"
    with np.load(path, allow_pickle=False) as file:
        train, test = (
            (_pixels(file[f"x_{part}"]), file[f"y_{part}"].astype(np.int64)) for part in ("train", "test")
        )
    return train, test


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
    selections = (order[start:stop] for start, stop in pairwise(bounds))
    return ((take(x_rows, rows), take(y_rows, rows)) for rows in selections)


def steps_per_epoch(n: int, batch_size: int, drop_last: bool = False) -> int:
    """Batches (= optimizer steps) in one epoch of n rows: n / batch_size rounded up, down with drop_last.

    >>> steps_per_epoch(8000, 128), steps_per_epoch(8000, 128, drop_last=True)
    (63, 62)
    """
    n = check_int(n, "steps_per_epoch: n", 0)
    batch_size = check_int(batch_size, "steps_per_epoch: batch_size", 1)
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
    if n == 0:
        raise ValueError(f"{caller}: X has no rows; give at least one row to train on")
    count = steps_per_epoch(n, batch_size, drop_last)
    if count == 0:
        raise ValueError(
            f"{caller}: drop_last leaves no batch, X has {n} rows and batch_size is {batch_size}; "
            f"pass drop_last=False or a batch_size of at most {n}"
        )
    starts = [i * batch_size for i in range(count)]
    if join_single_row and count > 1 and starts[-1] == n - 1:
        starts.pop()
    # The spawn key keeps (seed, epoch) apart for every pair of numbers: a plain [seed, epoch] is read as one
    # string of 32-bit words, in which a large seed runs into the epoch.
    key = np.random.SeedSequence(seed, spawn_key=(epoch,))
    order = np.random.default_rng(key).permutation(n) if shuffle else np.arange(n)
    end = n if not drop_last else count * batch_size
    return np.asarray(order, np.int64), np.array([*starts, end], np.int64)


def take(values: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """A fresh C-contiguous copy of these rows (indexing alone keeps the column order of a Fortran array)."""
    return np.ascontiguousarray(values[rows])


def _pixels(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    pixels = images.reshape(len(images), -1).astype(np.float32)
    pixels /= 255
    return pixels


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
