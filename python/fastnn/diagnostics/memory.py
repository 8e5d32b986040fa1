"""memory_plan: the bytes that training will need, before they are allocated."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from fastnn._arrays import Array, FloatArray, check_int
from fastnn._explain import arena_bytes
from fastnn.diagnostics._report import Report, Row, as_bytes
from fastnn.diagnostics._watch import Watch, Watched, checked_trainer, copied, drawn_rows
from fastnn.nn import ELU, SELU, BatchNorm1d, LeakyReLU, Linear, Module, ReLU, Sigmoid, Tanh
from fastnn.nn.activations import Activation
from fastnn.trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FLOAT = 4  # bytes
_BY_RESULT = (ReLU, LeakyReLU, Sigmoid, Tanh, ELU, SELU)  # their backward needs the result alone
_PROBED = 2  # rows that show how wide the layers are; batch-norm needs two


class MemoryPlan(Report, int):
    """What `memory_plan` returns: the bytes in all, as an int, with a row for each part."""

    title = "memory of training"
    columns: ClassVar = {"part": "word", "bytes": "bytes"}

    def __new__(cls, rows: list[Row], batch_size: int) -> MemoryPlan:
        return int.__new__(cls, sum(row["bytes"] for row in rows))

    def __init__(self, rows: list[Row], batch_size: int) -> None:
        self.batch_size = batch_size
        super().__init__(rows, [f"total {as_bytes(int(self))} at a batch of {batch_size}"])

    __repr__ = __str__ = Report.__str__

    def _draw(self, figure: Figure) -> None:
        axes = figure.subplots()
        names, sizes = [row["part"] for row in self.rows], [row["bytes"] for row in self.rows]
        bars = axes.barh(names, [size / 2**20 for size in sizes])
        axes.bar_label(bars, [as_bytes(size) for size in sizes], padding=3, fontsize=9)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set(title=self.summary[0], xlabel="MiB")


def memory_plan(trainer: Trainer, batch_size: int) -> MemoryPlan:
    """The bytes that training with batches of this size needs, as an int that prints as a table.

    parameters, gradients : of the model, 4 bytes a number
    optimizer slots : of the optimizer
    running statistics : buffers of the model
    arena : the one piece of memory that native steps work in, where the loss is one of fastnn: the batch,
        activations and gradients on their way back, those that never live at the same time in the same place

    With a loss of one's own, which is trained layer by layer, in the place of the arena:

    batch : the rows of a batch that `fit` gathers
    activations : what a forward leaves for the backward: the output of every layer, but of those that pass
        their input on (Flatten, Identity), and of a Linear or BatchNorm1d only the activated one where the
        activation behind it needs no more (not GELU, SiLU and Softplus)
    workspace : gradients on their way back: the largest sum, over the layers, of those of its output and its
        input, and of its output before the activation where it applies one (a BatchNorm1d only for GELU,
        SiLU and Softplus); and the loss's. With precision="bfloat16" also what a Linear multiplies, rounded

    Not counted: the data set, what a kernel packs (below 1 MiB a thread), Python itself.

    Raises TypeError or ValueError for a wrong argument, and ValueError where no layer says how wide the
    inputs are.

    >>> import fastnn
    >>> from fastnn import diagnostics, losses, nn, optim
    >>> model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10), seed=0)
    >>> trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters()))
    >>> print(diagnostics.memory_plan(trainer, 128))
    memory of training
    part                   bytes
    parameters           795 KiB
    gradients            795 KiB
    optimizer slots     1.55 MiB
    running statistics       0 B
    arena                789 KiB
    total 3.88 MiB at a batch of 128
    """
    where = "memory_plan"
    checked_trainer(where, trainer)
    size = check_int(batch_size, f"{where}: batch_size", 1)
    model, state = trainer.model, trainer.optimizer.state_dict()["state"]
    parameters = sum(parameter.data.nbytes for _, parameter in model.named_parameters())
    probe = drawn_rows(where, model, _PROBED)
    parts = {
        "parameters": parameters,
        "gradients": parameters,
        "optimizer slots": sum(array.nbytes for slots in state.values() for array in slots.values()),
        "running statistics": sum(
            getattr(module, name).nbytes for module in model.modules() for name in module.buffers
        ),
    }
    arena = arena_bytes(trainer._steps, size)
    if arena is not None:
        parts["arena"] = arena
    else:
        activations, workspace = _passing(model, probe, size, trainer.precision)
        parts["batch"] = size * probe.shape[1] * _FLOAT
        parts.update(activations=activations, workspace=workspace)
    return MemoryPlan([{"part": part, "bytes": int(count)} for part, count in parts.items()], size)


class _Widths(Watch):
    """Sees how many numbers of a row go into and out of each layer."""

    def __init__(self, model: Module) -> None:
        self.widths: list[tuple[Watched, int, int]] = []
        super().__init__(model)

    def forward(self, watched: Watched, x: Array, y: FloatArray) -> None:
        self.widths.append((watched, x.size // _PROBED, y.size // _PROBED))


def _passing(model: Module, probe: FloatArray, rows: int, precision: str) -> tuple[int, int]:
    """Bytes of activations and of gradients in flight, from the shapes of the layers."""
    watch = _Widths(copied(model))
    watch.model.train().forward(probe)
    kept, flying, rounded = 0, 0, 0
    for i, (watched, width_in, width_out) in enumerate(watch.widths):
        behind = [other for other, _, _ in watch.widths[i + 1 :]]
        activation = _applied(watched.layer, behind)
        replaced = isinstance(activation, _BY_RESULT)
        if not (replaced or watched.layer.passes_on):
            kept += width_out
        twice = activation is not None and not (replaced and isinstance(watched.layer, BatchNorm1d))
        flying = max(flying, width_in + width_out * (2 if twice else 1))
        if precision == "bfloat16" and isinstance(watched.layer, Linear):
            rounded = max(rounded, rows * (width_in + width_out) + watched.layer.weight.data.size)
    return rows * kept * _FLOAT, (rows * (flying + watch.widths[-1][2]) + rounded) * _FLOAT


def _applied(layer: Module, behind: list[Watched]) -> Activation | None:
    """The activation that a layer applies itself; the last one of a model it does not."""
    if not isinstance(layer, (Linear, BatchNorm1d)) or len(behind) < 2:
        return None
    return behind[0].layer if isinstance(behind[0].layer, Activation) else None
