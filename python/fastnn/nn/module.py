"""Module: what every layer is, and how layers find, name, copy and print what they hold."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import numpy as np

from fastnn import _device
from fastnn._arrays import Array, FloatArray, as_float32, as_generator, check_flag
from fastnn._describe import arguments_of, make
from fastnn._parameter import Initializer, Parameter

Self = TypeVar("Self", bound="Module")


class Module(ABC):
    """Base of all layers, of models, and of your own layers.

    A subclass writes `forward` and `backward`; parameters and inner modules are its attributes (or stand in
    lists and tuples among them). Rules that every layer keeps: `forward` never changes x, `backward` never
    changes dy, and no array once returned is written again. A layer keeps x by reference until its next
    `forward`, so leave x as it is until `backward` is done. What `backward` needs belongs into `self._saved`
    (None in evaluation); `self._take_saved()` gives it back or raises, and copies leave it out.
    docs/models.md has a complete example.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> class Scale(nn.Module):
    ...     '''y = factor * x, with one factor for every column.'''
    ...
    ...     def __init__(self, columns):
    ...         self.factor = nn.Parameter(np.ones(columns))
    ...
    ...     def forward(self, x):
    ...         self._saved = x if self.training else None
    ...         return x * self.factor.data
    ...
    ...     def backward(self, dy, *, accumulate=False, input_grad=True):
    ...         grad = (dy * self._take_saved()).sum(axis=0)
    ...         self.factor.grad = self.factor.grad + grad if accumulate else grad
    ...         return dy * self.factor.data if input_grad else None
    >>> model = nn.Sequential(nn.Linear(3, 2), Scale(2), seed=0)
    >>> [p.name for p in model.parameters()]
    ['0.weight', '0.bias', '1.factor']
    """

    training: bool = True
    buffers: Mapping[str, float] = {}  # names of arrays saved but not trained -> first value
    counters: tuple[str, ...] = ()  # names of whole numbers that go into a file beside the arrays
    passes_on: bool = False  # whether `forward` may return x itself or a view of it, in training too
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

    def _lower(self, lowering: Any, x: Any) -> Any:
        """Emit the operations of a training forward on `x` (a `Value` of a `Lowering`, see `_program.py`).

        Returns the result and a function of (dy, whether dx is wanted) that emits those of `backward` and
        returns dx or None. The layers of fastnn have it; a layer of your own trains in the plain loop.
        """
        raise TypeError(
            f"Trainer: {type(self).__name__} is a layer of your own, which no native program can hold; train "
            "it with the plain loop: value, dpred = loss(model(x), y); "
            "model.backward(dpred, input_grad=False); optimizer.step()"
        )

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
        """Every parameter once, in layer order: what an optimizer takes.

        Names become those of the outermost module asked: "weight" of a lone layer, "block.weight" here.
        """
        found = []
        for name, parameter in self.named_parameters():
            if name.endswith(parameter.name):
                parameter.name = name
            found.append(parameter)
        return found

    def modules(self) -> list[Module]:
        """This module and all below it."""
        return [module for _, module in self.named_modules()]

    def _check_unshared(self) -> None:
        """Refuse a layer or parameter in two places: one backward would overwrite what the other left."""
        places: dict[int, str] = {}
        for name, layer in self.named_children():
            for part in [*layer.modules(), *(parameter for _, parameter in layer.named_parameters())]:
                if places.setdefault(id(part), name) != name:
                    raise ValueError(
                        f"{type(self).__name__}: layers {places[id(part)]} and {name} are or share the same "
                        f"{type(part).__name__}; make a new one for each place"
                    )

    # ---- mode

    def train(self: Self, mode: bool = True) -> Self:
        """Put the module and all below it into training mode; returns the module."""
        mode = check_flag(mode, f"{type(self).__name__}.train: mode")
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
        where = f"{type(self).__name__}.reset_parameters"
        rng = as_generator(seed, f"{where}: seed")
        if init is not None and not isinstance(init, Mapping):
            raise TypeError(f"{where}: init must be a dict of names to initializers, got {init!r}")
        own, chosen = dict(self.named_parameters()), dict(init or {})
        if unknown := sorted(chosen.keys() - own.keys()):
            raise ValueError(
                f"{where}: init names no parameter: {', '.join(unknown)}; the names are {', '.join(own)}"
            )
        drawn = [parameter.draw(rng, chosen.get(name)) for name, parameter in own.items()]
        for parameter, values in zip(own.values(), drawn, strict=True):
            parameter.data = values
        for module in self.modules():
            module._reset(rng)

    def _reset(self, rng: np.random.Generator) -> None:
        """Begin again with what is no parameter; `reset_parameters` calls it once all weights are drawn."""
        for name, value in self.buffers.items():
            getattr(self, name).fill(value)

    def _as_pytorch(self, name: str, array: FloatArray) -> tuple[str, FloatArray]:
        """What PyTorch's layer of this kind calls an array of this module, and a view as it stores it."""
        return name, array

    def _state(self, layout: str = "fastnn") -> dict[str, FloatArray]:
        """Name -> the array itself, or a view: all parameters, each once, then all running statistics."""
        parameters: dict[str, FloatArray] = {}
        buffers: dict[str, FloatArray] = {}
        seen: set[int] = set()
        for prefix, module in self.named_modules():
            arrays = [(parameters, name, parameter.data) for name, parameter in module._members(Parameter)]
            arrays += [(buffers, name, getattr(module, name)) for name in module.buffers]
            for group, name, array in arrays:
                if id(array) not in seen:
                    seen.add(id(array))
                    if layout == "pytorch":
                        name, array = module._as_pytorch(name, array)
                    group[f"{prefix}.{name}" if prefix else name] = array
        return {**parameters, **buffers}

    def state_dict(self) -> dict[str, FloatArray]:
        """Name -> NumPy array, for all parameters and running statistics; copies, which training leaves."""
        _device.settle(self)
        return _device.copies(self._state())

    def load_state_dict(
        self, state: Mapping[str, Any], *, layout: Literal["fastnn", "pytorch"] = "fastnn"
    ) -> None:
        """Copy the arrays of a `state_dict` in place: parameters stay where they are.

        `layout="pytorch"` takes what `state_dict()` of a PyTorch model of the same structure returns,
        tensors or arrays: weights of Linear are (out, in) there and transposed here, square ones too, gamma
        and beta are called weight and bias, and `num_batches_tracked` is ignored (a batch-norm that counts,
        with `debias=True`, takes it).

        Strict: missing names, names too many, shapes and dtypes that do not fit are all listed in one
        ValueError, and then nothing has been changed. Tensors without `layout="pytorch"` raise TypeError,
        because nothing in them says which way round a square weight is.
        """
        where = f"{type(self).__name__}.load_state_dict"
        _device.settle(self)
        if layout not in ("fastnn", "pytorch"):
            raise ValueError(f'{where}: layout must be "fastnn" or "pytorch", got {layout!r}')
        if not isinstance(state, Mapping):
            hint = "; pass its state_dict()" if hasattr(state, "state_dict") else ""
            raise TypeError(
                f"{where}: expected a mapping of names to arrays, got {type(state).__name__}{hint}"
            )
        values, problems = self._values(where, state, layout)
        if problems:
            raise ValueError(f"{where}: " + "; ".join(sorted(problems)))
        own = self._state(layout)
        for name, value in values.items():
            _device.put(own[name], value)

    def _values(
        self, where: str, state: Mapping[str, Any], layout: str = "fastnn"
    ) -> tuple[dict[str, FloatArray], list[str]]:
        """The arrays of a state as this module would store them, and all that is wrong with them."""
        own = self._state(layout)
        problems = [f"missing {name!r}" for name in own if name not in state]
        values: dict[str, FloatArray] = {}
        for name, value in state.items():
            unused = name not in own and str(name).rpartition(".")[2] == "num_batches_tracked"
            if layout == "pytorch" and unused:
                continue
            if hasattr(value, "detach"):
                if layout != "pytorch":
                    raise TypeError(
                        f'{where}: {name!r} is a {type(value).__name__}; pass layout="pytorch" for the '
                        "state_dict() of a PyTorch model, or NumPy arrays as fastnn stores them"
                    )
                try:
                    value = np.asarray(value.detach())
                except (TypeError, RuntimeError) as error:  # on a GPU, or bfloat16
                    problems.append(f"{name!r}: {error}")
                    continue
            if name not in own:
                problems.append(f"unexpected {name!r}")
                continue
            try:
                values[name] = as_float32(value, repr(name))
            except TypeError as error:
                problems.append(str(error))
                continue
            if values[name].shape != own[name].shape:
                problems.append(f"{name!r} has shape {values[name].shape}, must be {own[name].shape}")
        return values, problems

    def _config(self) -> dict[str, Any]:
        """The constructor's arguments by name, which `fastnn.save` writes down.

        Here: for each argument the attribute of that name, without `rng` and `seed`, which only draw. A layer
        that keeps an argument elsewhere overrides this.
        """
        return arguments_of(self)

    @classmethod
    def _from_config(cls: type[Self], config: Mapping[str, Any]) -> Self:
        """A new module from what `_config` returned."""
        return make(cls, config)

    def to(self: Self, device: str) -> Self:
        """Move all arrays to "cpu" or "cuda", keeping the Parameter objects; returns the module.

        On "cuda" they are CuPy arrays, which `Trainer(device="cuda")` trains (it moves them itself). Layers,
        losses and optimizers called one by one then compute there too and take CuPy arrays (docs/cuda.md).
        Optimizers made before take their arrays along at the next step. Raises `fastnn.CudaError` with the
        reason where no GPU can be used.
        """
        _device.check(f"{type(self).__name__}.to", device)
        for module in self.modules():
            for _, parameter in module._members(Parameter):
                parameter._move(device)
            for name in module.buffers:
                setattr(module, name, _device.moved(getattr(module, name), device))
            module._saved = None
        return self

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

    def _lower(self, lowering: Any, x: Any) -> Any:
        return self._lower_activated(lowering, x, None)

    @abstractmethod
    def _lower_activated(self, lowering: Any, x: Any, activation: Any) -> Any:
        """`_lower` of `forward_activated`."""

    @abstractmethod
    def forward_activated(self, x: Array, activation: Any) -> FloatArray:
        """`activation(forward(x))`; `backward` then expects the gradient of the activated output."""

    def _in_kernel(self, activation: Any) -> Any:
        """`activation` where the kernel applies it. In training it cannot where backward needs the result
        before the activation: the derivative of these four is no function of the activated result.
        """
        return None if self.training and activation in _DERIVED_FROM_INPUT else activation


_DERIVED_FROM_INPUT = ("gelu", "gelu_tanh", "silu", "softplus")


# Models inside `evaluating`, by id: the modes before, and how often: by threads, by a handler of signals.
_evaluated: dict[int, tuple[list[tuple[Module, bool]], int]] = {}
_entering = threading.RLock()


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Evaluation mode inside, and every module's own mode again when the last thread has left."""
    with _entering:
        modes, inside = _evaluated.get(id(model)) or ([(m, m.training) for m in model.modules()], 0)
        model.eval()
        _evaluated[id(model)] = modes, inside + 1
    try:
        yield
    finally:
        with _entering:
            modes, inside = _evaluated.pop(id(model))
            if inside > 1:
                _evaluated[id(model)] = modes, inside - 1
            else:
                for module, training in modes:
                    module.training = training
