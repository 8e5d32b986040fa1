"""A model, a loss and an optimizer as one native program, which runs whole steps in one call.

The kernels are those of `ops` with the same arguments, so a step of a program and a plain loop give the same
bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastnn import _core, _device, cuda
from fastnn._arrays import Array, FloatArray, check_ids, check_weights
from fastnn._lowering import Lowering, has_chains
from fastnn._precision import check_on_host
from fastnn._queue import Queue, QueuedLoss
from fastnn._update import NUMBERS_OF_RULE
from fastnn.nn import Module
from fastnn.optim import Optimizer

BAD_BATCH, REFUSED = 1, 2  # outcomes of `_core.run_steps`


def _check_on_device(model: Module) -> None:
    """Refuse what the device does not have yet."""
    arrays = [array for module in model.modules() for array in module._state().values()]
    if not all(map(_device.is_on_device, arrays)):
        raise cuda.CudaError('Trainer: part of the model is on the CPU; call model.to("cuda")')


class Batches(NamedTuple):
    """A data set and how its rows are cut into batches: batch i is `order[bounds[i]:bounds[i + 1]]`."""

    x: Array
    target: Array
    weight: FloatArray | None
    order: npt.NDArray[np.int64] | None
    bounds: npt.NDArray[np.int64]


class Given(NamedTuple):
    """A batch as its caller knows it, for errors."""

    where: str = "Trainer.step"
    target: str = "y"
    rows: npt.NDArray[np.int64] | None = None  # the numbers of its rows in a data set


_STEP = Given()


class Run(NamedTuple):
    """What some steps gave."""

    steps: int  # done
    outcome: int
    refused: int  # the number of the parameter whose gradient was
    value: float  # loss of the last step
    lr: float  # of the last step


class Program:
    """A model, a loss and an optimizer as one native program, for batches whose rows have one shape.

    Where the parameters are on the device it runs there. `trains=False`: forward and loss alone, for a model
    in evaluation mode on the device.
    """

    def __init__(
        self,
        model: Module,
        loss: Any,
        optimizer: Optimizer,
        precision: str,
        batch_shape: tuple[int, ...],
        labels: bool,
        trains: bool = True,
    ) -> None:
        if trains and getattr(optimizer.step, "__func__", None) is not Optimizer.step:
            raise TypeError(
                f"Trainer: the optimizer {type(optimizer).__name__} has a `step` of its own, which a native "
                "step never calls; train with the plain loop: value, dpred = loss(model(x), y); "
                "model.backward(dpred); optimizer.step()"
            )
        self.on_device = _device.holds(model)
        if self.on_device:
            _check_on_device(model)
        else:
            check_on_host(precision)
        chains = not self.on_device and has_chains(model, True)
        lowering = Lowering(batch_shape, labels, precision, chains)
        lowering.seen.append(vars(loss))
        pred, backward = lowering.layer(model, lowering.input)
        dpred = lowering.value(pred.shape)
        loss._lower(lowering, pred, dpred)
        place = len(lowering.ops) - 1
        if trains:
            backward(dpred, False)
        self.pred_shape = pred.shape
        self.row_shape = batch_shape[1:]
        self.labels = labels
        self._model = model
        self._loss = loss
        self._optimizer = optimizer
        self._precision = precision
        self._dropouts = lowering.dropouts
        self._masks = self._masks_now()
        # Lists of dicts, compared in one go: this is done before every step.
        self._seen = lowering.seen
        self._seen_then = [dict(attributes) for attributes in lowering.seen]
        self._update = optimizer._native() if trains else None
        self._moves = _device.moves
        self.ops = lowering.all_ops()
        place += len(self.ops) - len(lowering.ops)
        kernels = cuda.kernels() if self.on_device else None
        self.native = _core.Program(
            lowering.buffers,
            self.ops,
            chains,
            place,
            None if self._update is None else self._update.native,
            kernels,
            precision == "tf32",
        )
        self._result = np.zeros(4)
        self.queue = Queue()
        self.least_rows: int = self.native.least_rows()  # of a batch

    def fits(self, model: Module, loss: Any, optimizer: Optimizer, precision: str) -> bool:
        """Whether this is still the program of these, as they are now."""
        try:
            return (
                model is self._model
                and loss is self._loss
                and optimizer is self._optimizer
                and precision == self._precision
                and self._moves == _device.moves
                and self._seen == self._seen_then
                and self._masks == self._masks_now()
                and (
                    self._update is None
                    or ("step" not in vars(optimizer) and self._update is optimizer._native())
                )
            )
        except ValueError:  # an array was replaced by another, and arrays do not compare to one truth value
            return False

    def _masks_now(self) -> list[tuple[Any, ...]]:
        return [(layer.p, layer.seed, layer.training) for layer in self._dropouts]

    def arena_bytes(self, batch_size: int) -> int:
        """Bytes of the one piece of memory that a step works in."""
        return self.native.arena_bytes(batch_size)

    def step(self, x: Array, target: Array, weight: FloatArray | None) -> float | QueuedLoss | Run:
        """Train on one batch; returns its loss, or the run where it was not done. A device queues it."""
        if self.on_device:
            if self._optimizer.nonfinite != "skip":
                return self.queue.add(self, x, target, weight)
            # Steps queued behind one that is skipped would do nothing.
            run = self.run(Batches(x, target, weight, None, np.array([0, len(x)])), 0, 1, np.zeros(2))
            self.check(run, target, weight)
            return QueuedLoss(run.value)
        # After the step nothing may fail, so what is counted is made before, the iterator too.
        optimizer, number = self._optimizer, self._optimizer.step_count + 1
        numbers, forwards = self._numbers(1), [layer.forwards for layer in self._dropouts]
        counted = iter([(layer, layer.forwards + layer.training) for layer in self._dropouts])
        value = _core.run_step(self.native, x, target, weight, numbers, number, forwards, self._result)
        if value is None:
            return self._counted(self._result, numbers, number - 1, forwards, False)
        optimizer.step_count = number
        for layer, count in counted:
            layer.forwards = count
        return value

    def queue_step(self, x: Array, target: Array, weight: FloatArray | None, stream: int) -> bool:
        """Queue a step and count it as done; False where those before it must be waited for first."""
        optimizer, forwards = self._optimizer, [layer.forwards for layer in self._dropouts]
        number = optimizer.step_count + 1
        queued = _core.queue_step_on_device(
            self.native,
            x,
            target,
            sample_weight=weight,
            numbers=self._numbers(1),
            number=number,
            forwards=forwards,
            stream=stream,
        )
        if queued:
            optimizer.step_count = number
            self._count_forwards(1)
        return queued

    def changes(self, owner: object) -> bool:
        """Whether its steps change this module or optimizer."""
        if not isinstance(owner, Module):
            return owner is self._optimizer
        return not {*map(id, self._model.modules())}.isdisjoint(map(id, owner.modules()))

    def undone(
        self, result: npt.NDArray[np.float64], queued: int, target: Array, weight: FloatArray | None
    ) -> None:
        """Take back what was counted for steps that were queued and not done, and raise why."""
        done, outcome, refused = map(int, result[:3])
        self._optimizer.step_count -= queued - done
        self._count_forwards(done - queued + (outcome == REFUSED))
        self.check(Run(done, outcome, refused, math.nan, 0.0), target, weight)

    def _count_forwards(self, steps: int) -> None:
        for layer in self._dropouts:
            layer.forwards += steps * layer.training

    def check(self, run: Run, target: Array, weight: FloatArray | None, given: Given = _STEP) -> None:
        """Raise what kept the program from this batch, or from its update."""
        if run.outcome == REFUSED:
            assert self._update is not None
            self._optimizer._refuse(self._update.parameters[run.refused])
        elif run.outcome == BAD_BATCH:
            ignored = self._loss.ignore_index if self.labels else None
            if self.labels:
                what = f"{given.where}: {given.target}"
                check_ids(_device.on_host(target), what, self.pred_shape[0], ignored, given.rows)
            if weight is not None:
                check_weights(_device.on_host(weight), f"{given.where}: sample_weight", given.rows)
            why = [] if ignored is None else [f"{given.target} is {ignored} (ignore_index)"]
            why += [] if weight is None else ["sample_weight is 0"]
            batch = "the batch" if given.rows is None else f"the batch of rows {given.rows}"
            raise ValueError(f"{given.where}: no row of {batch} counts: in each {' or '.join(why)}")

    def run(
        self,
        batches: Batches,
        first: int,
        last: int,
        sums: npt.NDArray[np.float64],
        *,
        seconds: float | None = None,
        scores: npt.NDArray[np.float64] | None = None,
        pred: FloatArray | None = None,
        keep_refused: bool = False,
    ) -> Run:
        """Train on the batches from `first` to `last` - 1, for `seconds` or as far as it goes.

        Adds (weight, weight * loss) of each step to `sums`, and to `scores` what the metrics are made of;
        leaves the predictions of the last step in `pred`.
        """
        self.queue.settle()
        numbers = self._numbers(last - first)
        where: dict[str, Any] = {"seconds": seconds}
        run_steps: Callable[..., None] = _core.run_steps
        if self.on_device:
            where = {"stream": _device.stream()}
            run_steps = _core.run_steps_on_device
        before = self._optimizer.step_count, [layer.forwards for layer in self._dropouts]
        result = np.zeros(4)
        try:
            run_steps(
                self.native,
                batches.x,
                batches.target,
                sample_weight=batches.weight,
                order=batches.order,
                bounds=batches.bounds,
                first=first,
                last=last,
                numbers=numbers,
                number=before[0] + 1,
                forwards=before[1],
                sums=sums,
                result=result,
                scores=scores,
                pred=pred,
                keep_refused=keep_refused,
                **where,
            )
        finally:  # steps that were done count, whatever ended the call
            try:
                run = self._counted(result, numbers, *before, keep_refused)
            except MemoryError:
                run = self._counted(result, numbers, *before, keep_refused)
        return run

    def _counted(
        self,
        result: npt.NDArray[np.float64],
        numbers: npt.NDArray[np.float64],
        step_count: int,
        forwards: list[int],
        keep_refused: bool,
    ) -> Run:
        *counts, value = result.tolist()
        done, outcome, refused = map(int, counts)
        if self._update is None:
            return Run(done, outcome, refused, value, 0.0)
        for layer, count in zip(self._dropouts, forwards, strict=True):
            if layer.training:
                layer.forwards = count + done + (outcome == REFUSED and not keep_refused)
        self._optimizer.step_count = step_count + done - (outcome == REFUSED and keep_refused)
        parts = self._update.count_of_parts
        lr = numbers.item((max(done, 1) - 1) * parts % len(numbers), 0) if parts else self._optimizer.lr
        return Run(done, outcome, refused, value, lr)

    def _numbers(self, steps: int) -> npt.NDArray[np.float64]:
        """The numbers of each group for the next steps."""
        if self._update is None:
            return np.zeros((0, NUMBERS_OF_RULE + 3))
        return self._update.numbers(self._optimizer, steps)
