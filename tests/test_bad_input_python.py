"""What the Python layer says to a wrong argument: a row for each function and case.

A row: an id, a call that must fail, the exception, and a pattern that its text must match. Every text names
the function and the argument.
"""

import numpy as np
import pytest
from bad_input_preprocessing import PREPROCESSING
from fastnn import Trainer, data, init, losses, nn, optim

X, Y = np.zeros((6, 2), np.float32), np.zeros(6, np.int64)
MASKED = np.ma.masked_array(X, mask=X == 0)
NAN, INF = float("nan"), float("inf")


def draw(initializer, shape=(3, 2), **options):
    return initializer(shape, **{"rng": 0, "fan_in": 3, "fan_out": 2, **options})


INIT = [
    ("std-negative", lambda: init.Normal(std=-1), ValueError, r"Normal: std must be at least 0 .*got -1"),
    ("std-nan", lambda: init.Normal(std=NAN), ValueError, "Normal: std must be .*finite, got nan"),
    ("std-text", lambda: init.Normal(std="1"), TypeError, "Normal: std must be a number, got '1'"),
    ("std-bool", lambda: init.Normal(std=True), TypeError, "Normal: std must be a number, got True"),
    ("mean-infinite", lambda: init.Normal(mean=INF), ValueError, "Normal: mean must be .*got inf"),
    ("mean-minus-infinite", lambda: init.Normal(mean=-INF), ValueError, "Normal: mean must be .*got -inf"),
    ("mean-none", lambda: init.Normal(mean=None), TypeError, "Normal: mean must be a number"),
    ("constant", lambda: init.Constant(INF), ValueError, "Constant: value must be in .*got inf"),
    ("constant-none", lambda: init.Constant(None), TypeError, "Constant: value must be a number, got None"),
    (
        "truncated-std",
        lambda: init.TruncatedNormal(std=-1),
        ValueError,
        "TruncatedNormal: std must be at least",
    ),
    (
        "truncated-mean",
        lambda: init.TruncatedNormal("0"),
        TypeError,
        "TruncatedNormal: mean must be a number",
    ),
    (
        "uniform-order",
        lambda: init.Uniform(1, 0),
        ValueError,
        "Uniform: low must not be above high, got 1 and 0",
    ),
    ("uniform-nan", lambda: init.Uniform(0, NAN), ValueError, "Uniform: high must be .*got nan"),
    ("uniform-wide", lambda: init.Uniform(-3e38, 3e38), ValueError, "Uniform: low must be in .*got -3e"),
    ("uniform-text", lambda: init.Uniform("0", 1), TypeError, "Uniform: low must be a number, got '0'"),
    (
        "uniform-std",
        lambda: init.Uniform.from_std(-1),
        ValueError,
        r"Uniform\.from_std: std must be at least 0",
    ),
    (
        "scaling-distribution",
        lambda: init.VarianceScaling(1, "fan_in", "truncated_norm"),
        ValueError,
        "distribution must be one of normal, truncated_normal, uniform; got 'truncated_norm'",
    ),
    (
        "scaling-mode",
        lambda: init.VarianceScaling(1, "avg", "normal"),
        ValueError,
        "VarianceScaling: mode must be one of fan_in, fan_out, fan_avg; got 'avg'",
    ),
    (
        "scaling-scale",
        lambda: init.VarianceScaling(-2, "fan_in", "normal"),
        ValueError,
        "VarianceScaling: scale must be at least 0",
    ),
    (
        "scaling-fan",
        lambda: draw(init.VarianceScaling(1, "fan_avg", "normal"), fan_out=None),
        ValueError,
        "VarianceScaling: needs fan_out.*pass fan_out=",
    ),
    ("lecun-fan", lambda: draw(init.LecunNormal(), fan_in=None), ValueError, "LecunNormal: needs fan_in"),
    ("orthogonal-gain", lambda: init.Orthogonal(-1), ValueError, "Orthogonal: gain must be .*got -1"),
    (
        "orthogonal-1d",
        lambda: draw(init.Orthogonal(), (3,)),
        ValueError,
        r"Orthogonal: .*\(fan_in, fan_out\), got \(3,\)",
    ),
    (
        "identity-3d",
        lambda: draw(init.Identity(), (2, 2, 2)),
        ValueError,
        "Identity: shape must be that of a matrix",
    ),
    ("identity-gain", lambda: init.Identity(NAN), ValueError, "Identity: gain must be .*got nan"),
    ("sparse-k", lambda: init.Sparse(0, 1.0), ValueError, "Sparse: k must be at least 1, got 0"),
    ("sparse-k-share", lambda: init.Sparse(0.1, 1.0), TypeError, "Sparse: k must be a whole number, got 0.1"),
    ("sparse-std", lambda: init.Sparse(1, -1.0), ValueError, "Sparse: std must be .*got -1"),
    (
        "sparse-many",
        lambda: draw(init.Sparse(4, 1.0)),
        ValueError,
        "Sparse: k must be at most fan_in = 3, got 4",
    ),
    ("sparse-1d", lambda: draw(init.Sparse(1, 1.0), 3), ValueError, "Sparse: shape must be that of a matrix"),
    ("xavier-gain", lambda: init.XavierUniform(-2.0), ValueError, "XavierUniform: gain must be at least 0"),
    ("xavier-name", lambda: init.XavierNormal("tanh"), TypeError, "XavierNormal: gain must be a number"),
    ("mode", lambda: init.KaimingNormal("fan_avg"), ValueError, "KaimingNormal: mode must be .*'fan_avg'"),
    ("nonlinearity", lambda: init.KaimingUniform(nonlinearity="ReLU"), ValueError, "nonlinearity .*'ReLU'"),
    ("gain-unknown", lambda: init.gain("swish"), ValueError, "gain: nonlinearity must be one of .*tanh"),
    ("gain-slope", lambda: init.gain("relu", 0.2), ValueError, 'gain: a is the slope of "leaky_relu"'),
    ("gain-a-large", lambda: init.gain("leaky_relu", 1e300), ValueError, "gain: a must be in .*got 1e.300"),
    ("std-large", lambda: draw(init.Normal(std=1e39)), ValueError, r"Normal\(.*\): .* beyond float32"),
    ("gain-large", lambda: draw(init.XavierUniform(1e300)), ValueError, "XavierUniform.*: .* beyond float32"),
    ("sparse-large", lambda: draw(init.Sparse(3, 3e38)), ValueError, "Sparse.*: .* beyond float32"),
    ("gain-list", lambda: init.gain(["relu"]), ValueError, r"gain: nonlinearity must be one of .*\['relu'\]"),
    ("gain-a-text", lambda: init.gain("leaky_relu", "1"), TypeError, "gain: a must be a number"),
    (
        "fan-missing",
        lambda: draw(init.KaimingNormal(), fan_in=None),
        ValueError,
        "needs fan_in.*pass fan_in=",
    ),
    ("fan-out", lambda: draw(init.XavierNormal(), fan_out=None), ValueError, "needs fan_out.*pass fan_out="),
    (
        "fan-zero",
        lambda: draw(init.KaimingNormal(), fan_in=0),
        ValueError,
        "fan_in must be at least 1, got 0",
    ),
    ("fan-float", lambda: draw(init.XavierNormal(), fan_in=3.0), TypeError, "fan_in must be a whole number"),
    (
        "shape-negative",
        lambda: draw(init.Zeros(), (-1, 2)),
        ValueError,
        "Zeros: each size in shape must be at",
    ),
    (
        "shape-float",
        lambda: draw(init.Normal(), (2.0,)),
        TypeError,
        "Normal: each size in shape must be a whole",
    ),
    (
        "shape-none",
        lambda: draw(init.Normal(), None),
        TypeError,
        "Normal: each size in shape must be a whole",
    ),
    (
        "rng-negative",
        lambda: draw(init.Normal(), rng=-1),
        ValueError,
        "Normal: rng must be at least 0, got -1",
    ),
    (
        "rng-float",
        lambda: draw(init.Zeros(), rng=0.5),
        TypeError,
        "Zeros: rng must be a whole number, got 0.5",
    ),
    (
        "rng-legacy",
        lambda: draw(init.Normal(), rng=np.random),
        TypeError,
        "Normal: rng must be a whole number",
    ),
]

DATA = [
    ("lengths", lambda: data.batches(X, Y[:5], 2), ValueError, "same number of rows, got 6 and 5"),
    ("empty", lambda: data.batches(X[:0], Y[:0], 2), ValueError, "batches: X has no rows"),
    (
        "X-number",
        lambda: data.batches(1.0, Y, 2),
        ValueError,
        "batches: X must have rows, got a single value",
    ),
    ("Y-none", lambda: data.batches(X, None, 2), TypeError, "batches: Y must hold numbers, got dtype object"),
    (
        "Y-text",
        lambda: data.batches(X, ["a"] * 6, 2),
        TypeError,
        "batches: Y must hold numbers, got dtype <U1",
    ),
    ("X-masked", lambda: data.batches(MASKED, Y, 2), TypeError, r"X is a masked array.*X\.filled\(value\)"),
    ("X-generator", lambda: data.batches((x for x in X), Y, 2), TypeError, "batches: X must hold numbers"),
    ("size-0", lambda: data.batches(X, Y, 0), ValueError, "batches: batch_size must be at least 1, got 0"),
    ("size-float", lambda: data.batches(X, Y, 2.0), TypeError, "batches: batch_size must be a whole number"),
    ("size-bool", lambda: data.batches(X, Y, True), TypeError, "batches: batch_size must be a whole number"),
    (
        "drop-all",
        lambda: data.batches(X, Y, 7, drop_last=True),
        ValueError,
        "no batch.*batch_size of at most 6",
    ),
    ("seed", lambda: data.batches(X, Y, 2, seed=-1), ValueError, "batches: seed must be at least 0, got -1"),
    (
        "seed-none",
        lambda: data.batches(X, Y, 2, seed=None),
        TypeError,
        "batches: seed must be a whole number",
    ),
    ("epoch", lambda: data.batches(X, Y, 2, epoch=0.5), TypeError, "batches: epoch must be a whole number"),
    ("steps-n", lambda: data.steps_per_epoch(-1, 2), ValueError, "steps_per_epoch: n must be at least 0"),
    ("steps-size", lambda: data.steps_per_epoch(5, 0), ValueError, "steps_per_epoch: batch_size must be at"),
]


def fit(**flags):
    model = nn.Linear(2, 2, rng=0)
    trainer = Trainer(model, losses.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1))
    trainer.fit(X, Y, batch_size=2, epochs=1, **flags)


# "no" is as good as True in Python. Flags of optimizers, batch-norm, scalers and callbacks: in their tables.
FLAGS = [
    (
        f"{name} {flag}",
        lambda call=call, flag=flag: call(**{flag: "no"}),
        TypeError,
        f"{name}: {flag} must be Tr",
    )
    for name, call, flags in (
        ("batches", lambda **flags: data.batches(X, Y, 2, **flags), ("shuffle", "drop_last")),
        ("steps_per_epoch", lambda **flags: data.steps_per_epoch(6, 2, **flags), ("drop_last",)),
        ("Trainer.fit", fit, ("shuffle", "drop_last", "progress")),
        ("Linear", lambda **flags: nn.Linear(2, 2, **flags), ("bias",)),
        ("Parameter", lambda **flags: nn.Parameter(X, **flags), ("decay", "trainable")),
        ("ReLU.train", lambda **flags: nn.ReLU().train(**flags), ("mode",)),
    )
    for flag in flags
]


@pytest.mark.parametrize(
    ("call", "exception", "message"),
    [
        pytest.param(call, exception, message, id=f"{module}-{name}")
        for module, rows in {
            "init": INIT,
            "data": DATA,
            "preprocessing": PREPROCESSING,
            "flags": FLAGS,
        }.items()
        for name, call, exception, message in rows
    ],
)
def test_wrong_argument(call, exception, message):
    with pytest.raises(exception, match=message):
        call()
