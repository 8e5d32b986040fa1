"""The same values in every memory layout a caller may bring."""

import tempfile

import numpy as np


def around(dtype):
    """What lies between the values of a view: nothing may read it."""
    return np.iinfo(dtype).max if dtype.kind in "iu" else True if dtype.kind == "b" else np.nan


def c_order(x):
    return np.array(x, order="C")


def fortran(x):
    return np.array(x, order="F")


def transposed(x):
    """A transposed view of a C-ordered array (for two dimensions the strides of `fortran`, another owner)."""
    return np.ascontiguousarray(x.T).T


def step2(x):
    """Every second element along each axis of a larger array."""
    big = np.full([2 * n for n in x.shape], around(x.dtype), x.dtype)
    view = big[tuple(slice(None, None, 2) for _ in x.shape)]
    view[...] = x
    return view


def reversed_rows(x):
    """Negative stride along the first axis."""
    return np.ascontiguousarray(x[::-1])[::-1]


def reversed_columns(x):
    """Negative stride along the last axis."""
    return np.ascontiguousarray(x[..., ::-1])[..., ::-1]


def reversed_all(x):
    """Negative strides along every axis."""
    back = tuple(slice(None, None, -1) for _ in x.shape)
    return np.ascontiguousarray(x[back])[back]


def broadcast_rows(x):
    """Stride 0 along the first axis: every row is the first one, so read the values from the view."""
    return np.broadcast_to(np.array(x[:1]), x.shape) if x.shape[0] else np.array(x)


def broadcast_columns(x):
    """Stride 0 along the last axis: every column is the first one, so read the values from the view."""
    return np.broadcast_to(np.array(x[..., :1]), x.shape) if x.shape[-1] else np.array(x)


def beginning(x, past, border=64):
    """C order, so many bytes past a multiple of the border."""
    raw = np.zeros(x.nbytes + border + past, np.uint8)
    start = -raw.ctypes.data % border + past
    view = raw[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def misaligned(x):
    """C order, but each address is one more than a multiple of the element's size."""
    return beginning(x, 1)


def off_by_one_element(x):
    """C order, one element after a cache line: aligned for a float, for no register."""
    return beginning(x, x.itemsize)


def cache_aligned(x):
    """C order, starting at a cache line."""
    return beginning(x, 0)


def padded(x):
    """Contiguous along the last axis, NaN between the rows."""
    big = np.full((*x.shape[:-1], x.shape[-1] + 5), around(x.dtype), x.dtype)
    view = big[..., : x.shape[-1]]
    view[...] = x
    return view


def read_only(x):
    copy = np.array(x)
    copy.flags.writeable = False
    return copy


def memmap(x):
    """A file mapped read-only; the file has no name any more, the mapping keeps it."""
    if x.size == 0:
        return read_only(x)
    with tempfile.NamedTemporaryFile() as file:
        file.write(np.ascontiguousarray(x).tobytes())
        file.flush()
        return np.memmap(file.name, x.dtype, "r", shape=x.shape)


LAYOUTS = {
    f.__name__: f
    for f in (
        *(c_order, fortran, transposed, step2, reversed_rows, reversed_columns, reversed_all),
        *(broadcast_rows, broadcast_columns, misaligned, off_by_one_element, cache_aligned, padded),
        *(read_only, memmap),
    )
}

# Layouts that change no value, so their results can be compared bit for bit with those of C order.
SAME_VALUES = {name: f for name, f in LAYOUTS.items() if not name.startswith("broadcast")}

# Layouts that an output may have: writable, rows contiguous.
OUTPUTS = {f.__name__: f for f in (c_order, off_by_one_element, cache_aligned, padded)}
