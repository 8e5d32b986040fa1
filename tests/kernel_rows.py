"""Every function of `fastnn.ops` as a row: drawn arguments, the call, the float64 reference with its bounds.

test_properties.py draws the rows with hypothesis, test_guard_pages.py with random numbers between forbidden
pages. A new function of `ops` is a function here, decorated with `row`.
"""

import bounds
import numpy as np
import reference as ref
from draws import Example
from fastnn import ops
from reference_dropout import dropout_mask

ROWS = {}  # name in fastnn.ops -> function of a Source that returns an Example


def row(function):
    ROWS[function.__name__] = function
    return function


def exact(value):
    return value, 0.0


# ---- matrix product ----------------------------------------------------------------------------------------


@row
def gemm(s):
    m, n, k = s.size(), s.size(), s.size(high=s.choose(70, 1100))
    numbers = {"trans_a": s.flag(), "trans_b": s.flag(), "activation": s.choose(None, "relu")}
    if s.flag():
        numbers |= {"alpha": s.choose(1.0, -0.7, 0.0), "beta": s.choose(0.0, 1.0, -2.5)}
    inputs = {
        "a": s.input((k, m) if numbers["trans_a"] else (m, k)),
        "b": s.input((n, k) if numbers["trans_b"] else (k, n)),
    }
    if s.flag():
        inputs["bias"] = s.input(n)
    outputs = {"out": s.output((m, n), padded=True)} if numbers.get("beta") or s.flag() else {}

    def want(**arrays):
        bound_of = {key: v for key, v in numbers.items() if key != "activation"}
        return [(ref.gemm(**arrays, **numbers), bounds.gemm_bound(**arrays, **bound_of, random=False))]

    return Example(inputs, outputs, lambda **arrays: [ops.gemm(**arrays, **numbers)], want)


@row
def linear_backward(s):
    rows, i, o = s.size(high=s.choose(70, 600)), s.size(), s.size()
    accumulate = s.flag()
    inputs = {"dy": s.input((rows, o)), "x": s.input((rows, i)), "w": s.input((i, o))}
    outputs = {}
    if accumulate or s.flag():
        outputs = {
            "dx": s.output((rows, i), padded=True),
            "dw": s.output((i, o), padded=True),
            "db": s.output(o),
        }

    def call(dy, x, w, dx=None, dw=None, db=None):
        return list(ops.linear_backward(dy, x, w, out=(dx, dw, db), accumulate=accumulate))

    def want(dy, x, w, dx=None, dw=None, db=None):
        old = (0.0, ref.f64(dw), ref.f64(db)) if accumulate else (0.0, 0.0, 0.0)
        sums = bounds.sum_factor(rows, random=False) * np.abs(ref.f64(dy)).sum(0)
        limits = (
            bounds.gemm_bound(dy, w, trans_b=True, random=False),
            bounds.gemm_bound(x, dy, trans_a=True, random=False),
            sums,
        )
        return [
            (new + o, limit + 2.0 * bounds.EPS * (np.abs(new) + np.abs(o)) * accumulate)
            for new, o, limit in zip(ref.linear_backward(dy, x, w), old, limits, strict=True)
        ]

    return Example(inputs, outputs, call, want)


# ---- activation --------------------------------------------------------------------------------------------


@row
def activation(s):
    shape, kind = s.shape(), s.choose(*ref.ACTIVATIONS)
    outputs = {"out": s.output(shape)} if s.flag() else {}

    def want(x, out=None):
        y = ref.activation(x, kind)
        return [(y, bounds.activation_bound(kind, x, y))]

    return Example(
        {"x": s.input(shape)}, outputs, lambda x, out=None: [ops.activation(x, kind, out=out)], want
    )


@row
def activation_backward(s):
    shape, kind = s.shape(), s.choose(*ref.ACTIVATIONS)
    outputs = {"out": s.output(shape)} if s.flag() else {}

    def want(dy, x, out=None):
        if kind == "relu":
            return [exact(ref.relu_backward(dy, x))]  # a mask: where x <= 0 no NaN of dy passes
        return [(ref.activation_backward(dy, x, kind), bounds.activation_backward_bound(dy, kind))]

    return Example(
        {"dy": s.input(shape), "x": s.input(shape)},
        outputs,
        lambda dy, x, out=None: [ops.activation_backward(dy, x, kind, out=out)],
        want,
    )


@row
def dropout(s):
    shape, p, seed, step = s.shape(), s.choose(0.0, 0.2, 0.5, 1.0), s.integer(0, 99), s.integer(0, 99)
    outputs = {"out": s.output(shape)} if s.flag() else {}

    def want(x, out=None):
        mask = dropout_mask(shape, p, seed, step)
        kept = ref.f64(x) * ref.coefficient(1.0 / (1.0 - p)) if p < 1.0 else 0.0
        y = np.where(mask, kept, 0.0)
        return [(y, bounds.EPS * np.abs(y))]

    return Example(
        {"x": s.input(shape)},
        outputs,
        lambda x, out=None: [ops.dropout(x, p, seed=seed, step=step, out=out)],
        want,
    )


# ---- batch normalization -----------------------------------------------------------------------------------


def batch_shape(s, least_rows):
    shape = (s.size(least_rows, 200), s.size(0, 70))
    return (*shape[:1], s.integer(1, 3), *shape[1:]) if s.flag() else shape


@row
def batch_norm(s):
    training = s.flag()
    shape = batch_shape(s, 2 if training else 0)
    channels = shape[-1]
    numbers = {"training": training, "eps": s.choose(1e-5, 1e-3), "momentum": s.choose(0.1, 0.0, 1.0)}
    numbers |= {"activation": s.choose(None, "relu"), "unbiased": s.flag()}
    inputs = {"x": s.input(shape, "normal", "offset"), "gamma": s.input(channels), "beta": s.input(channels)}
    outputs = {"out": s.output(shape, padded=len(shape) == 2)} if s.flag() else {}
    if not training:
        inputs |= {"running_mean": s.input(channels), "running_var": s.input(channels, "positive")}
    elif s.flag():
        outputs |= {"running_mean": s.output(channels), "running_var": s.output(channels, "positive")}

    def call(x, gamma, beta, running_mean=None, running_var=None, out=None):
        results = ops.batch_norm(x, gamma, beta, running_mean, running_var, out=out, **numbers)
        return [*results, *([running_mean, running_var] if training and running_mean is not None else [])]

    def want(x, gamma, beta, running_mean=None, running_var=None, out=None):
        given = {} if training else {"mean": running_mean, "var": running_var}
        eps, relu = numbers["eps"], numbers["activation"]
        y, mean, var, xhat = ref.batch_norm(x, gamma, beta, eps=eps, activation=relu, **given)
        std = np.sqrt(var + np.float32(eps))
        results = [
            (y, bounds.batch_norm_bound(gamma, beta, xhat, mean, std)),
            (mean, bounds.mean_bound(mean, std) if training else 0.0),
            (1.0 / std, 6e-7 / std),
        ]
        if training and running_mean is not None:
            var = ref.unbiased(var, x.size // max(1, channels)) if numbers["unbiased"] else var
            eps32 = 2.0 * bounds.EPS
            mean_limit = eps32 * (np.abs(running_mean) + np.abs(mean) + 2.0 * np.sqrt(var))
            var_limit = eps32 * np.abs(running_var) + 1.2e-6 * var
            results += [
                (ref.running(running_mean, mean, numbers["momentum"]), mean_limit),
                (ref.running(running_var, var, numbers["momentum"]), var_limit),
            ]
        return results

    return Example(inputs, outputs, call, want)


@row
def batch_norm_backward(s):
    shape = batch_shape(s, 2)
    channels = shape[-1]
    fused, accumulate = s.flag(), s.flag()
    x = s.input(shape, "normal", "offset")
    _, mean, var, _ = ref.batch_norm(x, np.ones(channels), np.zeros(channels))
    placed = s.placed if s.layouts else np.array
    inputs = {
        "dy": s.input(shape, "normal"),
        "x": x,
        "gamma": s.input(channels),
        "mean": placed(mean.astype(np.float32)),
        "rstd": placed((1.0 / np.sqrt(var + 1e-5)).astype(np.float32)),
    }
    if fused:
        inputs["y"] = s.input(shape, "integer")
    outputs = {}
    if accumulate or s.flag():
        outputs = {
            "dx": s.output(shape, padded=len(shape) == 2),
            "dgamma": s.output(channels),
            "dbeta": s.output(channels),
        }

    def call(dy, x, gamma, mean, rstd, y=None, dx=None, dgamma=None, dbeta=None):
        numbers = {"activation": "relu" if fused else None, "accumulate": accumulate}
        return list(
            ops.batch_norm_backward(dy, x, gamma, mean, rstd, y=y, out=(dx, dgamma, dbeta), **numbers)
        )

    def want(dy, x, gamma, mean, rstd, y=None, dx=None, dgamma=None, dbeta=None):
        old = (0.0, ref.f64(dgamma), ref.f64(dbeta)) if accumulate else (0.0, 0.0, 0.0)
        arrays = dy, x, gamma, mean, rstd
        return [
            (new + o, limit + 2.0 * bounds.EPS * (np.abs(new) + np.abs(o)) * accumulate)
            for new, o, limit in zip(
                ref.batch_norm_backward(*arrays, y=y),
                old,
                bounds.batch_norm_backward_bounds(*arrays, y=y),
                strict=True,
            )
        ]

    return Example(inputs, outputs, call, want)


# ---- loss --------------------------------------------------------------------------------------------------


@row
def softmax_cross_entropy(s):
    rows, classes = s.size(1, 70), s.size(1, 70)
    labels = np.arange(rows) * s.integer(1, 7) % classes
    inputs = {"logits": s.input((rows, classes), "normal", "integer", "wide", "offset")}
    if s.flag():
        labels = labels.astype(s.choose(np.int64, np.int8, np.uint32))
    else:
        inputs["probabilities"] = s.input((rows, classes), "positive")
    if s.flag():
        inputs["sample_weight"] = s.input(rows, "positive")

    def call(logits, probabilities=labels, sample_weight=None):
        value, dlogits = ops.softmax_cross_entropy(logits, probabilities, sample_weight=sample_weight)
        return [np.array(value, np.float32), dlogits]

    def want(logits, probabilities=labels, sample_weight=None):
        arrays = logits, probabilities, sample_weight
        value, dlogits = ref.softmax_cross_entropy(*arrays)
        value_bound, bound = bounds.softmax_bounds(*arrays)
        return [(np.array(value), value_bound + bounds.EPS * abs(value)), (dlogits, bound)]

    return Example(inputs, {}, call, want, quiet=("sample_weight",))


def elementwise_loss(s, name, **numbers):
    shape = (s.size(1, 70), s.size(1, 9))[: s.integer(1, 2)]
    kinds = ("share",) if name == "sigmoid_cross_entropy" else ("normal", "integer", "offset")
    inputs = {"pred": s.input(shape), "target": s.input(shape, *kinds)}
    if s.flag():
        inputs["sample_weight"] = s.input(shape[0], "positive")

    def call(pred, target, sample_weight=None):
        value, dpred = getattr(ops, name)(pred, target, sample_weight=sample_weight, **numbers)
        return [np.array(value, np.float32), dpred]

    def want(pred, target, sample_weight=None):
        arrays = pred, target, sample_weight
        value, dpred = getattr(ref, name)(*arrays, **numbers)
        value_bound, bound = bounds.elementwise_loss_bounds(name, *arrays, **numbers)
        return [(np.array(value), value_bound + bounds.EPS * abs(value)), (dpred, bound)]

    return Example(inputs, {}, call, want, quiet=("sample_weight",))


@row
def sigmoid_cross_entropy(s):
    return elementwise_loss(s, "sigmoid_cross_entropy")


@row
def mse(s):
    return elementwise_loss(s, "mse")


@row
def quadratic_cost(s):
    return elementwise_loss(s, "quadratic_cost")


@row
def huber(s):
    return elementwise_loss(s, "huber", delta=s.choose(1.0, 0.3))


# ---- updates -----------------------------------------------------------------------------------------------


def update(s, name, slots, **numbers):
    """An update of one array, or of a list: the pieces of the drawn one, so the reference is the same."""
    shape = s.shape(high=30)
    outputs = {"param": s.output(shape, "normal", "wide")}
    inputs = {"grad": s.input(shape, "normal", "wide", "constant")}
    outputs |= {slot: s.output(shape, *kinds) for slot, kinds in slots.items()}
    cuts = None
    if len(shape) == 1 and 0 not in inputs["grad"].strides and s.flag():  # a list may not share memory
        cuts = sorted(s.integer(0, 40) for _ in range(s.integer(1, 3)))

    def call(param, grad, **slot):
        arrays = [param, grad, *slot.values()]
        given = arrays if cuts is None else [np.split(a, cuts) for a in arrays]
        getattr(ops, name + "_")(*given, **numbers)
        return [param, *slot.values()]

    def want(**arrays):
        values = getattr(ref, name)(*arrays.values(), **numbers)
        return list(zip(values, getattr(bounds, name + "_bounds")(*arrays.values(), **numbers), strict=True))

    order = ["param", "grad", *slots]

    def ordered(function):
        return lambda **arrays: function(**{key: arrays[key] for key in order})

    return Example(inputs, outputs, ordered(call), ordered(want))


SIGNED, SQUARE = ("normal", "wide"), ("positive",)


@row
def sgd_(s):
    return update(s, "sgd", {}, lr=s.choose(0.1, 0.0, 3.0))


@row
def momentum_(s):
    numbers = {"momentum": s.choose(0.9, 0.0), "nesterov": s.flag(), "style": s.choose("buffer", "velocity")}
    return update(s, "momentum", {"velocity": SIGNED}, lr=0.05, **numbers)


@row
def rmsprop_(s):
    return update(
        s, "rmsprop", {"square_avg": SQUARE}, lr=1e-2, rho=s.choose(0.9, 0.99), eps=s.choose(1e-8, 1e-3)
    )


@row
def adagrad_(s):
    return update(s, "adagrad", {"square_sum": SQUARE}, lr=1e-2, eps=s.choose(1e-10, 1e-3))


@row
def adam_(s):
    numbers = {"step": s.choose(1, 2, 1000, 2**40), "weight_decay": s.choose(0.0, 0.1), "decoupled": s.flag()}
    return update(s, "adam", {"m": SIGNED, "v": SQUARE}, lr=s.choose(1e-3, 0.1), **numbers)
