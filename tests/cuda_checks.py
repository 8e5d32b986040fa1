"""One operation of csrc/cuda on one shape, run by the shim: the CPU kernel's bits, near the reference.

Arrays end at a page that nobody may touch, so that no element beyond them is read or written.
"""

import ctypes

import bounds
import numpy as np
import reference as ref
from bounds import assert_bits, assert_within
from cuda_places import assert_alone, laid, stride
from cuda_shim import shim
from fastnn import ops
from guard import guarded

KINDS = [
    "none",
    "relu",
    "leaky_relu",
    "sigmoid",
    "tanh",
    "gelu",
    "gelu_tanh",
    "silu",
    "elu",
    "selu",
    "softplus",
]
OF_RESULT = ("relu", "leaky_relu", "sigmoid", "tanh", "elu", "selu")
ALPHA = {"leaky_relu": 0.01}
BLOCK = 192  # rows of the column statistics


def draw(*shape, scale=1.0, seed=0):
    rng = np.random.default_rng([seed, *shape])
    return (scale * rng.normal(size=shape)).astype(np.float32)


def place(x, at_end=True):
    """A copy between two forbidden pages; rows of x stay contiguous."""
    return guarded(x, at_end=at_end)


def empty(*shape, dtype=np.float32, at_end=True):
    """To be written whole."""
    return place(
        np.full(shape, np.nan).astype(dtype) if dtype != np.int64 else np.zeros(shape, dtype), at_end
    )


def partials(rows, cols, planes):
    """As many floats as core/kernels.h says."""
    return empty(planes * -(-rows // BLOCK) * (-(-cols // 16) * 16), at_end=False)


def activation(kernels, schedule, n, kind, at_end=True):
    x, dy = place(draw(n, scale=4.0), at_end), place(draw(n, seed=1), at_end)
    y, dx, again = (empty(n, at_end=at_end) for _ in range(3))
    options = {"n": n, "kind": KINDS.index(kind), "alpha": ALPHA.get(kind, 1.0)}
    kernels.run(shim.ACTIVATION, schedule, x=x, y=y, **options)
    assert_bits(y, ops.activation(x, kind), kind)
    want = ref.activation(x, kind)
    assert_within(y, want, bounds.activation_bound(kind, x, want), kind)
    kernels.run(shim.ACTIVATION_BACKWARD, schedule, dy=dy, x=x, dx=dx, **options)
    assert_bits(dx, ops.activation_backward(dy, x, kind), f"gradient of {kind}")
    slope = bounds.activation_backward_bound(dy, kind)
    assert_within(dx, ref.activation_backward(dy, x, kind), slope, f"gradient of {kind}")
    kernels.run(shim.ACTIVATION_BACKWARD, schedule, dy=dy, x=x, y=y, dx=again, **options)
    assert_bits(again, dx, f"gradient of {kind} from y")


def dropout(kernels, schedule, n, p, at_end=True, first=0):
    """Elements first ... of a longer array."""
    whole, step = draw(first + n), np.array([3])
    x, y = place(whole[first:], at_end), empty(n, at_end=at_end)
    dropped = round(p * 2**32)
    threshold = min(dropped - 2**31, 2**31 - 1)
    scale = 0.0 if p == 1.0 else 1.0 / (1.0 - p)
    kernels.run(
        shim.DROPOUT, schedule, x=x, y=y, n=n, first=first, seed=7, step=step, threshold=threshold,
        drops_all=p == 1.0, scale=scale,
    )  # fmt: skip
    assert_bits(y, ops.dropout(whole, p, seed=7, step=3)[first:], f"dropout {p}")


def column_sum(kernels, schedule, rows, cols, accumulate=False):
    x, out = place(draw(rows, cols)), place(draw(cols, seed=1))
    before = out.copy()
    kernels.run(
        shim.COLUMN_SUM, schedule, x=x, x_row=cols, rows=rows, cols=cols, out=out,
        partials=partials(rows, cols, 1), accumulate=accumulate,
    )  # fmt: skip
    start = before if accumulate else 0.0
    bound = bounds.sum_factor(rows, random=True) * np.abs(ref.f64(x)).sum(0) + bounds.EPS * np.abs(before)
    assert_within(out, start + ref.f64(x).sum(0), bound, "column sum")
    dw, db = np.zeros((1, cols), np.float32), before.copy() if accumulate else np.zeros(cols, np.float32)
    if rows > 0:
        ones = np.ones((rows, 1), np.float32)
        w = np.ones((1, cols), np.float32)
        db = ops.linear_backward(x, ones, w, out=(None, dw, db), accumulate=accumulate)[2]
        assert_bits(out, db, "column sum")


def batch_norm(
    kernels, schedule, rows, cols, kind, *, training=True, unbiased=True, updates=None, frozen=False
):
    x = place(draw(rows, cols) + 3 * draw(cols, seed=5))
    gamma, beta = place(draw(cols, seed=1)), place(draw(cols, seed=2))
    running = [draw(cols, seed=3), np.abs(draw(cols, seed=4))]
    cpu, gpu = [r.copy() for r in running], [place(r) for r in running]
    y, mean, rstd = empty(rows, cols), empty(cols), empty(cols)
    count = None if updates is None else place(np.array([updates], np.float32))
    kernels.run(
        shim.BATCH_NORM, schedule, x=x, x_row=cols, y=y, y_row=cols, rows=rows, cols=cols, gamma=gamma,
        beta=beta, mean=mean, rstd=rstd, running_mean=gpu[0], running_var=gpu[1],
        partials=partials(rows, cols, 3) if training else None, momentum=0.1, eps=1e-5, training=training,
        activation=KINDS.index(kind), biased=not unbiased, updates=count, frozen=place(np.array([frozen])),
    )  # fmt: skip
    activation = None if kind == "none" else kind
    weight = 0.1 if updates is None else ops._debiased_weight(0.1, updates)
    given = {} if frozen else {"running_mean": cpu[0], "running_var": cpu[1]}
    given |= {"training": training, "momentum": weight, "unbiased": unbiased}
    want = ops.batch_norm(x, gamma, beta, activation=activation, **given)
    assert count is None or count[0] == updates + (not frozen)
    for got, should, what in zip((y, mean, rstd, *gpu), (*want, *cpu), ("y", "mean", "rstd", "rm", "rv")):
        assert_bits(got, should, f"batch-norm {kind}: {what}")
    if not training:
        return
    true_mean = ref.f64(x).mean(0)
    assert_within(mean, true_mean, bounds.EPS * (2 * np.abs(true_mean) + 4 * ref.f64(x).std(0)), "mean")
    if kind != "none" and kind not in OF_RESULT:
        return
    dy = place(draw(rows, cols, seed=6))
    dx, dgamma, dbeta = empty(rows, cols), empty(cols), empty(cols)
    kernels.run(
        shim.BATCH_NORM_BACKWARD, schedule, dy=dy, dy_row=cols, x=x, x_row=cols, y=y, y_row=cols, dx=dx,
        dx_row=cols, rows=rows, cols=cols, gamma=gamma, mean=mean, rstd=rstd, dgamma=dgamma, dbeta=dbeta,
        sums=empty(2 * cols), partials=partials(rows, cols, 2), activation=KINDS.index(kind),
    )  # fmt: skip
    given = {} if activation is None else {"activation": activation, "y": y}
    want = ops.batch_norm_backward(dy, x, gamma, mean, rstd, **given)
    for got, should, what in zip((dx, dgamma, dbeta), want, ("dx", "dgamma", "dbeta")):
        assert_bits(got, should, f"batch-norm {kind}: {what}")


def softmax(kernels, schedule, rows, classes, form="ids", where=None):
    logits = laid(where, "logits", draw(rows, classes, scale=3.0))
    d = laid(where, "d", np.full((rows, classes), np.nan, np.float32))
    losses = empty(rows, dtype=np.float64)
    rng = np.random.default_rng(rows)
    labels = rng.integers(0, classes, rows)
    smoothing = 0.1 if form == "smooth" else 0.0
    chances = None
    if form == "chances":
        chances = laid(where, "chances", rng.dirichlet(np.ones(classes), rows).astype(np.float32))
    target = labels if chances is None else chances
    kernels.run(
        shim.SOFTMAX, schedule, logits=logits, logits_row=stride(logits),
        labels=None if chances is not None else labels, probabilities=chances,
        probabilities_row=0 if chances is None else stride(chances), dlogits=d, row_loss=losses, rows=rows,
        cols=classes, scale=1.0 / rows, keep=1.0 - smoothing, share=smoothing / classes,
    )  # fmt: skip
    value, want = ops.softmax_cross_entropy(logits, target, label_smoothing=smoothing)
    assert_bits(d, want, f"softmax {form} {where}")
    total = 0.0
    for loss in losses:
        total += loss
    assert total / rows == value
    bound = bounds.softmax_bounds(logits, target, label_smoothing=smoothing)[1]
    assert_within(d, ref.softmax_cross_entropy(logits, target, label_smoothing=smoothing)[1], bound, form)
    assert_alone(where, d)


def point_loss(kernels, schedule, rows, cols, name, weighted=False, where=None):
    pred = laid(where, "pred", draw(rows, cols))
    target = laid(where, "target", np.abs(draw(rows, cols, seed=1)) % 1)
    weight = np.abs(draw(rows, seed=2)) + np.float32(0.5) if weighted else None
    total = float(np.sum(weight, dtype=np.float64)) if weighted else rows
    if weighted:  # in the order of the rows, as the CPU adds them
        total = 0.0
        for w in weight:
            total += float(w)
    factor = (2.0 if name == "mse" else 1.0) / (total * cols)
    scaled = None
    if weighted:
        scaled = laid(where, "weight", (weight.astype(np.float64) * factor).astype(np.float32))
    d = laid(where, "d", np.full((rows, cols), np.nan, np.float32))
    sums = empty(4096, dtype=np.float64, at_end=False)
    kind = {"mse": 0, "huber": 1, "sigmoid_cross_entropy": 2}[name]
    kernels.run(
        shim.POINT_LOSS, schedule, pred=pred, target=target, weight=scaled, dpred=d, sums=sums, rows=rows,
        cols=cols, kind=kind, scale=factor, delta=1.0,
    )  # fmt: skip
    value, want = getattr(ops, name)(pred, target, sample_weight=weight)
    assert_bits(d, want, f"{name} {where}")
    got = 0.0
    for s in sums[~np.isnan(sums)]:
        got += s
    assert (got if weighted else got * factor) == value, name
    near, bound = bounds.elementwise_loss_bounds(name, pred, target, weight)
    true_value, true = getattr(ref, name)(pred, target, weight)
    assert abs(value - true_value) <= near
    assert_within(d, true, bound, name)
    assert_alone(where, d)


def gemm(
    kernels, schedule, m, n, k, *, trans_a=False, trans_b=False, alpha=1.0, beta=0.0, bias=False, kind="none"
):
    a = place(draw(*((k, m) if trans_a else (m, k))))
    b = place(draw(*((n, k) if trans_b else (k, n)), seed=1))
    c = place(draw(m, n, seed=2) if beta != 0.0 else np.full((m, n), np.nan, np.float32))
    row = place(draw(n, seed=3)) if bias else None
    out = c.copy()
    kernels.run(
        shim.GEMM, schedule, a=a, a_row=1 if trans_a else k, a_col=m if trans_a else 1, b=b,
        b_row=1 if trans_b else n, b_col=k if trans_b else 1, c=c, c_row=n, bias=row, m=m, n=n, k=k, k_end=k,
        alpha=alpha, beta=beta, activation=KINDS.index(kind),
    )  # fmt: skip
    options = {"trans_a": trans_a, "trans_b": trans_b, "alpha": alpha, "beta": beta, "bias": row}
    want = ops.gemm(a, b, out=out.copy(), activation=None if kind == "none" else kind, **options)
    assert_bits(c, want, f"gemm {m} {n} {k}")
    if kind == "none":
        bound = bounds.gemm_bound(a, b, random=True, out=out, **options)
        assert_within(c, ref.gemm(a, b, out=out, **options), bound, f"gemm {m} {n} {k}")


WITH = {
    shim.GEMM: shim.WITH_GEMM,
    shim.GEMM_BF16: shim.WITH_GEMM_BF16,
    shim.GEMM_TF32: shim.WITH_GEMM_TF32,
}


def product_of(numbers, precision, c):
    """The struct of a @ b with this precision, filled, and what it points to."""
    (m, k), n = numbers[0].shape, numbers[1].shape[1]
    a, b = ((x.view(np.uint32) >> 16).astype(np.uint16) if precision == "bfloat16" else x for x in numbers)
    g = {
        "a_row": k, "a_col": 1, "b_row": n, "b_col": 1, "c": c, "c_row": n, "m": m, "n": n, "k": k,
        "k_end": k, "alpha": 1.0,
    }  # fmt: skip
    if precision == "bfloat16":
        return shim.GEMM_BF16, {"g": shim.filled(shim.GEMM, g), "a": a, "b": b}, (a, b)
    g |= {"a": a, "b": b}
    if precision == "float32":
        return shim.GEMM, g, (a, b)
    return shim.GEMM_TF32, {"g": shim.filled(shim.GEMM, g)}, (a, b)


def beside(kernels, schedule, precision, shape, kind, from_x, sums):
    """A product, the gradient of an activation (None: none) behind it and column sums of another matrix of
    this shape (None: none) in one launch: the bits of one after another."""
    m, n, k = shape
    numbers = place(draw(m, k)), place(draw(k, n, seed=1))
    one, all_at_once = empty(m, n), empty(m, n)
    of = draw(m, n, seed=2)
    of = place(of if from_x or kind is None else ops.activation(of, kind))
    made, fields, _kept = product_of(numbers, precision, one)
    kernels.run(made, schedule, **fields)
    slope = {}
    if kind is not None:
        options = {"kind": KINDS.index(kind), "alpha": ALPHA.get(kind, 1.0)}
        kernels.run(
            shim.ACTIVATION_BACKWARD,
            schedule,
            dy=one,
            x=of,
            y=None if from_x else of,
            dx=one,
            n=m * n,
            **options,
        )
        slope = {"of": of, "of_x": from_x, **options}
    want, got, columns = None, None, {}
    if sums is not None:
        rows, cols = sums
        x, old = place(draw(rows, cols, seed=3)), draw(cols, seed=4)
        want, got = place(old), place(old)
        columns = {"x": x, "x_row": cols, "rows": rows, "cols": cols, "accumulate": rows % 2 == 1}
        kernels.run(shim.COLUMN_SUM, schedule, out=want, partials=partials(rows, cols, 1), **columns)
        columns["out"] = got
    made, fields, _kept = product_of(numbers, precision, all_at_once)
    both = {"slope": shim.filled(shim.SLOPE, slope), "sums": shim.filled(shim.COLUMN_SUM, columns)}
    kernels.run(WITH[made], schedule, product=shim.filled(made, fields), **both)
    what = f"{precision} {shape} {kind} {from_x} {sums}"
    assert_bits(all_at_once, one, what)
    if sums is not None:
        assert_bits(got, want, f"sums beside {what}")


def arrivals(m, n):
    """The counts of the statistics beside a product."""
    return place(np.zeros(-(-n // 16) * (-(-m // BLOCK) + 1), np.uint32))


def product_and(kernels, schedule, precision, numbers, out, formed, **statistics):
    """A product and, if they are formed beside it, what `statistics` asks for."""
    made, fields, _kept = product_of(numbers, precision, out)
    if not formed:
        kernels.run(made, schedule, **fields)
        return
    arrived = arrivals(*out.shape)
    beside = shim.filled(shim.STATISTICS, {"arrived": arrived, **statistics})
    kernels.run(WITH[made], schedule, product=shim.filled(made, fields), statistics=beside)
    assert not arrived.any()


def moments(kernels, schedule, precision, shape):
    """A product and the statistics of the batch-norm behind it in one launch: the bits of both, and the
    counts are 0 again. Batch-norm takes what was formed."""
    m, n, k = shape
    numbers = place(draw(m, k)), place(draw(k, n, seed=1))
    norm = {"rows": m, "cols": n, "x_row": n, "y_row": n, "momentum": 0.1, "eps": 1e-5, "training": True}
    norm |= {"gamma": place(draw(n, seed=2)), "beta": place(draw(n, seed=3))}
    ends = []
    for formed in (False, True):
        x, y, mean, rstd = empty(m, n), empty(m, n), empty(n), empty(n)
        running = [place(draw(n, seed=4)), place(np.abs(draw(n, seed=5)))]
        norm |= {"x": x, "y": y, "mean": mean, "rstd": rstd, "partials": partials(m, n, 3)}
        norm |= {"running_mean": running[0], "running_var": running[1]}
        statistics = {"norm": shim.filled(shim.BATCH_NORM, norm)}
        product_and(kernels, schedule, precision, numbers, x, formed, **statistics)
        kernels.run(shim.BATCH_NORM, schedule, formed=formed, **norm)
        ends.append((x, mean, rstd, *running, y))
    for got, want, what in zip(ends[1], ends[0], ("x", "mean", "rstd", "rm", "rv", "y")):
        assert_bits(got, want, f"{what} beside {precision} {shape}")


def gradient_sums(kernels, schedule, precision, shape, kind):
    """The same of batch-norm's gradient, whose dy the product is."""
    m, n, k = shape
    numbers = place(draw(m, k)), place(draw(k, n, seed=1))
    back = {"rows": m, "cols": n, "dy_row": n, "x_row": n, "y_row": n, "dx_row": n}
    back |= {"x": place(draw(m, n, seed=2)), "gamma": place(draw(n, seed=3)), "mean": place(draw(n, seed=4))}
    y = draw(m, n, seed=5) if kind == "none" else ops.activation(draw(m, n, seed=5), kind)
    back |= {"rstd": place(np.abs(draw(n, seed=6))), "y": place(y), "activation": KINDS.index(kind)}
    ends = []
    for formed in (False, True):
        dy, dx, dgamma, dbeta = empty(m, n), empty(m, n), empty(n), empty(n)
        back |= {"dy": dy, "dx": dx, "dgamma": dgamma, "dbeta": dbeta}
        back |= {"sums": empty(2 * n), "partials": partials(m, n, 2)}
        statistics = {"backward": shim.filled(shim.BATCH_NORM_BACKWARD, back)}
        product_and(kernels, schedule, precision, numbers, dy, formed, **statistics)
        kernels.run(shim.BATCH_NORM_BACKWARD, schedule, formed=formed, **back)
        ends.append((dy, dgamma, dbeta, dx))
    for got, want, what in zip(ends[1], ends[0], ("dy", "dgamma", "dbeta", "dx")):
        assert_bits(got, want, f"{what} beside {precision} {shape} {kind}")


# rule: its number and slots, the coefficients of its `ops` function with these arguments
RULES = {
    "sgd": (0, 0, {}, {"lr": 0.1}),
    "momentum": (1, 1, {"decay0": 0.9, "one_minus0": 1.0}, {"lr": 0.1}),
    "nesterov": (1, 1, {"decay0": 0.9, "one_minus0": 1.0, "nesterov": True}, {"lr": 0.1, "nesterov": True}),
    "velocity": (1, 1, {"decay0": 0.9, "one_minus0": 0.1, "style": 1}, {"lr": 0.1, "style": "velocity"}),
    "rmsprop": (2, 1, {"decay0": 0.9, "one_minus0": 1 - 0.9, "eps": 1e-8}, {"lr": 0.1}),
    "adagrad": (3, 1, {"eps": 1e-10}, {"lr": 0.1}),
    "adam": (4, 2, {}, {"lr": 0.1, "step": 3}),
    "adam decay": (4, 2, {"decay": 0.1}, {"lr": 0.1, "step": 3, "weight_decay": 0.1}),
    "adamw": (4, 2, {"keep": 1 - 0.1 * 0.1}, {"lr": 0.1, "step": 3, "weight_decay": 0.1, "decoupled": True}),
}


def update(kernels, schedule, name, lengths, at_end=True):
    rule, slots, numbers, arguments = RULES[name]
    options = shim.OPTIONS(rule=rule, lr=0.1, square_scale=1.0, root_scale=1.0, keep=1.0)
    if rule == 4:
        options.lr = 0.1 / (1.0 - 0.9**3)
        options.root_scale = 1.0 / np.sqrt(1.0 - 0.999**3)
        options.decay0, options.decay1, options.eps = 0.9, 0.999, 1e-8
        options.one_minus0, options.one_minus1 = 1.0 - 0.9, 1.0 - 0.999
    for field, value in numbers.items():
        setattr(options, field, value)
    tensors, chunks, cpu, gpu = (shim.TENSOR * len(lengths))(), 0, [], []
    for t, n in zip(tensors, lengths):
        arrays = [draw(n), draw(n, seed=1), *(np.abs(draw(n, seed=2 + s)) for s in range(slots))]
        cpu.append([a.copy() for a in arrays])
        gpu.append([place(a, at_end) for a in arrays])
        for field, array in zip(("param", "grad", "slot0", "slot1"), gpu[-1]):
            setattr(t, field, shim.address(array))
        t.n, t.cols, t.units, t.first_chunk = n, n, 1, chunks
        chunks += shim.update_chunks(n)
    status = kernels.run(
        shim.UPDATE, schedule, tensors=ctypes.addressof(tensors), count=len(lengths),
        chunks=chunks, options=ctypes.addressof(options),
    )  # fmt: skip
    assert status == 0
    function = getattr(
        ops, {"nesterov": "momentum", "velocity": "momentum"}.get(name, name.split()[0].rstrip("w")) + "_"
    )
    function(*(list(column) for column in zip(*cpu)), **arguments)
    for got, want in zip(gpu, cpu):
        for a, b, what in zip(got, want, ("param", "grad", "slot0", "slot1")):
            assert_bits(a, b, f"{name}: {what}")
