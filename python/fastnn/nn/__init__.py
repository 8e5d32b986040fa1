"""Layers: each has a `forward`, a hand-written `backward`, and parameters in fixed memory.

>>> import numpy as np
>>> from fastnn import nn
>>> model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3), seed=0)
>>> y = model(np.ones((2, 4), np.float32))
>>> y.shape
(2, 3)
>>> model.backward(np.ones_like(y)).shape
(2, 4)
>>> [p.name for p in model.parameters()]
['0.weight', '1.gamma', '1.beta', '3.weight', '3.bias']
"""

from __future__ import annotations

from fastnn._parameter import Parameter
from fastnn.nn.activations import (
    ELU,
    GELU,
    SELU,
    Identity,
    LeakyReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)
from fastnn.nn.batchnorm import BatchNorm1d
from fastnn.nn.dropout import Dropout
from fastnn.nn.flatten import Flatten
from fastnn.nn.linear import Linear
from fastnn.nn.module import Module
from fastnn.nn.recalibrate import recalibrate_bn
from fastnn.nn.residual import Residual
from fastnn.nn.sequential import Sequential
from fastnn.nn.standardize import Standardize, fold_scaling

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "BatchNorm1d",
    "Dropout",
    "Flatten",
    "Identity",
    "LeakyReLU",
    "Linear",
    "Module",
    "Parameter",
    "ReLU",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Standardize",
    "Tanh",
    "fold_scaling",
    "recalibrate_bn",
]
