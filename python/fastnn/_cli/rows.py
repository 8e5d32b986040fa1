"""Rows for the commands, from npz and CSV files: checked, classes as numbers, some held out."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastnn import data
from fastnn._arrays import Array
from fastnn.data._csv import CsvFile
from fastnn.data._npz import checked, read_npz


class Known(NamedTuple):
    """What later rows must agree with: what a model was trained on."""

    shape: list[int]  # of a row of X
    outputs: int
    classes: list[str] | None  # None: regression
    features: list[str] | None  # names of columns; None: the file had none
    target: str | None

    def odd(self) -> str | None:
        """The first field that is not what it should be, as in a file that another hand wrote."""
        fine = {
            "shape": _is_list(self.shape, int),
            "classes": self.classes is None or _is_list(self.classes, str),
            "features": self.features is None or _is_list(self.features, str),
            "target": self.target is None or isinstance(self.target, str),
        }
        fine["outputs"] = not (fine["classes"] and self.classes) or self.outputs == len(self.classes)
        return next((name for name, is_fine in fine.items() if not is_fine), None)


class Rows(NamedTuple):
    """Training rows and those held out. Y are class ids (n,), or floats (n, outputs)."""

    X: Array
    Y: Array
    X_test: Array
    Y_test: Array
    known: Known

    def digest(self) -> str:
        """A checksum of all rows."""
        total = hashlib.sha256()
        for array in self[:4]:
            total.update(f"{array.dtype}{array.shape}".encode())
            total.update(np.ascontiguousarray(array).data)
        return total.hexdigest()


def training_rows(path: str, target: str | None, task: str | None, seed: int) -> Rows:
    """The rows to train on and those to test with: those of the file, else a fifth drawn by the seed."""
    test, features, name = None, None, None
    if is_csv(path):
        table = data.load_csv(path, target=target, task=task)
        X, Y, classes = table.X, table.Y, table.classes
        name = table.target
        if not all(column.isdigit() for column in [*table.features, name]):  # the names of a file without
            features = table.features
    else:
        if target is not None:
            raise ValueError("--target names a column of a CSV file; in an npz file the target is y_train")
        (X, Y), test = data.load_npz(path)
        Y, classes = _targets(path, Y, task)
        if test is not None:
            test = test[0], _as_known(path, "y_test", test[1], classes)
    if classes is not None and len(classes) < 2:
        raise ValueError(f"{path}: all rows have the class {classes[0]!r}; there is nothing to tell apart")
    Y = Y if classes else Y.reshape(len(Y), -1).astype(np.float32)
    known = Known(list(X.shape[1:]), len(classes) if classes else Y.shape[1], classes, features, name)
    if test is not None:
        return Rows(X, Y, *test, known)
    held = len(X) // 5
    if held == 0:
        raise ValueError(f"{path} has {len(X)} rows; it takes 5 or more to hold a fifth of them out")
    order = np.random.default_rng(seed).permutation(len(X))
    kept, out = np.sort(order[held:]), np.sort(order[:held])
    return Rows(X[kept], Y[kept], X[out], Y[out], known)


def rows_to_evaluate(path: str, known: Known) -> tuple[Array, Array]:
    """X and Y: of a CSV file all rows, of an npz file x and y, or else x_test and y_test."""
    if not is_csv(path):
        arrays = read_npz(path, "evaluate", [("x", "y"), ("x_test", "y_test")], 0)
        x, y = ("x", "y") if "x" in arrays else ("x_test", "y_test")
        _need(path, x, arrays)
        X, Y = checked(f"evaluate: {path}", arrays, x, y)
        _check_shape(path, X, known)
        Y = _as_known(path, y, Y, known.classes)
        if known.classes is None and Y.shape[1] != known.outputs:
            raise ValueError(f"{path}: {y} has {Y.shape[1]} outputs, the model has {known.outputs}")
        return X, Y
    task = "classification" if known.classes else "regression"
    table = data.load_csv(path, target=known.target, task=task)
    X = table.X
    if known.features is not None:
        X = X[:, _places(path, table.features, known)]
    _check_shape(path, X, known)
    if table.classes is None:
        return X, _as_known(path, table.target, table.Y, None)
    return X, _renumbered(path, table.target, table.Y, table.classes, known.classes or [])


def rows_to_predict(path: str, known: Known) -> Array:
    """X: of a CSV file its features (a column of targets is left out), of an npz file x, or else x_test."""
    if not is_csv(path):
        arrays = read_npz(path, "predict", [("x",), ("x_test",)], 0)
        name = "x" if "x" in arrays else "x_test"
        _need(path, name, arrays)
        X, _ = checked(f"predict: {path}", arrays, name, None)
        _check_shape(path, X, known)
        return X
    target = [known.target] if known.features and known.target else []
    file = CsvFile(path, "predict", [*(known.features or []), *target])
    if known.features and not file.header:
        raise ValueError(f"{path} has no header; the model was trained on {', '.join(known.features)}")
    at = file.names.index(target[0]) if target and target[0] in file.names else None
    names = [name for name in file.names if name not in target]
    places = range(len(names)) if known.features is None else _places(path, names, known)
    numbers, _, _ = file.read(at)
    X = (numbers if at is None else np.delete(numbers, at, axis=1))[:, places]
    _check_shape(path, X, known)
    return X


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def is_csv(path: str) -> bool:
    """Whether it ends as a CSV file does; ValueError when it does not end as an npz file either."""
    kind = Path(path).suffix.lower()
    if kind not in (".csv", ".npz"):
        raise ValueError(f"{path}: DATA must be a .npz or a .csv file")
    return kind == ".csv"


def _targets(path: str, Y: Array, task: str | None) -> tuple[Array, list[str] | None]:
    """Y as class ids with their names, or as floats."""
    if task == "regression" and Y.dtype.kind in "US":
        raise ValueError(f"{path}: y_train is text, and the task is regression")
    if task == "regression" or (task is None and Y.dtype.kind == "f"):
        return Y, None
    return _numbered(path, "y_train", Y)


def _as_known(path: str, name: str, Y: Array, classes: list[str] | None) -> Array:
    """Y of other rows, numbered as those of the training."""
    if classes is not None:
        return _renumbered(path, name, *_numbered(path, name, Y), classes)
    if Y.dtype.kind in "US":
        raise ValueError(f"{path}: {name} is text, and the task is regression")
    return Y.reshape(len(Y), -1).astype(np.float32)


def _numbered(path: str, name: str, Y: Array) -> tuple[Array, list[str]]:
    """Class ids, and the names of the classes in order."""
    if Y.ndim != 1:
        raise ValueError(f"{path}: {name} must have shape (rows,) for classes, got {Y.shape}")
    if Y.dtype.kind == "S":
        try:
            Y = np.char.decode(Y, "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}: {name} holds text that is not UTF-8: {error.object!r}; save it as text (astype)"
            ) from None
    values, ids = np.unique(Y, return_inverse=True)
    return ids.astype(np.int64), [str(value) for value in values.tolist()]


def _renumbered(path: str, name: str, ids: Array, names: list[str], classes: list[str]) -> Array:
    """Ids of `names` as ids of `classes`."""
    place = {text: i for i, text in enumerate(classes)}
    for text in names:
        if text not in place:
            raise ValueError(f"{path}: {name} has the class {text!r}, which the training rows lack")
    return np.array([place[text] for text in names], np.int64)[ids]


def _places(path: str, names: list[str], known: Known) -> list[int]:
    """Where each feature of the training stands among these columns."""
    features = known.features or []
    for have, wanted, what in ((names, features, "lacks"), (features, names, "has the further")):
        if odd := [name for name in wanted if name not in have]:
            raise ValueError(
                f"{path} {what} column {odd[0]!r}; the model was trained on {', '.join(features)}"
            )
    return [names.index(name) for name in features]


def _check_shape(path: str, X: Array, known: Known) -> None:
    if list(X.shape[1:]) != known.shape:
        got, wanted = (" x ".join(map(str, shape)) for shape in (X.shape[1:], known.shape))
        raise ValueError(f"{path}: rows have {got} features, the model was trained on {wanted}")


def _need(path: str, name: str, arrays: dict[str, Any]) -> None:
    if name not in arrays:
        raise ValueError(f"{path} has neither x nor x_test")
