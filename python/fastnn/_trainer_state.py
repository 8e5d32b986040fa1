"""A trainer in a file: what `Trainer.save` writes and `Trainer.load` takes over, all of it or nothing."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from os import PathLike
from typing import Any

from fastnn import _file, losses
from fastnn._arrays import Array, check_int
from fastnn._epoch import Epoch
from fastnn._optimizer_state import SCHEDULED
from fastnn._plain import decode, encode
from fastnn._runtime import __version__
from fastnn.checkpoint import load_model, model_problems, model_section
from fastnn.history import History
from fastnn.schedulers import described

Trainer = Any  # fastnn.Trainer, which imports this module


def save(trainer: Trainer, path: str | PathLike[str]) -> None:
    arrays: dict[str, Array] = {}
    model = model_section(trainer.model, arrays)
    begun = trainer._epoch_begun
    own = [callback for callback in trainer._callbacks if callback._model in (None, trainer.model)]
    callbacks = [(type(callback).__name__, callback.state_dict()) for callback in own]
    state = {
        "optimizer": {
            "kind": type(trainer.optimizer).__name__,
            "state": trainer.optimizer.state_dict(),
            "schedules": _schedules(trainer.optimizer),
        },
        "loss": _loss(trainer.loss),
        "precision": trainer.precision,
        "metrics": list(trainer.metrics),
        "seed": trainer.seed,
        "history": dict(trainer.history),
        "begun": None if begun is None else begun.state_dict(),
        "callbacks": [[kind, state] for kind, state in callbacks + trainer._callback_states if state],
    }
    further: dict[str, Array] = {}
    section = encode(state, "trainer", further)
    if clash := sorted(further.keys() & arrays.keys()):
        raise ValueError(f"Trainer.save: the name {clash[0]!r} of the model is taken; rename the attribute")
    description = {"fastnn": __version__, "kind": "trainer", "model": model, "trainer": section}
    _file.write(path, "Trainer.save", description, {**arrays, **further})


def load(trainer: Trainer, path: str | PathLike[str]) -> None:
    where = "Trainer.load"
    trainer._kept_steps.refuse_in_fit(where)
    trainer._steps.settle()  # whose errors are none of the file's
    description, arrays = _file.read(path, where)
    if description.get("kind") != "trainer":
        raise ValueError(f"{where}: {path} holds a model and no trainer; fastnn.load(path) returns the model")
    try:
        model = description["model"]
        state = decode(description["trainer"], arrays)
        problems = model_problems(trainer.model, model, arrays)
        problems += _problems(trainer, state)
        seed = check_int(state["seed"], "seed", 0)
        history = History.from_columns(state["history"])
        callbacks = [(str(kind), dict(kept)) for kind, kept in state["callbacks"]]
        begun = None
        if state["begun"] is not None and not problems:
            # Files from before it was kept have no `first`.
            first = history["step"][-1] if history.epochs else 0
            begun = Epoch.from_state({"first": int(first), **state["begun"]}, trainer._scores())
        # The optimizer checks all before it changes anything, and is the last to check.
        problems += _into_optimizer(trainer.optimizer, state["optimizer"]["state"], bool(problems))
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"{where}: {path} has a description that fastnn never writes: {error!r}") from None
    if problems:
        raise ValueError(f"{where}: {path} does not fit this trainer: " + "; ".join(problems))
    load_model(trainer.model, model, arrays)
    trainer.seed = seed
    trainer._history = history
    trainer._epoch_begun = begun
    trainer._callbacks, trainer._callback_states = [], callbacks


def _problems(trainer: Trainer, state: Mapping[str, Any]) -> list[str]:
    pairs = {
        "the optimizer": (state["optimizer"]["kind"], type(trainer.optimizer).__name__),
        "the loss": (state["loss"], _loss(trainer.loss)),
        "precision": (state.get("precision", "float32"), trainer.precision),
        "metrics": (state["metrics"], list(trainer.metrics)),
    }
    if (saved := state["optimizer"].get("schedules")) is not None:
        own = _schedules(trainer.optimizer)
        # What is a schedule on one side alone the optimizer finds.
        pairs.update({what: (saved[what], own[what]) for what in own.keys() & saved.keys()})
    return [
        f"{what} is {theirs} in the file, {mine} here"
        for what, (theirs, mine) in pairs.items()
        if theirs != mine and None not in (theirs, mine)
    ]


def _schedules(optimizer: Any) -> dict[str, str]:
    """The schedules of an optimizer in words, by their places."""
    found = {}
    for i, group in enumerate(optimizer.param_groups):
        for key in SCHEDULED:
            given = group.get(key)
            several = isinstance(given, (tuple, list))
            for j, value in enumerate(given if several else [given]):
                if callable(value):
                    found[f"{key}{f'[{j}]' if several else ''} of group {i}"] = described(value)
    return found


def _loss(loss: Any) -> str | None:
    """A loss of fastnn with its options in words; None for one of the user's own."""
    if type(loss).__module__ != losses.__name__:
        return None
    return f"{type(loss).__name__}({', '.join(f'{k}={v!r}' for k, v in vars(loss).items())})"


def _into_optimizer(optimizer: Any, state: Mapping[str, Any], only_check: bool) -> list[str]:
    """Load the optimizer's state; what does not fit."""
    try:
        (copy.deepcopy(optimizer) if only_check else optimizer).load_state_dict(state)
    except ValueError as error:
        return [str(error)]
    return []
