"""Optimizers: they update parameters in place, one native call per step.

`lr` is a number or a schedule: any function of the number of updates done so far (`fastnn.schedulers`); so
are `momentum` and the first of Adam's `betas`. Updates read the gradients that `backward` left in
`Parameter.grad`; nothing has to be zeroed. Clipping, decay, gradient noise and the search for gradients that
are not finite are options of every optimizer (`Optimizer` lists them).

>>> import numpy as np
>>> from fastnn import nn, optim
>>> model = nn.Sequential(nn.Linear(2, 1), seed=0)
>>> opt = optim.Adam(model.parameters(), lr=lambda t: 0.1 / (1 + t))
>>> model.backward(np.ones_like(model(np.ones((4, 2), np.float32)))).shape
(4, 2)
>>> opt.step()
>>> opt.step_count, opt.lr
(1, 0.05)
"""

from __future__ import annotations

from fastnn._clip import AdaptiveClip, Clip, ClipByGlobalNorm, ClipByNorm, ClipByValue
from fastnn._non_finite import NonFiniteGradientError
from fastnn._optimizer import Optimizer
from fastnn.optim.adam import Adam, AdamW
from fastnn.optim.descent import SGD, Momentum, Rprop
from fastnn.optim.squares import AdaGrad, RMSProp

__all__ = [
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "AdaptiveClip",
    "Clip",
    "ClipByGlobalNorm",
    "ClipByNorm",
    "ClipByValue",
    "Momentum",
    "NonFiniteGradientError",
    "Optimizer",
    "RMSProp",
    "Rprop",
]
