"""A model in evaluation mode and its loss as one native program on the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastnn._arrays import Array, FloatArray, as_array, as_rows
from fastnn._device import is_on_device, on_host
from fastnn._program import BAD_BATCH, Batches, Given, Program
from fastnn._scores import Scores
from fastnn.nn import Module
from fastnn.optim import Optimizer

Parts = tuple[Module, Any, Optimizer, str]  # of a program: a model, a loss of fastnn, what updates, precision


class Evaluation:
    """Such a program, made anew where it no longer fits, and for another thread that evaluates meanwhile."""

    def __init__(self) -> None:
        self._program: Program | None = None

    @contextmanager
    def _taken(self, parts: Parts, shape: tuple[int, ...], labels: bool) -> Iterator[Program]:
        """The program, which nobody else has until the block ends."""
        program, self._program = self._program, None
        if (
            program is None
            or (shape[1:], labels) != (program.row_shape, program.labels)
            or not program.fits(*parts)
        ):
            program = Program(*parts, shape, labels, trains=False)
        try:
            yield program
        finally:
            self._program = program

    def run(
        self,
        parts: Parts,
        where: str,
        X: Array,
        Y: Array | None,
        weight: FloatArray | None,
        batch_size: int,
        kept: Callable[[Any, Any], Any],
        *,
        scores: Scores | None = None,
        outputs: bool = True,
    ) -> tuple[float, FloatArray | None]:
        """The loss, and the predictions if `outputs`; without Y they alone count.

        `kept`: gives for an array, and what was made of it, its copy on the device that stays, or the latter.
        Rows on the device are one run, which waits once, unless each batch must give its predictions.
        """
        loss = parts[1]
        x = as_rows(X, f"{where}: X")
        takes_labels: bool = getattr(loss, "takes_labels", False)
        y = None if Y is None else as_array(Y, f"{where}: Y", on_device=True)
        labels = takes_labels if y is None else takes_labels and y.ndim == 1
        with self._taken(parts, x.shape, labels) as program:
            n, shape = len(x), (len(x), *program.pred_shape)
            target = np.zeros(n if labels else shape, np.uint8) if y is None else loss._target(y, shape)
            given = kept(X, x), target if y is None else kept(Y, target), kept(weight, weight)
            adds = None if scores is None else scores.sums(math.prod(program.pred_shape))
            pred, sums = np.empty(shape, np.float32) if outputs else None, np.zeros(2)
            part = n if is_on_device(given[0]) and pred is None else batch_size
            for i in range(0, n, max(part, 1)):
                rows = slice(i, min(i + part, n))
                bounds = np.array([*range(0, rows.stop - i, batch_size), rows.stop - i], np.int64)
                batch: list[Any] = [None if array is None else array[rows] for array in given]
                out = None if pred is None else pred[rows]
                batches = Batches(batch[0], batch[1], batch[2], None, bounds)
                run = program.run(batches, 0, len(bounds) - 1, sums, scores=adds, pred=out)
                if run.outcome == BAD_BATCH:
                    bad = slice(i + bounds.item(run.steps), i + bounds.item(run.steps + 1))
                    w = None if weight is None else weight[bad]
                    program.check(run, target[bad], w, Given(where, "Y", np.arange(n)[bad]))
        if Y is not None and n and not sums[0]:
            loss(np.zeros(shape, np.float32), on_host(target), on_host(weight))  # which says so
        if scores is not None and adds is not None:
            scores.take(adds)
        return float(sums[1] / sums[0]) if sums[0] else math.nan, pred
