"""Do two implementations of the main job agree? The losses of the first steps, within 1e-5, at every step.

Rounding alone moves these losses by about 1e-6 in 50 steps; Adam with eps 1e-7 instead of 1e-8 moves them by
5e-4 to 2e-3. One thing can come between: a pre-activation that lands within rounding of zero may pass the
ReLU in one implementation and not in the other (one run of five meets such a case), and the losses part by
1e-5 to 1e-3 although both are right. So the NumPy loop is told which units the other's ReLU let through and,
where its own pre-activation is as good as zero, takes the same side, a few times at most. That hides no wrong
formula: with the planted eps the losses still part by 2e-5 and more, and 20 and more decisions differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from numpy_mlp import Array, BatchNormReLU, NumpyMLP

STEPS = 50
BOUND = 1e-5
# As good as zero. A weight whose first gradient is rounding noise (1e-8, like Adam's eps) may differ by 1e-4
# after the first step, and so may its unit's pre-activations; their spread is 1. Of the 2.5 million decisions
# of 50 steps, 0 to 3 differed over 30 seeds.
DOUBT = 2e-4
MOST_FOLLOWED = 10


class FollowingNorm(BatchNormReLU):
    """Batch-norm + ReLU that takes the side of `passed` (a mask a step) near zero."""

    def __init__(self, rows: int, c: int, passed: Sequence[Array]) -> None:
        super().__init__(rows, c)
        self.passed, self.step, self.followed = passed, 0, 0

    def relu(self, y: Array, mask: Array) -> None:
        passed = self.passed[self.step]
        differs = ((y > 0) != passed) & (np.abs(y) < DOUBT)
        y[differs] = np.where(passed[differs], np.finfo(np.float32).tiny, 0)
        self.followed += int(np.count_nonzero(differs))
        self.step += 1
        super().relu(y, mask)


@dataclass(frozen=True)
class Agreement:
    """The NumPy loop's losses, the ReLU decisions it followed, the largest difference of a loss."""

    losses: list[float]
    followed: int
    worst: float

    @property
    def agrees(self) -> bool:
        """Whether every step's losses agree (NaN never does) and no more than a few decisions differed."""
        return self.worst <= BOUND and self.followed <= MOST_FOLLOWED


def follow(
    theirs: Sequence[float],
    masks: Sequence[Sequence[Array]],
    weights: Sequence[Array],
    batches: Sequence[tuple[Array, Array]],
    rates: Sequence[float],
    *,
    eps: float = 1e-8,
) -> Agreement:
    """Trains the NumPy loop on `batches` and compares its losses with `theirs`.

    `masks[layer][step]`: True where the other's ReLU let a unit through, shaped (rows, units). `eps` is
    Adam's.
    """
    net = NumpyMLP(weights, batch=max(len(x) for x, _ in batches), eps=eps)
    norms = [
        FollowingNorm(len(norm.ones), norm.mean.size, passed)
        for norm, passed in zip(net.hidden, masks, strict=True)
    ]
    net.hidden = list(norms)
    losses = [net.step(x, y, lr) for (x, y), lr in zip(batches, rates, strict=True)]
    worst = float(np.max(np.abs(np.subtract(losses, theirs))))
    return Agreement(losses, sum(norm.followed for norm in norms), worst)
