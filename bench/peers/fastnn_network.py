"""The networks of the benchmark as fastnn builds them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from fastnn import nn

from cases.case import Array


def network(widths: Sequence[int], *, batch_norm: bool, seed: int) -> nn.Sequential:
    """Linear, batch-norm (or a bias) and ReLU for every hidden layer; Linear with a bias."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths[:-1]):
        layers.append(nn.Linear(fan_in, fan_out, bias=not batch_norm))
        layers += [nn.BatchNorm1d(fan_out), nn.ReLU()] if batch_norm else [nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]), seed=seed)


def weights(model: nn.Sequential) -> list[Array]:
    """The memory of the Linear weights, in order."""
    return [p.data for p in model.parameters() if p.data.ndim == 2]
