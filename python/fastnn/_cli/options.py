"""The options that a run depends on: what `train` takes, and `run.json` holds."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from fastnn._cli.build import ACTIVATIONS, CLASSIFICATION, INITIALIZERS, OPTIMIZERS, REGRESSION, SCHEDULES
from fastnn._cli.parser import number, share, whole, widths

# Name, default, what argparse is told.
OPTIONS: list[tuple[str, Any, dict[str, Any]]] = [
    ("target", None, {"metavar": "NAME", "help": "column to predict of a CSV file (default: the last)"}),
    ("task", None, {"choices": ("classification", "regression"), "help": "default: read off the target"}),
    ("layers", [128], {"type": widths, "metavar": "N,N", "help": "widths of hidden layers, or none"}),
    ("activation", "relu", {"choices": ACTIVATIONS}),
    ("batch_norm", False, {"action": "store_true", "help": "BatchNorm1d before each activation"}),
    ("keep", 1.0, {"type": share, "metavar": "P", "help": "share that Dropout keeps after each activation"}),
    ("init", "kaiming-uniform", {"choices": INITIALIZERS}),
    (
        "scale",
        True,
        {"flag": "--no-scale", "action": "store_false", "help": "leave inputs and targets as is"},
    ),
    ("cost", None, {"choices": [*CLASSIFICATION, *REGRESSION], "help": "default: cross-entropy, or mse"}),
    ("optimizer", "adam", {"choices": OPTIMIZERS}),
    (
        "lr",
        None,
        {"type": number, "help": "learning rate (default: the optimizer's; sgd 0.1, momentum 0.01)"},
    ),
    ("momentum", None, {"type": number, "metavar": "M", "help": "of --optimizer momentum and rmsprop"}),
    ("weight_decay", None, {"type": number, "metavar": "D"}),
    ("clip", None, {"type": number, "metavar": "NORM", "help": "largest norm of the gradient"}),
    ("schedule", "constant", {"choices": SCHEDULES, "help": "course of the rate"}),
    ("warmup_steps", 0, {"type": whole(0), "metavar": "N", "help": "updates in which the rate rises from 0"}),
    ("epochs", 20, {"type": whole(1), "metavar": "N"}),
    ("batch_size", 64, {"type": whole(1), "metavar": "N"}),
    ("seed", 0, {"type": whole(0), "metavar": "N", "help": "of weights, batches, Dropout and held-out rows"}),
]


def fault(saved: Mapping[str, Any]) -> str | None:
    """What is wrong with options that another hand may have written, None where all could have been given."""
    for name, default, told in OPTIONS:
        if name not in saved:
            return f"options lack {name!r}"
        value = saved[name]
        as_default = type(value) is type(default) and value == default
        if not as_default and not _could_be_given(value, told):
            return f"options: {name} is {value!r}"
    return None


def _could_be_given(value: Any, told: Mapping[str, Any]) -> bool:
    if "action" in told:
        return isinstance(value, bool)
    if "choices" in told:
        return value in tuple(told["choices"])
    text = (",".join(map(str, value)) or "none") if isinstance(value, list) else str(value)
    try:
        return bool(told.get("type", str)(text) == value)
    except argparse.ArgumentTypeError:
        return False
