"""Models in files: `save` and `load`. docs/saving.md has the format and what is promised.

>>> import tempfile
>>> import numpy as np
>>> import fastnn
>>> from fastnn import nn
>>> model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3), seed=0)
>>> with tempfile.TemporaryDirectory() as folder:
...     fastnn.save(f"{folder}/model.safetensors", model)
...     same = fastnn.load(f"{folder}/model.safetensors")
>>> x = np.ones((2, 4), np.float32)
>>> np.array_equal(same(x), model(x))
True
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from os import PathLike
from types import ModuleType
from typing import Any

import numpy as np

from fastnn import _device, _file, init, nn
from fastnn._arrays import Array
from fastnn._describe import arguments_of, make
from fastnn._plain import decode, encode
from fastnn._runtime import __version__
from fastnn.nn import Module

__all__ = ["load", "save"]

_PUBLIC: dict[str, ModuleType] = {"nn": nn, "init": init}  # whose classes a file may name


def save(path: str | PathLike[str], model: Module) -> None:
    """Write a model to one `.safetensors` file: architecture, parameters, running statistics.

    Also kept: the seed and count of every `Dropout`, so that the same masks follow; which parameters are not
    `trainable` or not decayed; which layers are in evaluation mode. Not kept: gradients, and initializers
    that are functions of your own (`reset_parameters` would draw from the layer's default instead).

    The file is written whole or not at all: at any moment, through `kill -9`, a full disk or a power cut,
    `path` holds all of the old file or all of the new one. PyTorch's `torch.save` writes a pickle, which runs
    code when it is loaded; this file holds numbers and names, and any safetensors reader finds the arrays
    under their names in `state_dict()`.

    Raises TypeError for what is no module, and for a layer that is not fastnn's own, by its name; OSError
    when the file cannot be written, and then an old one is as it was.

    >>> import tempfile
    >>> import fastnn
    >>> from fastnn import nn
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fastnn.save(f"{folder}/model.safetensors", nn.Sequential(nn.Linear(4, 3), nn.ReLU(), seed=0))
    ...     model = fastnn.load(f"{folder}/model.safetensors")
    >>> model[0].weight.data.shape
    (4, 3)
    """
    if not isinstance(model, Module):
        raise TypeError(f"save: model must be an nn.Module, got {type(model).__name__}; see Trainer.save")
    arrays: dict[str, Array] = {}
    section = model_section(model, arrays)
    if section["strangers"]:
        raise TypeError(
            f"save: {_strangers(section)} of fastnn, and a file holds no code; save arrays with "
            "numpy.savez(path, **model.state_dict()) or Trainer.save(path), and load them into a model that "
            "your code builds"
        )
    _file.write(path, "save", {"fastnn": __version__, "kind": "model", "model": section}, arrays)


def load(path: str | PathLike[str]) -> Module:
    """The model of a file that `save` or `Trainer.save` wrote, built anew.

    No code from the file is run: its architecture names classes of `fastnn.nn` and `fastnn.init` and their
    arguments. The checksum is verified first.

    Raises OSError when there is no such file; ValueError, in one sentence, for a file that is damaged, cut
    off, of a newer format, not fastnn's at all, or of a `Trainer` whose model has layers of your own.

    >>> import tempfile
    >>> import fastnn
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     fastnn.load(file.name)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: load: ... is no safetensors file of fastnn but something else, 0 bytes long; ...
    """
    description, arrays = _file.read(path, "load")
    section = description.get("model", {})
    try:
        if section["strangers"]:
            raise ValueError(
                f"holds {_strangers(section)} of fastnn; build the model and its trainer with your code and "
                "call trainer.load(path)"
            )
        total = sum(array.size for array in arrays.values())
        model = decode(section["architecture"], arrays, lambda name, given: _build(name, given, total))
        if not isinstance(model, Module):
            raise ValueError("describes no model")
        problems = model_problems(model, section, arrays, architecture=False)
        if problems:
            raise ValueError("does not fit its own description: " + "; ".join(problems))
        load_model(model, section, arrays)
    except ValueError as error:
        raise ValueError(f"load: {path} {error}") from None
    except (TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(f"load: {path} has a description that fastnn never writes: {error!r}") from None
    return model


def _strangers(section: Mapping[str, Any]) -> str:
    layers = ", ".join(f"layer {name!r} ({kind})" if name else kind for name, kind in section["strangers"])
    return f"{layers}, no layer" if len(section["strangers"]) == 1 else f"{layers}, no layers"


# ---- a model as a section of a file; Trainer.save has one too


def model_section(model: Module, arrays: dict[str, Array]) -> dict[str, Any]:
    """What a file says of a model; its arrays go into `arrays` under their names in `state_dict()`."""
    _device.settle(model)
    modules, parameters = list(model.named_modules()), list(model.named_parameters())
    strangers = [[name, type(module).__name__] for name, module in modules if not _is_public(module)]
    arrays.update({name: _device.on_host(array) for name, array in model._state().items()})
    architecture = None if strangers else encode(model, "architecture", arrays, _describe)
    return {
        "architecture": architecture,
        "strangers": strangers,
        "arrays": list(model._state()),
        "counters": {_join(name, key): getattr(m, key) for name, m in modules for key in m.counters},
        "evaluating": [name for name, module in modules if not module.training],
        "frozen": [name for name, parameter in parameters if not parameter.trainable],
        "undecayed": [name for name, parameter in parameters if not parameter.decay],
    }


def model_problems(
    model: Module, section: Mapping[str, Any], arrays: Mapping[str, Array], architecture: bool = True
) -> list[str]:
    """All that keeps a section of a file from being loaded into a model."""
    saved = {name: arrays[name] for name in section["arrays"]}
    _, problems = model._values("", saved)
    problems += [
        f"{name!r} has dtype {array.dtype}, must be float32"
        for name, array in saved.items()
        if array.dtype != np.float32
    ]
    mine = model_section(model, {})
    for key, what in (("counters", "counts"), ("strangers", "layers of your own")):
        theirs, own = sorted(map(str, section[key])), sorted(map(str, mine[key]))
        if theirs != own:
            problems.append(f"the file has {what} {theirs}, the model {own}")
    problems += [f"{name!r} is {n!r}" for name, n in section["counters"].items() if type(n) is not int]
    layers = {name for name, _ in model.named_modules()}
    parameters = {name for name, _ in model.named_parameters()}
    for key, names in (("evaluating", layers), ("frozen", parameters), ("undecayed", parameters)):
        problems += [f"{key} names {name!r}" for name in set(section[key]) - names]
    if architecture and None not in (section["architecture"], mine["architecture"]):
        problems += differences("model", section["architecture"], mine["architecture"])
    return problems


def load_model(model: Module, section: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Take over a section in which `model_problems` found nothing."""
    model.load_state_dict({name: arrays[name] for name in section["arrays"]})
    for prefix, module in model.named_modules():
        module.training = prefix not in section["evaluating"]
        for key in module.counters:
            setattr(module, key, section["counters"][_join(prefix, key)])
    for name, parameter in model.named_parameters():
        parameter.trainable = name not in section["frozen"]
        parameter.decay = name not in section["undecayed"]


def differences(where: str, saved: Any, own: Any) -> list[str]:
    """Where two descriptions differ, each in a few words."""
    if isinstance(saved, dict) and isinstance(own, dict) and saved.keys() == own.keys():
        if saved.get("$object") != own.get("$object"):
            return [f"{where} is {saved['$object']} in the file, {own['$object']} here"]
        return [d for key in own for d in differences(_step(where, key), saved[key], own[key])]
    if isinstance(saved, list) and isinstance(own, list) and len(saved) == len(own):
        return [d for i in range(len(own)) for d in differences(f"{where}.{i}", saved[i], own[i])]
    if isinstance(saved, list) and isinstance(own, list):
        return [f"{where} has {len(saved)} entries in the file, {len(own)} here"]
    return [] if saved == own else [f"{where} is {_short(saved)} in the file, {_short(own)} here"]


def _step(where: str, key: str) -> str:
    return where if key in ("arguments", "$tuple", "layers") else f"{where}.{key}"


def _short(node: Any) -> str:
    return str(node["$object"]) if isinstance(node, dict) and "$object" in node else repr(node)


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


# ---- objects of fastnn as names and arguments


def _is_public(made: object) -> bool:
    return any(getattr(room, type(made).__name__, None) is type(made) for room in _PUBLIC.values())


def _describe(made: Any, name: str, arrays: dict[str, Array]) -> Any:
    """The `objects` of `encode`: a layer or an initializer as the name of its class and its arguments."""
    for room, module in _PUBLIC.items():
        if getattr(module, type(made).__name__, None) is type(made):
            arguments = made._config() if isinstance(made, Module) else arguments_of(made)
            return {
                "$object": f"{room}.{type(made).__name__}",
                "arguments": encode(arguments, name, arrays, _describe),
            }
    raise TypeError(f"{name}: cannot save a {type(made).__name__}; it is no class of fastnn")


def _build(name: str, arguments: Mapping[str, Any], total: int) -> Any:
    """The object of a description, of a public class of fastnn and of no more than `total` numbers."""
    room, _, kind = name.partition(".")
    cls = getattr(_PUBLIC.get(room), kind, None)
    if not isinstance(cls, type) or kind not in _PUBLIC[room].__all__:
        raise ValueError(f"names {name!r}, which this fastnn does not have; update it")
    if issubclass(cls, Module):
        sizes = [value for value in arguments.values() if type(value) is int and value > 0]
        if math.prod(sizes) > max(total, 1):
            raise ValueError(f"describes {name} with sizes {sizes}, for which it holds too few numbers")
        return cls._from_config(arguments)
    return make(cls, arguments)
