"""What the passes over a data matrix mean, in extended precision, and how far off results may be."""

import numpy as np

LONG = np.longdouble
STAT_ROWS = 192
U32, U64 = 2.0**-24, 2.0**-53  # the largest relative error of one rounding
TINY = 2.0 ** float(np.finfo(np.float32).minexp)


def column_moments(x):
    """(mean, sum of squared differences from it) of each column."""
    x = x.astype(LONG)
    mean = x.sum(axis=0) / len(x)
    return mean, ((x - mean) ** 2).sum(axis=0)


def column_moments_bounds(x):
    """Sums of a block are taken about its first row, and moved to the first of all."""
    x = x.astype(LONG)
    firsts = np.repeat(x[::STAT_ROWS], STAT_ROWS, axis=0)[: len(x)]
    roundings = (STAT_ROWS + len(x) / STAT_ROWS + 8) * U64
    far = np.abs(x - firsts) + np.abs(firsts - x[0])
    mean = roundings * far.sum(axis=0) / len(x) + 2 * U64 * np.abs(x).max(axis=0)
    return mean, 4 * roundings * (far**2).sum(axis=0)


def scale_columns(x, shift, scale, offset):
    """(x - shift) * scale + offset."""
    shift, scale, offset = (a.astype(LONG) for a in (shift, scale, offset))
    return (x.astype(LONG) - shift) * scale + offset


def scale_columns_bound(x, shift, scale, offset):
    """The difference is rounded, then the product and sum together."""
    product = np.abs((x.astype(LONG) - shift.astype(LONG)) * scale.astype(LONG))
    y = np.abs(scale_columns(x, shift, scale, offset))
    return U32 * (product + y) * (1 + U32) + TINY
