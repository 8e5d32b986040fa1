"""fastnn: fast training of small and medium neural networks from NumPy arrays.

Three ways to call it: kernels on arrays (`ops`), layers, losses and optimizers in a loop of your own (`nn`,
`losses`, `optim`, `schedulers`, `init`, `preprocessing`, `data`), and whole steps and fits (`Trainer`,
`fit_many`, `callbacks`). `save` and `load` keep models in files.

>>> import fastnn
>>> from fastnn import data, losses, nn, optim
>>> (X, Y), test = data.digits()
>>> model = nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10), seed=0)
>>> trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters()))
>>> history = trainer.fit(X, Y, batch_size=128, epochs=2, validation=test)
>>> history["val_accuracy"][-1] > 0.85
True
"""

from __future__ import annotations

import importlib
from types import ModuleType

from fastnn import callbacks, cuda, data, init, losses, nn, ops, optim, preprocessing, schedulers
from fastnn._many import fit_many
from fastnn._runtime import (
    __version__,
    get_isa,
    get_num_threads,
    info,
    isas,
    set_isa,
    set_num_threads,
    show_config,
)
from fastnn._threadpoolctl import follow_threadpoolctl
from fastnn.checkpoint import load, save
from fastnn.cuda import CudaError
from fastnn.history import History
from fastnn.pretrain import pretrain_layerwise
from fastnn.trainer import Trainer

follow_threadpoolctl()


def __getattr__(name: str) -> ModuleType:
    """`fastnn.diagnostics` is imported when it is first asked for: a quarter of the time of all others."""
    if name == "diagnostics":
        return importlib.import_module("fastnn.diagnostics")
    raise AttributeError(f"module 'fastnn' has no attribute {name!r}")


__all__ = [
    "CudaError",
    "History",
    "Trainer",
    "__version__",
    "callbacks",
    "cuda",
    "data",
    "diagnostics",
    "fit_many",
    "get_isa",
    "get_num_threads",
    "info",
    "init",
    "isas",
    "load",
    "losses",
    "nn",
    "ops",
    "optim",
    "preprocessing",
    "pretrain_layerwise",
    "save",
    "schedulers",
    "set_isa",
    "set_num_threads",
    "show_config",
]
