"""The handwritten digits that ship with fastnn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
    path = Path(__file__).parents[1] / "datasets" / "mnist10k.npz"
    with np.load(path, allow_pickle=False) as file:
        train, test = (
            (_pixels(file[f"x_{part}"]), file[f"y_{part}"].astype(np.int64)) for part in ("train", "test")
        )
    return train, test


def _pixels(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    pixels = images.reshape(len(images), -1).astype(np.float32)
    pixels /= 255
    return pixels
