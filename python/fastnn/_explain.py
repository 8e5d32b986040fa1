"""Trainer.explain: the native program of a step as a table: what runs together, its work, its time."""

from __future__ import annotations

import copy
import time
from typing import Any

import numpy as np

from fastnn import _core, _device
from fastnn._arrays import Array, FloatArray
from fastnn._program import Batches, Program
from fastnn._steps import Steps
from fastnn.nn import BatchNorm1d, Linear, Module, Standardize

_TIMINGS, _REPEATS = 9, 10  # of each region, its median is shown
_LIMIT_SECONDS = 0.02  # for which each limit of the machine is measured
_STEPS = 30  # that a device is given together

# Which fields of an operation (`Lowering.emit`) are its sizes: kind -> (first, count).
_SIZES = {
    "linear": (4, 2),
    "linear_weight": (4, 2),
    "linear_bias": (3, 1),
    "linear_input": (4, 2),
    "round_weight": (2, 2),
    "pack_weight": (2, 2),
    "round": (3, 1),
    "batch_norm": (5, 1),
    "batch_norm_backward": (7, 1),
    "scale": (4, 1),
}
_HEAD = ("region", "operations", "kflop", "KB", "one thread us", "measured us", "of the limit")
_ON_DEVICE = ("operation", "kflop", "KB", "measured us")


def explain(steps: Steps, batch_size: int) -> str:
    """The table for batches of so many rows; works on copies of the model and the optimizer."""
    if not steps.is_native:
        raise TypeError("Trainer.explain: a loss of one's own is trained layer by layer, without a program")
    steps.settle()
    program, batch = _program_of_copies(steps, batch_size)
    if steps.on_device:
        return _explain_on_device(steps, program, *batch)
    native = program.native
    native.time_regions(3)
    times = 1e6 * np.median([native.time_regions(_REPEATS) for _ in range(_TIMINGS)], axis=0)
    peak, stream = _core.limit_fma(_LIMIT_SECONDS), _core.limit_stream("copy", 1 << 16, _LIMIT_SECONDS)
    lines = native.lines()
    starts = sorted({region for _, region, *_ in lines})
    table: list[tuple[str, ...]] = [_HEAD]
    total = np.zeros(5)

    def show(name: str, what: str, flops: float, floats: float, ns: float, took: float, limit: float) -> None:
        numbers = flops / 1e3, floats * 4 / 1024, ns / 1e3, took
        shown = (f"{number:.{digits}f}" for number, digits in zip(numbers, (0, 0, 1, 1), strict=True))
        table.append((name, what, *shown, f"{limit / took:.2f}"))

    def add(name: str, what: str, flops: float, floats: float, ns: float, took: float) -> None:
        figures = flops, floats, ns, took, 1e6 * max(flops / peak, 4 * floats / stream)
        total[:] += figures
        show(name, what, *figures)

    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(times) - 1], strict=True), 1):
        inside = [line for line in lines if line[1] == start]
        work = [sum(line[i] for line in inside) for i in (3, 4, 5)]
        blocks = inside[0][2]
        name = f"{number}, {blocks} blocks of rows" if blocks else f"{number}"
        took = float(times[start:end].sum())
        add(name, _described(program.ops[inside[0][0]]), work[0], work[1], work[2], took)
        table.extend(("", _described(program.ops[line[0]]), "", "", "", "", "") for line in inside[1:])
    floats, ns = native.update_work()
    add(f"{len(starts) + 1}", "update", 0.0, floats, ns, float(times[-1]))
    show("", "all of them", *total)
    step = 1e6 * np.median([_step_seconds(program, *batch, _REPEATS) for _ in range(_TIMINGS)])
    last = f"a step: {step:.1f} us, of {_REPEATS} in one call"
    head = (
        f"{batch_size} rows: {len(lines)} operations and the update, {len(times)} parallel regions, "
        f"{native.arena_bytes(batch_size) / 1024:.0f} KB, {_core.get_num_threads()} threads, "
        f"{_core.get_isa()}" + (", bfloat16" if steps.precision == "bfloat16" else "")
    )
    return "\n".join([head, *_laid_out(table, 2), last])


def _laid_out(table: list[tuple[str, ...]], words: int) -> list[str]:
    """A line for each row, in columns; the first `words` of them begin at the left."""
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = []
    for row in table:
        cells = zip(row, widths)
        shown = (f"{cell:<{w}}" if i < words else f"{cell:>{w}}" for i, (cell, w) in enumerate(cells))
        lines.append("  ".join(shown).rstrip())
    return lines


def _explain_on_device(steps: Steps, program: Program, x: FloatArray, target: Array) -> str:
    """The operations of a step's graph with their work and times, and the time of a step behind others."""
    native = program.native
    step = 1e6 * np.median([_step_seconds(program, x, target, _STEPS) for _ in range(_TIMINGS)])
    parts = [native.time_parts(_device.stream()) for _ in range(_TIMINGS)]
    begin, *times, norms, end, update = 1e6 * np.median(parts, axis=0)
    table: list[tuple[str, ...]] = [_ON_DEVICE, ("begin", "", "", f"{begin:.1f}")]
    lines = sorted(zip(native.lines(), times, strict=True))
    ends = [op for (op, *_), _ in lines[1:]] + [len(program.ops)]  # an operation takes in those behind it
    work = [
        (" + ".join(map(_described, program.ops[op:stop])), flops, floats, took)
        for ((op, _, _, flops, floats, _), took), stop in zip(lines, ends)
    ]
    work.append(("update", 0.0, native.update_work()[0], norms + update))
    for what, flops, floats, took in work:
        table.append((what, f"{flops / 1e3:.0f}", f"{floats * 4 / 1024:.0f}", f"{took:.1f}"))
    table.append(("end", "", "", f"{end:.1f}"))
    head = (
        f"{len(x)} rows: {len(lines)} operations and the update in one graph, "
        f"{native.arena_bytes(len(x)) / 1024:.0f} KB, CUDA"
    ) + (f", {steps.precision}" if steps.precision != "float32" else "")
    last = f"a step: {step:.1f} us, of {_STEPS} queued together"
    return "\n".join([head, *_laid_out(table, 1), last])


def _step_seconds(program: Program, x: FloatArray, target: Array, steps: int) -> float:
    """Of a step behind others, on the same rows; a device is waited for after the last."""
    rows = len(x)
    order, bounds = np.tile(np.arange(rows), steps), np.arange(steps + 1) * rows
    start = time.perf_counter()
    program.run(Batches(x, target, None, order, bounds), 0, steps, np.zeros(2))
    return (time.perf_counter() - start) / steps


def arena_bytes(steps: Steps, batch_size: int) -> int | None:
    """The arena of a step on so many rows; None without a program."""
    if not steps.is_native:
        return None
    own, x, target = _copies(steps, batch_size)
    return own.program(x, target).arena_bytes(batch_size)


def _program_of_copies(steps: Steps, batch_size: int) -> tuple[Program, tuple[Array, Array]]:
    """The program after a step on rows of zeros: its memory and its labels are in place.

    `time_regions` reads these rows again: they must live as long as it is called.
    """
    own, x, target = _copies(steps, batch_size)
    program = own.program(x, target)
    y = target if target.ndim == 1 else np.zeros((batch_size, *program.pred_shape))
    own._check_rows(program, batch_size, x)
    target, weight = own._targets(program, x, y, None)
    program.step(x, target, weight)
    return program, (x, target)


def _copies(steps: Steps, batch_size: int) -> tuple[Steps, FloatArray, Array]:
    """Steps of copies of the model and the optimizer, rows of zeros, and targets of the right kind."""
    model, loss, optimizer = copy.deepcopy(steps.parts)
    optimizer.nonfinite = "ignore"
    optimizer.set_steps_per_epoch(1)  # no rate matters here, but a `PerEpoch` that no fit has told has none
    shape, labels = steps.rows_so_far or (_row_shape(model), getattr(loss, "takes_labels", False))
    x = np.zeros((batch_size, *shape), np.float32)
    label = int(getattr(loss, "ignore_index", None) == 0)  # one that counts
    target = np.full(batch_size if labels else (batch_size, 1), label, np.int64)
    return Steps().of(model.train(), loss, optimizer, steps.precision), x, target


def _row_shape(model: Module) -> tuple[int, ...]:
    """The shape of a row of x, from the first layer that knows its width: all layers with parameters do."""
    layers = (module for module in model.modules() if isinstance(module, (Linear, BatchNorm1d, Standardize)))
    first = next(layers)
    return (first.in_features if isinstance(first, Linear) else first.num_features,)


def _described(op: tuple[Any, ...]) -> str:
    """The kind of an operation, its sizes and its activation."""
    kind = str(op[0])
    first, count = _SIZES.get(kind, (0, 0))
    activation = (
        op[-1] if kind in ("linear", "batch_norm") else op[-2] if kind.startswith("activation") else None
    )
    return " ".join(filter(None, (kind, "x".join(map(str, op[first : first + count])), activation)))
