"""Batch normalization step by step, as textbooks teach it: every intermediate result by its name."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn._arrays import Array, as_array, check_number


def batch_norm_steps(
    x: Array, gamma: Array, beta: Array, dy: Array | None = None, *, eps: float = 1e-5
) -> dict[str, Array]:
    """Batch normalization in nine steps forward and, with `dy`, nine steps backward: all results by name.

    For teaching and checking: plain NumPy, in the dtype of `x`, one array after the other. `batch_norm` and
    `batch_norm_backward` compute the same in a pass or two; they agree to rounding.

    Forward, with m rows (sums and means over all axes but the last; the names are those of the classic
    derivation along the computational graph, in which `carre` is the square and `va2` the normalized x):

    1. ``mu = sum(x) / m``
    2. ``xmu = x - mu``
    3. ``carre = xmu**2``
    4. ``var = sum(carre) / m``, the biased variance
    5. ``sqrtvar = sqrt(var + eps)``: epsilon stands inside the root
    6. ``invvar = 1 / sqrtvar``
    7. ``va2 = xmu * invvar``
    8. ``va3 = gamma * va2``
    9. ``out = va3 + beta``

    Backward, each step undoing the one of that number, from ``dout = dy``:

    9. ``dva3 = dout``, ``dbeta = sum(dout)``
    8. ``dva2 = gamma * dva3``, ``dgamma = sum(va2 * dva3)``
    7. ``dxmu1 = invvar * dva2``, ``dinvvar = sum(xmu * dva2)``
    6. ``dsqrtvar = -dinvvar / sqrtvar**2``
    5. ``dvar = dsqrtvar / (2 * sqrt(var + eps))``
    4. ``dcarre = dvar / m`` for every row
    3. ``dxmu2 = 2 * xmu * dcarre``
    2. ``dx1 = dxmu1 + dxmu2``, ``dmu = -sum(dx1)``
    1. ``dx = dx1 + dmu / m``

    Shapes: ``x, dy`` (..., c), ``gamma, beta`` (c,); all float32 or all float64. Results have the shape of x
    or (c,).

    Unlike `batch_norm` it takes a single row: ``out`` is then beta, and dx is 0. PyTorch has nothing like it.

    Raises TypeError for other dtypes and kinds, ValueError for shapes that do not fit and for no rows.

    >>> import numpy as np
    >>> from fastnn import ops
    >>> x = np.array([[1.0], [3.0]])
    >>> steps = ops.batch_norm_steps(x, np.ones(1), np.zeros(1), dy=np.array([[1.0], [0.0]]), eps=0.0)
    >>> list(steps)[:9]
    ['mu', 'xmu', 'carre', 'var', 'sqrtvar', 'invvar', 'va2', 'va3', 'out']
    >>> steps["mu"].tolist(), steps["var"].tolist(), steps["out"].tolist()
    ([2.0], [1.0], [[-1.0], [1.0]])
    >>> steps["dgamma"].tolist(), steps["dx"].tolist()
    ([-1.0], [[0.0], [0.0]])
    """
    x = _real(x, "x", None)
    if x.ndim < 2 or x.size == 0:
        raise ValueError(f"batch_norm_steps: x must have shape (..., c) and at least one row, got {x.shape}")
    gamma, beta = _real(gamma, "gamma", x.dtype), _real(beta, "beta", x.dtype)
    for name, array in (("gamma", gamma), ("beta", beta)):
        if array.shape != x.shape[-1:]:
            raise ValueError(f"batch_norm_steps: {name} must have shape {x.shape[-1:]}, got {array.shape}")
    axes = tuple(range(x.ndim - 1))
    m = x.dtype.type(x.size // x.shape[-1])
    two = x.dtype.type(2)
    epsilon = x.dtype.type(check_number(eps, "batch_norm_steps: eps", 0))

    mu = x.sum(axes) / m
    xmu = x - mu
    carre = xmu * xmu
    var = carre.sum(axes) / m
    sqrtvar = np.sqrt(var + epsilon)
    invvar = 1 / sqrtvar
    va2 = xmu * invvar
    va3 = gamma * va2
    out = va3 + beta
    steps: dict[str, Array] = {
        "mu": mu,
        "xmu": xmu,
        "carre": carre,
        "var": var,
        "sqrtvar": sqrtvar,
        "invvar": invvar,
        "va2": va2,
        "va3": va3,
        "out": out,
    }
    if dy is None:
        return steps

    dva3 = _real(dy, "dy", x.dtype).copy()
    if dva3.shape != x.shape:
        raise ValueError(f"batch_norm_steps: dy must have the shape of x, {x.shape}, got {dva3.shape}")
    dbeta = dva3.sum(axes)
    dva2 = gamma * dva3
    dgamma = (va2 * dva3).sum(axes)
    dxmu1 = invvar * dva2
    dinvvar = (xmu * dva2).sum(axes)
    dsqrtvar = -dinvvar / (sqrtvar * sqrtvar)
    dvar = dsqrtvar / (two * np.sqrt(var + epsilon))
    dcarre = np.broadcast_to(dvar / m, x.shape).copy()
    dxmu2 = two * xmu * dcarre
    dx1 = dxmu1 + dxmu2
    dmu = -dx1.sum(axes)
    dx = dx1 + dmu / m
    return {
        **steps,
        "dva3": dva3,
        "dbeta": dbeta,
        "dva2": dva2,
        "dgamma": dgamma,
        "dxmu1": dxmu1,
        "dinvvar": dinvvar,
        "dsqrtvar": dsqrtvar,
        "dvar": dvar,
        "dcarre": dcarre,
        "dxmu2": dxmu2,
        "dx1": dx1,
        "dmu": dmu,
        "dx": dx,
    }


def _real(value: Any, name: str, dtype: Any) -> Array:
    """`value` as an array of float32 or float64, of `dtype` where that is given; nothing is converted."""
    array = as_array(value, f"batch_norm_steps: {name}")
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(
            f"batch_norm_steps: {name} is a masked array and its mask would be lost; pass .filled(value)"
        )
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"batch_norm_steps: {name} must be float32 or float64, got dtype {array.dtype}; "
            "pass .astype(np.float64)"
        )
    if dtype is not None and array.dtype != dtype:
        raise TypeError(f"batch_norm_steps: {name} must have the dtype of x, {dtype}, got {array.dtype}")
    return array
