"""What an optimizer's `state_dict` keeps of its options and slots, and what may be loaded."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from fastnn._arrays import FloatArray, as_float32
from fastnn._options import Group
from fastnn._parameter import Parameter

Slots = Mapping[str, FloatArray]

# Options that may be a schedule: a function, which is not saved.
SCHEDULED = ("lr", "momentum", "betas")


def saved_option(value: Any) -> Any:
    """What a state keeps of an option: of a schedule its state, None when it has none."""
    if isinstance(value, (tuple, list)):
        return tuple(map(saved_option, value))
    if not callable(value):
        return value
    return getattr(value, "state_dict", dict)() or None


def loaded(key: str, own: Any, saved: Any) -> Any:
    """The option to use after loading: the saved one; a schedule stays, and its state is loaded."""
    if isinstance(saved, (tuple, list)):
        pairs = zip(own, saved, strict=True) if key in SCHEDULED else ((None, one) for one in saved)
        return tuple(loaded(key, mine, one) for mine, one in pairs)
    if key not in SCHEDULED or not callable(own):
        return saved
    if saved is not None:
        own.load_state_dict(saved)
    return own


def _kind(saved: Any) -> str:
    if isinstance(saved, (tuple, list)):
        return " and ".join(map(_kind, saved))
    if saved is None:
        return "a schedule"
    return "a schedule with a state" if isinstance(saved, Mapping) else "a number"


def group_problems(
    groups: list[Group], own: list[Group], given: list[Group], check: Callable[[Group], None]
) -> list[str]:
    """What keeps the saved groups from being loaded; `own` is what the optimizer would save itself."""
    if not isinstance(given, (list, tuple)) or not all(isinstance(theirs, Mapping) for theirs in given):
        return [f"param_groups must be a list of dicts, got {given!r}"]
    if len(own) != len(given):
        return [f"{len(given)} parameter groups, must be {len(own)}"]
    problems = []
    for i, (mine, theirs) in enumerate(zip(own, given, strict=True)):
        if mine.keys() != theirs.keys():
            problems.append(f"group {i} has options {sorted(theirs)}, must be {sorted(mine)}")
            continue
        if mine["params"] != theirs["params"]:
            problems.append(f"group {i} has parameters {theirs['params']}, must be {mine['params']}")
        kinds = {key: (_kind(theirs[key]), _kind(mine[key])) for key in SCHEDULED if key in mine}
        wrong = [f"{key} of group {i} is {k[0]}, must be {k[1]}" for key, k in kinds.items() if k[0] != k[1]]
        problems += wrong
        if wrong:
            continue
        try:
            trial = copy.deepcopy({key: value for key, value in groups[i].items() if key != "params"})
            check({key: loaded(key, trial[key], theirs[key]) for key in trial})
        except (TypeError, ValueError) as error:
            problems.append(f"group {i}: {error}")
    return problems


def slot_values(
    parameters: list[Parameter], own: dict[int, Slots], given: Mapping[int, Slots]
) -> tuple[list[tuple[str, int, FloatArray]], list[str]]:
    """(slot, number of the parameter, value) of all saved slots, and what keeps them from being loaded."""
    if not isinstance(given, Mapping) or not all(isinstance(slots, Mapping) for slots in given.values()):
        return [], [f"state must be a dict of dicts, got {given!r}"]
    values, problems = [], []
    for i, parameter in enumerate(parameters):
        saved = given.get(i, {})
        if saved.keys() != own[i].keys():
            problems.append(f"{parameter.name!r} has slots {sorted(saved)}, must be {sorted(own[i])}")
            continue
        for slot, array in saved.items():
            what = f"slot {slot!r} of {parameter.name!r}"
            try:
                value = as_float32(array, what)
            except TypeError as error:
                problems.append(str(error))
                continue
            if value.shape != parameter.data.shape:
                problems.append(f"{what} has shape {value.shape}, must be {parameter.data.shape}")
            values.append((slot, i, value))
    extra = [i for i in given if i not in own]
    return values, problems + ([f"unexpected parameters {extra}"] if extra else [])
