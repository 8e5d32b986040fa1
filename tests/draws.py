"""What a test draws: sizes, choices, values and memory layouts, all from one source of whole numbers."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import shapes


@dataclass
class Example:
    """`call(**arrays)` gives the results (all of float32), `want(**arrays)` a (value, bound) for each.

    `arrays` are the inputs and the outputs by name; `call` changes outputs alone. Arrays named in `quiet` may
    hold no NaN.
    """

    inputs: dict
    outputs: dict
    call: Callable
    want: Callable
    quiet: tuple = ()


class Source:
    """Sizes, choices and arrays made of one function, integer(low, high), that draws a whole number."""

    def __init__(self, integer, *, layouts=True):
        self.integer = integer
        self.layouts = layouts

    def choose(self, *options):
        return options[self.integer(0, len(options) - 1)]

    def flag(self):
        return self.choose(False, True)

    def size(self, low=0, high=70):
        """Any size, or one at which something begins or ends."""
        edges = [n for n in shapes.EDGES if low <= n <= high]
        return self.choose(*edges) if edges and self.flag() else self.integer(low, high)

    def shape(self, dims_high=3, high=20):
        return tuple(self.size(0, high) for _ in range(self.integer(0, dims_high)))

    def values(self, shape, kinds=("normal", "integer", "wide", "constant")):
        rng = np.random.default_rng(self.integer(0, 2**32 - 1))
        kind = self.choose(*kinds)
        if kind == "constant":
            return np.full(shape, rng.standard_normal(), np.float32)
        x = rng.standard_normal(shape)
        if kind == "integer":
            x = np.round(3.0 * x)
        elif kind == "wide":
            x = x * 10.0 ** rng.uniform(-6.0, 3.0, shape)
        elif kind == "positive":
            x = np.abs(x) + 1e-3
        elif kind == "share":
            x = rng.random(shape)
        elif kind == "offset":
            x = x + rng.choice([-1.0, 1.0]) * 10.0 ** rng.uniform(-2.0, 3.0)
        return np.asarray(x, np.float32)

    def input(self, shape, *kinds):
        x = self.values(shape, kinds) if kinds else self.values(shape)
        return self.placed(x) if self.layouts else x

    def output(self, shape, *kinds, padded=False):
        """Memory to write: rows contiguous, at any float of a cache line, perhaps with gaps between rows."""
        x = self.values(shape, kinds) if kinds else self.values(shape)
        if not self.layouts:
            return x
        gap = self.integer(0, 5) if padded and x.ndim > 0 else 0
        big = self.aligned(
            (*x.shape[:-1], x.shape[-1] + gap) if x.ndim else (), 4 * self.integer(0, 15), x.dtype
        )
        view = big[..., : x.shape[-1]] if x.ndim else big
        view[...] = x
        return view

    def aligned(self, shape, offset, dtype):
        """New C-ordered memory whose address is `offset` bytes after a cache line."""
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        raw = np.full(nbytes + 128, 0xFF, np.uint8)  # NaN around the array, should anything read there
        start = -raw.ctypes.data % 64 + offset
        return raw[start : start + nbytes].view(dtype).reshape(shape)

    def placed(self, x):
        """x with any order of axes, steps, directions and alignment; perhaps one axis has stride 0."""
        if x.ndim == 0:
            return x
        order = sorted(range(x.ndim), key=lambda _: self.integer(0, 9))
        steps = [self.choose(1, 1, 2, 3, -1, -2) for _ in order]
        if self.integer(0, 9) == 0:
            axis = self.integer(0, x.ndim - 1)
            first = x[tuple(slice(0, 1) if a == axis else slice(None) for a in range(x.ndim))]
            return np.broadcast_to(np.array(first), x.shape) if x.shape[axis] else x
        big = self.aligned([x.shape[a] * abs(steps[a]) for a in order], self.integer(0, 63), x.dtype)
        view = np.transpose(big, np.argsort(order))[tuple(slice(None, None, s) for s in steps)]
        view[...] = x
        view.flags.writeable = self.flag()
        return view
