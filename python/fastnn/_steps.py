"""Training steps: by the native program, or layer by layer where the loss is the caller's own."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import _device, losses
from fastnn._arrays import Array, FloatArray, as_array, as_rows, check_ids, check_int, check_weights
from fastnn._by_layers import Done, Layers
from fastnn._by_layers import Loss as Loss
from fastnn._epoch import Epoch
from fastnn._evaluation import Evaluation
from fastnn._fitting import Rows
from fastnn._fitting import as_rows as checked_array
from fastnn._forward import Forward, can_lower, output_shape
from fastnn._program import BAD_BATCH, Batches, Given, Program, Run
from fastnn._queue import QueuedLoss
from fastnn._scores import Scores
from fastnn.callbacks import Watcher
from fastnn.nn import Module
from fastnn.nn.module import evaluating
from fastnn.optim import NonFiniteGradientError, Optimizer

_SECONDS = 0.1  # after which a native call comes back, so that Ctrl-C and the progress bar are seen


class Steps:
    """How a trainer does its steps."""

    def __init__(self) -> None:
        self._program: Program | None = None
        self._evaluation = Evaluation()
        self._forward: Forward | None = None
        self._resident = _device.Resident()
        self.in_fit = False
        self._layout: tuple[object, ...] | None = None  # of a batch that was taken as it is
        self._place: tuple[Module | None, int, bool] = None, 0, False  # of a model after so many moves

    def of(self, model: Module, loss: Loss, optimizer: Optimizer, precision: str) -> Steps:
        """Itself, for these: the attributes of a trainer may be assigned."""
        self._model, self._loss, self._optimizer, self.precision = model, loss, optimizer, precision
        return self

    @property
    def parts(self) -> tuple[Module, Loss, Optimizer]:
        """What the steps are of."""
        return self._model, self._loss, self._optimizer

    @property
    def rows_so_far(self) -> tuple[tuple[int, ...], bool] | None:
        """The shape of a row of x in the last step, and whether its targets were class ids."""
        return None if self._program is None else (self._program.row_shape, self._program.labels)

    def settle(self) -> None:
        """Wait for queued steps; raise what kept one from being done."""
        if self._program is not None:
            self._program.queue.settle()

    def __getstate__(self) -> dict[str, object]:
        self.settle()
        # A copy has arrays of its own.
        return vars(Steps())

    @property
    def _layers(self) -> Layers:
        return Layers(*self.parts, self.precision, self.on_device)

    @property
    def is_native(self) -> bool:
        """Whether there is a program: the loss is one of fastnn."""
        return type(self._loss).__module__ == losses.__name__

    def program(self, x: Array, y: Array) -> Program:
        """The program for rows like these."""
        labels = y.ndim == 1 and getattr(self._loss, "takes_labels", False)
        parts = *self.parts, self.precision
        program = self._program
        if (
            program is None
            or x.shape[1:] != program.row_shape
            or labels != program.labels
            or not program.fits(*parts)
        ):
            self.settle()
            program = self._program = Program(*parts, x.shape, labels)
            self._layout = None  # which was for another program
        return program

    def _training(self) -> None:
        if not self._model.training:
            self._model.train()

    # ---- a batch by itself

    def step(self, x: Array, y: Array, weight: Array | None) -> float | QueuedLoss:
        """Train on one batch; returns the loss before the update."""
        self._training()
        layout = None
        if weight is None and type(x) is np.ndarray and type(y) is np.ndarray:
            layout = x.shape, x.strides, x.dtype, y.shape, y.strides, y.dtype
        program = self._program
        if (
            layout is None
            or layout != self._layout
            or not (x.flags.aligned and y.flags.aligned)
            or program is None
            or not program.fits(self._model, self._loss, self._optimizer, self.precision)
        ):
            return self._first_step(x, y, weight, layout)
        done = program.step(x, y, None)
        if isinstance(done, Run):
            program.check(done, y, None)
            return done.value
        return done

    def _first_step(
        self, x: Array, y: Array, weight: Array | None, layout: tuple[object, ...] | None
    ) -> float | QueuedLoss:
        """A step on arrays that must be looked at; later ones of the same layout need not be."""
        x, y, weight = self.taken("Trainer.step", x=x, y=y, sample_weight=weight)
        if not self.is_native:
            return self._step_by_layers(x, y, weight)
        rows, y = as_rows(x, "Trainer.step: x"), as_array(y, "Trainer.step: y", on_device=True)
        if rows.ndim == 0:
            raise ValueError("Trainer.step: x must have rows, got a single value")
        program = self.program(rows, y)
        self._check_rows(program, len(rows), rows)
        target, weight = self._targets(program, rows, y, weight)
        self._layout = layout if rows is x and target is y else None
        done = program.step(rows, target, weight)
        if isinstance(done, Run):
            program.check(done, target, weight)
            return done.value
        return done

    def _step_by_layers(self, x: Array, y: Array, weight: Array | None) -> float:
        self.settle()
        layers, where = self._layers, "Trainer.step"
        weight = layers.put(f"{where}: sample_weight", weight)
        value, _ = layers.gradients(layers.rows(f"{where}: x", x), layers.put(f"{where}: y", y), weight)
        self._optimizer.step()
        return value

    def _check_rows(self, program: Program, least: int, x: Array) -> None:
        """Raise where the smallest batch is too small."""
        if least < program.least_rows:
            wanted = "two rows in training, for batch-norm" if least else "one row"
            raise ValueError(f"Trainer: x must have at least {wanted}, got shape {(least, *x.shape[1:])}")

    def _targets(
        self, program: Program, x: Array, y: Array, weight: Array | None
    ) -> tuple[Array, FloatArray | None]:
        """Targets and weights as the program reads them."""
        target = self._loss._target(y, (len(x), *program.pred_shape))  # type: ignore[attr-defined]
        if weight is not None:
            weight = _device.as_floats(weight, "Trainer: sample_weight")
            if weight.shape != (len(x),):
                raise ValueError(
                    f"Trainer: sample_weight must have shape ({len(x)},), one for each row, "
                    f"got {weight.shape}"
                )
        return target, weight

    # ---- on the device

    @property
    def on_device(self) -> bool:
        """Whether the parameters are there."""
        if self._place[:2] != (self._model, _device.moves):
            self._place = self._model, _device.moves, _device.holds(self._model)
        return self._place[2]

    def taken(self, where: str, **given: Any) -> tuple[Any, ...]:
        """What the user gave: arrays of a device as CuPy's over the same memory, all else as it is."""
        return tuple(_device.rows(f"{where}: {name}", array, self.on_device) for name, array in given.items())

    def begin(self, *arrays: Any) -> None:
        """A fit of these begins. On the device they stay until `release`; they do not change meanwhile."""
        self.in_fit = True
        self._resident.begin(*arrays)

    def _kept(self, given: Any, array: Any, make: Callable[[Any], Any] = _device.copied) -> Any:
        """An array made of one of a running fit's as it stays on the device; any other as it is."""
        in_fit = self.on_device and given in self._resident
        return self._resident.copy(given, array, make) if in_fit else array

    def release(self) -> None:
        """A fit has ended: give back the device's memory of its arrays."""
        self.in_fit = False
        self._resident.begin()

    def refuse_in_fit(self, what: str) -> None:
        """Raise for what a callback may not call: it changes what the fit around it goes on with."""
        if self.in_fit:
            raise RuntimeError(
                f"{what}: called inside a fit of this trainer; let the callback return True to "
                "end that fit, and call it then"
            )

    # ---- evaluation and prediction

    def evaluate(
        self,
        where: str,
        X: Array,
        Y: Array,
        weight: FloatArray | None,
        batch_size: int,
        scores: Scores | None,
        outputs: bool,
    ) -> tuple[float, FloatArray | None]:
        """Loss and (if `outputs`) predictions in evaluation mode; the metrics are added to `scores`."""
        self.settle()
        if self.on_device and self.is_native and can_lower(self._model):
            batch_size = check_int(batch_size, f"{where}: batch_size", 1)
            with evaluating(self._model):
                return self._evaluation.run(
                    (*self.parts, self.precision),
                    *(where, X, Y, weight, batch_size, self._kept),
                    scores=scores,
                    outputs=outputs,
                )
        layers = self._layers
        pred = self._outputs(where, X, batch_size)
        Y = layers.put(f"{where}: Y", self._kept(Y, Y, partial(layers.put, f"{where}: Y")))
        weight = layers.put(f"{where}: sample_weight", weight)
        try:
            value, _ = layers.value(pred, Y, weight)
        except ValueError:
            self._check_targets(f"{where}: ", pred.shape, Y, weight)  # in the caller's words
            raise
        if scores is not None:
            scores.add(pred, Y, weight)
        return value, _device.on_host(pred) if outputs else None

    def _check_targets(self, where: str, shape: tuple[int, ...], Y: Array, weight: FloatArray | None) -> None:
        """Raise for targets and weights that a loss of fastnn refuses beside predictions of this shape."""
        if not self.is_native:
            return
        target = self._loss._target(Y, shape)  # type: ignore[attr-defined]
        if target.ndim == 1 and getattr(self._loss, "takes_labels", False):
            ignored = self._loss.ignore_index  # type: ignore[attr-defined]
            check_ids(_device.on_host(target), f"{where}Y", shape[1], ignored)
        if weight is not None:
            check_weights(_device.on_host(weight), f"{where}sample_weight")

    def predict(self, where: str, X: Array, batch_size: int) -> FloatArray:
        """The raw outputs in evaluation mode, `batch_size` rows at a time."""
        return _device.on_host(self._outputs(where, X, batch_size))

    def _outputs(self, where: str, X: Array, batch_size: int) -> FloatArray:
        """The same where they were made, by the model's layers or by a program."""
        self.settle()
        batch_size = check_int(batch_size, f"{where}: batch_size", 1)
        X = checked_array(where, "X", *self.taken(where, X=X))
        forward, self._forward = self._forward, None  # another thread that predicts makes one of its own
        if forward is None or not forward.fits(self._model, self.precision, X.shape[1:]):
            with evaluating(self._model):
                if not can_lower(self._model) or (self.on_device and not self.is_native):
                    layers, what = self._layers, f"{where}: X"
                    return layers.predict(what, self._kept(X, X, partial(layers.rows, what)), batch_size)
                if self.on_device:
                    parts = *self.parts, self.precision
                    _, pred = self._evaluation.run(parts, where, X, None, None, batch_size, self._kept)
                    assert pred is not None
                    return pred
                forward = Forward(self._model, self.precision, X.shape)
        pred = forward.predict(X, f"{where}: X", batch_size)
        self._forward = forward
        return pred

    # ---- a fit

    def check_data(self, where: str, X: Array, Y: Array) -> None:
        """Raise for what `evaluate` would refuse, as far as it is known without the predictions."""
        try:
            if len(X) == 0:
                raise ValueError("X must have at least one row")
            if not can_lower(self._model):
                return
            (as_rows if self.is_native else _device.as_floats)(X[:1], "X")
            self._check_targets("", output_shape(self._model, X.shape), Y, None)
        except (TypeError, ValueError) as error:
            error.args = (f"{where}: {error}",)
            raise

    def rows(self, X: Array, Y: Array, weight: FloatArray | None) -> Rows:
        """What `run` takes: as it is where the program can convert its rows batch by batch."""
        self.settle()
        self.refuse_in_fit("Trainer.fit")
        self._optimizer._check_members()
        if self.is_native:
            return as_rows(X, "Trainer.fit: X"), Y, weight
        layers, where = self._layers, "Trainer.fit"
        rows = layers.rows(f"{where}: X", X)
        return rows, layers.put(f"{where}: Y", Y), layers.put(f"{where}: sample_weight", weight)

    def run(
        self,
        epoch: Epoch,
        X: Array,
        Y: Array,
        weight: FloatArray | None,
        order: npt.NDArray[np.int64],
        bounds: npt.NDArray[np.int64],
        *,
        one: bool,
        keep_refused: bool,
        watcher: Watcher | None,
    ) -> Done:
        """Train on the batches that the epoch still has: on one of them, or as many as there is time for,
        and none that the watcher waits for.

        `keep_refused`: a step whose gradients the optimizer refuses is returned with the error, not raised.
        """
        self._training()
        first, last = epoch.steps, epoch.steps + 1 if one else len(bounds) - 1
        rows = order[bounds[first] : bounds[first + 1]]
        ahead = len(bounds) if watcher is None else watcher.steps_ahead(self._optimizer.step_count)
        if not self.is_native:
            if watcher is not None and not ahead:
                return self._layers.watched(watcher, epoch, X, Y, weight, rows, one, keep_refused)
            return self._layers.run(epoch, X, Y, weight, rows, one, keep_refused)
        start = time.perf_counter()
        program = self.program(X, Y)
        # All others are as long as the first.
        ends = bounds.item(1) - bounds.item(0), bounds.item(-1) - bounds.item(-2)
        self._check_rows(program, min(ends), X)
        target, weight = self._targets(program, X, Y, weight)
        if watcher is not None and not ahead:
            tried = self._layers.tried(watcher, epoch, X, target, weight, rows, one, keep_refused)
            if tried is not None:
                return tried
            ahead = 1
        last = min(last, first + ahead)
        batches = Batches(X, target, weight, order, bounds)
        if program.on_device:
            moved = [self._resident.copy(*pair) for pair in ((X, X), (Y, target), (weight, weight))]
            batches = Batches(moved[0], moved[1], moved[2], order, bounds)
        sums = np.array([epoch.total, epoch.sums["loss"]])
        scores = None if epoch.scores is None else epoch.scores.sums(math.prod(program.pred_shape))
        pred = np.empty((bounds[last] - bounds[first], *program.pred_shape), np.float32) if one else None
        keep = keep_refused or self._optimizer.nonfinite == "skip"
        run = program.run(
            batches, first, last, sums, seconds=_SECONDS, scores=scores, pred=pred, keep_refused=keep
        )
        if run.steps:
            epoch.take(run.steps, int(bounds[first + run.steps] - bounds[first]), run.lr, sums)
            if epoch.scores is not None and scores is not None:
                epoch.scores.take(scores)
        epoch.seconds += time.perf_counter() - start
        try:
            given = Given()
            if run.outcome == BAD_BATCH:
                begin, end = bounds[first + run.steps :][:2]
                given = Given("Trainer.fit", "Y", order[begin:end])
                target = _device.on_host(target)[given.rows]
                weight = None if weight is None else _device.on_host(weight)[given.rows]
            program.check(run, target, weight, given)
        except NonFiniteGradientError as error:
            if not keep_refused:
                raise
            return Done(run.value, pred, error)
        return Done(run.value, pred)
