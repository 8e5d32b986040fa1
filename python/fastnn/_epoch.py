"""An epoch in progress: how its rows are cut into batches, how many are done, what they add up to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn._scores import Scores


class Epoch:
    """What `Trainer.fit` knows of the epoch that it is in, and of one that it was stopped in."""

    def __init__(
        self, plan: Mapping[str, int], metrics: Iterable[str], scores: Scores | None, first: int
    ) -> None:
        self.plan = dict(plan)
        self.first = first  # the updates done when it began
        self.steps = 0
        self.rows = 0
        self.lr = 0.0
        self.seconds = 0.0
        self.total = 0.0  # what the means divide by
        self.sums = dict.fromkeys(("loss", *metrics), 0.0)
        self.scores = scores

    @staticmethod
    def plan_of(rows: int, batch_size: int, shuffle: bool, drop_last: bool) -> dict[str, int]:
        """What must be the same for an epoch to be finished by another fit."""
        return {
            "rows": rows,
            "batch_size": int(batch_size),
            "shuffle": bool(shuffle),
            "drop_last": bool(drop_last),
        }

    def take(self, steps: int, rows: int, lr: float, sums: npt.NDArray[np.float64]) -> None:
        """Count these steps, the last of which had this rate; sums: of all steps so far, the total weight and
        that of weight * loss."""
        self.steps += steps
        self.rows += rows
        self.lr = lr
        self.total, self.sums["loss"] = sums.tolist()

    def logs(self) -> dict[str, float]:
        """What the history keeps of the epoch."""
        means = {name: value / self.total for name, value in self.sums.items()}
        if self.scores is not None:
            means = {"loss": means.pop("loss"), **self.scores.result(), **means}
        speed = self.rows / self.seconds
        return {"lr": self.lr, **means, "seconds": self.seconds, "samples_per_second": speed}

    def state_dict(self) -> dict[str, Any]:
        scores = None if self.scores is None else self.scores.state_dict()
        return {**vars(self), "scores": scores}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], scores: Scores | None) -> Epoch:
        """The epoch of a `state_dict()`; `scores` are new ones of the same loss."""
        epoch = cls(state["plan"], (), scores, 0)
        own = vars(epoch).keys()
        if state.keys() != own or (scores is None) != (state["scores"] is None):
            raise ValueError(f"a begun epoch has {sorted(own)}, got {sorted(state)}")
        if scores is not None:
            scores.load_state_dict(state["scores"])
        vars(epoch).update({**state, "scores": scores})
        return epoch
