"""Scalers against float64, in one pass and in many, and against scikit-learn."""

import copy
import doctest
import importlib
import math
import pickle

import fastnn
import layouts
import numpy as np
import pytest
from bounds import EPS, assert_bits
from fastnn.preprocessing import MinMaxScaler, StandardScaler, Whitening

SCALERS = {
    "StandardScaler": StandardScaler(),
    "StandardScaler-mean": StandardScaler(with_std=False),
    "StandardScaler-std": StandardScaler(with_mean=False),
    "MinMaxScaler": MinMaxScaler(),
    "MinMaxScaler-range": MinMaxScaler((-3.0, 5.0)),
    "pca": Whitening("pca"),
    "zca": Whitening("zca", eps=1e-3),
}
DTYPES = (np.float32, np.float64, np.uint8, np.int32, np.int64, np.float16, np.bool_)


@pytest.fixture(params=SCALERS)
def scaler(request):
    return copy.deepcopy(SCALERS[request.param])


def table(rng, rows=500, columns=12, dtype=np.float64):
    """Correlated columns around numbers of the size of their spread."""
    x = rng.standard_normal((rows, columns)) @ rng.standard_normal((columns, columns)) + rng.uniform(
        -3, 3, columns
    )
    if dtype == np.bool_:
        return x > 0
    return (8 * x + 100).clip(0, 255).astype(dtype) if np.dtype(dtype).kind in "iu" else x.astype(dtype)


def learned(scaler):
    return {name: np.asarray(array, np.float64) for name, array in scaler.state_dict().items()}


def assert_learned(one, other, rtol):
    """Equal up to a share of the largest number of each array."""
    for (name, a), b in zip(learned(one).items(), learned(other).values(), strict=True):
        assert np.abs(a - b).max() <= rtol * np.abs(b).max(), name


# ---- formulas


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
def test_standard_scaler(isa, rng, dtype):
    X = table(rng, dtype=dtype)
    wide = X.astype(np.float64)
    mean, std = wide.mean(axis=0), wide.std(axis=0)
    scaler = StandardScaler().fit(X)
    np.testing.assert_allclose(scaler.mean_, mean, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(scaler.var_, std**2, rtol=1e-12)
    np.testing.assert_allclose(scaler.scale_, std, rtol=1e-12)
    assert scaler.n_samples_seen_ == len(X)
    assert scaler.n_features_in_ == X.shape[1]
    y, want = scaler.transform(X), (wide - mean) / std
    assert y.dtype == np.float32
    # The difference, the factor and the product are rounded.
    assert np.all(np.abs(y - want) <= 1.6 * EPS * np.abs(want) + 1e-12)
    assert np.abs(y.mean(axis=0, dtype=np.float64)).max() < 4 * EPS
    assert np.abs(y.std(axis=0, dtype=np.float64) - 1).max() < 4 * EPS
    np.testing.assert_allclose(
        StandardScaler(with_mean=False).fit(X).transform(X), wide / std, rtol=1.6 * EPS
    )
    centred = StandardScaler(with_std=False).fit(X).transform(X)
    assert np.abs(centred - (wide - mean)).max() <= 2 * EPS * np.abs(wide - mean).max()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("mean", "std"), [(1e4, 0.1), (-1e6, 1.0), (1e-3, 1e-8), (1e30, 1e28), (0.0, 1e-20)])
def test_data_far_from_zero_and_of_any_size(isa, rng, dtype, mean, std):
    X = (mean + std * rng.standard_normal((1000, 5))).astype(dtype)
    wide = X.astype(np.longdouble)
    std = wide.std(axis=0)
    y = StandardScaler().fit(X).transform(X)
    want = (wide - wide.mean(axis=0)) / std
    assert np.abs(y - want).max() < 4 * EPS * np.abs(want).max() + 1e-12


def test_the_widest_columns_that_are_taken():
    """A wider one's 1 / range would be denormal, so 0 in a kernel."""
    X = np.array([[-4.2e37], [4.2e37]])
    assert StandardScaler().fit(X).transform(X).ravel().tolist() == [-1, 1]
    assert MinMaxScaler((-1, 1)).fit(X).transform(X).ravel().tolist() == [-1, 1]
    assert StandardScaler().partial_fit(X[:1]).partial_fit(X[1:]).transform(X).ravel().tolist() == [-1, 1]


def test_constant_columns_one_row_and_no_rows(isa, rng):
    for value in (0.0, 0.1, -1e30, 255.0, 1e-30):
        X = np.full((1000, 3), value)
        for data in (X, X.astype(np.float32)):
            scaler = StandardScaler().fit(data)
            assert scaler.scale_.tolist() == [1, 1, 1]
            assert not scaler.var_.any()
            assert not scaler.transform(data).any()
            assert np.all(MinMaxScaler((2.0, 3.0)).fit(data).transform(data) == 2)
    row = rng.standard_normal((1, 4), np.float32)
    assert not StandardScaler().fit(row).transform(row).any()
    assert not MinMaxScaler().fit(row).transform(row).any()
    assert not Whitening().fit(row).transform(row).any()
    for kind in (StandardScaler, MinMaxScaler, Whitening):
        assert kind().fit(np.ones((3, 2))).transform(np.ones((0, 2))).shape == (0, 2)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("feature_range", [(0.0, 1.0), (-1.0, 1.0), (5.0, 5.5)])
def test_min_max_scaler(isa, rng, dtype, feature_range):
    X = table(rng, dtype=dtype)
    low, high = feature_range
    wide = X.astype(np.float64)
    least, most = wide.min(axis=0), wide.max(axis=0)
    scaler = MinMaxScaler(feature_range).fit(X)
    assert np.array_equal(scaler.data_min_, least)
    assert np.array_equal(scaler.data_max_, most)
    assert np.array_equal(scaler.data_range_, most - least)
    y, want = scaler.transform(X), low + (wide - least) / (most - least) * (high - low)
    assert np.abs(y - want).max() <= 3 * EPS * max(abs(low), abs(high))
    assert np.all(y.min(axis=0) == np.float32(low))
    assert np.abs(y.max(axis=0) - high).max() <= 2 * EPS * abs(high)


def test_min_max_of_data_that_fit_has_not_seen():
    X = np.array([[0.0], [10.0]])
    new = np.array([[-5.0], [5.0], [20.0]])
    assert MinMaxScaler().fit(X).transform(new).ravel().tolist() == [-0.5, 0.5, 2.0]
    clipped = MinMaxScaler((-1, 1), clip=True).fit(X)
    assert clipped.transform(new).ravel().tolist() == [-1.0, pytest.approx(0.0, abs=EPS), 1.0]
    out = np.empty((3, 1), np.float32)
    assert clipped.transform(new, out=out) is out
    assert_bits(out, clipped.transform(new))
    assert clipped.inverse_transform(out).ravel() == pytest.approx([0.0, 5.0, 10.0], rel=2 * EPS)


@pytest.mark.parametrize("method", ["pca", "zca"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_whitening(isa, rng, method, dtype):
    X = table(rng, rows=3000, columns=20, dtype=dtype)
    wide = X.astype(np.float64)
    centred = wide - wide.mean(axis=0)
    covariance = centred.T @ centred / len(X)
    eps = 1e-3
    scaler = Whitening(method, eps=eps).fit(X)
    assert np.abs(scaler.covariance_ - covariance).max() < 1e-6 * np.abs(covariance).max()
    variances, vectors = np.linalg.eigh(covariance)
    y = scaler.transform(X).astype(np.float64)
    # Uncorrelated, variance v / (v + eps). An error of the covariance, 1e-6 of its largest element, counts
    # as much more beside the smallest variance.
    error = 1e-6 * np.abs(covariance).max() / (variances.min() + eps)
    of_y = y.T @ y / len(y)
    want = np.diag((variances / (variances + eps))[::-1])
    if method == "zca":
        root = vectors / np.sqrt(variances + eps) @ vectors.T
        want = root @ covariance @ root
        assert np.abs(scaler.matrix_ - root).max() < error * np.abs(root).max()
        assert np.abs(scaler.matrix_ - scaler.matrix_.T).max() < 1e-6 * np.abs(root).max()
    else:
        matrix = scaler.matrix_
        assert np.all(matrix[np.abs(matrix).argmax(axis=0), np.arange(20)] > 0)
    assert np.abs(of_y - want).max() < error
    assert np.abs(scaler.inverse_transform(y) - wide).max() < 1e-4 * np.abs(wide).max()


def test_whitening_decorrelates_and_the_z_score_does_not(rng):
    X = rng.standard_normal((2000, 2)) @ np.array([[1.0, 0.9], [0.0, 0.1]])
    z, w = StandardScaler().fit(X).transform(X), Whitening(eps=0.0).fit(X).transform(X)
    assert abs(np.corrcoef(z.T)[0, 1]) > 0.9
    assert abs(np.corrcoef(w.T)[0, 1]) < 1e-4
    assert np.abs(w.std(axis=0) - 1).max() < 1e-4


def test_whitening_without_eps_needs_variance_in_every_direction(rng):
    X = rng.standard_normal((100, 3))
    X = np.concatenate([X, X[:, :1]], axis=1)
    scaler = Whitening(eps=0.0).fit(X)
    with pytest.raises(ValueError, match=r"Whitening: 1 of 4 directions have no variance; pass eps="):
        scaler.transform(X)
    assert np.isfinite(Whitening().fit(X).transform(X)).all()


# ---- what all scalers do


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_batch_after_batch_is_all_at_once(rng, scaler, dtype):
    X = table(rng, rows=1000, dtype=dtype)
    rtol = 1e-6 if isinstance(scaler, Whitening) else 1e-13
    whole = copy.deepcopy(scaler).fit(X)
    for cuts in ([], [1], [999], [1, 2, 3], [192, 700], sorted(rng.integers(0, 1000, 20))):
        streamed = copy.deepcopy(scaler)
        for batch in np.split(X, cuts):
            if len(batch):
                assert streamed.partial_fit(batch) is streamed
        assert streamed.n_samples_seen_ == 1000
        assert_learned(streamed, whole, rtol)
    assert_learned(streamed.fit(X[:100]), copy.deepcopy(scaler).fit(X[:100]), 0.0)  # fit begins again


def test_batches_of_distant_means_lose_nothing(rng):
    X = np.concatenate([1e6 + rng.standard_normal((700, 3)), -1e6 + rng.standard_normal((5, 3))])
    streamed = StandardScaler().partial_fit(X[:700]).partial_fit(X[700:])
    wide = X.astype(np.longdouble)
    np.testing.assert_allclose(streamed.var_, wide.var(axis=0).astype(np.float64), rtol=1e-13)
    near = StandardScaler().partial_fit(X[:300]).partial_fit(X[300:700])
    np.testing.assert_allclose(near.var_, wide[:700].var(axis=0).astype(np.float64), rtol=1e-9)


def test_constant_columns_stay_constant_over_batches():
    streamed = StandardScaler()
    for rows in (1, 7, 193, 1000):
        streamed.partial_fit(np.full((rows, 2), 0.1))
    assert not streamed.var_.any()
    assert streamed.scale_.tolist() == [1, 1]


def test_inverse_transform(rng, scaler):
    X = table(rng, dtype=np.float32)
    back = scaler.fit(X).inverse_transform(scaler.transform(X))
    assert back.dtype == np.float32
    assert np.abs(back - X).max() < (2e-4 if isinstance(scaler, Whitening) else 4 * EPS) * np.abs(X).max()


@pytest.mark.parametrize("method", ["transform", "inverse_transform"])
def test_in_place_and_into_memory(rng, scaler, method):
    X = table(rng, rows=2500, dtype=np.float32)
    apply = getattr(scaler.fit(X), method)
    y = apply(X)
    out = np.full(X.shape, np.nan, np.float32)
    assert apply(X, out=out) is out
    assert_bits(out, y)
    itself = X.copy()
    assert apply(itself, out=itself) is itself
    assert_bits(itself, y)
    before = X.copy()
    for bad, error in (
        (X.tolist(), TypeError),
        (np.empty(X.shape), TypeError),
        (np.empty(X.shape, ">f4"), TypeError),
        (np.empty((7, 12), np.float32), ValueError),
        (layouts.read_only(X), ValueError),
        (layouts.misaligned(X), ValueError),
        (np.empty(X.shape, np.float32, order="F"), ValueError),
    ):
        with pytest.raises(error, match=rf"{type(scaler).__name__}\.{method}: out"):
            apply(X, out=bad)
    memory = np.zeros((2501, 12), np.float32)
    memory[:-1] = X
    with pytest.raises(ValueError, match="out shares memory with X"):
        apply(memory[:-1], out=memory[1:])
    assert np.array_equal(memory[:-1], before)


@pytest.mark.parametrize("layout", layouts.SAME_VALUES)
def test_layouts(rng, scaler, layout):
    X = table(rng, dtype=np.float32)
    placed = layouts.SAME_VALUES[layout](X)
    assert_bits(scaler.fit(placed).transform(placed), copy.deepcopy(scaler).fit(X).transform(X))


def test_the_same_bits_everywhere(restore_runtime, isas, scaler):
    X = table(np.random.default_rng(5), rows=3000, columns=40, dtype=np.float32)
    found = []
    for isa in isas:
        for threads in (1, 3):
            fastnn.set_isa(isa)
            fastnn.set_num_threads(threads)
            scaler.fit(X)
            found.append([a.tobytes() for a in scaler.state_dict().values()])
            if not isinstance(scaler, Whitening):  # whose eigenvectors are LAPACK's
                found[-1].append(scaler.transform(X).tobytes())
    assert all(other == found[0] for other in found)


def test_states_copies_and_pickles(rng, scaler):
    X = table(rng)
    assert scaler.state_dict() == {}
    scaler.fit(X)
    state = scaler.state_dict()
    fresh = eval(repr(scaler), {type(scaler).__name__: type(scaler)})
    fresh.load_state_dict(state)
    for other in (fresh, copy.deepcopy(scaler), pickle.loads(pickle.dumps(scaler))):
        assert repr(other) == repr(scaler)
        assert_bits(other.transform(X), scaler.transform(X))
        other.partial_fit(X[:50])
        assert other.n_samples_seen_ == 550
    for array in state.values():
        array[...] = 0  # copies
    assert scaler.n_samples_seen_ == 500
    assert_bits(scaler.transform(X), copy.deepcopy(scaler).transform(X))


def test_pytorch_tensors_and_data_frames_are_read(rng, scaler):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    X = table(rng, dtype=np.float32)
    assert_bits(scaler.fit(torch.from_numpy(X)).transform(torch.from_numpy(X)), scaler.fit(X).transform(X))


def test_a_refused_call_leaves_the_scaler_as_it_was(rng, scaler):
    X = table(rng)
    before = scaler.fit(X).transform(X)
    for value in (np.nan, np.inf, -np.inf, 1e300):
        wrong = X.copy()
        wrong[7, 3] = value
        said = (
            r"X\[7, 3\] is (nan|inf|-inf)" if not np.isfinite(value) else "column 3 of X has values too large"
        )
        for method in (scaler.fit, scaler.partial_fit):
            with pytest.raises(ValueError, match=said):
                method(wrong)
    with pytest.raises(ValueError, match=r"partial_fit: X must have 12 columns as in fit, got \(500, 5\)"):
        scaler.partial_fit(X[:, :5])
    assert scaler.n_samples_seen_ == 500
    assert_bits(scaler.transform(X), before)
    y = scaler.transform(np.where(np.arange(12) == 3, np.nan, X))
    assert np.isnan(y).any()  # NaN passes through transform


# ---- peers


def test_agreement_with_scikit_learn(rng):
    theirs = pytest.importorskip("sklearn.preprocessing", reason="scikit-learn is not installed")
    decomposition = pytest.importorskip("sklearn.decomposition")
    X = table(rng, rows=1000)
    X[:, 4] = 2.5  # constant
    new = table(rng, rows=50)
    for ours, other in (
        (StandardScaler(), theirs.StandardScaler()),
        (StandardScaler(with_mean=False), theirs.StandardScaler(with_mean=False)),
        (StandardScaler(with_std=False), theirs.StandardScaler(with_std=False)),
        (MinMaxScaler(), theirs.MinMaxScaler()),
        (MinMaxScaler((-2, 3), clip=True), theirs.MinMaxScaler((-2, 3), clip=True)),
    ):
        for rows in np.array_split(X, 4):
            ours.partial_fit(rows)
            other.partial_fit(rows)
        np.testing.assert_allclose(ours.transform(new), other.transform(new), rtol=2e-6, atol=2e-6)
        scaled = ours.transform(X)
        np.testing.assert_allclose(
            ours.inverse_transform(scaled), other.inverse_transform(scaled), rtol=2e-6, atol=2e-6
        )
        for name in ("mean_", "var_", "scale_", "data_min_", "data_max_", "data_range_"):
            value = getattr(other, name, None)
            if isinstance(other, theirs.StandardScaler) and value is not None:
                np.testing.assert_allclose(getattr(ours, name), value, rtol=1e-12, err_msg=name)
    X, new = np.delete(X, 4, axis=1), np.delete(new, 4, axis=1)
    other = decomposition.PCA(whiten=True, svd_solver="full").fit(X)
    want = other.transform(new) * math.sqrt(1000 / 999)  # n - 1 there
    got = Whitening("pca", eps=0.0).fit(X).transform(new)
    signs = np.sign((want * got).sum(axis=0))
    np.testing.assert_allclose(got, want * signs, atol=1e-3)


@pytest.mark.parametrize("name", ["", ".columns", ".whitening"])
def test_doctests(name):
    found = doctest.testmod(importlib.import_module(f"fastnn.preprocessing{name}"), raise_on_error=False)
    assert found.attempted > 0
    assert found.failed == 0
