"""Training on the digits: which rows train, choose and decide, and what is noted of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from fastnn import data, nn, optim
from fastnn.callbacks import Callback
from fastnn.experiments._design import Run, Setting, Trial
from fastnn.losses import CrossEntropyLoss
from fastnn.trainer import Trainer

HELD_OUT = 1000
"""Rows at the end of the training digits that train nothing: they choose the rates and give the curves."""

GUESS = 0.1
"""The accuracy of a diverged run: that of a guess."""

Optimize = Callable[[Iterable[nn.Parameter], float], optim.Optimizer]
Rows = tuple[Any, Any]


@cache
def _digits() -> tuple[Rows, Rows]:
    return data.digits()


def training_rows(count: int) -> Rows:
    """The first `count` training digits."""
    (X, Y), _ = _digits()
    last = min(count, len(X) - HELD_OUT)
    return X[:last], Y[:last]


def held_out_rows(count: int = HELD_OUT) -> Rows:
    """The last training digits, never trained on."""
    (X, Y), _ = _digits()
    return X[-HELD_OUT:][:count], Y[-HELD_OUT:][:count]


def rows_to_test(count: int) -> Rows:
    """The test digits; a final run looks at them once, when it has ended."""
    _, (X, Y) = _digits()
    return X[:count], Y[:count]


class _Watch(Callback):
    """Notes the accuracy on held-out rows after each epoch, and stops a fit that is no longer finite."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.epochs: list[dict[str, float]] = []
        self.diverged = False

    def on_epoch_end(self, trainer: Trainer, logs: Mapping[str, float]) -> bool:
        pred = trainer.predict(self.rows[0])
        self.diverged = not (np.isfinite(logs["loss"]) and np.isfinite(pred).all())
        if not self.diverged:
            self.epochs.append({**logs, "held_out": accuracy(pred, self.rows[1])})
        return self.diverged


def accuracy(pred: Any, labels: Any) -> float:
    """The share of rows whose largest output is the label's."""
    return float(np.mean(np.argmax(pred, axis=1) == labels))


def after_two_epochs(_: Trainer, epochs: list[dict[str, float]]) -> Mapping[str, float]:
    """`second`: the accuracy on held-out rows after the second epoch, which is about speed."""
    return {"second": epochs[min(1, len(epochs) - 1)]["held_out"] if epochs else GUESS}


def dense(
    *sizes: int,
    activation: type[nn.Module] = nn.ReLU,
    seed: int,
    weight_init: Any = None,
    bias_init: Any = None,
    last: type[nn.Module] | None = None,
) -> nn.Sequential:
    """Linear layers of these sizes with an activation between them."""
    layers: list[nn.Module] = []
    for i, o in pairwise(sizes):
        if layers:
            layers.append(activation())
        layers.append(nn.Linear(i, o, weight_init=weight_init, bias_init=bias_init))
    return nn.Sequential(*layers, *([] if last is None else [last()]), seed=seed)


def digits_trial(
    setting: Setting,
    model: Callable[[int], nn.Module],
    *,
    optimizer: Optimize = optim.SGD,
    loss: Any = None,
    one_hot: bool = False,
    scale: Callable[[Any], Any] | None = None,
    rows: int = 2000,
    epochs: int = 10,
    batch_size: int = 20,
    more: Callable[[Trainer, list[dict[str, float]]], Mapping[str, Any]] | None = None,
) -> Trial:
    """A trial that trains `model(seed)` with `optimizer(parameters, rate)`; the rows have an order per seed.

    Its numbers: `test`, the accuracy on the test rows after the last epoch, and `loss`, the last epoch's; its
    curves: `losses`, `held_out` and `seconds` after each epoch. It counts as diverged when an output, the
    loss or a gradient is not finite, or when the loss ends above that of its first epoch. `more` gives
    further numbers of a trainer whose fit is over.
    """
    rows, epochs = setting.few(rows, 100), setting.few(epochs, 2)
    few = setting.few(HELD_OUT, 100)

    def trial(rate: float, seed: int, final: bool) -> Run:
        x, y = training_rows(rows)
        held_x, held_y = held_out_rows(few)
        prepare = scale or (lambda pixels: pixels)
        network = model(seed)
        trainer = Trainer(
            network,
            loss or CrossEntropyLoss(),
            optimizer(network.parameters(), rate),
            device=setting.device,
            seed=seed,
        )
        watch = _Watch((prepare(held_x), held_y))
        target = np.eye(10, dtype=np.float32)[y] if one_hot else y
        try:
            trainer.fit(
                prepare(x), target, batch_size=batch_size, epochs=epochs, progress=False, callbacks=[watch]
            )
        except optim.NonFiniteGradientError:
            watch.diverged = True
        noted = watch.epochs
        losses = [epoch["loss"] for epoch in noted]
        diverged = watch.diverged or losses[-1] > losses[0]
        run: Run = {
            "score": noted[-1]["held_out"] if noted else GUESS,
            "diverged": diverged,
            "loss": losses[-1] if losses else np.nan,
        }
        if not final:
            return run
        run["test"] = GUESS
        if not diverged:
            test_x, test_y = rows_to_test(setting.few(2000, 100))
            run["test"] = accuracy(trainer.predict(prepare(test_x)), test_y)
        run["losses"] = losses
        run["held_out"] = [epoch["held_out"] for epoch in noted]
        run["seconds"] = np.cumsum([epoch["seconds"] for epoch in noted])
        return run if more is None else {**run, **more(trainer, noted)}

    return trial
