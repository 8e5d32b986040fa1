"""Checks like those of cuda_checks.py: what only a training step has (clips, its rows, its two ends)."""

import ctypes

import cuda_tensor_checks as tensor
import numpy as np
from bounds import assert_bits
from cuda_checks import beside, draw, empty, gemm, moments, place, point_loss
from cuda_places import assert_alone, laid, stride
from cuda_shim import shim
from fastnn import _core, nn, ops, optim

CLIPS = {
    "value": optim.ClipByValue(0.3),
    "norm": optim.ClipByNorm(2.0),
    "global_norm": optim.ClipByGlobalNorm(2.0),
    "adaptive": optim.AdaptiveClip(0.05),
}


def clipped_update(kernels, schedule, clip, shapes, noise=0.0, wrong=None, scale=1.0):
    """A step of SGD; `wrong`: the array whose gradient holds an infinity, so that nothing is updated."""
    given = CLIPS.get(clip)
    parameters = [nn.Parameter(draw(*shape)) for shape in shapes]
    for p in parameters:
        p.grad = draw(*p.data.shape, seed=1, scale=scale)
    if wrong is not None:
        parameters[wrong].grad.flat[-1] = np.inf
    before = [p.data.copy() for p in parameters]
    gpu = [(place(p.data), place(p.grad)) for p in parameters]
    sgd = optim.SGD(parameters, 0.1, clip=given, grad_noise=(noise**2, 0.0, 5) if noise else None)
    options = shim.OPTIONS(lr=0.1, square_scale=1.0, root_scale=1.0, keep=1.0, noise=noise, noise_seed=5)
    tensors, chunks, units, unit_chunks = (shim.TENSOR * len(shapes))(), 0, 0, 0
    for i, (t, (param, grad)) in enumerate(zip(tensors, gpu)):
        t.param, t.grad, t.n, t.cols = shim.address(param), shim.address(grad), param.size, param.shape[-1]
        matrix = clip == "adaptive" and 1 < t.cols < t.n
        t.units, t.place, t.first_chunk = t.cols if matrix else 1, i, chunks
        t.first_unit, t.first_unit_chunk = units, unit_chunks
        chunks, units = chunks + shim.update_chunks(t.n), units + t.units
        unit_chunks += (-(-t.cols // 64) if matrix else 1) if clip == "adaptive" else 0
    verdict = np.array([0, -1])  # a bool and a count in eight bytes, an Index
    scales = clip in ("norm", "global_norm", "adaptive")
    fields = {
        "tensors": ctypes.addressof(tensors), "count": len(shapes), "chunks": chunks,
        "options": ctypes.addressof(options), "clip": ["none", *CLIPS].index(clip), "refuse_non_finite": True,
        "clip_limit": sgd._clip.limit, "clip_floor": sgd._clip.floor,
        "sums": empty(chunks, dtype=np.float64), "scales": empty(units) if scales else None,
        "unit_chunks": unit_chunks, "verdict": verdict,
    }  # fmt: skip
    assert kernels.run(shim.UPDATE_NORM, schedule, update=shim.filled(shim.UPDATE, fields)) == 0
    assert kernels.run(shim.UPDATE, schedule, **fields) == 0
    if wrong is not None:
        assert (verdict.view(bool)[0], verdict[1]) == (True, wrong)
        for (param, _), want in zip(gpu, before):
            assert_bits(param, want, "refused")
        return
    assert verdict.tolist() == [0, -1]
    sgd.step()
    for (param, _), p in zip(gpu, parameters):
        assert_bits(param, p.data, f"{clip}, noise {noise}")


def gather(kernels, schedule, rows, cols, dtype, ordered=True, where=None):
    rng = np.random.default_rng(rows)
    if np.dtype(dtype).kind == "f":
        data = (1e3 * rng.standard_normal((rows + 3, cols))).astype(dtype)
    else:
        info = np.iinfo(dtype)
        data = rng.integers(info.min, info.max, (rows + 3, cols), dtype, endpoint=True)
    order = rng.integers(0, rows + 3, rows + 2) if ordered else None
    data, y = laid(where, "data", data), laid(where, "y", empty(rows, cols))
    source = shim.SOURCE(shim.address(data), stride(data), NUMBERS.index(dtype), shim.address(order))
    kernels.run(
        shim.GATHER, schedule, source=ctypes.addressof(source), first=2, rows=rows, cols=cols, y=y
    )  # fmt: skip
    taken = data[2 : rows + 2] if order is None else data[order[2:]]
    assert_bits(y, taken.astype(np.float32), f"gather {dtype} {where}")
    assert_alone(where, y)
    for halted in (False, True):
        y = empty(rows, cols)
        kernels.run(
            shim.GATHER, schedule, source=ctypes.addressof(source), first=2, rows=rows, cols=cols, y=y,
            halted=np.array([halted]),
        )  # fmt: skip
        assert np.isnan(y).all() == halted


def step_ends(kernels, schedule, rows, wrong=None, refused=False, cols=3):
    """The two ends of a step on weighted class ids of which some are ignored; `wrong` (row) is none."""
    rng = np.random.default_rng(rows)
    labels = rng.integers(0, cols, rows).astype(np.int16)
    labels[::5] = 7
    weight = rng.random(rows + 4).astype(np.float32)
    order = rng.permutation(rows + 4)[:rows]
    given = np.full(rows + 4, -9, np.int16)
    given[order] = labels
    if wrong is not None:
        given[order[wrong]] = cols
    targets = shim.TARGETS(shim.address(given), NUMBERS.index("int16"), 1, shim.address(weight))
    targets.order = shim.address(order)
    record = np.frombuffer(bytes(targets), np.uint64).copy()
    # What stood there before can be read: a thread that does not wait for the record finds other rows.
    before = np.zeros(rows + 4, np.int16), np.ones(rows + 4, np.float32), np.arange(rows + 4)
    stale = shim.TARGETS(shim.address(before[0]), targets.label_kind, 1, *map(shim.address, before[1:]))
    current = np.frombuffer(bytes(stale), np.uint64).copy()
    values = np.full(2, np.nan)
    run = shim.RUN(records=shim.address(record), refused=-1, values=shim.address(values))
    verdict = np.array([0, -1])
    taken, own = place(np.zeros(rows, np.int64)), empty(rows)
    scaled = empty(rows)
    kernels.run(
        shim.STEP_BEGIN, schedule, run=ctypes.addressof(run), verdict=verdict, current=current,
        record_bytes=record.nbytes, targets=current, rows=rows, labels=taken, classes=cols, ignores=True,
        ignored=7, weight=own, scaled=scaled, factor=1.0, divisor=1.0,
    )  # fmt: skip
    assert np.array_equal(current, record)
    assert run.halted == (wrong is not None)
    assert run.outcome == (0 if wrong is None else 1)
    if wrong is not None:
        assert verdict.view(bool)[0]
        return
    counts, w = labels != 7, weight[order]
    total = 0.0
    for x in w[counts].tolist():
        total += x
    assert run.total == total
    assert np.array_equal(taken, np.where(counts, labels, -1))
    assert_bits(own, w, "weights")
    assert_bits(scaled, (w.astype(np.float64) * (1.0 / total)).astype(np.float32), "scaled weights")
    terms, pred = rng.random(rows), draw(rows, cols)
    scores = np.array([3.0, 4.0])
    if refused:
        verdict[:] = 1, 2
    kernels.run(
        shim.STEP_END, schedule, run=ctypes.addressof(run), verdict=verdict, terms=terms, term_count=rows,
        term_weight=own, mean_of_terms=True, score=1, scores=scores, pred=pred, labels=taken, weight=own,
        rows=rows, cols=cols,
    )  # fmt: skip
    value, hits, all_of = 0.0, 3.0, 4.0
    for x, term, label, row in zip(w.tolist(), terms.tolist(), labels.tolist(), pred):
        value += x * term
        if label != 7:
            hits, all_of = hits + x * (np.argmax(row) == label), all_of + x
    assert run.value == values[0] == value / total
    assert np.isnan(values[1])
    assert (run.done, run.outcome, run.refused) == ((0, 2, 2) if refused else (1, 0, -1))
    assert scores.tolist() == ([3.0, 4.0] if refused else [hits, all_of])
    assert run.weight_sum == (0.0 if refused else total)


def step_metrics(kernels, schedule, rows, cols, score, weighted):
    """Those of a loss of values: the end of a step adds to its sums what the host would."""
    rng = np.random.default_rng([rows, cols])
    pred, target = place(draw(rows, cols)), place(draw(rows, cols, seed=1))
    weight = place(rng.random(rows, np.float32) + np.float32(0.5)) if weighted else None
    total = 0.0
    for w in np.ones(rows) if weight is None else weight.tolist():
        total += w
    scores = rng.random(2 if score == "sides" else 1 + 4 * cols)
    want, terms = scores.copy(), rng.random(3)
    run = shim.RUN(next=1, refused=-1, total=total)
    kernels.run(
        shim.STEP_END, schedule, run=ctypes.addressof(run), verdict=np.array([0, -1]), terms=terms,
        term_count=3, scale=0.5, score=["none", "hits", "sides", "squares"].index(score), scores=scores,
        pred=pred, target=target, weight=weight, rows=rows, cols=cols,
    )  # fmt: skip
    getattr(ops, f"_score_{score}")(pred, target, want, sample_weight=weight)
    assert np.array_equal(scores, want), score
    assert run.value == 0.5 * (terms[0] + terms[1] + terms[2])
    assert (run.done, run.weight_sum) == (1, total)


NUMBERS = ["float32", "float64", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


def add(kernels, schedule, n, at_end=True):
    a, b, y = place(draw(n), at_end), place(draw(n, seed=1), at_end), empty(n, at_end=at_end)
    kernels.run(shim.ADD, schedule, a=a, b=b, y=y, n=n)
    assert_bits(y, a + b, "add")


def widen(kernels, schedule, n, at_end=True):
    x, y = place(draw(n), at_end), empty(n, dtype=np.float64, at_end=at_end)
    kernels.run(shim.WIDEN, schedule, x=x, y=y, n=n)
    assert np.array_equal(y, x.astype(np.float64))


def scale_columns(kernels, schedule, rows, cols, dtype, where=None):
    """By the call of Standardize."""
    x = laid(where, "x", (100 * np.abs(draw(rows, cols))).astype(dtype))
    shift, scale, offset = draw(cols, seed=1), draw(cols, seed=2), draw(cols, seed=3)
    wide = laid(where, "shift", shift.astype(np.float64))
    scale, offset = laid(where, "scale", scale), laid(where, "offset", offset)
    y = laid(where, "y", empty(rows, cols))
    element = ["float32", "float64", "uint8"].index(dtype)
    sizes = {"x": x, "x_row": stride(x), "element": element, "y_row": stride(y), "rows": rows, "cols": cols}
    kernels.run(shim.SCALE_COLUMNS, schedule, y=y, shift=wide, scale=scale, offset=offset, **sizes)
    assert_bits(y, _core.scale_columns(x, wide, scale, offset), f"scale {dtype} {where}")
    kernels.run(shim.SCALE_COLUMNS, schedule, y=y, scale=scale, **sizes)
    none = np.zeros(cols), scale, np.full(cols, -0.0, np.float32)
    assert_bits(y, _core.scale_columns(x, *none), f"scale {dtype} alone")
    assert_alone(where, y)


def sums_beside(kernels, schedule, precision, shape):
    """Of three rounds of rows."""
    beside(kernels, schedule, precision, shape, None, False, (4000, 5))


# For each file with barriers: calls that need every one of them.
USERS = {
    "gemm.cu": lambda kernels, schedule: (
        gemm(kernels, schedule, 20, 132 * 64, 40),
        sums_beside(kernels, schedule, "float32", (1, 132 * 64, 1)),
        moments(kernels, schedule, "float32", (250, 33 * 64, 3)),
    ),
    "gemm_small.cu": lambda kernels, schedule: (
        gemm(kernels, schedule, 20, 30, 130),
        gemm(kernels, schedule, 5, 7, 4200),
        sums_beside(kernels, schedule, "float32", (1, 1, 1)),
        moments(kernels, schedule, "float32", (250, 19 * 32, 3)),
    ),
    "gemm_tensor.cu": lambda kernels, schedule: (
        tensor.gemm(kernels, schedule, "tf32", 40, 40, 104),
        sums_beside(kernels, schedule, "tf32", (1, 1, 1)),
        moments(kernels, schedule, "tf32", (250, 70, 3)),
    ),
    "point_loss.cu": lambda kernels, schedule: (
        point_loss(kernels, schedule, 5000, 1, "mse"),
        point_loss(kernels, schedule, 1500, 3, "mse", weighted=True),
        point_loss(kernels, schedule, 9000, 5, "mse", weighted=True),
    ),
    "update_norm.cu": lambda kernels, schedule: (
        clipped_update(kernels, schedule, "global_norm", [(16384,), (40000,)]),
        clipped_update(kernels, schedule, "none", [(20000,)], wrong=0),
    ),
    "step.cu": lambda kernels, schedule: (
        step_ends(kernels, schedule, 700),
        step_metrics(kernels, schedule, 20, 3, "squares", weighted=False),
    ),
}
