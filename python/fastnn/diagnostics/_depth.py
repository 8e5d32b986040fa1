"""The law of depth: through L layers a signal grows or fades as factor**(L - 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Growth over all layers from which a network is called exploding; its inverse: vanishing.
LARGEST_GROWTH = 100.0

_MAX, _MIN = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)


class DepthLaw(NamedTuple):
    """What a signal does over the layers: `growth` = last / first = `factor`**(layers - 1)."""

    layers: int
    factor: float
    growth: float
    verdict: str  # "steady", "vanishing", "exploding", "dead" or "not finite"
    ends_at: int | None  # the layer that leaves the range of float32 at this factor

    def sentence(self, what: str) -> str:
        text = f"{what}: {self.verdict}"
        if self.verdict in ("dead", "not finite") or self.layers < 2:
            return text
        text += f", times {self.factor:.3g} a layer, {self.growth:.3g} over {self.layers} layers"
        if self.verdict != "steady" and self.ends_at is not None:
            text += f"; float32 would end at layer {self.ends_at}"
        return text


def depth_law(sizes: Sequence[float]) -> DepthLaw:
    """The law that the sizes (root mean squares) of a signal follow, from the first layer to the last."""
    sizes = [float(size) for size in sizes]
    layers = len(sizes)
    if not all(map(math.isfinite, sizes)):
        return DepthLaw(layers, math.nan, math.nan, "not finite", None)
    if 0.0 in sizes:
        return DepthLaw(layers, 0.0, 0.0, "dead", None)
    if layers < 2:
        return DepthLaw(layers, 1.0, 1.0, "steady", None)
    growth = sizes[-1] / sizes[0]
    factor = growth ** (1 / (layers - 1))
    verdict = "steady"
    if growth > LARGEST_GROWTH:
        verdict = "exploding"
    elif growth < 1 / LARGEST_GROWTH:
        verdict = "vanishing"
    return DepthLaw(layers, factor, growth, verdict, _end(sizes[0], factor))


def _end(first: float, factor: float) -> int | None:
    """The first layer whose first * factor**(layer - 1) is no normal number of float32."""
    if factor == 1:
        return None
    limit = _MAX if factor > 1 else _MIN
    return math.floor(math.log2(limit / first) / math.log2(factor)) + 2
