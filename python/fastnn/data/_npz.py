"""Arrays from an npz file, checked."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = tuple[NDArray[Any], NDArray[Any]]


def load_npz(path: str | PathLike[str]) -> tuple[Rows, Rows | None]:
    """`((X, Y), (X_test, Y_test))` from the arrays x_train, y_train, x_test, y_test of an npz file.

    Returns
    -------
    X, X_test : real numbers (rows, ...) of the dtype in the file
    Y, Y_test : (rows,) or (rows, outputs): whole numbers, text or booleans for classes, floats for regression

    The second pair is None when the file has neither x_test nor y_test. These are the names of Keras'
    mnist.npz; further arrays are not read. Arrays come as they are in the file: nothing is scaled, and no
    dtype changes.

    Raises OSError when the file cannot be read; ValueError for what is no npz file, for one that is damaged,
    lacks an array, holds pickled objects (they could run code), X that are no numbers, X and Y of
    different lengths, test rows of another shape; and for NaN or infinity, naming its place.

    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/rows.npz", x_train=np.zeros((5, 2)), y_train=np.arange(5))
    ...     (X, Y), test = load_npz(f"{folder}/rows.npz")
    >>> X.shape, Y.tolist(), test
    ((5, 2), [0, 1, 2, 3, 4], None)
    """
    where = f"load_npz: {path}"
    there = read_npz(path, "load_npz", [("x_train", "y_train"), ("x_test", "y_test")], 1)
    X, Y = checked(where, there, "x_train", "y_train")
    if "x_test" not in there:
        return (X, Y), None
    X_test, Y_test = checked(where, there, "x_test", "y_test")
    for name, one, other in (("x", X, X_test), ("y", Y, Y_test)):
        if one.shape[1:] != other.shape[1:]:
            raise ValueError(
                f"{where}: rows of {name}_test must have the shape of those of {name}_train, "
                f"{one.shape[1:]}, got {other.shape[1:]}"
            )
    if Y.dtype.kind != Y_test.dtype.kind and {Y.dtype.kind, Y_test.dtype.kind} != {"i", "u"}:
        raise ValueError(f"{where}: y_test is {Y_test.dtype} and y_train {Y.dtype}; make them one kind")
    return (X, Y), (X_test, Y_test)


def read_npz(
    path: str | PathLike[str], caller: str, groups: Sequence[tuple[str, ...]], needed: int
) -> dict[str, NDArray[Any]]:
    """The arrays of these groups by name; a group is whole or absent, and the first `needed` are there."""
    import zipfile
    import zlib

    where = f"{caller}: {path}"
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(f"{where} is no npz file; numpy.savez writes them")
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for i, names in enumerate(groups):
                missing = [name for name in names if name not in file.files]
                if missing and (i < needed or len(missing) < len(names)):
                    held = ", ".join(file.files) or "nothing"
                    raise ValueError(f"{where} has no array {missing[0]!r}; it has {held}")
                arrays.update({name: _member(where, file, name) for name in names if not missing})
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ValueError(f"{where} is damaged ({error})") from None
    return arrays


def _member(where: str, file: Any, name: str) -> NDArray[Any]:
    try:
        array = file[name]
    except ValueError as error:
        if "pickle" not in str(error):
            raise ValueError(f"{where}: {name} is damaged ({error})") from None
        raise ValueError(
            f"{where}: {name} holds Python objects, which are not loaded, since they could run code; save "
            "it as numbers or text (astype)"
        ) from None
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{where}: {name} is no array")
    return array


def checked(where: str, arrays: dict[str, NDArray[Any]], x: str, y: str | None) -> Rows:
    """X and Y (without a name for it: no rows of it), with the right kinds, shapes and numbers."""
    X = checked_features(where, x, arrays[x])
    if y is None:
        return X, np.empty(0)
    Y = arrays[y]
    if Y.dtype.kind not in "biufUS":
        raise ValueError(f"{where}: {y} must hold numbers or text, got dtype {Y.dtype}")
    if Y.ndim not in (1, 2) or 0 in Y.shape[1:]:
        raise ValueError(f"{where}: {y} must have shape (rows,) or (rows, outputs), got {Y.shape}")
    if len(X) != len(Y):
        raise ValueError(f"{where}: {x} and {y} must have the same number of rows, got {len(X)} and {len(Y)}")
    check_finite(where, y, Y)
    return X, Y


def checked_features(where: str, name: str, X: NDArray[Any]) -> NDArray[Any]:
    if X.dtype.kind not in "biuf":
        raise ValueError(f"{where}: {name} must hold real numbers, got dtype {X.dtype}")
    if X.ndim < 2 or 0 in X.shape:
        raise ValueError(f"{where}: {name} must have shape (rows, columns), none of them 0, got {X.shape}")
    check_finite(where, name, X)
    return X


def check_finite(where: str, name: str, array: NDArray[Any]) -> None:
    """Raise for the first number that float32 cannot hold: NaN, infinity, or too large."""
    if array.dtype.kind != "f":
        return
    with np.errstate(over="ignore"):
        good = np.isfinite(array.astype(np.float32, copy=False))
    if not good.all():
        place = tuple(int(i) for i in np.unravel_index(int(np.argmin(good)), good.shape))
        raise ValueError(
            f"{where}: {name}[{', '.join(map(str, place))}] is {array[place]}; leave such rows out, or fill "
            "missing values first"
        )
