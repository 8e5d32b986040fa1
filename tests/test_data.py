"""The shipped digits, and the order in which rows form batches."""

import collections
import hashlib
import importlib.resources
import itertools

import numpy as np
import pytest
from fastnn import _core, data
from hypothesis import given
from hypothesis import strategies as st
from reference_dropout import mix64


def make(n, features=3):
    """Rows whose numbers say which row they are."""
    x = np.arange(n * features, dtype=np.float32).reshape(n, features)
    return x, np.arange(n)


def labels(X, Y, batch_size, **options):
    return [y.tolist() for _, y in data.batches(X, Y, batch_size, **options)]


def test_digits():
    (X, Y), (X_test, Y_test) = data.digits()
    for x, y, n in ((X, Y, 8000), (X_test, Y_test, 2000)):
        assert x.shape == (n, 784)
        assert y.shape == (n,)
        assert x.dtype == np.float32
        assert y.dtype == np.int64
        assert x.flags.c_contiguous
        assert x.flags.writeable
        assert x.min() == 0
        assert x.max() == 1
        assert set(np.round(np.unique(x) * 255).tolist()) == set(range(256))
        assert np.array_equal(np.round(x * 255).astype(np.float32) / np.float32(255), x)
        assert (np.bincount(y) > n // 15).all()
        assert len(np.bincount(y)) == 10
    # The digits are the ones every published figure of this project was reached on.
    digest = hashlib.sha256(np.round(X * 255).astype(np.uint8).tobytes() + Y.astype(np.uint8).tobytes())
    assert digest.hexdigest() == "0325e833819863370260bd5b73532ecbe302eb11fed8183fb200cfa373ec2919"
    again = data.digits()
    again[0][0][:] = 5
    assert X.max() == 1
    assert data.digits()[0][0].max() == 1


def test_digits_come_with_their_licence_note():
    folder = importlib.resources.files("fastnn") / "datasets"
    assert "MNIST" in (folder / "mnist10k-LICENSE.txt").read_text()
    assert len((folder / "mnist10k.npz").read_bytes()) < 1_800_000


def test_digits_can_be_told_apart():
    """Images and labels belong together: the nearest class mean is right for 78.75 % of the test digits."""
    (X, Y), (X_test, Y_test) = data.digits()
    means = np.stack([X[digit == Y].mean(axis=0) for digit in range(10)])
    distance = (means**2).sum(axis=1) - 2 * X_test @ means.T
    assert (distance.argmin(axis=1) == Y_test).mean() > 0.78


@given(
    n=st.integers(1, 40),
    batch_size=st.integers(1, 45),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    seed=st.integers(0, 2**70),
    epoch=st.integers(0, 2**40),
)
def test_batches_are_a_partition_of_the_rows(n, batch_size, shuffle, drop_last, seed, epoch):
    X, Y = make(n)
    count = data.steps_per_epoch(n, batch_size, drop_last)
    options = {"seed": seed, "epoch": epoch, "shuffle": shuffle, "drop_last": drop_last}
    if count == 0:
        with pytest.raises(ValueError, match="drop_last leaves no batch"):
            data.batches(X, Y, batch_size, **options)
        return
    got = list(data.batches(X, Y, batch_size, **options))
    assert len(got) == count
    assert {len(y) for _, y in got[:-1]} <= {batch_size}
    assert len(got[-1][1]) == (batch_size if drop_last or n % batch_size == 0 else n % batch_size)
    rows = np.concatenate([y for _, y in got])
    assert np.array_equal(np.concatenate([x for x, _ in got]), X[rows])
    assert len(set(rows.tolist())) == len(rows) == (count * batch_size if drop_last else n)
    if not shuffle:
        assert np.array_equal(rows, np.arange(len(rows)))


def test_a_batch_size_beyond_every_integer_of_numpy_takes_all_rows():
    X, Y = make(5)
    for batch_size in (6, 2**63, 10**30):
        assert [len(y) for y in labels(X, Y, batch_size)] == [5]


def test_order_depends_on_seed_and_epoch_only():
    X, Y = make(50)
    first = labels(X, Y, 7, seed=3, epoch=4)
    assert first == labels(X * 2, Y, 7, seed=3, epoch=4) == labels(X.tolist(), Y.tolist(), 7, seed=3, epoch=4)
    assert list(itertools.chain(*first)) == list(itertools.chain(*labels(X, Y, 13, seed=3, epoch=4)))
    assert list(itertools.chain(*first))[:49] == list(
        itertools.chain(*labels(X, Y, 7, seed=3, epoch=4, drop_last=True))
    )
    # A seed of several 32-bit words must not run into the epoch.
    orders = {
        str(labels(X, Y, 50, seed=seed, epoch=epoch))
        for seed in (0, 1, 2, 5, 2**32, 2**32 + 5, 2**64 + 1)
        for epoch in (0, 1, 2, 5, 2**32)
    }
    assert len(orders) == 7 * 5


def test_order_is_the_one_of_earlier_releases():
    """A run repeated with a later fastnn sees the same batches."""
    X, Y = make(10)
    assert labels(X, Y, 5, seed=0, epoch=0) == [[9, 4, 0, 1, 6], [7, 5, 3, 8, 2]]
    assert labels(X, Y, 5, seed=1, epoch=2) == [[5, 2, 4, 9, 6], [1, 7, 0, 3, 8]]


@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 34, 65, 1000])
def test_order_is_fisher_and_yates(n):
    """The shuffle in plain Python, from the numbers of SplitMix64."""
    for key in (0, 5, 2**64 - 1):
        order = list(range(n))
        for i in range(n - 1, 0, -1):
            j = mix64(key + i * 0x9E3779B97F4A7C15) * (i + 1) >> 64
            order[i], order[j] = order[j], order[i]
        assert _core.shuffled(n, key).tolist() == order


def test_every_order_is_as_likely_as_any_other():
    X, Y = make(4)
    counts = collections.Counter(
        str(labels(X, Y, 4, seed=seed, epoch=epoch)) for seed in range(40) for epoch in range(60)
    )
    assert len(counts) == 24
    # Chi-squared with 23 degrees of freedom: above 49.7 once in a thousand.
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 49.7


def memory_map(x, folder):
    mapped = np.memmap(folder / "x.bin", dtype=x.dtype, mode="w+", shape=x.shape)
    mapped[:] = x
    return mapped


def read_only_file(x, folder):
    np.save(folder / "x.npy", x)
    return np.load(folder / "x.npy", mmap_mode="r")


def misaligned(x, _):
    memory = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    memory[...] = x
    return memory


SOURCES = {
    "C": lambda x, _: x.copy(),
    "F": lambda x, _: np.asfortranarray(x),
    "step": lambda x, _: np.repeat(np.repeat(x, 2, axis=0), 2, axis=1)[::2, ::2],
    "reversed": lambda x, _: np.flip(np.flip(x).copy()),
    "misaligned": misaligned,
    "memmap": memory_map,
    "npy": read_only_file,
    "matrix": lambda x, _: np.asmatrix(x),
    "list": lambda x, _: x.astype(float).tolist(),
}


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("source", SOURCES)
def test_batches_are_fresh_contiguous_copies_of_any_source(source, shuffle, tmp_path):
    expected, Y = make(11, 4)
    X = SOURCES[source](expected.copy(), tmp_path)
    for x, y in data.batches(X, Y, 3, shuffle=shuffle):
        assert type(x) is np.ndarray
        assert x.dtype == np.asarray(X).dtype
        flags = x.flags
        assert flags.c_contiguous and flags.aligned and flags.writeable and flags.owndata  # noqa: PT018
        assert np.array_equal(x, expected[y])
        x[:] = -1
        y[:] = -1
    assert np.array_equal(np.asarray(X), expected)
    assert np.array_equal(Y, np.arange(11))


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "i8", ">f4", "?", "f2"])
def test_dtypes_are_kept(dtype):
    X, Y = make(6)
    x, y = next(data.batches(X.astype(dtype), Y.astype(np.int16), 6))
    assert x.dtype == np.dtype(dtype)
    assert y.dtype == np.int16


@pytest.mark.parametrize("shape", [(1,), (9, 0), (70, 3), (40, 17, 31), (300, 5000)])
def test_rows_of_any_length(shape):
    """Long ones are copied by all threads, a part each."""
    X = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for dtype in (np.float32, np.float64, np.int16, np.uint8):
        given = X.astype(dtype)
        seen = 0
        for x, y in data.batches(given, np.arange(len(X)), 128, seed=1):
            assert np.array_equal(x, given[y])
            seen += len(y)
        assert seen == len(X)


def test_rows_that_overlap_or_lie_apart_are_copied_as_they_are():
    record = np.zeros(8, np.dtype([("a", "i1"), ("b", "<i8"), ("c", "<f4")]))
    record["b"] = np.arange(8)
    repeated = np.broadcast_to(np.arange(3, dtype=np.int32), (8, 3))
    for X in (record["b"], repeated, np.arange(64, dtype=np.float32)[::8]):
        for x, y in data.batches(X, np.arange(8), 5):
            assert np.array_equal(x, X[y])


@pytest.mark.parametrize("order", [[0, 6], [-1, 0], [0, 1, 2, 6]])
def test_native_rows_are_never_read_beyond_the_data(order):
    """The last of them would only be fetched ahead."""
    with pytest.raises(ValueError, match="names a row that is not there"):
        _core.take_rows(np.zeros((6, 2)), np.zeros(6), np.array(order), 0, 2)
    with pytest.raises(ValueError, match="from 'first' on"):
        _core.take_rows(np.zeros((6, 2)), np.zeros(6), np.arange(3), 2, 4)


def test_any_number_of_dimensions():
    X, Y = np.arange(48).reshape(6, 2, 2, 2), np.arange(12).reshape(6, 2)
    for x, y in data.batches(X, Y, 4):
        assert x.shape[1:] == (2, 2, 2)
        assert np.array_equal(x[:, 0, 0, 0], y[:, 0] * 4)


def test_arguments_are_checked_before_the_first_batch():
    with pytest.raises(ValueError, match="same number of rows"):
        data.batches(np.zeros((3, 2)), np.zeros(4), 2)


@pytest.mark.parametrize(
    ("n", "batch_size", "drop_last", "steps"),
    [
        (1000, 10, False, 100),
        (1000, 30, False, 34),
        (1000, 30, True, 33),
        (5, 8, False, 1),
        (5, 8, True, 0),
        (0, 8, False, 0),
    ],
)
def test_steps_per_epoch(n, batch_size, drop_last, steps):
    assert data.steps_per_epoch(n, batch_size, drop_last) == steps


@pytest.mark.parametrize(
    ("n", "batch_size", "drop_last", "lengths"),
    [
        (9, 4, False, [4, 5]),
        (10, 4, False, [4, 4, 2]),
        (8, 4, False, [4, 4]),
        (9, 4, True, [4, 4]),
        (1, 4, False, [1]),
    ],
)
def test_a_last_row_alone_joins_the_batch_before_it(n, batch_size, drop_last, lengths):
    options = {"seed": 5, "epoch": 1, "shuffle": True, "drop_last": drop_last, "caller": "fit"}
    order, bounds = data.epoch_rows(n, batch_size, join_single_row=True, **options)
    assert np.diff(bounds).tolist() == lengths
    plain, plain_bounds = data.epoch_rows(n, batch_size, **options)
    assert bounds[-1] == plain_bounds[-1]
    assert np.array_equal(order, plain)
