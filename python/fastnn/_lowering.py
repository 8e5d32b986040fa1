"""Lowering: what a model and a loss become, an operation after another (csrc/program/ops.h).

Each layer says in `_lower` which operations its forward is, and returns a function that emits those of its
backward; `Lowering` numbers the buffers between them. Which memory they get, and which of them run side by
side, is planned natively for each batch size (csrc/program).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from fastnn import _core
from fastnn._arrays import FloatArray
from fastnn.nn import Dropout, Linear, Module, Sequential

Backward = Callable[["Value", bool], "Value | None"]

_CACHED_WEIGHTS = 128 * 1024
# A product reads a weight of fewer columns where it lies, and one whose rows are whole cache lines that do
# not fall in a few sets of the caches (csrc/cpu/tile.h).
_LINE, _SETS = 16, 512


class Value(NamedTuple):
    """An array of a program: the number of its buffer and its shape without the axis of the batch."""

    ref: int
    shape: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Rows for each row of the batch."""
        return math.prod(self.shape[:-1])

    @property
    def size(self) -> int:
        """Numbers for each row of the batch."""
        return math.prod(self.shape)


class Lowering:
    """Collects the buffers and operations of a program; layers and losses call it from their `_lower`."""

    NONE = -1  # the number of a buffer that is not there

    def __init__(self, batch_shape: tuple[int, ...], labels: bool, precision: str, chains: bool) -> None:
        self._rows = batch_shape[0]
        self._packs = chains and precision == "float32"
        self._labels = labels
        self._bfloat16 = precision == "bfloat16"
        self._rounded: dict[int, Value] = {}
        self._first: list[tuple[Any, ...]] = []  # operations that read parameters alone
        self.buffers: list[tuple[int, int]] = []
        self.ops: list[tuple[Any, ...]] = []
        self.dropouts: list[Dropout] = []
        # What the program is made from: the attributes of the loss and of each layer but dropout, whose
        # change from step to step.
        self.seen: list[dict[str, Any]] = []
        self.input = self.value(batch_shape[1:])
        self.emit("gather", self.input, self.input.size)

    def value(self, shape: tuple[int, ...]) -> Value:
        """A new array of this shape for each row of the batch."""
        self.buffers.append((math.prod(shape), 0))
        return Value(len(self.buffers) - 1, shape)

    def fixed(self, floats: int) -> int:
        """The number of a buffer that does not grow with the batch."""
        self.buffers.append((0, floats))
        return len(self.buffers) - 1

    def target(self, pred: Value) -> Value | int:
        """What a loss compares `pred` with: values of its shape, or none where the targets are class ids."""
        if self._labels:
            return self.NONE
        target = self.value(pred.shape)
        self.emit("gather", target, target.size)
        return target

    def full(self, value: Value) -> tuple[int, ...]:
        """The shape of a value in the first batch, for messages."""
        return self._rows, *value.shape

    def emit(self, kind: str, *fields: Any) -> None:
        """Add an operation; the fields are those of csrc/program/ops.h in their order."""
        self.ops.append((kind, *[field.ref if type(field) is Value else field for field in fields]))

    def rounded(self, value: Value) -> Value:
        """`value` as a product takes it: itself, or rounded to bfloat16, once for all who read it."""
        if not self._bfloat16:
            return value
        if value.ref not in self._rounded:
            self._rounded[value.ref] = self.value(value.shape)
            self.emit("round", value, self._rounded[value.ref], value.size)
        return self._rounded[value.ref]

    def rounded_weight(self, weight: FloatArray) -> int:
        """The number of the buffer with the weight rounded to bfloat16, none where products are float32."""
        if not self._bfloat16:
            return self.NONE
        ref = self.fixed(weight.size)
        self._first.append(("round_weight", ref, *weight.shape, weight))
        return ref

    def packed_weight(self, weight: FloatArray, transposed: bool = False) -> int:
        """The number of the buffer with the weight (or its transpose) packed for blocks of rows; none where
        there are no such blocks, or where each of them reads it where it lies."""
        rows, cols = weight.shape[::-1] if transposed else weight.shape
        in_place = not transposed and (cols < _LINE or (cols % _LINE == 0 and cols % _SETS != 0))
        if in_place or not self._packs:
            return self.NONE
        ref = self.fixed(_core.packed_floats(rows, cols))
        self._first.append(("pack_weight", ref, *weight.shape, weight, transposed))
        return ref

    def all_ops(self) -> list[tuple[Any, ...]]:
        """All operations in the order in which they run."""
        return self._first + self.ops

    def layer(self, layer: Any, x: Value, activation: str | None = None) -> tuple[Value, Backward]:
        """Lower a layer, with the activation that its kernel applies."""
        if not type(layer).__module__.startswith("fastnn."):
            Module._lower(layer, self, x)  # refuses it, also where it inherits from a layer of fastnn
        if not isinstance(layer, Dropout):
            layer._saved = None
            self.seen.append(vars(layer))
        y, backward = (
            layer._lower(self, x) if activation is None else layer._lower_activated(self, x, activation)
        )
        if layer.training or isinstance(layer, Sequential):
            return y, backward

        def refused(dy: Value, wanted: bool) -> Value | None:
            raise RuntimeError(
                f"Trainer: {type(layer).__name__} is in evaluation mode inside a model in training mode, and "
                "has no backward there; call model.train()"
            )

        return y, refused

    def dropout(self, layer: Dropout) -> int:
        """The number of a dropout layer among those of the program."""
        self.dropouts.append(layer)
        return len(self.dropouts) - 1


def has_chains(model: Module, backward: bool) -> bool:
    """Whether a thread takes a block of rows through all layers: where all weights that it reads together
    fit in a core's second-level cache."""
    sizes = [module.weight.data.size for module in model.modules() if isinstance(module, Linear)]
    return sum(sizes) + backward * sum(sizes[1:]) <= _CACHED_WEIGHTS
