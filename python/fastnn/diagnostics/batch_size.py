"""gradient_noise_scale and suggest_batch_size: how many rows of a batch are worth their time."""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fastnn import _device
from fastnn._arrays import Array, check_int
from fastnn._precision import products_in
from fastnn.diagnostics._report import Report, Row, as_bytes, name_ticks
from fastnn.diagnostics._watch import checked_data, checked_trainer, twin
from fastnn.diagnostics.memory import memory_plan
from fastnn.diagnostics.rates import batches_of
from fastnn.trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A smaller batch is suggested where it is this near to the best one.
_NEAR = 1.05
_LARGEST = 4096
_STEPS = 5  # timed for each size, after one that is not


class NoiseReport(Report):
    """What `gradient_noise_scale` returns: a row for each parameter; `float(report)` is that of all."""

    title = "gradient noise"
    columns: ClassVar = {
        "parameter": "word",
        "gradient_sq": "number",
        "noise": "number",
        "noise_scale": "number",
    }

    def __init__(self, rows: list[Row], batch_size: int, batches: int) -> None:
        self.gradient_sq = sum(row["gradient_sq"] for row in rows)
        self.noise = sum(row["noise"] for row in rows)
        self.noise_scale = noise_scale(self.gradient_sq, self.noise)
        summary = [
            f"noise scale of all parameters: {self.noise_scale:.3g} rows ({batches} batches of {batch_size})",
            "batches much smaller are mostly noise, much larger ones repeat what they know",
        ]
        warnings = []
        if math.isinf(self.noise_scale):
            warnings.append("the gradient is lost in its noise; take more or larger batches to measure it")
        super().__init__(rows, summary, warnings)

    def __float__(self) -> float:
        return self.noise_scale

    def _draw(self, figure: Figure) -> None:
        axes = figure.subplots()
        scales = [value if math.isfinite(value) else math.nan for value in self.values("noise_scale")]
        axes.bar(range(len(scales)), scales, label="noise scale")
        if math.isfinite(self.noise_scale):
            axes.axhline(self.noise_scale, color="C1", ls="--", label=f"all: {self.noise_scale:.3g}")
        axes.set(title="gradient noise scale", ylabel="rows", xlabel="parameter")
        name_ticks(axes, [row["parameter"] for row in self.rows])
        axes.legend(fontsize=9)


def gradient_noise_scale(
    trainer: Trainer, X: Array, Y: Array, *, batch_size: int = 32, batches: int = 32
) -> NoiseReport:
    """B = tr(S) / |G|^2: the number of rows at which the noise of a batch's gradient equals the gradient.

    G is the true gradient, S the covariance of the gradients of single rows (McCandlish et al. 2018, "simple
    noise scale"). The gradient of n rows has variance tr(S) / n: its deviation falls as 1 / sqrt(n), so a
    hundred times the rows give ten times the accuracy. Estimated without bias from `batches` gradients g of
    `batch_size` rows, at the present parameters: tr(S) = batch_size * sum |g - mean|^2 / (batches - 1) and
    |G|^2 = |mean|^2 - tr(S) / (batch_size * batches).

    Keys of a row, one for each trainable parameter: gradient_sq (|G|^2), noise (tr(S)), noise_scale (infinite
    where the estimate of |G|^2 is not positive). `report.noise_scale`, also float(report), is that of all
    together. It grows while a model trains. Layers run in training mode, so dropout is part of the noise.

    The model is copied, nothing of the trainer changes; X is read a batch at a time.

    Raises TypeError or ValueError for a wrong argument, and as model and loss do.

    >>> import numpy as np, fastnn
    >>> from fastnn import diagnostics, losses, nn, optim
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((512, 4)).astype(np.float32)
    >>> model = nn.Sequential(nn.Linear(4, 2), seed=0)
    >>> trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1))
    >>> clean = diagnostics.gradient_noise_scale(trainer, X, (X[:, 0] > 0).astype(int))
    >>> noisy = diagnostics.gradient_noise_scale(trainer, X, rng.integers(0, 2, 512))
    >>> float(clean) < float(noisy)
    True
    """
    where = "gradient_noise_scale"
    checked_trainer(where, trainer)
    X, Y = checked_data(where, trainer, X, Y)
    count = check_int(batches, f"{where}: batches", 2)
    rows_of = batches_of(where, trainer, X, Y, batch_size)
    if len(X) < 2 * batch_size:
        raise ValueError(
            f"{where}: X must have rows for two batches of {batch_size}, got {len(X)}; "
            "pass a smaller batch_size"
        )
    copied = twin(trainer)
    found = [(name, p) for name, p in copied.model.named_parameters() if p.trainable]
    means = [np.zeros(p.data.shape) for _, p in found]
    squares = np.zeros(len(found))  # sums of squared distances from the mean, as by Welford
    for i in range(count):
        x, y = next(rows_of)
        with products_in(trainer.precision):
            pred = copied.model.forward(x)
        _, dpred = trainer.loss(pred, y)
        copied.model.backward(dpred, input_grad=False)
        for j, (_, parameter) in enumerate(found):
            gap = parameter.grad - means[j]
            means[j] += gap / (i + 1)
            squares[j] += float(np.vdot(gap, parameter.grad - means[j]))
    rows = []
    for (name, _), mean, square in zip(found, means, squares, strict=True):
        noise = batch_size * float(square) / (count - 1)
        gradient_sq = float(np.vdot(mean, mean)) - noise / (batch_size * count)
        scale = noise_scale(gradient_sq, noise)
        rows.append({"parameter": name, "gradient_sq": gradient_sq, "noise": noise, "noise_scale": scale})
    return NoiseReport(rows, batch_size, count)


def noise_scale(gradient_sq: float, noise: float) -> float:
    """tr(S) / |G|^2, infinite where nothing of the gradient is left; NaN stays."""
    return noise / gradient_sq if not gradient_sq <= 0 else math.inf


class BatchSizeReport(Report):
    """What `suggest_batch_size` returns: a row for each size; `suggestion`, also `int(report)`."""

    title = "batch sizes"
    columns: ClassVar = {
        "batch_size": "count",
        "step": "seconds",
        "samples_per_second": "count",
        "memory": "bytes",
        "relative_time": "number",
    }

    def __init__(self, rows: list[Row], scale: float, left_out: str) -> None:
        self.noise_scale = scale
        for row, cost in zip(rows, relative_times(rows, scale), strict=True):
            row["relative_time"] = cost
        self.suggestion = chosen(rows)
        summary = [
            f"suggested: {self.suggestion}, for a noise scale of {scale:.3g} rows at these parameters",
            "it grows in training: ask again later, or raise the batch instead of lowering the rate",
        ]
        super().__init__(rows, summary, [left_out] if left_out else [])

    def __int__(self) -> int:
        return self.suggestion

    def _draw(self, figure: Figure) -> None:
        speed, cost = figure.subplots(1, 2)
        sizes = self.values("batch_size")
        speed.plot(sizes, self.values("samples_per_second"), "o-")
        speed.set(title="samples per second", xlabel="batch size", yscale="log")
        cost.plot(sizes, self.values("relative_time"), "o-")
        cost.axvline(self.suggestion, color="C1", ls="--", label=f"suggested: {self.suggestion}")
        cost.set(title="time to the same loss, best = 1", xlabel="batch size", yscale="log")
        cost.legend(fontsize=9)
        for axes in (speed, cost):
            axes.set_xscale("log", base=2)
            axes.set_xticks(sizes, [f"{size:.0f}" for size in sizes], rotation=90, fontsize=9)
            axes.grid(alpha=0.3)


def suggest_batch_size(trainer: Trainer, X: Array, Y: Array, *, memory: int | None = None) -> BatchSizeReport:
    """The batch size that should reach a loss in the least time: speed of this machine times gradient noise.

    Powers of two from 8 to 4096, at most half of the rows (so that there are steps to take). For each a step
    is timed (median of 5, with the rate at 0, on copies), and its memory is `memory_plan`'s: sizes above
    `memory` bytes (None: what is free now) are left out. With the noise scale B of `gradient_noise_scale`,
    batches of n rows need 1 + B / n times the least number of steps (McCandlish et al. 2018), so the time to
    the same loss goes as step * (1 + B / n): `relative_time`, 1 for the best. `suggestion` is the smallest
    size within 5 % of it: small batches find flatter places, and more of them fit.

    Larger batches raise samples per second until the kernels are busy, then only the epochs to the same
    accuracy. Powers of two fill vectors and tiles; it is not that memory is binary. Other sizes are right
    too, only their last tile is partly empty. A new batch size wants a new rate.

    Raises TypeError or ValueError for a wrong argument, for fewer than 16 rows, for too little memory, and as
    a step of the trainer does.

    >>> import numpy as np, fastnn
    >>> from fastnn import diagnostics, losses, nn, optim
    >>> X = np.random.default_rng(0).standard_normal((256, 4)).astype(np.float32)
    >>> model = nn.Sequential(nn.Linear(4, 2), seed=0)
    >>> trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1))
    >>> report = diagnostics.suggest_batch_size(trainer, X, (X[:, 0] > 0).astype(int))
    >>> [row["batch_size"] for row in report.rows], int(report) in (8, 16, 32, 64, 128)
    ([8, 16, 32, 64, 128], True)
    """
    where = "suggest_batch_size"
    checked_trainer(where, trainer)
    X, Y = checked_data(where, trainer, X, Y)
    limit = _free_memory(trainer.device) if memory is None else check_int(memory, f"{where}: memory", 1)
    if len(X) < 16:
        raise ValueError(f"{where}: X must have at least 16 rows, two batches of 8, got {len(X)}")
    rows, left_out = [], ""
    size = 8
    while size <= min(_LARGEST, len(X) // 2):
        bytes_needed = int(memory_plan(trainer, size))
        if bytes_needed > limit:
            left_out = f"a batch of {size} needs {as_bytes(bytes_needed)}, there are {as_bytes(limit)}"
            break
        seconds = _seconds_of_a_step(trainer, X, Y, size)
        row = {"batch_size": size, "step": seconds, "samples_per_second": round(size / seconds)}
        rows.append({**row, "memory": bytes_needed, "relative_time": None})
        size *= 2
    if not rows:
        raise ValueError(f"{where}: {left_out}; make the model smaller")
    measured = min(32, len(X) // 2)
    scale = gradient_noise_scale(trainer, X, Y, batch_size=measured).noise_scale
    return BatchSizeReport(rows, scale, left_out)


def _seconds_of_a_step(trainer: Trainer, X: Array, Y: Array, size: int) -> float:
    copied = twin(trainer, trainer.device)
    copied.optimizer.lr = 0.0
    batches = batches_of("suggest_batch_size", trainer, X, Y, size)
    times = []
    for _ in range(1 + _STEPS):
        x, y = next(batches)
        start = time.perf_counter()
        float(copied.step(x, y))  # on a device, when it is done
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


def relative_times(rows: list[Row], scale: float) -> list[float]:
    """step * (1 + B / n) for each row, over the least of them; without a finite B only the rows count."""
    steps = [row["step"] * (1 + scale / row["batch_size"]) for row in rows]
    if not math.isfinite(scale):
        steps = [row["step"] / row["batch_size"] for row in rows]
    return [step / min(steps) for step in steps]


def chosen(rows: list[Row]) -> int:
    """The smallest size that is near the best one."""
    return int(next(row["batch_size"] for row in rows if row["relative_time"] <= _NEAR))


def _free_memory(device: str) -> int:
    if device == "cuda":
        return _device.free_bytes()
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
