"""Steps on the device that are queued and not waited for, and their losses."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastnn import _core, _device
from fastnn._arrays import Array, FloatArray

_STEPS = 256  # DeviceProgram::kQueue
_HELD = 1 << 28  # bytes of the caller's rows on the device that are kept from being freed


class QueuedLoss:
    """The loss of a step on the device: whatever needs the number waits for the step.

    It raises what kept the step from being done. `float(loss)`, `loss.item()`, `f"{loss:.3f}"`, comparisons,
    arithmetic, `math` and NumPy take it as a float.
    """

    __slots__ = ("_is",)

    def __init__(self, known: Queue | float) -> None:
        self._is: Queue | float | Exception = known

    def take(self, known: float | Exception) -> None:
        """The step was waited for."""
        self._is = known

    def __float__(self) -> float:
        if isinstance(self._is, Queue):
            self._is.settle()
        if isinstance(self._is, Exception):
            raise self._is
        assert isinstance(self._is, float)
        return self._is

    item = __float__

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(float(self), dtype)

    def __repr__(self) -> str:
        return repr(float(self))

    def __format__(self, spec: str) -> str:
        return format(float(self), spec)

    def __hash__(self) -> int:
        return hash(float(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return float, (float(self),)


def _as_float(operation: Callable[..., Any]) -> Callable[..., Any]:
    def computed(self: QueuedLoss, *others: Any) -> Any:
        return operation(float(self), *(float(o) if isinstance(o, QueuedLoss) else o for o in others))

    return computed


for _name in ("lt", "le", "gt", "ge", "eq", "ne", "add", "sub", "mul", "truediv", "pow", "neg", "abs"):
    setattr(QueuedLoss, f"__{_name}__", _as_float(getattr(operator, f"__{_name}__")))
for _name in ("add", "sub", "mul", "truediv"):
    _operation = getattr(operator, f"__{_name}__")
    setattr(QueuedLoss, f"__r{_name}__", _as_float(lambda x, other, of=_operation: of(other, x)))
for _name in ("bool", "int", "round"):
    setattr(QueuedLoss, f"__{_name}__", _as_float(getattr(float, f"__{_name}__")))


class _Queued(NamedTuple):
    loss: QueuedLoss
    # What a batch can be refused for.
    target: Array
    weight: FloatArray | None
    held: list[Any]  # on the device, which may have to read them again


class Queue:
    """The steps of a program (`_program.Program`) that nobody has waited for yet."""

    def __init__(self) -> None:
        self._program: Any = None  # while there are any: it holds the queue, and a ring would outlive both
        self._steps: list[_Queued] = []
        self._held = 0  # bytes on the device
        self._stream = 0
        self._alone = threading.RLock()  # whoever queues or waits

    def changes(self, owner: object) -> bool:
        """Whether its steps change this module or optimizer."""
        program = self._program  # none where another thread has waited
        return program is not None and bool(program.changes(owner))

    def add(self, program: Any, x: Array, target: Array, weight: FloatArray | None) -> QueuedLoss:
        """Queue a step of the program on this batch, and count it as done."""
        with self._alone:
            return self._add(program, x, target, weight)

    def _add(self, program: Any, x: Array, target: Array, weight: FloatArray | None) -> QueuedLoss:
        stream = _device.stream()
        if stream != self._stream or self._held > _HELD:
            self.settle()
            self._stream = stream
        step = _Queued(
            QueuedLoss(self),
            # The caller may write into these before somebody waits.
            target.copy() if program.labels else target,
            None if weight is None else weight.copy(),
            [array for array in (x, target, weight) if _device.is_on_device(array)],
        )
        if not program.queue_step(x, target, weight, stream):
            self.settle()
            if not program.queue_step(x, target, weight, stream):
                raise MemoryError("Trainer.step: no memory for a batch")
        self._program = program
        self._steps.append(step)
        self._held += sum(array.nbytes for array in step.held)
        _device.queues[id(self)] = self
        return step.loss

    def settle(self) -> None:
        """Wait for all steps; raise what kept one from being done, and with it those behind it."""
        with self._alone:
            self._settle()

    def _settle(self) -> None:
        if not self._steps:
            return
        values, result = np.zeros(_STEPS), np.zeros(4)
        program = self._program
        _core.settle_on_device(program.native, values, result, stream=self._stream)
        steps, self._steps, self._held, self._program = self._steps, [], 0, None
        _device.queues.pop(id(self), None)
        done = int(result[0])
        for step, value in zip(steps[:done], values.tolist(), strict=False):
            step.loss.take(value)
        if done == len(steps):
            return
        try:
            program.undone(result, len(steps), steps[done].target, steps[done].weight)
        except Exception as error:
            steps[done].loss.take(error)
            behind = RuntimeError(f"Trainer.step: not done, because a step before it was not: {error}")
            for step in steps[done + 1 :]:
                step.loss.take(behind)
            raise
