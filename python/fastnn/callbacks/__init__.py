"""Callbacks: what `Trainer.fit` calls at the beginning, after each step, after each epoch and at the end.

`fit(..., callbacks=[...])` calls them in the order of the list, `Checkpoint` last of all, so that a file
holds what the others have done. State that they keep goes on from one `fit` to the next and into the files
of `Trainer.save`.

>>> import numpy as np, fastnn
>>> from fastnn import callbacks, losses, nn, optim
>>> class Watch(callbacks.Callback):
...     '''Stops at the first epoch whose loss is below a bound.'''
...
...     def __init__(self, bound):
...         self.bound = bound
...
...     def on_epoch_end(self, trainer, logs):
...         return logs["loss"] < self.bound
>>> X = np.random.default_rng(0).normal(size=(64, 2))
>>> model = nn.Sequential(nn.Linear(2, 1), seed=0)
>>> trainer = fastnn.Trainer(model, losses.MSELoss(), optim.Adam(model.parameters(), lr=0.1))
>>> history = trainer.fit(X, X[:, :1], batch_size=16, epochs=100, callbacks=[Watch(0.01)])
>>> len(history["epoch"]) < 100, history["loss"][-1] < 0.01 < history["loss"][-2]
(True, True)
"""

from __future__ import annotations

from fastnn.callbacks._watcher import Watcher as Watcher
from fastnn.callbacks.callback import Callback
from fastnn.callbacks.checkpoint import Checkpoint
from fastnn.callbacks.divergence_guard import DivergenceGuard
from fastnn.callbacks.early_stopping import EarlyStopping
from fastnn.callbacks.ema import EMA

__all__ = ["EMA", "Callback", "Checkpoint", "DivergenceGuard", "EarlyStopping"]
