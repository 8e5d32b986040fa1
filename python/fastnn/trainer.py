"""Trainer: steps, fits, evaluation and prediction for a model, a loss and an optimizer."""

from __future__ import annotations

import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain

import numpy as np

from fastnn import data
from fastnn._arrays import Array, FloatArray, as_array, as_float32, check_int
from fastnn._scores import Scores
from fastnn.history import History, Progress
from fastnn.nn import BatchNorm1d, Module
from fastnn.nn.module import evaluating
from fastnn.optim import Optimizer, Rprop
from fastnn.schedulers import ReduceOnPlateau, plateaus

Loss = Callable[..., tuple[float, FloatArray]]
Metric = Callable[[FloatArray, Array], float]


# Columns of the history that metrics of one's own may not replace.
_TAKEN = {"epoch", "step", "lr", "loss", "penalty", "seconds", "samples_per_second"}
_TAKEN |= {"accuracy", "rmse", "mae", "r2"}


class Trainer:
    """Trains `model` on `loss` with `optimizer`.

    Parameters
    ----------
    model : `nn.Module`
    loss : `loss(pred, target, sample_weight=None) -> (value, dpred)`: one of `fastnn.losses`, or your own
        function
    optimizer : one of `fastnn.optim`, made from the model's parameters
    precision, device : "float32" and "cpu" are what this build has
    seed : the order of the rows in `fit` depends on (seed, epoch) only
    metrics : name -> `f(pred, target)`, numbers of your own beside the loss's (accuracy, or rmse, mae, r2):
        `evaluate` calls f once with all rows, `fit` with each batch and takes the mean over rows

    The parameters of the model are the trained arrays. `step` in a loop over `data.batches` and `fit` give
    the same parameters bit for bit, and so do fits of 5 + 5 and of 10 epochs.

    Raises TypeError or ValueError for a wrong argument; ValueError when the optimizer holds no parameter of
    the model.

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
        for name, value, available in (("precision", precision, "float32"), ("device", device, "cpu")):
            if value != available:
                raise ValueError(
                    f'Trainer: {name} must be "{available}" (all that is available), got {value!r}'
                )
        own = {id(parameter) for parameter in model.parameters()}
        if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
            raise ValueError(
                "Trainer: the optimizer holds no parameter of the model; make it from model.parameters()"
            )
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.seed = check_int(seed, "Trainer: seed", 0)
        self.metrics = _metrics(metrics)
        self._epochs_done = 0

    # ---- training

    def step(self, x: Array, y: Array, sample_weight: Array | None = None) -> float:
        """Train on one batch; returns the loss before the update. Puts the model into training mode."""
        return self._step(as_float32(x, "Trainer.step: x"), y, sample_weight)[0]

    def _step(self, x: FloatArray, y: Array, weight: Array | None) -> tuple[float, FloatArray]:
        if not self.model.training:
            self.model.train()
        pred = self.model.forward(x)
        value, gradient = self._loss(pred, y, weight)
        self.model.backward(gradient, input_grad=False)
        self.optimizer.step()
        return value, pred

    def _loss(self, pred: FloatArray, y: Array, weight: Array | None) -> tuple[float, FloatArray]:
        return self.loss(pred, y) if weight is None else self.loss(pred, y, weight)

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
    ) -> History:
        """Train for `epochs` further epochs on the rows of X and Y.

        The batches are those of `data.batches(X, Y, batch_size, seed=seed, epoch=epochs done before, ...)`,
        except that a last batch of one row is joined to the one before it when the model has batch-norm.
        Integers and float64 in X are converted to float32 once. A `PerEpoch` schedule without steps_per_epoch
        gets it here. `validation=(Xv, Yv)` is evaluated after each epoch, and every `ReduceOnPlateau` told
        its metric (`monitor`, or else val_loss with validation and loss without). `progress` shows a tqdm bar
        when tqdm is installed, else a line per epoch, and nothing when standard error is no terminal.
        With weight decay or l1 the history has `penalty` beside `loss`, which stays the loss of the data.

        Ctrl-C ends the fit after the running step, with the parameters and statistics of whole steps; an
        epoch that it cut short counts as not begun. Raises ValueError when the rows do not match or there is
        no batch.
        """
        X, Y, weight = _rows("Trainer.fit", X, Y, sample_weight)
        X = as_float32(X, "Trainer.fit: X")
        epochs = check_int(epochs, "Trainer.fit: epochs", 1)
        if validation is not None:
            if not isinstance(validation, (tuple, list)) or len(validation) != 2:
                raise TypeError("Trainer.fit: validation must be a pair (X, Y)")
            validation = _rows("Trainer.fit: validation", *validation, None)[:2]
        batch_norm = any(isinstance(module, BatchNorm1d) for module in self.model.modules())

        def order(epoch: int) -> list[Array]:
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

        first = order(self._epochs_done)
        later = map(order, range(self._epochs_done + 1, self._epochs_done + epochs))
        self.optimizer.set_steps_per_epoch(len(first))
        if isinstance(self.optimizer, Rprop) and len(first) > 1:
            warnings.warn(
                "Trainer.fit: Rprop follows the sign of the gradient of all rows, but an epoch has "
                f"{len(first)} batches; pass batch_size={len(X)}",
                stacklevel=2,
            )
        watching = self._watching(validation is not None)
        history = History()
        shown = Progress(progress, epochs * len(first))
        try:
            for batches in chain([first], later):
                logs = self._epoch(batches, X, Y, weight, shown)
                self._epochs_done += 1
                logs = {"epoch": self._epochs_done, "step": self.optimizer.step_count, **logs}
                if self.optimizer.regularises:
                    logs["penalty"] = self.optimizer.penalty()
                if validation is not None:
                    scores = self.evaluate(*validation)
                    logs.update({f"val_{name}": score for name, score in scores.items()})
                for plateau, name in watching:
                    plateau.update(logs[name])
                history.append(logs)
                shown.epoch(logs)
        finally:
            shown.close()
        return history

    def _epoch(
        self, batches: list[Array], X: FloatArray, Y: Array, weight: Array | None, shown: Progress
    ) -> dict[str, float]:
        """Train on these batches (their row numbers); returns what the history keeps of the epoch."""
        scores = self._scores()
        weight_of = getattr(self.loss, "total_weight", None)
        sums = dict.fromkeys(("loss", *self.metrics), 0.0)
        total = rate = 0.0
        start = time.perf_counter()
        with _whole_steps() as interrupted:
            for rows in batches:
                x, y = data.take(X, rows), data.take(Y, rows)
                w = None if weight is None else data.take(weight, rows)
                rate = self.optimizer.lr
                value, pred = self._step(x, y, w)
                if weight_of is not None:
                    share = weight_of(y, w)
                else:
                    share = len(rows) if w is None else float(w.sum(dtype=np.float64))
                total += share
                for name, mean in {"loss": value, **self._own_metrics(pred, y)}.items():
                    sums[name] += share * mean
                if scores is not None:
                    scores.add(pred, y, w)
                shown.step()
                if interrupted():
                    break
        seconds = time.perf_counter() - start
        means = {name: value / total for name, value in sums.items()}
        if scores is not None:
            means = {"loss": means.pop("loss"), **scores.result(), **means}
        speed = sum(map(len, batches)) / seconds
        return {"lr": rate, **means, "seconds": seconds, "samples_per_second": speed}

    def _watching(self, validation: bool) -> list[tuple[ReduceOnPlateau, str]]:
        """Every `ReduceOnPlateau` of the optimizer, and the name of its metric in the logs of an epoch."""
        scores = self._scores()
        names = ["loss", *(scores.names if scores else ()), *self.metrics]
        names += [f"val_{name}" for name in names] if validation else []
        watching = []
        for plateau in plateaus(group["lr"] for group in self.optimizer.param_groups):
            name = plateau.monitor or ("val_loss" if validation else "loss")
            if name not in names:
                raise ValueError(
                    f"Trainer.fit: ReduceOnPlateau: monitor {name!r} is not among {', '.join(names)}"
                    + ("" if validation else "; pass validation=(X, Y) for those of a validation")
                )
            watching.append((plateau, name))
        return watching

    # ---- evaluation and prediction

    def evaluate(
        self, X: Array, Y: Array, *, sample_weight: Array | None = None, batch_size: int = 1024
    ) -> dict[str, float]:
        """The loss on these rows in evaluation mode, and metrics, by name.

        `loss`; `accuracy` (cross-entropy, BCE) or `rmse`, `mae`, `r2` (MSE, Huber, quadratic cost), weighted
        as the loss is; then the trainer's own `metrics`, which see no weights.
        """
        X, Y, weight = _rows("Trainer.evaluate", X, Y, sample_weight)
        pred = self._predict("Trainer.evaluate", X, batch_size)
        value, _ = self._loss(pred, Y, weight)
        scores = self._scores()
        if scores is not None:
            scores.add(pred, Y, weight)
        return {"loss": value, **(scores.result() if scores else {}), **self._own_metrics(pred, Y)}

    def _scores(self) -> Scores | None:
        begin: Callable[[], Scores] | None = getattr(self.loss, "scores", None)
        return None if begin is None else begin()

    def _own_metrics(self, pred: FloatArray, target: Array) -> dict[str, float]:
        return {name: float(metric(pred, target)) for name, metric in self.metrics.items()}

    def predict(self, X: Array, *, batch_size: int = 1024) -> FloatArray:
        """The raw outputs (logits, for cross-entropy) in evaluation mode, `batch_size` rows at a time."""
        return self._predict("Trainer.predict", X, batch_size)

    def predict_proba(self, X: Array, *, batch_size: int = 1024) -> FloatArray:
        """The probability of each class, a row for each of X; ValueError unless the loss classifies.

        For `CrossEntropyLoss` (n, C), rows that sum to 1; for `BCEWithLogitsLoss` the probability of 1 for
        each output.
        """
        probabilities = self._classifier("predict_proba", "probabilities")
        return np.asarray(probabilities(self._predict("Trainer.predict_proba", X, batch_size)), np.float32)

    def predict_class(self, X: Array, *, batch_size: int = 1024) -> Array:
        """The most probable class id of each row of X; ValueError unless the loss classifies.

        For `BCEWithLogitsLoss` 0 or 1: (n,) for a single output, else one for each output.
        """
        classes = self._classifier("predict_class", "classes")
        return np.asarray(classes(self._predict("Trainer.predict_class", X, batch_size)))

    def _classifier(self, caller: str, method: str) -> Callable[[FloatArray], Array]:
        found: Callable[[FloatArray], Array] | None = getattr(self.loss, method, None)
        if found is None:
            raise ValueError(
                f"Trainer.{caller}: needs a loss of classification such as losses.CrossEntropyLoss, got "
                f"{getattr(self.loss, '__name__', type(self.loss).__name__)}; use predict for raw outputs"
            )
        return found

    def _predict(self, where: str, X: Array, batch_size: int) -> FloatArray:
        batch_size = check_int(batch_size, f"{where}: batch_size", 1)
        X = _as_rows(where, "X", X)
        parts = []
        with evaluating(self.model):
            # One empty batch where there are no rows: it has the right number of columns.
            for i in range(0, max(len(X), 1), batch_size):
                parts.append(self.model.forward(as_float32(X[i : i + batch_size], f"{where}: X")))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _metrics(given: Mapping[str, Metric] | None) -> dict[str, Metric]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(
            f"Trainer: metrics must be a dict of name -> f(pred, target), got {type(given).__name__}"
        )
    for name, metric in given.items():
        if not isinstance(name, str) or isinstance(metric, type) or not callable(metric):
            raise TypeError(f"Trainer: metrics must be name -> f(pred, target), got {name!r} -> {metric!r}")
        if name in _TAKEN or name.startswith("val_"):
            raise ValueError(f"Trainer: metrics: the name {name!r} is taken; choose another")
    return dict(given)


def _rows(where: str, X: Array, Y: Array, weight: Array | None) -> tuple[Array, Array, FloatArray | None]:
    """X, Y and the weights, checked for kind and for equal numbers of rows."""
    given = {"X": X, "Y": Y} if weight is None else {"X": X, "Y": Y, "sample_weight": weight}
    arrays = []
    for name, array in given.items():
        arrays.append(_as_rows(where, name, array))
        if len(arrays[-1]) != len(arrays[0]):
            raise ValueError(
                f"{where}: {name} must have one row for each of the {len(arrays[0])} of X, "
                f"got {len(arrays[-1])}"
            )
    weights = None if weight is None else as_float32(arrays[2], f"{where}: sample_weight")
    return arrays[0], arrays[1], weights


def _as_rows(where: str, name: str, array: Array) -> Array:
    rows = as_array(array, f"{where}: {name}")
    if rows.ndim == 0:
        raise ValueError(f"{where}: {name} must have rows, got a single value")
    return rows


@contextmanager
def _whole_steps() -> Iterator[Callable[[], bool]]:
    """Inside, Ctrl-C only makes the yielded function true; it is raised where the block ends.

    Only in the main thread and over Python's own handler: elsewhere it would not raise inside a step anyway.
    """
    pressed = False

    def note(_signal: int, _frame: object) -> None:
        nonlocal pressed
        pressed = True

    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if pressed:
            raise KeyboardInterrupt
