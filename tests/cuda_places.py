"""Where the arrays of a kernel lie: what decides how many elements a thread reads at once."""

import numpy as np
from guard import guarded

OTHERS = 77  # around what `laid` placed


def laid(where, name, x):
    """A copy at a forbidden page. Or where `where` says (gap, off) of it, or {} nothing: rows `gap` numbers
    longer than x's, the first of them `off` numbers past a multiple of 16 bytes, among others."""
    if where is None:
        return guarded(x)
    gap, off = where.get(name, (0, 0))
    rows, cols = np.atleast_2d(x).shape
    memory = guarded(np.full(off + rows * (cols + gap) + 3, OTHERS, x.dtype), at_end=False)
    view = memory[off : off + rows * (cols + gap)].reshape(rows, cols + gap)[:, :cols]
    view[...] = x
    return view.reshape(x.shape) if x.ndim == 1 else view


def stride(x):
    """From a row to the next, in numbers."""
    return x.strides[0] // x.itemsize


def assert_alone(where, y):
    """Nothing around y, which is not needed any more, was written."""
    if where is not None:
        y[...] = OTHERS
        assert (y.base == OTHERS).all()


def in_packs(shapes, arrays, of_rows=()):
    """(rows, cols, where) for `laid`: what is read four elements at a time, as all begin at multiples of 16
    bytes, and what is not, as one of the arrays begins elsewhere, or each row of one of `of_rows`."""
    places = [{}, dict.fromkeys(of_rows, (4, 0))]
    places += [{array: (0, off)} for array in arrays for off in (1, 2)]
    places += [{array: (gap, 0)} for array in of_rows for gap in (1, 2)]
    return [(*shape, where) for shape in shapes for where in places]
