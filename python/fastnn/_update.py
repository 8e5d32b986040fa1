"""The update of an optimizer as native code knows it, for its own steps and for those of programs."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import _device, ops
from fastnn._options import noise_numbers
from fastnn._parameter import Parameter

NUMBERS_OF_RULE = 7  # csrc/core/update_options.h
_STEPS_AHEAD = 256  # for which schedules are asked at once
_FLAGS = attrgetter("trainable", "decay")

Optimizer = Any  # optim.Optimizer, whose module imports this one


class Update:
    """The arrays and options of an optimizer, for as long as it `fits`; its numbers may change."""

    def __init__(self, optimizer: Optimizer) -> None:
        moves: int | None = None
        while moves != _device.moves:  # the slots move to a device now; their parts are made anew then
            moves = _device.moves
            self._parts, self._options, groups = _lowered(optimizer)
        self._moves = moves
        self.parameters = [parameter for part in self._parts for parameter in part.parameters]
        self._look_at(optimizer)
        self.on_device = any(_device.is_on_device(parameter.data) for parameter in self.parameters)
        self.native = ops._Update(optimizer._rule, groups, on_device=self.on_device, **self._options[0])

    @property
    def count_of_parts(self) -> int:
        return len(self._parts)

    def fits(self, optimizer: Optimizer) -> bool:
        """Whether this is still the update of the optimizer; raises for options that cannot be."""
        now = optimizer.param_groups, optimizer.clip, optimizer.nonfinite
        if (
            self._moves == _device.moves
            and now == self._then
            and list(map(_FLAGS, self._members)) == self._flags_then
        ):
            return True
        parts, options, _ = _lowered(optimizer)
        same = [id(part) for part in parts] == [id(part) for part in self._parts]
        if not same or options != self._options:
            return False
        self._moves = _device.moves
        self._look_at(optimizer)
        return True

    def _look_at(self, optimizer: Optimizer) -> None:
        """Keep what it was made from, as it is now."""
        groups = [{**group, "params": [*group["params"]]} for group in optimizer.param_groups]
        self._then = groups, optimizer.clip, optimizer.nonfinite
        self._members = [parameter for group in groups for parameter in group["params"]]
        self._flags_then = list(map(_FLAGS, self._members))
        # Numbers that are the same for every step.
        self._constant: npt.NDArray[np.float64] | None = None

    def run(self, optimizer: Optimizer) -> Parameter | None:
        """The next step; the parameter whose gradient kept it from being done."""
        place = self.parameters[0].data if self.on_device else None
        numbers = self.numbers(optimizer, 1).data
        refused = ops._run_update(self.native, numbers, optimizer.step_count + 1, place)
        return None if refused < 0 else self.parameters[refused]

    def numbers(self, optimizer: Optimizer, steps: int) -> npt.NDArray[np.float64]:
        """The numbers of each part for the next steps, or for some of them; one set where they stay the
        same."""
        if self._constant is not None:
            return self._constant
        count, constant = optimizer.step_count, optimizer._is_constant()
        rows: list[Sequence[float]] = []
        try:
            # On the device the steps of an epoch are queued in one go, so that none waits for the host.
            ahead = steps if self.on_device else min(steps, _STEPS_AHEAD)
            for i in range(1 if constant else ahead):
                optimizer.step_count = count + i
                rows += [
                    (*numbers, *(0.0,) * (NUMBERS_OF_RULE - len(numbers)), *others)
                    for numbers, others in optimizer._numbers_now()
                ]
        except (TypeError, ValueError):
            if not rows:  # the next step cannot be; else those before it come first
                raise
        finally:
            optimizer.step_count = count
        found = np.array(rows, np.float64).reshape(-1, NUMBERS_OF_RULE + 3)
        self._constant = found if constant else None
        return found


def _lowered(
    optimizer: Optimizer,
) -> tuple[list[Any], tuple[dict[str, Any], list[int]], list[tuple[Any, ...]]]:
    """The optimizer's parts, what else must stay, and the groups of the native update."""
    clip = optimizer._clip
    now = [
        (part, (*part.arrays, part.places, noise_numbers(group, 0)[1]))
        for group, parts in optimizer._parts_now()
        for part in parts
    ]
    groups = [group for _, group in now]
    options = {
        "clip": clip.kind,
        "limit": clip.limit,
        "floor": clip.floor,
        "refuse": optimizer.nonfinite != "ignore",
    }
    return [part for part, _ in now], (options, [group[-1] for group in groups]), groups
