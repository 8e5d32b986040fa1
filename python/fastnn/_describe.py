"""How an object of fastnn is taken apart into the arguments of its constructor, and made from them again."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")

_DRAWING = ("rng", "seed")  # arguments that only say what the first values are drawn from


def arguments_of(made: object) -> dict[str, Any]:
    """The constructor's arguments by name, each read from the attribute of that name."""
    return {name: getattr(made, name) for name in _parameters(type(made))}


def make(cls: type[T], arguments: Mapping[str, Any]) -> T:
    """An object from `arguments_of`; TypeError or ValueError for arguments that the constructor refuses."""
    parameters = _parameters(cls)
    if unknown := arguments.keys() - parameters.keys():
        raise TypeError(f"{cls.__name__}: unknown arguments {sorted(unknown)}")
    several = [name for name, kind in parameters.items() if kind is inspect.Parameter.VAR_POSITIONAL]
    positional = [item for name in several for item in arguments[name]]
    return cls(*positional, **{name: value for name, value in arguments.items() if name not in several})


def _parameters(cls: type) -> dict[str, Any]:
    """Name -> kind of the constructor's arguments."""
    own = inspect.signature(cls).parameters.values()
    return {parameter.name: parameter.kind for parameter in own if parameter.name not in _DRAWING}
