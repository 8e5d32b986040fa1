"""Trainer: steps, fits, evaluation and prediction for a model, a loss and an optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import _device, _fitting, _trainer_state, data
from fastnn._arrays import Array, FloatArray, check_flag, check_int
from fastnn._epoch import Epoch
from fastnn._fitting import Metric, Rows, checked_metrics, checked_rows
from fastnn._interrupts import taking_ctrl_c, whole_steps
from fastnn._precision import checked_precision
from fastnn._scores import Scores
from fastnn._steps import Loss, Steps
from fastnn.callbacks import Callback, DivergenceGuard, Watcher
from fastnn.history import History, Progress
from fastnn.nn import BatchNorm1d, Module
from fastnn.optim import Optimizer
from fastnn.schedulers import Epochs, plateaus


class Trainer:
    """Trains `model` on `loss` with `optimizer`.

    Parameters
    ----------
    model : `nn.Module`
    loss : `loss(pred, target, sample_weight=None) -> (value, dpred)`: one of `fastnn.losses`, or your own
        function (on a GPU of CuPy's arrays)
    optimizer : one of `fastnn.optim`, made from the model's parameters
    precision : "float32", or "bfloat16": Linear layers multiply inputs, weights and gradients rounded to
        bfloat16, sums and all else (parameters, updates, biases, batch-norm, losses) stay float32; also in
        `evaluate` and `predict` (docs/numerics.md). On a GPU also "tf32". May be assigned later
    device : "cpu", or "cuda" for an NVIDIA GPU (docs/cuda.md): moves the model and the optimizer there. With
        "cpu" a model that is there is a ValueError. `trainer.device` says where the model is
    seed : the order of the rows in `fit` depends on (seed, epoch) only
    metrics : name -> `f(pred, target)`, numbers of your own beside the loss's (accuracy, or rmse, mae, r2):
        `evaluate` calls f once with all rows, `fit` with each batch and takes the mean over rows

    The parameters of the model are the trained arrays. `step` in a loop over `data.batches` and `fit` give
    the same parameters bit for bit, and so do fits of 5 + 5 and of 10 epochs.

    Raises TypeError or ValueError for a wrong argument; ValueError when the optimizer holds no parameter of
    the model; `fastnn.CudaError`, with the reason, where device="cuda" cannot be used.

    >>> import numpy as np, fastnn
    >>> from fastnn import losses, nn, optim
    >>> X = np.random.default_rng(0).normal(size=(64, 2))
    >>> Y = (X[:, 0] > X[:, 1]).astype(int)
    >>> model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2), seed=0)
    >>> trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.05))
    >>> history = trainer.fit(X, Y, batch_size=16, epochs=10)
    >>> history["loss"][-1] < 0.2 < history["loss"][0]
    True
    >>> trainer.evaluate(X, Y)["accuracy"] > 0.9
    True
    """

    def __init__(
        self,
        model: Module,
        loss: Loss,
        optimizer: Optimizer,
        *,
        precision: str = "float32",
        device: str = "cpu",
        seed: int = 0,
        metrics: Mapping[str, Metric] | None = None,
    ) -> None:
        if not isinstance(model, Module):
            raise TypeError(f"Trainer: model must be an nn.Module, got {type(model).__name__}")
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"Trainer: optimizer must be one of fastnn.optim, got {type(optimizer).__name__}; "
                "pass optim.Adam(model.parameters())"
            )
        if isinstance(loss, type) or not callable(loss):
            raise TypeError(f"Trainer: loss must be a loss such as losses.CrossEntropyLoss(), got {loss!r}")
        _device.check("Trainer", device)
        if device == "cpu" and _device.holds(model):
            fix = 'pass device="cuda", or call model.to("cpu") first'
            raise ValueError(f'Trainer: the model is on the GPU, and device is "cpu"; {fix}')
        own = {id(parameter) for parameter in model.parameters()}
        if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
            raise ValueError(
                "Trainer: the optimizer holds no parameter of the model; make it from model.parameters()"
            )
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self._precision = checked_precision(precision, device)
        self.seed = check_int(seed, "Trainer: seed", 0)
        self.metrics = checked_metrics(metrics)
        self._history = History()
        self._epoch_begun: Epoch | None = None  # the one that a stop, Ctrl-C or an error cut short
        self._callbacks: list[Callback] = []  # those of the last fit
        self._callback_states: list[tuple[str, Any]] = []  # loaded, for callbacks that no fit has seen yet
        self._kept_steps = Steps()
        if device == "cuda":
            model.to(device)

    @property
    def history(self) -> History:
        """All epochs that this trainer has finished, those before a `load` included."""
        return self._history

    @property
    def epoch(self) -> int:
        """How many epochs are finished."""
        return self._history.epochs

    @property
    def device(self) -> str:
        """Where the model is and steps run: "cpu" or "cuda"."""
        return "cuda" if _device.holds(self.model) else "cpu"

    @property
    def precision(self) -> str:
        """That of products in Linear layers."""
        return self._precision

    @precision.setter
    def precision(self, precision: str) -> None:
        self._precision = checked_precision(precision, self.device)

    @property
    def _steps(self) -> Steps:
        return self._kept_steps.of(self.model, self.loss, self.optimizer, self._precision)

    # ---- training

    def step(self, x: Array, y: Array, sample_weight: Array | None = None) -> float:
        """Train on one batch; returns the loss before the update. Puts the model into training mode.

        With device="cuda" arrays here, in `fit`, `evaluate` and `predict` may be on the device already, and
        the step is queued: `float(loss)`, or what else needs it, waits and raises its errors (docs/cuda.md).
        """
        return self._steps.step(x, y, sample_weight)  # type: ignore[return-value]  # as good as a float

    def fit(
        self,
        X: Array,
        Y: Array,
        *,
        batch_size: int,
        epochs: int,
        sample_weight: Array | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        validation: tuple[Array, Array] | None = None,
        progress: bool = True,
        callbacks: Sequence[Callback] = (),
    ) -> History:
        """Train for `epochs` further epochs on the rows of X and Y.

        The batches are those of `data.batches(X, Y, batch_size, seed=seed, epoch=epochs done before, ...)`,
        except that a last batch of one row is joined to the one before it when the model has batch-norm.
        Integers and float64 in X are converted to float32 a batch at a time (with a loss function of your own
        all at once). A `PerEpoch` without steps_per_epoch counts the epochs, also after one with another
        batch_size. `validation=(Xv, Yv)` is evaluated after each epoch, and every `ReduceOnPlateau` told its
        metric (`monitor`, or else val_loss with validation and loss without). `progress` shows a tqdm bar
        when tqdm is installed, else a line per epoch, and nothing when standard error is no terminal.
        With weight decay or l1 the history has `penalty` beside `loss`, the data's. `callbacks`: those of
        `fastnn.callbacks`.

        Ctrl-C ends the fit with whole steps done: the running one is finished or, where that takes longer,
        left before it has changed anything. An epoch that it cut short, or a callback or an error, is left
        begun: the next `fit` first finishes it, in this process or after `save` and `load`, and that counts
        as one of its `epochs`. With other rows, batch_size, shuffle or drop_last it warns and begins again.

        Raises ValueError when the rows do not match, there is no batch, or the history will not have what a
        callback monitors; then nothing has been trained.
        """
        X, Y, weight = self._steps.rows(*self._checked("Trainer.fit", X, Y, sample_weight))
        epochs = check_int(epochs, "Trainer.fit: epochs", 1)
        progress = check_flag(progress, "Trainer.fit: progress")
        if validation is not None:
            pair = _fitting.as_pair(validation)
            validation = self._checked("Trainer.fit: validation", *pair, None)[:2]
            self._steps.check_data("Trainer.fit: validation", *validation)
        batch_norm = any(isinstance(module, BatchNorm1d) for module in self.model.modules())

        def batches_of(epoch: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
            return data.epoch_rows(
                len(X),
                batch_size,
                seed=self.seed,
                epoch=epoch,
                shuffle=shuffle,
                drop_last=drop_last,
                join_single_row=batch_norm,
                caller="Trainer.fit",
            )

        order, bounds = batches_of(self.epoch)
        steps = len(bounds) - 1
        plan = Epoch.plan_of(len(X), batch_size, shuffle, drop_last)
        validated = validation is not None
        names = _fitting.names_of(self, validated)
        rates = [group["lr"] for group in self.optimizer.param_groups]
        watching = [(plateau, _fitting.monitored(plateau, names, validated)) for plateau in plateaus(rates)]
        self._callbacks = _fitting.taken_on(self, callbacks, names, validated)
        _fitting.drop_other_plan(self, plan)
        told = self._epochs(steps)
        self.optimizer.set_steps_per_epoch(told)
        history = History()
        begun: list[Callback] = []
        shown = Progress(progress, epochs * steps)
        try:
            self._kept_steps.begin(X, Y, weight, *(validation or ()))
            for callback in self._callbacks:
                begun.append(callback)
                callback.on_fit_begin(self)
            with taking_ctrl_c():
                for last in range(self.epoch + 1, self.epoch + epochs + 1):
                    if self._epoch_begun is None:
                        done = self.optimizer.step_count
                        self._epoch_begun = Epoch(plan, self.metrics, self._scores(), done)
                        if not told.begins(self.epoch, done):  # after skipped steps, or a callback
                            told = self._epochs(steps)
                            self.optimizer.set_steps_per_epoch(told)
                    stop = self._train(self._epoch_begun, X, Y, weight, order, bounds, shown)
                    if self._epoch_begun.steps < steps:
                        break
                    logs = {"epoch": last, "step": self.optimizer.step_count, **self._epoch_begun.logs()}
                    if self.optimizer.regularises:
                        logs["penalty"] = self.optimizer.penalty()
                    if validation is not None:
                        scores = self.evaluate(*validation)
                        logs.update({f"val_{name}": score for name, score in scores.items()})
                    for plateau, name in watching:
                        plateau.update(logs[name])
                    self._epoch_begun = None
                    self._history.append(logs)
                    history.append(logs)
                    shown.epoch(logs)
                    stops = [callback.on_epoch_end(self, logs) for callback in self._callbacks]
                    if stop or any(stops):
                        break
                    order, bounds = batches_of(last)
        finally:
            shown.close()
            self._kept_steps.release()
            for callback in begun:
                callback.on_fit_end(self)
        return history

    def _epochs(self, steps: int) -> Epochs:
        """What tells the schedules how far the trainer is: epochs so far, the next ones of so many steps."""
        begun = self._epoch_begun
        first = self.optimizer.step_count if begun is None else begun.first
        return Epochs.of(steps, self._history["step"] if self.epoch else (), first)

    def _train(
        self,
        epoch: Epoch,
        X: Array,
        Y: Array,
        weight: FloatArray | None,
        order: npt.NDArray[np.int64],
        bounds: npt.NDArray[np.int64],
        shown: Progress,
    ) -> bool:
        """Train on the batches that the epoch still has; whether a callback stops."""
        watching = [c for c in self._callbacks if type(c).on_step_end is not Callback.on_step_end]
        guards = [c for c in self._callbacks if isinstance(c, DivergenceGuard)]
        one = bool(watching or self.metrics)
        watcher = next((c for c in self._callbacks if isinstance(c, Watcher)), None)
        how: dict[str, Any] = {"one": one, "keep_refused": bool(guards), "watcher": watcher}
        stop = False
        seen = _device.on_host(Y) if self.metrics else Y  # by metrics
        with whole_steps() as interrupted:
            while epoch.steps < len(bounds) - 1 and not (stop or interrupted()):
                first, total = epoch.steps, epoch.total
                done = self._steps.run(epoch, X, Y, weight, order, bounds, **how)
                if epoch.steps == first:
                    continue  # its step was cut short
                for guard in guards:
                    guard.refused = str(done.refused or "")
                if self.metrics and done.pred is not None:
                    target = data.take(seen, order[bounds[first] : bounds[epoch.steps]])
                    means = dict.fromkeys(self.metrics, math.nan)  # of the epoch too, if one of them raises
                    try:
                        means = self._own_metrics(done.pred, target)
                    finally:
                        for name, mean in means.items():
                            epoch.sums[name] += (epoch.total - total) * mean
                shown.steps(epoch.steps - first)
                if watching:
                    count = self.optimizer.step_count
                    stops = [callback.on_step_end(self, count, done.value) for callback in watching]
                    stop = any(stops)
        return stop

    def explain(self, batch_size: int) -> None:
        """Print the native program of a step on `batch_size` rows, as a table.

        A line for each operation, with the parallel region that it runs in: operations of one region run side
        by side, or one after another on a block of rows; between regions all threads wait for each other. For
        each region: the work of its products (kflop), what the others move (KB), how long one thread should
        take, how long the region takes run again and again by itself (median), and the share of this
        machine's limit, the larger of flops / FMA peak and bytes / in-cache copy (docs/program.md). With
        device="cuda" work and time of each operation, and of a step among others (docs/cuda.md).

        Nothing of the trainer changes: a copy is measured. Raises TypeError for a loss or a layer of one's
        own, which have no program, and ValueError for a batch that is too small.
        """
        batch_size = check_int(batch_size, "Trainer.explain: batch_size", 1)
        from fastnn._explain import explain

        print(explain(self._steps, batch_size))

    # ---- files

    def save(self, path: str | PathLike[str]) -> None:
        """Write everything that the further course depends on to one `.safetensors` file.

        The model (as `fastnn.save`), the optimizer's state, the number of epochs, how far a begun epoch has
        come and what it adds up to, the state of the callbacks of the running or last fit, seed and history.
        Not the rows, nor code: schedules, losses, metrics and layers of your own. Written whole or not at
        all, like `fastnn.save`.

        Save, new process, `load`, `fit` gives the same bits as a fit that was never interrupted, also when
        saved in the middle of an epoch (from `Callback.on_step_end`, or after Ctrl-C).
        """
        _trainer_state.save(self, path)

    def load(self, path: str | PathLike[str]) -> None:
        """Go on from a file that `save` wrote, in a trainer built by the same code.

        Arrays are copied in place. The state of a callback is given to the first one of its class in the next
        `fit`. Everything that does not fit (layers and their arguments, shapes, optimizer and its groups,
        loss) is listed in one ValueError; an error, also for a damaged file, leaves the trainer as it was.
        """
        _trainer_state.load(self, path)

    # ---- evaluation and prediction

    def evaluate(
        self, X: Array, Y: Array, *, sample_weight: Array | None = None, batch_size: int = 1024
    ) -> dict[str, float]:
        """The loss on these rows in evaluation mode, and metrics, by name.

        `loss`; `accuracy` (cross-entropy, BCE) or `rmse`, `mae`, `r2` (MSE, Huber, quadratic cost), weighted
        as the loss is; then the trainer's own `metrics`, which see no weights.
        """
        X, Y, weight = self._checked("Trainer.evaluate", X, Y, sample_weight)
        scores = self._scores()
        outputs = bool(self.metrics)
        value, pred = self._steps.evaluate("Trainer.evaluate", X, Y, weight, batch_size, scores, outputs)
        own = {} if pred is None else self._own_metrics(pred, Y)
        return {"loss": value, **(scores.result() if scores else {}), **own}

    def _scores(self) -> Scores | None:
        begin: Callable[[], Scores] | None = getattr(self.loss, "scores", None)
        return None if begin is None else begin()

    def _own_metrics(self, pred: FloatArray, target: Array) -> dict[str, float]:
        return _fitting.values_of(self.metrics, pred, _device.on_host(target))

    def _checked(self, where: str, X: Array, Y: Array, weight: Array | None) -> Rows:
        return checked_rows(where, *self._steps.taken(where, X=X, Y=Y, sample_weight=weight))

    def predict(self, X: Array, *, batch_size: int = 1024) -> FloatArray:
        """The raw outputs (logits, for cross-entropy) in evaluation mode, `batch_size` rows at a time."""
        return self._steps.predict("Trainer.predict", X, batch_size)

    def predict_proba(self, X: Array, *, batch_size: int = 1024) -> FloatArray:
        """The probability of each class, a row for each of X; ValueError unless the loss classifies.

        For `CrossEntropyLoss` (n, C), rows that sum to 1; for `BCEWithLogitsLoss` the probability of 1 for
        each output.
        """
        probabilities = self._classifier("predict_proba", "probabilities")
        pred = self._steps.predict("Trainer.predict_proba", X, batch_size)
        return np.asarray(probabilities(pred), np.float32)

    def predict_class(self, X: Array, *, batch_size: int = 1024) -> Array:
        """The most probable class id of each row of X; ValueError unless the loss classifies.

        For `BCEWithLogitsLoss` 0 or 1: (n,) for a single output, else one for each output.
        """
        classes = self._classifier("predict_class", "classes")
        return np.asarray(classes(self._steps.predict("Trainer.predict_class", X, batch_size)))

    def _classifier(self, caller: str, method: str) -> Callable[[FloatArray], Array]:
        found: Callable[[FloatArray], Array] | None = getattr(self.loss, method, None)
        if found is None:
            raise ValueError(
                f"Trainer.{caller}: needs a loss of classification such as losses.CrossEntropyLoss, got "
                f"{getattr(self.loss, '__name__', type(self.loss).__name__)}; use predict for raw outputs"
            )
        return found
