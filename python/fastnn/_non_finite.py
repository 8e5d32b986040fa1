"""The error of a step that would have spread NaN or an infinity."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import _device
from fastnn._parameter import Parameter


class NonFiniteGradientError(ValueError):
    """A gradient held NaN or an infinity; nothing was updated.

    `parameter` is its name, `index` the place of the first such number in it, () where it is not known.
    PyTorch's optimizers look for nothing; `clip_grad_norm_(error_if_nonfinite=True)` raises without a place.

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> p = nn.Parameter(np.zeros(3), name="w")
    >>> p.grad = np.array([1, np.inf, np.nan])
    >>> try:
    ...     optim.SGD([p], lr=0.1).step()
    ... except optim.NonFiniteGradientError as error:
    ...     print(error.parameter, error.index, p.data)
    w (1,) [0. 0. 0.]
    """

    def __init__(self, message: str, parameter: str, index: tuple[int, ...]) -> None:
        super().__init__(message)
        self.parameter = parameter
        self.index = index

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.parameter, self.index)


def non_finite_gradient(optimizer: str, parameter: Parameter, updates: int) -> NonFiniteGradientError:
    """The error about a parameter whose gradient is not finite."""
    gradient = _device.on_host(parameter.grad)
    # None where rows on a device have changed since: the gradient is that of others.
    places = np.argwhere(~np.isfinite(gradient))
    index = tuple(map(int, places[0])) if len(places) else ()
    what = f"{gradient[index]} at {index}" if len(places) else "not finite"
    return NonFiniteGradientError(
        f"{optimizer}: the gradient of {parameter.name!r} is {what} after "
        f'{updates} updates; nothing was updated. Lower lr, look at this batch, or pass nonfinite="skip"',
        parameter.name,
        index,
    )
