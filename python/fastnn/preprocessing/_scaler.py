"""What every scaler does: learn from rows, batch after batch, and apply what it learned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from fastnn._arrays import Array, FloatArray, check_int
from fastnn._columns import check_out, samples, scale_columns

Float64 = npt.NDArray[np.float64]
State = dict[str, Float64]
Self = TypeVar("Self", bound="Scaler")

LARGEST = float(np.finfo(np.float32).max)
_WIDEST = LARGEST / 8  # up to it 1 / deviation and 1 / range are normal float32 numbers, merged batches' too


class Scaler(ABC):
    """Base of the scalers. What they learn is the number of rows and a few arrays of float64."""

    n_samples_seen_: int = 0
    _names: ClassVar[tuple[str, ...]]  # of the arrays that are learned; the first has one number a column
    _learned: State | None = None

    def fit(self: Self, X: Array) -> Self:
        """Learn from the rows of X alone; returns the scaler.

        Raises TypeError for what holds no real numbers; ValueError unless X is (rows, columns) with one of
        each at least, and for NaN or infinity, naming its place. Then the scaler is as it was.
        """
        X, found = self._measure(X, "fit")
        self._keep(len(X), found)
        return self

    def partial_fit(self: Self, X: Array) -> Self:
        """Learn from these rows too: batch after batch gives what `fit` gives for all rows at once, up to
        rounding of float64. Errors as in `fit`, and ValueError for another number of columns.
        """
        X, found = self._measure(X, "partial_fit")
        rows, old = self.n_samples_seen_, self._learned
        if old is not None:
            if X.shape[1] != self._columns:
                self._refuse_columns(X, "partial_fit")
            found = self._merge(rows, old, len(X), found)
        self._keep(rows + len(X), found)
        return self

    def transform(self, X: Array, *, out: FloatArray | None = None) -> FloatArray:
        """The scaled rows: a new float32 array, or `out`, which may be X itself where X is float32.

        NaN passes through. Raises RuntimeError before `fit`; TypeError and ValueError as `fit` for X, for
        another number of columns, and for an `out` of another shape or dtype or that shares part of its
        memory with X.
        """
        return self._apply(X, out, inverse=False)

    def inverse_transform(self, X: Array, *, out: FloatArray | None = None) -> FloatArray:
        """What `transform` made these rows of, up to rounding of float32; errors as there."""
        return self._apply(X, out, inverse=True)

    def state_dict(self) -> dict[str, Array]:
        """What was learned: name -> array, copies. Empty before `fit`."""
        if self._learned is None:
            return {}
        count = {"n_samples_seen": np.array(self.n_samples_seen_)}
        return {**count, **{name: array.copy() for name, array in self._learned.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a `state_dict` of a scaler of this kind; ValueError when it is none, changing nothing."""
        where = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state, Mapping):
            raise TypeError(f"{where}: expected a mapping of names to arrays, got {type(state).__name__}")
        expected = {"n_samples_seen", *self._names}
        if state.keys() != expected:
            raise ValueError(f"{where}: names must be {sorted(expected)}, got {sorted(state)}")
        learned = {}
        for name in self._names:
            try:
                learned[name] = np.array(state[name], np.float64)
            except (TypeError, ValueError):
                raise TypeError(f"{where}: {name!r} must hold numbers, got {state[name]!r}") from None
            if not np.isfinite(learned[name]).all():
                raise ValueError(f"{where}: {name!r} has NaN or infinities")
        columns = learned[self._names[0]].shape
        for name, array in learned.items():
            wanted = columns * 2 if name in self._matrices else columns
            if len(columns) != 1 or array.shape != wanted:
                raise ValueError(f"{where}: {name!r} has shape {array.shape}, must be {wanted}")
        count = np.asarray(state["n_samples_seen"])
        rows: Any = count.item() if count.size == 1 else count
        self._keep(check_int(rows, f"{where}: n_samples_seen", 1), learned)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self._arguments().items())
        return f"{type(self).__name__}({arguments})"

    # ---- what a subclass gives

    _matrices: ClassVar[tuple[str, ...]] = ()  # which of the learned arrays are (columns, columns)

    @abstractmethod
    def _arguments(self) -> dict[str, Any]:
        """The constructor's arguments."""

    @abstractmethod
    def _learn(self, X: Array) -> State:
        """The learned arrays of these rows alone."""

    @abstractmethod
    def _merge(self, rows: int, old: State, new_rows: int, new: State) -> State:
        """Those of both together."""

    @abstractmethod
    def _prepare(self) -> None:
        """Make from what was learned what `transform` needs."""

    @abstractmethod
    def _scaled(self, X: Array, out: FloatArray | None, inverse: bool) -> FloatArray: ...

    # ---- shared

    @property
    def n_features_in_(self) -> int:
        """The number of columns."""
        self._require_fit("n_features_in_")
        return self._columns

    @property
    def _columns(self) -> int:
        assert self._learned is not None
        return len(self._learned[self._names[0]])

    def _measure(self, X: Array, method: str) -> tuple[Array, State]:
        where = f"{type(self).__name__}.{method}"
        X = samples(X, f"{where}: X")
        if X.size == 0:
            raise ValueError(f"{where}: X must have at least one row and one column, got shape {X.shape}")
        with np.errstate(over="ignore", invalid="ignore"):
            found = self._learn(X)
        for name, array in found.items():
            wrong = ~(np.abs(array) <= (len(X) * _WIDEST**2 if name == "squares" else _WIDEST))
            if wrong.any():
                _refuse_values(X, int(np.atleast_2d(wrong).any(axis=0).argmax()), where)
        return X, found

    def _keep(self, rows: int, learned: State) -> None:
        self.n_samples_seen_, self._learned = rows, learned
        self._prepare()

    def _require_fit(self, method: str) -> None:
        if self._learned is None:
            name = type(self).__name__
            raise RuntimeError(f"{name}.{method}: nothing was learned yet; call {name}.fit first")

    def _refuse_columns(self, X: Array, method: str) -> None:
        raise ValueError(
            f"{type(self).__name__}.{method}: X must have {self._columns} columns as in fit, got {X.shape}"
        )

    def _apply(self, X: Array, out: FloatArray | None, *, inverse: bool) -> FloatArray:
        method = "inverse_transform" if inverse else "transform"
        self._require_fit(method)
        X = samples(X, f"{type(self).__name__}.{method}: X")
        if X.shape[1] != self._columns:
            self._refuse_columns(X, method)
        if out is not None:
            check_out(out, X, f"{type(self).__name__}.{method}: out")
        return self._scaled(X, out, inverse)


def _refuse_values(X: Array, column: int, where: str) -> None:
    """Say what keeps a column from being measured."""
    wrong = np.flatnonzero(~np.isfinite(X[:, column]))
    if wrong.size:
        value, row = X[wrong[0], column], int(wrong[0])
        raise ValueError(
            f"{where}: X[{row}, {column}] is {value}; leave such rows out, or fill them, before fitting"
        )
    raise ValueError(
        f"{where}: column {column} of X has values too large to be scaled in float32; divide it by a constant"
    )


class ColumnScaler(Scaler):
    """A scaler that treats each column alone, as (x - shift) * scale + offset."""

    _there: tuple[Float64, Float64, Float64]  # shift, scale and offset of transform
    _back: tuple[Float64, Float64, Float64]

    def affine(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(shift, scale, offset) in float32, y = (x - shift) * scale + offset: what `nn.Standardize` holds.

        What rounding takes from the shift is in the offset, so that a mean far from zero stays exact.
        """
        self._require_fit("affine")
        shift, scale, offset = self._there
        rounded = shift.astype(np.float32)
        rest = offset - (shift - rounded) * scale
        return rounded, scale.astype(np.float32), rest.astype(np.float32)

    def _scaled(self, X: Array, out: FloatArray | None, inverse: bool) -> FloatArray:
        shift, scale, offset = self._back if inverse else self._there
        return scale_columns(X, shift, scale.astype(np.float32), offset.astype(np.float32), out=out)


def merged_mean(rows: int, old: State, new_rows: int, new: State) -> tuple[Float64, Float64]:
    """The mean of both, and the gap between theirs."""
    gap = new["mean"] - old["mean"]
    return old["mean"] + gap * (new_rows / (rows + new_rows)), gap
