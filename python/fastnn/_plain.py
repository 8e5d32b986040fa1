"""Nested values (numbers, strings, lists, dicts, arrays) as JSON beside named arrays, and back, exactly.

JSON has no tuples, no keys but strings and no infinities. These become a dict with one key that begins with
"$": {"$tuple": [...]}, {"$dict": [[key, value], ...]}, {"$float": "inf"}, {"$array": "name in the file"}.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastnn._arrays import Array

Objects = Callable[[Any, str, dict[str, Array]], Any]


def encode(value: Any, name: str, arrays: dict[str, Array], objects: Objects | None = None) -> Any:
    """`value` as JSON; arrays in it go into `arrays` under names that begin with `name`.

    `objects` encodes what is nothing of the kind, or raises; without it that is a TypeError.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {"$array": name}
    if isinstance(value, (list, tuple)):
        items = [encode(item, f"{name}/{i}", arrays, objects) for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, Mapping):
        pairs = [[key, encode(item, f"{name}/{key}", arrays, objects)] for key, item in value.items()]
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return dict(pairs)
        return {"$dict": [[encode(key, name, arrays), item] for key, item in pairs]}
    if objects is not None:
        return objects(value, name, arrays)
    raise TypeError(
        f"{name}: cannot save a {type(value).__name__}; only numbers, strings, None, arrays, and lists, "
        "tuples and dicts of these"
    )


def decode(node: Any, arrays: Mapping[str, Array], build: Callable[[str, Any], Any] | None = None) -> Any:
    """What `encode` was given; arrays are those of the file. `build(name, arguments)` makes its objects."""
    if isinstance(node, list):
        return [decode(item, arrays, build) for item in node]
    if not isinstance(node, dict):
        return node
    if len(node) != 1 or not next(iter(node)).startswith("$"):
        if build is not None and node.keys() == {"$object", "arguments"}:
            return build(node["$object"], decode(node["arguments"], arrays, build))
        return {key: decode(item, arrays, build) for key, item in node.items()}
    ((tag, inner),) = node.items()
    if tag == "$float":
        return float(inner)
    if tag == "$array":
        return arrays[inner]
    if tag == "$tuple":
        return tuple(decode(inner, arrays, build))
    if tag == "$dict":
        return {decode(key, arrays): decode(item, arrays, build) for key, item in inner}
    raise ValueError(f"unknown {tag}")
