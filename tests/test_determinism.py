"""The same bits for every number of threads and every instruction set, layout and alignment, by hashes."""

import hashlib

import fastnn
import layouts
import numpy as np
import pytest
from bounds import assert_bits
from fastnn import losses, nn, ops, optim

THREADS = (1, 2, 3, 8)


def digest(*arrays):
    """One hash of the bytes of all arrays and numbers."""
    h = hashlib.sha256()
    for a in arrays:
        h.update(np.ascontiguousarray(a).tobytes())
    return h.hexdigest()


def gemm(rng, **arguments):
    a, b = rng.standard_normal((150, 600), np.float32), rng.standard_normal((600, 230), np.float32)
    if arguments.pop("transposed", False):
        a, b = np.ascontiguousarray(a.T), np.ascontiguousarray(b.T)
        arguments |= {"trans_a": True, "trans_b": True}
    if "beta" in arguments:
        arguments["out"] = rng.standard_normal((150, 230), np.float32)
    return [ops.gemm(a, b, bias=rng.standard_normal(230, np.float32), **arguments)]


def linear_backward(rng):
    shapes = ((300, 90), (300, 130), (130, 90))
    return ops.linear_backward(*(rng.standard_normal(s, np.float32) for s in shapes))


def activation(rng):
    x, dy = rng.standard_normal((2, 120_000), np.float32)
    return [ops.activation(x, "relu"), ops.activation_backward(dy, x, "relu")]


def dropout(rng):
    x = rng.standard_normal(120_001, np.float32)
    return [ops.dropout(x, p, seed=seed, step=seed + 3) for seed, p in enumerate((0.0, 0.2, 0.5, 1.0))]


def batch_norm(rng, rows, channels):
    x, dy = rng.standard_normal((2, rows, channels), np.float32) + np.float32(3.0)
    gamma, beta = rng.standard_normal((2, channels), np.float32)
    running = [np.zeros(channels, np.float32), np.ones(channels, np.float32)]
    y, mean, rstd = ops.batch_norm(x, gamma, beta, *running, activation="relu")
    back = ops.batch_norm_backward(dy, x, gamma, mean, rstd, activation="relu", y=y)
    evaluated = ops.batch_norm(x, gamma, beta, *running, training=False)
    return [y, mean, rstd, *running, *back, *evaluated]


def softmax(rng, classes):
    logits = 5 * rng.standard_normal((900, classes), np.float32)
    weight = rng.random(900, np.float32)
    ids = ops.softmax_cross_entropy(logits, rng.integers(0, classes, 900), sample_weight=weight)
    odd = {"label_smoothing": 0.1, "ignore_index": 3}
    smooth = ops.softmax_cross_entropy(logits, rng.integers(0, classes, 900), **odd)
    return [*ids, *smooth, *ops.softmax_cross_entropy(logits, rng.random((900, classes), np.float32))]


def elementwise_losses(rng, shape):
    pred, target = rng.standard_normal((2, *shape), np.float32)
    weight = rng.random(len(pred), np.float32)
    return [
        result
        for loss in (ops.mse, ops.quadratic_cost, ops.huber, ops.sigmoid_cross_entropy)
        for given in (None, weight)
        for result in loss(pred, target, sample_weight=given)
    ]


def updates(rng):
    """Every rule on a list of arrays of many lengths."""
    lengths = (5, 40_000, 16384, 33, 0, 20_001)
    done = []
    for rule, slots, numbers in (
        ("sgd_", 0, {"lr": 0.1}),
        *(
            ("momentum_", 1, {"lr": 0.1, "nesterov": nesterov, "style": style})
            for nesterov in (False, True)
            for style in ("buffer", "velocity")
        ),
        ("rmsprop_", 1, {"lr": 0.01}),
        ("adagrad_", 1, {"lr": 0.01}),
        ("adam_", 2, {"step": 3}),
        ("adam_", 2, {"step": 3, "weight_decay": 0.1}),
        ("adam_", 2, {"step": 3, "weight_decay": 0.1, "decoupled": True}),
    ):
        rows = [[np.abs(rng.standard_normal(n, np.float32)) for _ in range(2 + slots)] for n in lengths]
        getattr(ops, rule)(*map(list, zip(*rows, strict=True)), **numbers)
        done += [a for row in rows for a in row]
    return done


def special_values(rng):
    """NaN, infinities, signed zeros and denormals come out alike too."""
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40, 1e-38, 3e38, 1.0, -1.0], np.float32)
    x, y = rng.choice(odd[3:], (2, 70, 37)) * np.float32(0.5)
    relu = rng.choice(odd, 5000)
    arrays = [np.abs(x), y.copy(), np.abs(y), np.abs(x)]
    ops.adam_(*arrays, step=1)
    results = [
        ops.activation(relu, "relu"),
        ops.activation_backward(relu, relu[::-1].copy(), "relu"),
        *arrays,
    ]
    with np.errstate(all="ignore"):
        results += [
            ops.gemm(x, y.T),
            *ops.batch_norm(x, y[0], y[1]),
            ops.softmax_cross_entropy(x, np.zeros(70, int))[1],
        ]
    # The payload and sign of a NaN say nothing: every NaN counts as the same one.
    return [np.where(np.isnan(r), np.float32(np.nan), r) for r in results]


KERNELS = {
    "gemm": gemm,
    "gemm transposed": lambda rng: gemm(rng, transposed=True),
    "gemm relu": lambda rng: gemm(rng, activation="relu"),
    "gemm alpha beta": lambda rng: gemm(rng, alpha=0.3, beta=-1.7),
    "linear_backward": linear_backward,
    "activation": activation,
    "dropout": dropout,
    "batch_norm few rows": lambda rng: batch_norm(rng, 130, 300),
    "batch_norm many rows": lambda rng: batch_norm(rng, 5000, 19),
    "softmax 10": lambda rng: softmax(rng, 10),
    "softmax 100": lambda rng: softmax(rng, 100),
    "losses of columns": lambda rng: elementwise_losses(rng, (70_001, 1)),
    "losses of rows": lambda rng: elementwise_losses(rng, (3000, 21)),
    "updates": updates,
    "special values": special_values,
}


def training(steps=200):
    """Digest of all parameters, running statistics and losses of a small network with batch-norm and Adam."""
    rng = np.random.default_rng(5)
    x, labels = rng.standard_normal((96, 40), np.float32), rng.integers(0, 10, 96)
    model = nn.Sequential(
        nn.Linear(40, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10), seed=3
    )
    optimizer, loss = optim.Adam(model.parameters(), lr=1e-3), losses.CrossEntropyLoss()
    values = []
    for _ in range(steps):
        value, grad = loss(model(x), labels)
        model.backward(grad)
        optimizer.step()
        values.append(value)
    assert values[-1] < values[0]
    return digest(*model.state_dict().values(), values)


def everywhere(isas, compute):
    """{(isa, threads): digest} of compute() for every combination."""
    found = {}
    for isa in isas:
        fastnn.set_isa(isa)
        for threads in THREADS:
            fastnn.set_num_threads(threads)
            found[isa, threads] = compute()
    return found


@pytest.mark.parametrize("name", KERNELS)
def test_kernel(restore_runtime, isas, name):
    found = everywhere(isas, lambda: digest(*KERNELS[name](np.random.default_rng(11))))
    assert len(set(found.values())) == 1, found


def test_training(restore_runtime, isas):
    found = everywhere(isas, training)
    assert len(set(found.values())) == 1, found


def test_the_hash_sees_one_bit():
    """Were a bit wrong anywhere, the digests would differ."""
    x = np.ones(1000, np.float32)
    y = x.copy()
    y[700] = np.nextafter(np.float32(1.0), np.float32(2.0))
    assert digest(x) != digest(y)
    assert digest(x) == digest(x.copy())


def test_a_row_has_the_same_bits_in_any_batch(isa, rng):
    """No result depends on its neighbours: a row alone, in a part of the batch, in all of it."""
    for n, k in [(10, 512), (70, 100), (256, 784), (1, 600), (300, 40)]:
        a, b = rng.standard_normal((130, k), np.float32), rng.standard_normal((k, n), np.float32)
        bias = rng.standard_normal(n, np.float32)
        full = ops.gemm(a, b, bias=bias, activation="relu")
        for rows in (slice(0, 1), slice(129, 130), slice(3, 17), slice(50, 130), slice(0, 64)):
            assert_bits(ops.gemm(a[rows], b, bias=bias, activation="relu"), full[rows], f"{n} {k} {rows}")
        for columns in (slice(0, 1), slice(n - 1, n), slice(n // 3, n)):
            part = ops.gemm(
                a, np.ascontiguousarray(b[:, columns]), bias=bias[columns].copy(), activation="relu"
            )
            assert_bits(part, full[:, columns], f"{n} {k} {columns}")


def test_softmax_and_evaluation_rows_have_the_same_bits_in_any_batch(isa, rng):
    x = rng.standard_normal((1000, 40), np.float32)
    labels, probabilities = rng.integers(0, 40, 1000), rng.random((1000, 40), np.float32)
    statistics = rng.standard_normal(40, np.float32), rng.random(40, np.float32)
    gamma, beta = rng.standard_normal((2, 40), np.float32)
    y, _, _ = ops.batch_norm(x, gamma, beta, *statistics, training=False)
    for rows in (slice(0, 1), slice(7, 39), slice(500, 1000)):
        part, _, _ = ops.batch_norm(x[rows], gamma, beta, *statistics, training=False)
        assert_bits(part, y[rows])
        weight = np.zeros(1000, np.float32)  # the other rows count nothing, so the mean is of the same rows
        weight[rows] = 1.0
        for target in (labels, probabilities):
            _, alone = ops.softmax_cross_entropy(x[rows], target[rows])
            _, whole = ops.softmax_cross_entropy(x, target, sample_weight=weight)
            assert_bits(alone, whole[rows])
        for loss in (ops.mse, ops.quadratic_cost, ops.huber, ops.sigmoid_cross_entropy):
            _, alone = loss(x[rows], probabilities[rows])
            _, whole = loss(x, probabilities, sample_weight=weight)
            assert_bits(alone, whole[rows])


@pytest.mark.parametrize("layout", layouts.SAME_VALUES)
def test_layouts_do_not_change_bits(isa, rng, layout):
    """Whether an operand is read where it lies, copied or packed is a matter of speed alone."""
    make = layouts.SAME_VALUES[layout]
    for m, n, k in [(150, 230, 600), (130, 64, 64), (9, 1100, 30)]:
        a, b = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
        plain = ops.gemm(a, b)
        assert_bits(ops.gemm(make(a), make(b)), plain, f"{layout} {m} {n} {k}")
        assert_bits(ops.gemm(make(np.ascontiguousarray(a.T)), b, trans_a=True), plain, f"a.T {layout}")
        assert_bits(ops.gemm(a, make(np.ascontiguousarray(b.T)), trans_b=True), plain, f"b.T {layout}")


@pytest.mark.parametrize("offset", range(0, 64, 4))
def test_alignment_does_not_change_bits(isa, rng, offset):
    """Every place of inputs and outputs relative to a cache line."""

    def placed(x):
        raw = np.zeros(x.nbytes + 128, np.uint8)
        start = -raw.ctypes.data % 64 + offset
        view = raw[start : start + x.nbytes].view(np.float32).reshape(x.shape)
        view[...] = x
        return view

    a, b = rng.standard_normal((70, 64), np.float32), rng.standard_normal((64, 48), np.float32)
    assert_bits(ops.gemm(placed(a), placed(b), out=placed(np.zeros((70, 48), np.float32))), ops.gemm(a, b))
    x, gamma = rng.standard_normal((100, 33), np.float32), rng.standard_normal(33, np.float32)
    plain = ops.batch_norm(x, gamma, gamma)
    moved = ops.batch_norm(placed(x), placed(gamma), placed(gamma), out=placed(np.zeros_like(x)))
    for got, want in zip(moved, plain, strict=True):
        assert_bits(got, want)
    labels = rng.integers(0, 33, 100)
    assert_bits(ops.softmax_cross_entropy(placed(x), labels)[1], ops.softmax_cross_entropy(x, labels)[1])
    relu = placed(x)
    assert_bits(ops.activation(relu, "relu", out=relu), ops.activation(x, "relu"))
