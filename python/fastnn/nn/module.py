"""Module: what every layer is, and how layers find, name, copy and print what they hold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np

from fastnn._arrays import Array, FloatArray, as_float32, as_generator
from fastnn._parameter import Initializer, Parameter

Self = TypeVar("Self", bound="Module")


class Module(ABC):
    """Base of all layers, of models, and of your own layers.

    A subclass writes `forward` and `backward`; parameters and inner modules are its attributes (or stand in
    lists and tuples among them). Rules that every layer keeps: `forward` never changes x, `backward` never
    changes dy, and no array once returned is written again. A layer keeps x by reference until its next
    `forward`, so leave x as it is until `backward` is done. What `backward` needs belongs into `self._saved`:
    copies leave it out.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> class Scale(nn.Module):
    ...     '''y = factor * x, with one factor for every column.'''
    ...
    ...     def __init__(self, columns):
    ...         self.factor = nn.Parameter(np.ones(columns))
    ...
    ...     def forward(self, x):
    ...         self._saved = x
    ...         return x * self.factor.data
    ...
    ...     def backward(self, dy, *, accumulate=False, input_grad=True):
    ...         grad = (dy * self._saved).sum(axis=0)
    ...         self.factor.grad = self.factor.grad + grad if accumulate else grad
    ...         return dy * self.factor.data if input_grad else None
    >>> model = nn.Sequential(nn.Linear(3, 2), Scale(2), seed=0)
    >>> [p.name for p in model.parameters()]
    ['0.weight', '0.bias', '1.factor']
    """

    training: bool = True
    buffers: ClassVar[Mapping[str, float]] = {}  # names of arrays saved but not trained -> first value
    _saved: Any = None

    @abstractmethod
    def forward(self, x: Array) -> FloatArray:
        """Return the layer's output; in training mode keep what `backward` needs."""

    @abstractmethod
    def backward(self, dy: Array, *, accumulate: bool = False, input_grad: bool = True) -> FloatArray | None:
        """Given dy = dloss/dy of the last training forward, set every `.grad` and return dx = dloss/dx.

        Gradients are overwritten, so no loop has to zero them; `accumulate=True` adds to them instead.
        `input_grad=False` returns None and skips the work for dx (the first layer of a model needs none).
        Without a training-mode forward before it: RuntimeError.
        """

    def __call__(self, x: Array) -> FloatArray:
        return self.forward(x)

    # ---- what a module holds

    def _members(self, kind: Any) -> Iterator[tuple[str, Any]]:
        for name, value in vars(self).items():
            if isinstance(value, kind):
                yield name, value
            elif isinstance(value, (list, tuple)):
                yield from ((f"{name}.{i}", item) for i, item in enumerate(value) if isinstance(item, kind))

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly in this one, with their names, in the order in which they were set."""
        return self._members(Module)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, outer before inner, each with its dotted name (this one: prefix)."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, with its dotted name, in layer order."""
        seen: set[int] = set()
        for prefix, module in self.named_modules():
            for name, parameter in module._members(Parameter):
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield (f"{prefix}.{name}" if prefix else name), parameter

    def parameters(self) -> list[Parameter]:
        """Every parameter once, in layer order: what an optimizer takes. One without a name gets it here."""
        found = []
        for name, parameter in self.named_parameters():
            parameter.name = parameter.name or name
            found.append(parameter)
        return found

    def modules(self) -> list[Module]:
        """This module and all below it."""
        return [module for _, module in self.named_modules()]

    # ---- mode

    def train(self: Self, mode: bool = True) -> Self:
        """Put the module and all below it into training mode; returns the module."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: Self) -> Self:
        """Put the module and all below it into evaluation mode; returns the module."""
        return self.train(False)

    # ---- drawing, saving, loading

    def reset_parameters(
        self, seed: int | np.random.Generator, init: Mapping[str, Initializer] | None = None
    ) -> None:
        """Draw all parameters again, in layer order, from one NumPy generator, and reset running statistics.

        `init` maps names of parameters ("0.weight") to initializers to use instead of the layers' own. A
        parameter of your own layer without an initializer keeps its value. Unknown names raise ValueError.
        """
        rng = as_generator(seed, f"{type(self).__name__}.reset_parameters: seed")
        chosen = dict(init or {})
        for name, parameter in self.named_parameters():
            parameter.draw(rng, chosen.pop(name, None))
        if chosen:
            raise ValueError(
                f"{type(self).__name__}.reset_parameters: init names no parameter: {', '.join(chosen)}; "
                f"the names are {', '.join(name for name, _ in self.named_parameters())}"
            )
        for module in self.modules():
            for name, value in module.buffers.items():
                getattr(module, name)[...] = value

    def _state(self) -> dict[str, FloatArray]:
        state = {name: parameter.data for name, parameter in self.named_parameters()}
        for prefix, module in self.named_modules():
            for name in module.buffers:
                state[f"{prefix}.{name}" if prefix else name] = getattr(module, name)
        return state

    def state_dict(self) -> dict[str, FloatArray]:
        """Name -> array, for all parameters and running statistics; copies, which further training leaves."""
        return {name: array.copy() for name, array in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Copy the arrays of a `state_dict` in place: parameters stay where they are.

        Strict: missing names, names too many, shapes and dtypes that do not fit are all listed in one
        ValueError, and then nothing has been changed.
        """
        where = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state, Mapping):
            raise TypeError(f"{where}: expected a mapping of names to arrays, got {type(state).__name__}")
        own = self._state()
        problems = [f"missing {name!r}" for name in own if name not in state]
        problems += [f"unexpected {name!r}" for name in state if name not in own]
        values = {}
        for name in own.keys() & state.keys():
            try:
                values[name] = as_float32(state[name], repr(name))
            except TypeError as error:
                problems.append(str(error))
                continue
            if values[name].shape != own[name].shape:
                problems.append(f"{name!r} has shape {values[name].shape}, must be {own[name].shape}")
        if problems:
            raise ValueError(f"{where}: " + "; ".join(sorted(problems)))
        for name, value in values.items():
            own[name][...] = value

    def __getstate__(self) -> dict[str, Any]:
        # The last batch is no part of a copy or a pickle.
        return {name: value for name, value in vars(self).items() if name != "_saved"}

    # ---- printing

    def _arguments(self) -> str:
        """The constructor arguments that `repr` shows."""
        return ""

    def _rows(self, indent: str, name: str) -> Iterator[tuple[str, str, int]]:
        own = [(part, parameter.data) for part, parameter in self._members(Parameter)]
        head = f"{indent}{name}{type(self).__name__}({self._arguments()})"
        yield (
            head,
            " ".join(f"{part} {array.shape}" for part, array in own),
            sum(array.size for _, array in own),
        )
        for child_name, child in self.named_children():
            yield from child._rows(indent + "  ", f"{child_name}: ")

    def __repr__(self) -> str:
        rows = list(self._rows("", ""))
        left, middle = (max(map(len, column)) for column in list(zip(*rows, strict=True))[:2])
        lines = [f"{head:<{left}}  {shapes:<{middle}}  {count:>12,}" for head, shapes, count in rows]
        total = sum(parameter.data.size for _, parameter in self.named_parameters())
        return "\n".join([*lines, f"{total:,} parameters"])

    def _take_saved(self) -> Any:
        if self._saved is None:
            name = type(self).__name__
            raise RuntimeError(
                f"{name}.backward: no training-mode forward to go back through; call the layer on a batch in "
                "training mode (after train()) first"
            )
        return self._saved


class Fusable(Module):
    """A layer whose kernel can apply an activation to its result while storing it, with the same bits."""

    def forward(self, x: Array) -> FloatArray:
        return self.forward_activated(x, None)

    @abstractmethod
    def forward_activated(self, x: Array, activation: Any) -> FloatArray:
        """`activation(forward(x))`; `backward` then expects the gradient of the activated output."""
