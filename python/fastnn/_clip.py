"""Clipping: what bounds a gradient before an optimizer uses it. Public in `fastnn.optim`.

A clip is a description; the update pass applies it. All of it happens before gradient noise and decay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fastnn._arrays import check_number


@dataclass(frozen=True)
class Clip:
    """Base of the clips: a limit above 0."""

    kind: ClassVar[str] = "none"  # the kernel's word

    @property
    def limit(self) -> float:
        return 0.0

    @property
    def floor(self) -> float:
        return 0.0

    def _positive(self, *names: str) -> None:
        for name in names:
            what = f"{type(self).__name__}: {name}"
            if check_number(getattr(self, name), what, 0) == 0:
                raise ValueError(f"{what} must be above 0, got 0")


@dataclass(frozen=True)
class ClipByValue(Clip):
    """Each number of a gradient is brought into [-max_value, max_value].

    As `torch.nn.utils.clip_grad_value_` and Keras's `clipvalue`. It changes the direction of the gradient.

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> p = nn.Parameter(np.zeros(3))
    >>> p.grad = np.array([0.5, -3.0, 2.0])
    >>> optim.SGD([p], lr=1.0, clip=optim.ClipByValue(1.0)).step()
    >>> p.data.tolist()
    [-0.5, 1.0, -1.0]
    """

    max_value: float
    kind = "value"

    def __post_init__(self) -> None:
        self._positive("max_value")

    @property
    def limit(self) -> float:
        return self.max_value


@dataclass(frozen=True)
class ClipByNorm(Clip):
    """Each parameter's gradient g is multiplied by max_norm / |g| where its norm |g| is larger.

    The norm is Euclidean, of each array by itself: Keras's `clipnorm`, PaddlePaddle's `ClipGradByNorm`.

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> p = nn.Parameter(np.zeros(2))
    >>> p.grad = np.array([3.0, 4.0])
    >>> optim.SGD([p], lr=1.0, clip=optim.ClipByNorm(1.0)).step()
    >>> p.data.astype(float).round(6).tolist()
    [-0.6, -0.8]
    """

    max_norm: float
    kind = "norm"

    def __post_init__(self) -> None:
        self._positive("max_norm")

    @property
    def limit(self) -> float:
        return self.max_norm


@dataclass(frozen=True)
class ClipByGlobalNorm(Clip):
    """All gradients are multiplied by max_norm / n where n, the norm of all of them together, is larger.

    n = sqrt(sum of the squares of all gradients of the optimizer's trainable parameters, all groups). A float
    given as `clip` means this. The factor is exact, as in Keras, PaddlePaddle, MindSpore and Optax; PyTorch's
    `clip_grad_norm_` multiplies by max_norm / (n + 1e-6), which leaves a norm of 0.999999 for 1. It costs
    one more read of the gradients, which also finds those that are not finite.

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> p, q = nn.Parameter(np.zeros(1)), nn.Parameter(np.zeros(1))
    >>> p.grad, q.grad = np.array([3.0]), np.array([4.0])
    >>> optim.SGD([p, q], lr=1.0, clip=1.0).step()
    >>> round(p.data.item(), 6), round(q.data.item(), 6)
    (-0.6, -0.8)
    """

    max_norm: float
    kind = "global_norm"

    def __post_init__(self) -> None:
        self._positive("max_norm")

    @property
    def limit(self) -> float:
        return self.max_norm


@dataclass(frozen=True)
class AdaptiveClip(Clip):
    """Adaptive gradient clipping (Brock et al. 2021): gradients are bounded relative to their weights.

    For each unit, the column of a weight (in, out) that makes one output, or a whole vector:
    g *= c / |g| where |g| > c = clipping * max(|w|, eps), with the norms of the unit's gradient and weights.
    As Optax's `adaptive_grad_clip`; the paper leaves out the last layer. eps keeps weights of 0 movable.

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> w = nn.Parameter(np.array([[3.0, 0.0], [4.0, 0.0]]))
    >>> w.grad = np.array([[1.0, 1.0], [0.0, 0.0]])
    >>> optim.SGD([w], lr=1.0, clip=optim.AdaptiveClip(0.1)).step()
    >>> w.data.astype(float).round(6).tolist()
    [[2.5, -0.0001], [4.0, 0.0]]
    """

    clipping: float = 0.01
    eps: float = 1e-3
    kind = "adaptive"

    def __post_init__(self) -> None:
        self._positive("clipping", "eps")

    @property
    def limit(self) -> float:
        return self.clipping

    @property
    def floor(self) -> float:
        return self.eps


def as_clip(clip: float | Clip | None, where: str) -> Clip:
    """The clip that an optimizer's `clip` stands for."""
    if clip is None:
        return Clip()
    if isinstance(clip, Clip):
        return clip
    number = isinstance(clip, (int, float, np.integer, np.floating)) and not isinstance(clip, bool)
    if not number or not 0 < clip < math.inf:
        raise (ValueError if number else TypeError)(
            f"{where}: clip must be a global norm above 0, or ClipByValue, ClipByNorm, ClipByGlobalNorm, "
            f"AdaptiveClip, got {clip!r}"
        )
    return ClipByGlobalNorm(float(clip))
