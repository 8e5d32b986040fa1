"""profile: the time of each layer of a step, and how near it comes to what this machine can do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from fastnn import ops
from fastnn._arrays import Array, FloatArray, aligned_zeros
from fastnn._precision import products_in
from fastnn._runtime import get_isa, get_num_threads
from fastnn.cuda import TransferBytes, transfer_bytes
from fastnn.diagnostics._report import Report, Row, as_bytes, name_ticks
from fastnn.diagnostics._watch import Watch, Watched, checked_data, checked_trainer, twin
from fastnn.diagnostics.rates import batches_of
from fastnn.nn import Linear, Module, Residual
from fastnn.trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WAYS = ("forward", "backward", "update")
_BUDGET = 0.03  # seconds for one measurement
_IN_CACHE, _OUT_OF_CACHE = 2**15, 2**23  # floats of each of two arrays
_CACHED = 2**20  # bytes up to which arrays count as cached


class Limits(NamedTuple):
    """What fastnn's own kernels reach here: operations and bytes a second."""

    flops: float
    cached: float
    memory: float

    def seconds(self, flops: int, moved: int) -> float:
        """The least time for so much work."""
        return max(flops / self.flops, moved / (self.cached if moved <= _CACHED else self.memory))


_limits: dict[tuple[str, int], Limits] = {}


def limits() -> Limits:
    """Measured once for an instruction set and a number of threads: a GEMM 512^3 and two streams.

    A stream is `ops.sgd_`: it reads two arrays and writes one, 256 KiB or 64 MiB in all.
    """
    key = get_isa(), get_num_threads()
    if key not in _limits:
        a, b, c = (np.full((512, 512), 0.5, np.float32) for _ in range(3))
        flops = 2 * 512**3 / min(times(lambda: ops.gemm(a, b, out=c)))
        rates = []
        for count in (_IN_CACHE, _OUT_OF_CACHE):
            rates.append(12 * count / min(times(_stream(count))))
        _limits[key] = Limits(flops, *rates)
    return _limits[key]


def _stream(count: int) -> Callable[[], object]:
    param, grad = aligned_zeros((count,)), aligned_zeros((count,))
    return lambda: ops.sgd_(param, grad, lr=0.5)


def times(call: Callable[[], object]) -> list[float]:
    """Seconds of at least five calls, after one that is not counted."""
    call()
    found: list[float] = []
    while len(found) < 5 or (sum(found) < _BUDGET and len(found) < 1000):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


def median_time(call: Callable[[], object]) -> float:
    return float(np.median(times(call)))


class Profile(Report):
    """What `profile` returns: `step`, the seconds of a whole step, and `limits` beside the rows."""

    title = "time of a step"
    columns: ClassVar = {
        "layer": "word",
        "kind": "word",
        "forward": "seconds",
        "backward": "seconds",
        "update": "seconds",
        "bytes": "bytes",
        "gflops": "number",
        "gbytes_per_s": "number",
        "of_limit": "share",
    }

    def __init__(
        self,
        rows: list[Row],
        step: float,
        batch_size: int,
        found: Limits | None = None,
        moved: TransferBytes | None = None,
    ) -> None:
        self.step, self.batch_size, self.limits, self.transfer_bytes = step, batch_size, found, moved
        whole = f"a step of {batch_size} rows: {step * 1e6:.4g} us; "
        if moved is not None:
            to_device, to_host = map(as_bytes, (moved.to_device, moved.to_host))
            summary = [f"{whole}moved: {to_device} to the device, {to_host} to the host"]
        if found is not None:
            parts = sum(row[key] or 0.0 for row in rows for key in _WAYS)
            summary = [
                f"{whole}its parts one by one: {parts * 1e6:.4g} us",
                f"limits: {found.flops / 1e9:.3g} GFLOP/s (GEMM 512^3), "
                f"{found.cached / 1e9:.3g} GB/s in cache, {found.memory / 1e9:.3g} GB/s from memory",
            ]
        super().__init__(rows, summary)

    def _draw(self, figure: Figure) -> None:
        spent, share = figure.subplots(1, 2)
        names = [row["layer"] or row["kind"] for row in self.rows]
        if self.limits is None:
            for axes, key, title in ((spent, "bytes", "MB"), (share, "flops", "MFLOP")):
                axes.bar(range(len(names)), np.nan_to_num(self.values(key)) / 1e6)
                axes.set(title=title, xlabel="layer")
                name_ticks(axes, names)
            return
        bottom = np.zeros(len(names))
        for key in _WAYS:
            values = 1e6 * np.nan_to_num(self.values(key))
            spent.bar(range(len(names)), values, bottom=bottom, label=key)
            bottom += values
        spent.set(title="microseconds", xlabel="layer")
        spent.legend(fontsize=9)
        share.bar(range(len(names)), 100 * np.nan_to_num(self.values("of_limit")))
        share.axhline(100, color="0.5", ls="--", lw=1)
        share.set(title="% of the limit", xlabel="layer")
        for axes in (spent, share):
            name_ticks(axes, names)


def profile(trainer: Trainer, X: Array, Y: Array, *, batch_size: int = 128) -> Profile:
    """The time of each layer of a step, forward and backward, of the loss and the update.

    Keys of a row (a layer, then "loss" and "update"):

    forward, backward, update : seconds, each the median of repeated calls of that layer alone, on the arrays
        that it sees in a step. An activation is timed as a pass of its own; in a step the kernel of the layer
        in front may do it while storing, so that `step` can be less than the sum
    bytes : arrays read or written, each counted once: forward x, y and the parameters; backward dy, x, dx,
        the parameters and their gradients; the update parameters and slots (read and written) and gradients
    flops, gflops : of the matrix products, and 10^9 of them a second; None for other layers
    gbytes_per_s : bytes / time / 10^9
    of_limit : the least time over the time taken; the least time is flops / limits.flops or bytes over a
        stream's rate (in cache up to 1 MiB), whichever is longer, forward and backward apart

    `step` is the time of a whole step. `limits` are measured once per instruction set and number of threads,
    with fastnn's own GEMM 512^3 and an in-place update in and out of the cache: what this machine is known to
    do, not its peak, so that a share may lie above 1. A Residual has no row: its sum is in `step` only.

    With device="cuda" `step` is that of the device, and `transfer_bytes` (to_host, to_device) is what fastnn
    copies in it: rows, targets and the loss. There layers run together, so rows have bytes and flops only,
    and `limits` is None.

    Model and optimizer are copied, the rate of the copy is 0. Close other programs: they are timed too.

    Raises TypeError or ValueError for a wrong argument, and as a step of the trainer does.

    >>> import numpy as np, fastnn
    >>> from fastnn import diagnostics, losses, nn, optim
    >>> X = np.random.default_rng(0).standard_normal((256, 32)).astype(np.float32)
    >>> model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 2), seed=0)
    >>> trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters()))
    >>> report = diagnostics.profile(trainer, X, (X[:, 0] > 0).astype(int))
    >>> [(row["layer"], row["kind"]) for row in report.rows]
    [('0', 'Linear'), ('1', 'ReLU'), ('2', 'Linear'), ('loss', 'CrossEntropyLoss'), ('update', 'Adam')]
    >>> report.rows[0]["flops"] == 2 * (2 * 128 * 32 * 64)
    True
    """
    where = "profile"
    checked_trainer(where, trainer)
    X, Y = checked_data(where, trainer, X, Y)
    x, y = next(batches_of(where, trainer, X, Y, batch_size))
    whole = twin(trainer, trainer.device)
    whole.optimizer.lr = 0.0
    step = median_time(lambda: float(whole.step(x, y)))  # on a device, when it is done
    moved = _moved(lambda: float(whole.step(x, y))) if trainer.device == "cuda" else None
    copied = twin(trainer)
    copied.optimizer.lr = 0.0
    calls = _Calls(copied.model)
    with products_in(trainer.precision):
        pred = calls.model.train().forward(x)
    _, dpred = trainer.loss(pred, y)
    calls.model.backward(dpred, input_grad=False)
    found = limits() if moved is None else None
    layers = [watched for watched in calls.layers if not _is_container(watched.layer)]
    with products_in(trainer.precision):
        rows = [_layer(watched, calls, found) for watched in layers]
    rows.append(_row("loss", getattr(trainer.loss, "__name__", type(trainer.loss).__name__)))
    if found:
        rows[-1]["forward"] = median_time(lambda: trainer.loss(pred, y))
    _weigh(rows[-1], found, [(0, 2 * pred.nbytes + np.asarray(y).nbytes)])
    rows.append(_row("update", type(trainer.optimizer).__name__))
    if found:
        rows[-1]["update"] = median_time(copied.optimizer.step)
    _weigh(rows[-1], found, [(0, _bytes_of_update(copied))])
    return Profile(rows, step, len(x), found, moved)


def _moved(step: Callable[[], object]) -> TransferBytes:
    """What a step copies between host and device."""
    before = transfer_bytes()
    step()
    after = transfer_bytes()
    return TransferBytes(after.to_host - before.to_host, after.to_device - before.to_device)


class _Calls(Watch):
    """Keeps what each layer was called with."""

    def __init__(self, model: Module) -> None:
        self.ways: dict[int, tuple[Array, FloatArray]] = {}
        self.back: dict[int, tuple[FloatArray, bool]] = {}
        super().__init__(model)

    def forward(self, watched: Watched, x: Array, y: FloatArray) -> None:
        self.ways[id(watched)] = x, y

    def backward(self, watched: Watched, dy: FloatArray, input_grad: bool) -> None:
        self.back[id(watched)] = dy, input_grad


def _is_container(layer: Module) -> bool:
    return isinstance(layer, Residual)


def _row(layer: str, kind: str) -> Row:
    keys = (*_WAYS, "bytes", "flops", "gflops", "gbytes_per_s", "of_limit")
    return {"layer": layer, "kind": kind, **dict.fromkeys(keys)}


def _layer(watched: Watched, calls: _Calls, found: Limits | None) -> Row:
    """Times a layer alone; without limits it only counts its work."""
    row = _row(watched.row["layer"], watched.row["kind"])
    layer, (x, y) = watched.layer, calls.ways[id(watched)]
    parameters = sum(parameter.data.nbytes for parameter in watched.own_parameters())
    product = 0
    if isinstance(layer, Linear):
        product = 2 * (x.size // layer.in_features) * layer.in_features * layer.out_features
    if found:
        row["forward"] = median_time(lambda: layer.forward(x))
    work = [(product, x.nbytes + y.nbytes + parameters)]
    if id(watched) in calls.back:
        dy, input_grad = calls.back[id(watched)]
        if found:
            row["backward"] = median_time(lambda: layer.backward(dy, input_grad=input_grad))
        moved = dy.nbytes + x.nbytes * (2 if input_grad else 1) + 2 * parameters
        work.append((product * (2 if input_grad else 1), moved))
    _weigh(row, found, work)
    return row


def _weigh(row: Row, found: Limits | None, work: list[tuple[int, int]]) -> None:
    """Fill in what follows from the work, (flops, bytes) of each direction, and from the times, if any."""
    row["bytes"] = sum(moved for _, moved in work)
    row["flops"] = sum(product for product, _ in work) or None
    if found is None:
        return
    seconds = sum(row[key] or 0.0 for key in _WAYS)
    row["gbytes_per_s"] = row["bytes"] / seconds / 1e9
    row["of_limit"] = sum(found.seconds(*part) for part in work) / seconds
    if row["flops"]:
        row["gflops"] = row["flops"] / seconds / 1e9


def _bytes_of_update(trainer: Trainer) -> int:
    groups = trainer.optimizer.param_groups
    trained = sum(3 * p.data.nbytes for group in groups for p in group["params"] if p.trainable)
    state = trainer.optimizer.state_dict()["state"]
    return int(trained + sum(2 * array.nbytes for slots in state.values() for array in slots.values()))
