"""Rows of every dtype, order and place: a fit and a step on them are those on converted ones, bit for bit."""

import fastnn
import guard
import layouts
import numpy as np
import pytest
from device_places import few
from fastnn import data, losses, nn, optim
from networks import FLOATS, INTEGERS, assert_same_course

pytestmark = pytest.mark.usefixtures("place")

N, COLUMNS, CLASSES = 45, 7, 4
DTYPES = sorted(["bool", *INTEGERS, *FLOATS], key=lambda dtype: dtype not in ("uint8", "int64", "float64"))


def trainer(loss=None, outputs=CLASSES, columns=COLUMNS):
    hidden = nn.Linear(columns, 12, bias=False), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.2)
    model = nn.Sequential(*hidden, nn.Linear(12, outputs), seed=1)
    return fastnn.Trainer(model, loss or losses.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.01))


def check(X, Y, x, y, weight=None, w=None, **made):
    """Training on X and Y equals training on x and y."""
    one, other = trainer(**made), trainer(**made)
    history = one.fit(X, Y, batch_size=10, epochs=2, sample_weight=weight)
    assert other.fit(x, y, batch_size=10, epochs=2, sample_weight=w)["loss"] == history["loss"]
    got = one.step(X, Y, weight)
    assert got == other.step(x, y, w)
    assert one.step(X[3:9], Y[3:9]) == other.step(x[3:9], y[3:9])
    assert_same_course(one, other)


@pytest.fixture
def rows(rng):
    return rng.standard_normal((N, COLUMNS), np.float32), rng.integers(0, CLASSES, N)


@pytest.mark.parametrize("dtype", few(DTYPES, 6))
def test_rows_of_every_dtype(isa, rng, dtype):
    kind = np.dtype(dtype).kind
    X = rng.standard_normal((N, COLUMNS)) * 3.3 if kind == "f" else rng.integers(0, 100, (N, COLUMNS))
    X = (X > 50) if kind == "b" else X.astype(dtype)
    Y = rng.integers(0, CLASSES, N)
    check(X, Y, X.astype(np.float32), Y)


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint64", "int32"])
def test_numbers_that_float32_rounds(rng, dtype):
    """Halves between two floats, and integers of more than 24 bits, are rounded as by astype."""
    X = rng.integers(2**24, 2**26, (N, COLUMNS)) | 1
    X = X + 2.0**-4 if dtype == "float64" else X.astype(dtype)
    Y = rng.integers(0, CLASSES, N)
    assert (X.astype(np.float32).astype(dtype) != X).any()
    check(X, Y, X.astype(np.float32), Y)


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # what lies between padded labels
@pytest.mark.parametrize("dtype", ["float32", "uint8", "float64"])
@pytest.mark.parametrize("layout", few(layouts.SAME_VALUES, 3))
def test_rows_in_every_order(rng, layout, dtype):
    X = rng.integers(0, 9, (N, COLUMNS)).astype(dtype)
    Y = rng.integers(0, CLASSES, N)
    made = layouts.SAME_VALUES[layout]
    check(made(X), made(Y), X.astype(np.float32), Y)
    weight = rng.integers(1, 5, N).astype(dtype)
    check(made(X), made(Y), X.astype(np.float32), Y, made(weight), weight.astype(np.float32))


@pytest.mark.parametrize("layout", few(layouts.SAME_VALUES, 3))
def test_three_axes_in_every_order(rng, layout):
    X, Y = rng.standard_normal((N, 4, COLUMNS), np.float32), rng.standard_normal((N, 4, 3), np.float32)
    made = layouts.SAME_VALUES[layout]
    check(made(X), made(Y), X, Y, loss=losses.MSELoss(), outputs=3)


def test_a_single_row_again_and_again(rows):
    """Stride 0: every row is the first one."""
    X, Y = np.broadcast_to(rows[0][:1], (N, COLUMNS)), np.broadcast_to(rows[1][:1], N)
    check(X, Y, np.array(X), np.array(Y))


@pytest.mark.parametrize("dtype", few(INTEGERS, 4))
def test_class_ids_of_every_dtype(isa, rows, dtype):
    X, Y = rows
    check(X, Y.astype(dtype), X, Y)


@pytest.mark.parametrize("dtype", few(DTYPES, 3))
@pytest.mark.parametrize("loss", [losses.MSELoss, losses.HuberLoss, losses.BCEWithLogitsLoss])
def test_targets_of_every_dtype_as_rows_and_as_a_column(rows, loss, dtype):
    X = rows[0]
    Y = (X[:, 0] > 0).astype(dtype) if np.dtype(dtype).kind != "f" else np.abs(X[:, 0]).astype(dtype)
    plain = Y.astype(np.float32)[:, None]
    check(X, Y, X, plain, loss=loss(), outputs=1)
    check(X, Y[:, None], X, plain, loss=loss(), outputs=1)


@pytest.mark.parametrize("dtype", FLOATS)
def test_probabilities_of_every_dtype(rng, rows, dtype):
    X, Y = rows[0], rng.dirichlet(np.ones(CLASSES), N).astype(dtype)
    check(X, Y, X, Y.astype(np.float32))


@pytest.mark.parametrize("dtype", ["float64", "float16", "int64", "uint8", "bool"])
def test_sample_weights_of_every_dtype(rng, rows, dtype):
    weight = rng.integers(1, 2 if dtype == "bool" else 9, N).astype(dtype)
    check(*rows, *rows, weight, weight.astype(np.float32))


def test_what_is_given_stays_as_it_was(rng):
    """And a caller may write the next rows to the same memory: nothing is kept."""
    X, Y = rng.standard_normal((N, COLUMNS), np.float32), rng.integers(0, CLASSES, N)
    before = X.tobytes(), Y.tobytes()
    run, other = trainer(), trainer()
    run.fit(X, Y, batch_size=10, epochs=1)
    run.step(X, Y)
    assert (X.tobytes(), Y.tobytes()) == before
    x, y = X.copy(), Y.copy()
    other.fit(x, y, batch_size=10, epochs=1)
    other.step(x, y)
    x[:], y[:] = X[::-1], Y[::-1]
    run.step(X[::-1].copy(), Y[::-1].copy())
    other.step(x, y)
    assert_same_course(run, other)


# ---- memory maps


def memory(which):
    """Bytes of this process: RssAnon, those that are no file's, or VmHWM, the most there were."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(which))


class Watch(fastnn.callbacks.Callback):
    def on_epoch_end(self, trainer, logs):
        self.memory = memory("RssAnon")


def memory_map_case(path):
    """48 MB in a file are trained on with 8 MB of memory; the result is that of an array in memory."""
    rows, columns = 24_000, 500
    X = np.random.default_rng(0).standard_normal((rows, columns), np.float32)
    Y = np.random.default_rng(1).integers(0, CLASSES, rows)
    X.tofile(path)
    del X
    mapped = np.memmap(path, np.float32, "r", shape=(rows, columns))
    one, other, watch = trainer(columns=columns), trainer(columns=columns), Watch()
    one.fit(mapped[:100], Y[:100], batch_size=100, epochs=1)
    before = memory("RssAnon")
    one.fit(mapped, Y, batch_size=100, epochs=1, callbacks=[watch])
    assert watch.memory - before < 8e6, f"{(watch.memory - before) / 1e6:.1f} MB more"
    X = np.array(mapped)
    other.fit(X[:100], Y[:100], batch_size=100, epochs=1)
    other.fit(X, Y, batch_size=100, epochs=1, callbacks=[watch])
    assert watch.memory - before > 40e6  # so much is what the test would see
    assert_same_course(one, other)


@pytest.mark.host("in a process of its own")
def test_a_memory_map_is_not_read_whole(tmp_path):
    guard.run_isolated("test_trainer_inputs", "memory_map_case", str(tmp_path / "rows"))


@pytest.mark.parametrize("dtype", ["float32", "uint8", "float64", "int16", "float16"])
def test_a_memory_map_of_every_dtype(rng, tmp_path, dtype):
    X, Y = rng.integers(0, 9, (N, COLUMNS)).astype(dtype), rng.integers(0, CLASSES, N).astype(np.uint8)
    X.tofile(tmp_path / "x")
    Y.tofile(tmp_path / "y")
    x = np.memmap(tmp_path / "x", dtype, "r", shape=X.shape)
    y = np.memmap(tmp_path / "y", np.uint8, "r", shape=Y.shape)
    check(x, y, X.astype(np.float32), Y.astype(np.int64))


# ---- the digits


@pytest.mark.host("minutes of the shim; bench/gpu_check.sh trains larger networks")
def test_the_shipped_digits_are_learnt():
    (X, Y), test = data.digits()
    model = nn.Sequential(
        nn.Linear(784, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10), seed=0
    )
    run = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters()))
    history = run.fit(X, Y, batch_size=128, epochs=3, validation=test)
    assert history["val_accuracy"][-1] > 0.9 > history["val_accuracy"][0]
