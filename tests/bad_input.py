"""Bad input to every function of ops: a table, a row per function and case.

Each row says what is wrong, which exception must come and what its text must name.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import layouts
import numpy as np
from native import NATIVE

F32 = np.float32


def array(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, F32) + F32(0.5)


def good(function):
    """Arguments that the function accepts, every optional array given."""
    n, c, m = 6, 4, 5  # rows, features, outputs
    return {
        "gemm": lambda: {"a": array(n, c), "b": array(c, m), "bias": array(m), "out": array(n, m)},
        "linear_backward": lambda: {
            "dy": array(n, m),
            "x": array(n, c),
            "w": array(c, m),
            "out": (array(n, c), array(c, m), array(m)),
        },
        "activation": lambda: {"x": array(n, c), "kind": "relu", "out": array(n, c)},
        "activation_backward": lambda: {
            "dy": array(n, c),
            "x": array(n, c),
            "kind": "relu",
            "y": array(n, c),
            "out": array(n, c),
        },
        "dropout": lambda: {"x": array(n, c), "p": 0.5, "seed": 1, "step": 2, "out": array(n, c)},
        "batch_norm": lambda: {
            "x": array(n, c),
            "gamma": array(c),
            "beta": array(c),
            "running_mean": array(c),
            "running_var": array(c),
            "out": array(n, c),
        },
        "batch_norm_backward": lambda: {
            "dy": array(n, c),
            "x": array(n, c),
            "gamma": array(c),
            "mean": array(c),
            "rstd": array(c),
            "activation": "relu",
            "y": array(n, c),
            "out": (array(n, c), array(c), array(c)),
        },
        "softmax_cross_entropy": lambda: {
            "logits": array(n, c),
            "labels": np.arange(n) % c,
            "sample_weight": array(n),
        },
        "sigmoid_cross_entropy": lambda: {
            "logits": array(n, c),
            "targets": array(n, c),
            "sample_weight": array(n),
        },
        **dict.fromkeys(
            ("mse", "quadratic_cost", "huber"),
            lambda: {"pred": array(n, c), "target": array(n, c), "sample_weight": array(n)},
        ),
        "sgd_": lambda: {"param": array(n, c), "grad": array(n, c), "lr": 0.1},
        "momentum_": lambda: {"param": array(n, c), "grad": array(n, c), "velocity": array(n, c), "lr": 0.1},
        "rmsprop_": lambda: {"param": array(n, c), "grad": array(n, c), "square_avg": array(n, c), "lr": 0.1},
        "adagrad_": lambda: {
            "param": array(n, c),
            "grad": array(n, c),
            "square_sum": array(n, c),
            "lr": 0.1,
        },
        "adam_": lambda: {
            "param": array(n, c),
            "grad": array(n, c),
            "m": array(n, c),
            "v": array(n, c),
            "step": 1,
        },
    }[function]()


# Arrays that are only read, and those that are written, by the names in errors; out[i] is an item of `out`.
INPUTS = {
    "gemm": ("a", "b", "bias"),
    "linear_backward": ("dy", "x", "w"),
    "activation": ("x",),
    "activation_backward": ("dy", "x", "y"),
    "dropout": ("x",),
    "batch_norm": ("x", "gamma", "beta"),
    "batch_norm_backward": ("dy", "x", "gamma", "mean", "rstd", "y"),
    "softmax_cross_entropy": ("logits", "sample_weight"),
    "sigmoid_cross_entropy": ("logits", "targets", "sample_weight"),
    **dict.fromkeys(("mse", "quadratic_cost", "huber"), ("pred", "target", "sample_weight")),
    **dict.fromkeys(("sgd_", "momentum_", "rmsprop_", "adagrad_", "adam_"), ("grad",)),
}
OUTPUTS = {
    "gemm": ("out",),
    "linear_backward": ("out[0]", "out[1]", "out[2]"),
    "activation": ("out",),
    "activation_backward": ("out",),
    "dropout": ("out",),
    "batch_norm": ("out", "running_mean", "running_var"),
    "batch_norm_backward": ("out[0]", "out[1]", "out[2]"),
    **dict.fromkeys(("softmax_cross_entropy", "sigmoid_cross_entropy", "mse", "quadratic_cost", "huber"), ()),
    "sgd_": ("param",),
    "momentum_": ("param", "velocity"),
    "rmsprop_": ("param", "square_avg"),
    "adagrad_": ("param", "square_sum"),
    "adam_": ("param", "m", "v"),
}
OPTIONAL = {"bias", "out", "y", "running_mean", "running_var", "sample_weight", "out[0]", "out[1]", "out[2]"}


class Row(NamedTuple):
    function: str
    case: str
    error: type[Exception]
    pattern: str
    change: Callable[[dict[str, Any]], dict[str, Any]]

    def __str__(self):
        return f"{self.function}: {self.case}"


def get(arguments, name):
    item = re.fullmatch(r"out\[(\d)\]", name)
    return arguments["out"][int(item[1])] if item else arguments[name]


def put(arguments, name, value):
    item = re.fullmatch(r"out\[(\d)\]", name)
    if not item:
        return {**arguments, name: value}
    items = list(arguments["out"])
    items[int(item[1])] = value
    return {**arguments, "out": tuple(items)}


def replace(name, make):
    """A change that puts make(the good array) in its place."""
    return lambda arguments: put(arguments, name, make(get(arguments, name)))


def merge(**changes):
    """A change of arguments by fixed values."""
    return lambda arguments: {**arguments, **changes}


# What is no float32 array, with what the text must name beside the argument. Nothing is converted silently.
WRONG_KIND = {
    "a list": (lambda x: x.tolist(), ""),
    "a number": (lambda x: 1.5, ".*float"),
    "a word": (lambda x: "abc", ".*str"),
    "a memoryview": (memoryview, ".*memoryview"),
    "float64": (lambda x: x.astype("f8"), ".*float64"),
    "float16": (lambda x: x.astype("f2"), ".*float16"),
    "uint16": (lambda x: x.astype("u2"), ".*uint16"),
    "int64": (lambda x: x.astype("i8"), ".*int64"),
    "bool": (lambda x: x > 1, ".*bool"),
    "complex": (lambda x: x.astype("c8"), ".*complex64"),
    "strings": (lambda x: x.astype("U4"), ".*U4"),
    "objects": (lambda x: x.astype(object), ".*object"),
    "big-endian": (lambda x: x.astype(">f4"), ".*byte order.*=f4"),
    "a record": (lambda x: np.zeros(x.shape, [("f", "f4")]), ".*dtype"),
    "masked": (np.ma.masked_array, r".*masked.*filled"),
}
# What an output's memory must not be.
WRONG_MEMORY = {
    "read-only": (layouts.read_only, "read-only"),
    "read-only memmap": (layouts.memmap, "read-only"),
    "misaligned": (layouts.misaligned, "multiple of 4|aligned"),
    "step 2": (layouts.step2, "contiguous"),
    "reversed": (layouts.reversed_all, "contiguous"),
    "stride 0": (
        lambda x: np.lib.stride_tricks.as_strided(x, x.shape, (0,) * x.ndim, writeable=True),
        "contiguous|overlap",
    ),
    "one longer": (lambda x: np.zeros((x.shape[0] + 1, *x.shape[1:]), F32), r"shape"),
    "another dimension": (lambda x: np.zeros((1, *x.shape), F32), r"shape|-D"),
    "empty": (lambda x: np.zeros((0, *x.shape[1:]), F32), r"shape"),
}


def shifted(x):
    """Two overlapping views of new memory, both with the values and shape of x, one row apart."""
    memory = np.zeros((x.shape[0] + 1, *x.shape[1:]), F32)
    memory[:-1] = x
    return memory[:-1], memory[1:]


def overlap_rows(function):
    """Each written array one row beside each read one, and each read one itself where the shapes agree."""
    arguments = good(function)
    for out in OUTPUTS[function]:
        for other in (*INPUTS[function], *(o for o in OUTPUTS[function] if o != out)):
            if get(arguments, out).shape != get(arguments, other).shape:
                continue

            def beside(given, out=out, other=other):
                read, written = shifted(get(given, other))
                return put(put(given, other, read), out, written)

            def same(given, out=out, other=other):
                return put(given, out, get(given, other))

            yield Row(function, f"{out} one row beside {other}", ValueError, "memory|overlap", beside)
            elementwise = function.startswith(("activation", "dropout")) and other in ("x", "dy", "y")
            if not elementwise:
                yield Row(function, f"{out} is {other}", ValueError, "memory|overlap", same)


def general_rows():
    for function in NATIVE:
        name = re.escape(function)
        for argument in (*INPUTS[function], *OUTPUTS[function]):
            label = re.escape(argument)
            for kind, (make, text) in WRONG_KIND.items():
                pattern = rf"^{name}\(\).*'{label}(\[0\])?'{text}"
                yield Row(function, f"{argument} is {kind}", TypeError, pattern, replace(argument, make))
            if argument not in OPTIONAL:
                pattern = rf"^{name}\(\).*'{label}'.*None"
                yield Row(function, f"{argument} is None", TypeError, pattern, merge(**{argument: None}))
            wrong = (lambda x: x[None], lambda x: x[:-1], lambda x: np.concatenate([x, x]))
            for case, make in zip(("one dimension more", "one shorter", "twice as long"), wrong, strict=True):
                single = {"softmax_cross_entropy": "logits"}
                single |= dict.fromkeys(("activation", "dropout", "batch_norm"), "x")
                if argument in ("a", "b") and case != "one dimension more":
                    continue  # a row less is another valid product; the table of gemm has its own rows
                if single.get(function) == argument and case != "one dimension more":
                    continue  # the other arrays no longer fit: rows of their own below
                yield Row(
                    function, f"{argument}: {case}", ValueError, rf"^{name}\(\)", replace(argument, make)
                )
        for argument in OUTPUTS[function]:
            label = re.escape(argument)
            for case, (make, text) in WRONG_MEMORY.items():
                pattern = rf"^{name}\(\).*'.*({text})"
                yield Row(function, f"{argument} is {case}", ValueError, pattern, replace(argument, make))
        yield from overlap_rows(function)
        yield Row(function, "an unknown keyword", TypeError, rf"^{name}\(\).*'colour'", merge(colour=1))
        required = next(iter(good(function)))

        def drop(arguments, required=required):
            return {k: v for k, v in arguments.items() if k != required}

        yield Row(function, f"{required} is missing", TypeError, rf"^{name}\(\) missing.*'{required}'", drop)


NUMBERS = {
    **{
        f: {"lr": (-0.1, np.nan, np.inf, -np.inf, 1e39)}
        for f in ("sgd_", "momentum_", "rmsprop_", "adagrad_", "adam_")
    },
    "activation": {"alpha": (-0.1, np.nan, np.inf, 1e39)},
    "activation_backward": {"alpha": (-0.1, np.nan, np.inf)},
    "batch_norm": {"momentum": (-0.1, 1.1, np.nan), "eps": (-1e-5, np.nan, np.inf)},
    "gemm": {},
    "dropout": {"p": (-0.1, 1.1, np.nan, np.inf), **dict.fromkeys(("seed", "step"), (-1, 2**63, 10**30))},
}
NUMBERS["momentum_"] = {**NUMBERS["momentum_"], "momentum": (-0.1, 1.0, 1.5, np.nan)}
NUMBERS["rmsprop_"] = {**NUMBERS["rmsprop_"], "rho": (-0.1, 1.0, np.nan), "eps": (-1e-8, np.nan)}
NUMBERS["adagrad_"] = {**NUMBERS["adagrad_"], "eps": (-1e-10, np.nan, np.inf)}
NUMBERS["huber"] = {"delta": (0.0, -1.0, np.nan, np.inf, 1e39, 1e-50)}
NUMBERS["softmax_cross_entropy"] = {
    "label_smoothing": (-0.1, 1.1, np.nan),
    "ignore_index": (2**63, -(10**30)),
}
NUMBERS["adam_"] = {
    **NUMBERS["adam_"],
    "beta1": (-0.1, 1.0, np.nan),
    "beta2": (-0.1, 1.0, 2.0, np.nan),
    "eps": (-1.0, np.inf),
    "weight_decay": (-0.1, np.nan, np.inf),
    "step": (0, -1, 2**63, 10**30),
}
NO_NUMBERS = {
    "gemm": ("alpha", "beta"),
    "batch_norm": ("momentum", "eps"),
    "dropout": ("p", "seed", "step"),
    "sgd_": ("lr",),
    "momentum_": ("lr", "momentum"),
    "rmsprop_": ("lr", "rho", "eps"),
    "adagrad_": ("lr", "eps"),
    "huber": ("delta",),
    "softmax_cross_entropy": ("label_smoothing",),
    "adam_": ("lr", "beta1", "beta2", "eps", "weight_decay", "step"),
}


KIND_WITH_ALPHA = {f: {"kind": "leaky_relu"} for f in ("activation", "activation_backward")}


def number_rows():
    for function, names in NUMBERS.items():
        for name, values in names.items():
            for value in values:
                pattern = rf"^{function}\(\).*'{name}'.*{re.escape(repr(value))}"
                change = merge(**{name: value}, **KIND_WITH_ALPHA.get(function, {}))
                yield Row(function, f"{name}={value!r}", ValueError, pattern, change)
    for function, names in NO_NUMBERS.items():
        for name in names:
            for value in ("0.1", None, [0.1], 1j):
                pattern = rf"^{function}\(\).*'{name}'.*{type(value).__name__.replace('NoneType', 'None')}"
                yield Row(function, f"{name}={value!r}", TypeError, pattern, merge(**{name: value}))
    for value in (1.0, 1.5, np.float64(2.0)):
        for function, name in (("adam_", "step"), ("dropout", "step"), ("dropout", "seed")):
            pattern = rf"^{function}\(\).*'{name}'.*float"
            yield Row(function, f"{name}={value!r}", TypeError, pattern, merge(**{name: value}))


def v(function, case, pattern, **changes):
    return Row(function, case, ValueError, rf"^{function}\(\).*{pattern}", merge(**changes))


def t(function, case, pattern, **changes):
    return Row(function, case, TypeError, rf"^{function}\(\).*{pattern}", merge(**changes))


OWN_ROWS = [
    v("gemm", "inner dimensions differ", r"'b'.*shape \(5, 4\).*trans_b", b=array(5, 4)),
    v("gemm", "a is transposed", r"inner|shape", a=array(4, 6)),
    v("gemm", "trans_a without need", r"inner|shape", trans_a=True),
    v("gemm", "a is 1-D", r"'a'.*2-D", a=array(4)),
    v("gemm", "b is 0-d", r"'b'.*2-D", b=np.array(1.0, F32)),
    v("gemm", "beta without out", r"'beta'|'out'", beta=0.5, out=None),
    v("gemm", "bias of a's rows", r"'bias'.*\(5,\).*\(6,\)", bias=array(6)),
    v("gemm", "out in Fortran order", r"'out'.*contiguous", out=np.zeros((6, 5), F32, order="F")),
    v("gemm", "tf32 on the CPU", r"'?tf32'?.*CUDA", tf32=True),
    t("gemm", "float64 result", r"'out_dtype'", out_dtype=np.float64),
    t("gemm", "result of a word", r"'out_dtype'", out_dtype="no dtype"),
    v("gemm", "unknown activation", r"'activation'.*'relu'.*'tanhh'", activation="tanhh"),
    t("gemm", "activation is a function", r"'activation'", activation=np.tanh),
    v("linear_backward", "rows differ", r"shape", x=array(7, 4)),
    v("linear_backward", "w is (out, in)", r"'w'.*shape", w=array(5, 4)),
    v("linear_backward", "two outputs", r"'out'.*3", out=(None, None)),
    t("linear_backward", "out is an array", r"'out'.*tuple", out=array(4, 5)),
    v("batch_norm", "one row in training", r"row", x=array(1, 4), out=None),
    v("batch_norm", "x is 0-d", r"'x'.*dimension", x=np.array(1.0, F32), out=None),
    v("batch_norm", "only running_mean", r"'running_var'", running_var=None),
    v("batch_norm", "only running_var", r"'running_mean'", running_mean=None),
    v("batch_norm", "no statistics", "running", training=False, running_mean=None, running_var=None),
    v("batch_norm", "unknown activation", r"'activation'.*'relu'", activation="swish"),
    v("batch_norm", "out of other rows", r"'out'.*shape", x=array(7, 4)),
    v("batch_norm_backward", "relu without y", r"'y'", y=None),
    v("batch_norm_backward", "tanh without y", r"'y'", activation="tanh", y=None),
    *(
        v("batch_norm_backward", f"{kind} fused", r"'activation'.*separately", activation=kind)
        for kind in ("gelu", "gelu_tanh", "silu", "softplus")
    ),
    v("batch_norm_backward", "four outputs", r"'out'.*3", out=(None, None, None, None)),
    t("batch_norm_backward", "out is an array", r"'out'.*tuple", out=array(6, 4)),
    v("momentum_", "unknown style", r"'style'.*'buffer'.*'velocity'", style="keras"),
    t("momentum_", "no style", r"'style'", style=None),
]


def list_rows():
    """Lists of arrays: the row where it goes wrong is named."""
    for function, slots in (
        ("sgd_", ()),
        ("momentum_", ("velocity",)),
        ("rmsprop_", ("square_avg",)),
        ("adagrad_", ("square_sum",)),
        ("adam_", ("m", "v")),
    ):

        def lists(grad, param=None, twice=False, slots=slots):
            """Two parameters with those gradients; their slots are shaped like them."""
            first, second = array(3), array(2, 2)
            param = param or ([first, first] if twice else [first, second])
            return {"param": param, "grad": grad, **{s: [array(*p.shape) for p in param] for s in slots}}

        two = [array(3), array(2, 2)]
        yield t(function, "a None gradient", r"'grad\[1\]'.*None", **lists([array(3), None]))
        yield t(function, "gradients in no list", r"'grad'", **lists(array(3)))
        yield v(function, "fewer gradients", r"'grad'", **lists([array(3)]))
        yield v(function, "a gradient of another shape", r"'grad\[1\]'.*shape", **lists([array(3), array(4)]))
        yield v(function, "a parameter twice", "memory|overlap", **lists([array(3), array(3)], twice=True))
        wrong = lists(two, param=[array(3), np.zeros((2, 2))])
        yield t(function, "a float64 parameter", r"'param\[1\]'.*float64", **wrong)
        # What PyTorch's net.parameters() is.
        once = {**lists(two), "param": (p for p in two)}
        yield t(function, "a generator of parameters", r"'param'.*generator; pass a list", **once)


ROWS = [*general_rows(), *number_rows(), *OWN_ROWS, *list_rows()]
