"""Rows from a CSV file: numbers, and a target column that may be text."""

from __future__ import annotations

import math
import os
import re
import warnings
from array import array
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from os import PathLike
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_TASKS = ("classification", "regression")
_LARGEST = float(np.finfo(np.float32).max)
_FIELD = re.compile(r'(?:"[^"]*(?:""[^"]*)*"|(?!")[^,\r\n]*)(,|[\r\n]|\Z)')  # and what ends it


class Table(NamedTuple):
    """What `load_csv` returns; the first two are what a trainer takes.

    `Y` are class ids (n,) int64 where `classes` has their names, else numbers (n,) float32 and `classes` is
    None. `features` and `target` are names of columns; without a header they are "1", "2", ....
    """

    X: NDArray[np.float32]
    Y: NDArray[np.int64] | NDArray[np.float32]
    features: list[str]
    target: str
    classes: list[str] | None


def load_csv(path: str | PathLike[str], *, target: str | None = None, task: str | None = None) -> Table:
    """The rows of a CSV file: `X, Y, features, target, classes = load_csv(path)`.

    Parameters
    ----------
    path : a UTF-8 file with commas between its fields; fields in quotes may hold commas, line ends, and
        quotes written twice
    target : the name of the column to predict; without a header its number, counted from "1"; None: the last
    task : "classification" or "regression"; None reads it off the target: whole numbers and text mean
        classification, other numbers regression, and so does 1.0, which is written as one of those

    Row 1 is the header when it has no number, or holds `target` and that is a name. All other columns must be
    numbers; they become float32. The classes are the different values of the target in order, by size for
    numbers and by letter for text, and Y their places in it.

    Raises OSError when the file cannot be read; ValueError, with row (that of a spreadsheet) and column, for
    what is no number, NaN, infinity, an empty field, a row of another length and a field whose quotes are
    not as above; and for a file without rows, an unknown target, a repeated or missing name, and a target of
    numbers and text.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "flowers.csv"
    ...     _ = path.write_text("length,width,kind\\n5.1,3.5,setosa\\n6.2,2.9,virginica\\n4.9,3,setosa\\n")
    ...     table = load_csv(path)
    >>> table.X.shape, table.Y.tolist(), table.classes, table.features
    ((3, 2), [0, 1, 0], ['setosa', 'virginica'], ['length', 'width'])
    """
    if task is not None and task not in _TASKS:
        raise ValueError(f'load_csv: task must be "classification" or "regression", got {task!r}')
    if target is not None and not isinstance(target, str):
        raise TypeError(f"load_csv: target must be the name of a column, got {target!r}")
    file = CsvFile(path, "load_csv", [] if target is None else [target])
    at = file.column(target)
    if len(file.names) < 2:
        raise ValueError(f"{file.where} has one column; it needs a feature, a comma and a target")
    numbers, texts, ids = file.read(at)
    if "" in texts:
        file.refuse(at, lambda text: not text, "is empty; fill it, or leave the row out")
    Y, classes = _targets(file, at, texts, ids, task)
    features = file.names[:at] + file.names[at + 1 :]
    return Table(np.delete(numbers, at, axis=1), Y, features, file.names[at], classes)


class CsvFile:
    """A CSV file whose first row has been looked at: `names` of its columns, `header` or not.

    `known` are names that make row 1 a header where they stand in it, unless they are numbers.
    """

    def __init__(self, path: str | PathLike[str], caller: str, known: Collection[str]) -> None:
        self.path, self.where = os.fspath(path), f"{caller}: {path}"
        self.header, self.names = False, []
        first = next((cells for _, cells in self._rows(header=True)), None)
        if first is None:
            raise ValueError(f"{self.where} is empty")
        cells = [cell.strip() for cell in first]
        numbers = [_number(cell) is not None for cell in cells]
        named = any(name in cells and _number(name) is None for name in known)
        self.header = named or not any(numbers)
        self.names += cells if self.header else [str(i + 1) for i in range(len(cells))]
        for i, name in enumerate(self.names):
            if not name:
                raise ValueError(
                    f"{self.where}: column {i + 1} has no name; name it, or leave out what only counts rows"
                )
            if name in self.names[:i]:
                raise ValueError(f"{self.where}: two columns are called {name!r}; rename one")

    def column(self, target: str | None) -> int:
        """The place of the target; the last column for None."""
        if target is None:
            return len(self.names) - 1
        if target not in self.names:
            raise ValueError(
                f"{self.where} has no column {target!r}; it has {_some(self.names)}"
                + ("" if self.header else ", for it has no header")
            )
        return self.names.index(target)

    def read(self, at: int | None) -> tuple[NDArray[np.float32], list[str], NDArray[np.int64]]:
        """All columns as numbers (0 for `at`), the different texts of `at`, and which one each row has."""
        import csv

        self._check_quotes()
        places: dict[str, int] = {}
        ids = array("q")

        def number_of(text: str) -> float:
            ids.append(places.setdefault(text.strip(), len(places)))
            return 0.0

        try:
            with open(self.path, encoding="utf-8-sig", newline="") as lines, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # NumPy's word on files without rows
                if self.header:
                    next(cells for cells in csv.reader(lines) if cells)
                numbers = np.loadtxt(
                    lines,
                    np.float32,
                    delimiter=",",
                    comments=None,
                    quotechar='"',
                    converters=None if at is None else {at: number_of},
                    ndmin=2,
                    encoding="utf-8",
                )
        except ValueError as error:
            self._explain(at)
            raise ValueError(f"{self.where}: {error}") from None
        if numbers.size == 0:
            raise ValueError(f"{self.where} has no rows")
        if numbers.shape[1] != len(self.names) or not np.isfinite(numbers).all():
            self._explain(at)
        return numbers, list(places), np.frombuffer(ids, np.int64)

    def refuse(self, at: int, wrong: Callable[[str], bool], message: str) -> None:
        """Raise for the first row whose field in column `at` is wrong."""
        for row, cells in self._rows():
            if wrong(cells[at].strip()):
                raise ValueError(f"{self.where}: row {row}, {self._title(at)}: {cells[at]!r} {message}")

    def _check_quotes(self) -> None:
        """Raise for a field in quotes that does not end with one: NumPy would read on, rows and all."""
        with open(self.path, "rb") as file:
            quoted = any(b'"' in part for part in iter(lambda: file.read(1 << 20), b""))
        for _ in self._rows() if quoted else ():
            pass

    def _explain(self, at: int | None) -> None:
        """Raise for the first field that keeps the file from being read."""
        for row, cells in self._rows():
            if len(cells) != len(self.names):
                raise ValueError(
                    f"{self.where}: row {row} has {len(cells)} fields, row 1 has {len(self.names)}"
                )
            for i, cell in enumerate(cells):
                number = _number(cell)
                if i != at and (number is None or not abs(number) <= _LARGEST):
                    what = "no number" if number is None else "no number that float32 holds"
                    if not cell.strip():
                        what = "empty"
                    raise ValueError(
                        f"{self.where}: row {row}, {self._title(i)}: {cell!r} is {what}; number texts, and "
                        "fill missing values or leave their rows out"
                    )

    def _title(self, at: int) -> str:
        named = self.header and at < len(self.names)
        return f"column {at + 1} ({self.names[at]!r})" if named else f"column {at + 1}"

    def _rows(self, header: bool = False) -> Iterator[tuple[int, list[str]]]:
        """(last line, fields) of each row that is not blank; without the header, unless asked."""
        import csv  # here, as gzip and zipfile: `import fastnn` shall be quick

        skip = not header and self.header
        last = 0
        try:
            with open(self.path, encoding="utf-8-sig", newline="") as lines:
                reader = csv.reader(lines, strict=True)
                for cells in reader:
                    last = reader.line_num
                    if cells and not skip:
                        yield reader.line_num, cells
                    skip = skip and not cells
        except UnicodeDecodeError:
            raise ValueError(f"{self.where} is no text in UTF-8") from None
        except csv.Error as error:
            self._refuse_quotes(last)
            raise ValueError(f"{self.where} is no CSV file ({error})") from None

    def _refuse_quotes(self, last: int) -> None:
        """Raise if the row that begins after this line has a field whose quotes are wrong."""
        with open(self.path, encoding="utf-8-sig", newline="") as lines:
            text = "".join(islice(lines, last, None))
        at, place = 0, 0
        while found := _FIELD.match(text, place):
            if found[1] != ",":
                return
            at, place = at + 1, found.end()
        raise ValueError(
            f"{self.where}: row {last + 1}, {self._title(at)}: {text[place:].splitlines()[0][:40]!r} begins "
            "a field in quotes that does not end with one; write a quote inside such a field twice, and "
            "leave out a stray one"
        ) from None


def _targets(
    file: CsvFile, at: int, texts: list[str], ids: NDArray[np.int64], task: str | None
) -> tuple[NDArray[np.int64] | NDArray[np.float32], list[str] | None]:
    """The target, from its different texts and which of them each row has."""
    numbers = [_number(text) for text in texts]
    numeric = [number for number in numbers if number is not None]
    if task is None and 0 < len(numeric) < len(texts):
        file.refuse(
            at,
            lambda text: _number(text) is None,
            "is no number, other rows have numbers; fill missing values or leave their rows out, or pass "
            'task="classification"',
        )
    if task == "regression" and len(numeric) < len(texts):
        file.refuse(at, lambda text: _number(text) is None, "is no number, and the task is regression")
    if not all(abs(number) <= _LARGEST for number in numeric):
        file.refuse(at, lambda text: not abs(_number(text) or 0.0) <= _LARGEST, "is no number float32 holds")
    whole = [_whole(text) for text in texts]
    if task != "classification" and len(numeric) == len(texts) and (task or None in whole):
        return np.array(numeric, np.float32)[ids], None
    keys = [text if value is None else value for text, value in zip(texts, whole, strict=True)]
    if None in whole:
        keys = list(texts)
    classes = sorted(set(keys), key=lambda key: (isinstance(key, str), key))
    place = {key: i for i, key in enumerate(classes)}
    return np.array([place[key] for key in keys], np.int64)[ids], [str(key) for key in classes]


def _number(text: str) -> float | None:
    """The number that a field holds; None for other texts (and for 1_000, which Python would read)."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _whole(text: str) -> int | None:
    number = _number(text)
    if number is None or not math.isfinite(number):
        return None
    try:
        return int(text)
    except ValueError:
        return None


def _some(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:10])}, ... ({len(names)} columns)"
