"""Initializers: the distributions, their scale for each fan, and what random numbers they draw."""

import copy
import doctest
import importlib
import math
import pickle

import numpy as np
import pytest
from fastnn import init

SHAPE = (300, 500)  # fan_in 300, fan_out 500

# initializer, standard deviation of its draws, largest absolute value of a uniform one (None: normal)
SCALES = [
    pytest.param(init.Normal(), 0.01, None, id="Normal"),
    pytest.param(init.Normal(std=2.0), 2.0, None, id="Normal-std"),
    pytest.param(init.Uniform(-0.3, 0.3), 0.3 / math.sqrt(3), 0.3, id="Uniform"),
    pytest.param(init.Uniform.from_std(0.05), 0.05, 0.05 * math.sqrt(3), id="Uniform-from_std"),
    pytest.param(init.LecunNormal(), math.sqrt(1 / 300), None, id="LecunNormal"),
    pytest.param(init.VarianceScaling(3.0, "fan_in", "normal"), 0.1, None, id="VarianceScaling"),
    pytest.param(
        init.VarianceScaling(3.0, "fan_out", "uniform"), math.sqrt(3 / 500), 3 / math.sqrt(500), id="fan_out"
    ),
    pytest.param(init.VarianceScaling(1.0, "fan_avg", "normal"), 0.05, None, id="fan_avg"),
    pytest.param(init.XavierNormal(), math.sqrt(2 / 800), None, id="XavierNormal"),
    pytest.param(init.XavierNormal(5 / 3), 5 / 3 * math.sqrt(2 / 800), None, id="XavierNormal-tanh"),
    pytest.param(init.XavierUniform(), math.sqrt(2 / 800), math.sqrt(6 / 800), id="XavierUniform"),
    pytest.param(
        init.XavierUniform(2.0), 2 * math.sqrt(2 / 800), 2 * math.sqrt(6 / 800), id="XavierUniform-2"
    ),
    pytest.param(init.KaimingNormal(), math.sqrt(2 / 300), None, id="KaimingNormal"),
    pytest.param(init.KaimingNormal("fan_out"), math.sqrt(2 / 500), None, id="KaimingNormal-fan_out"),
    pytest.param(init.KaimingNormal(nonlinearity="linear"), math.sqrt(1 / 300), None, id="LeCun"),
    pytest.param(init.KaimingUniform(), math.sqrt(2 / 300), math.sqrt(6 / 300), id="KaimingUniform"),
    pytest.param(
        init.KaimingUniform("fan_out", "leaky_relu", 1.0),
        math.sqrt(1 / 500),
        math.sqrt(3 / 500),
        id="slope-1",
    ),
    pytest.param(
        init.KaimingUniform(nonlinearity="leaky_relu", a=math.sqrt(5)),
        math.sqrt(1 / 900),
        1 / math.sqrt(300),
        id="PyTorch-Linear",
    ),
]


def draw(initializer, seed=0, shape=SHAPE):
    return initializer(shape, rng=seed, fan_in=shape[0], fan_out=shape[-1])


@pytest.mark.parametrize(("initializer", "std", "bound"), SCALES)
def test_scale_and_distribution(initializer, std, bound):
    w = draw(initializer).astype(np.float64) / std
    # Four standard errors of the first, second and fourth moment. The fourth tells the distributions apart:
    # 3 for a normal one, 9/5 for a uniform one.
    fourth, variances = (3, (1, 2, 96)) if bound is None else (1.8, (1, 0.8, 5.76))
    errors = [4 * math.sqrt(v / w.size) for v in variances]
    assert abs(w.mean()) < errors[0]
    assert abs((w**2).mean() - 1) < errors[1]
    assert abs((w**4).mean() - fourth) < errors[2]
    if bound is None:
        assert np.abs(w).max() > 3.5  # not truncated
    else:
        assert 0.999 * bound < np.abs(w).max() * std <= bound * (1 + 1e-6)
        assert w.min() < 0 < w.max()


def truncated_moments():
    """E z**2, z**4, z**6, z**8 of a normal distribution cut off at +-2, each from the one before."""
    edge = 2 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2))
    moments = [1.0]
    for k in (1, 3, 5, 7):
        moments.append(k * moments[-1] - 2**k * edge)
    return moments[1:]


@pytest.mark.parametrize(
    ("initializer", "std"),
    [
        (init.TruncatedNormal(std=1.0), 1.0),
        (init.TruncatedNormal(std=0.02), 0.02),
        (init.VarianceScaling(2.0, "fan_in", "truncated_normal"), math.sqrt(2 / 300)),
        (init.VarianceScaling(1.0, "fan_avg", "truncated_normal"), 0.05),
    ],
    ids=repr,
)
def test_truncated_draws_have_the_deviation_asked_for(initializer, std):
    """In units of the deviation after the cut; the peers' TruncatedNormal(std=1) gives 0.88."""
    second, fourth, _, eighth = truncated_moments()
    assert math.sqrt(second) == pytest.approx(0.87962566, rel=1e-8)
    w = draw(initializer).astype(np.float64) / std
    assert abs(w.mean()) < 4 * math.sqrt(1 / w.size)
    assert abs((w**2).mean() - 1) < 4 * math.sqrt((fourth / second**2 - 1) / w.size)
    error = 4 * math.sqrt((eighth - fourth**2) / w.size) / second**2
    assert abs((w**4).mean() - fourth / second**2) < error  # 2.37: neither normal nor uniform
    bound = 2 / math.sqrt(second)
    assert 0.99 * bound < np.abs(w).max() <= bound * (1 + 1e-6)


def test_truncation_is_about_the_mean():
    w = init.TruncatedNormal(mean=5.0, std=1.0)(SHAPE, rng=0)
    assert abs(w.mean() - 5) < 4 / math.sqrt(w.size)
    assert np.abs(w - 5).max() <= 2.2738


def test_pytorch_narrows_a_truncated_normal():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.manual_seed(0)
    theirs = torch.nn.init.trunc_normal_(torch.empty(SHAPE), std=1.0, a=-2.0, b=2.0).std().item()
    assert theirs == pytest.approx(0.88, abs=0.005)
    assert draw(init.TruncatedNormal(std=1.0)).std() == pytest.approx(1.0, abs=0.005)


@pytest.mark.parametrize(
    ("general", "named"),
    [
        (init.VarianceScaling(1.0, "fan_in", "normal"), init.LecunNormal()),
        (init.VarianceScaling(2.0, "fan_in", "normal"), init.KaimingNormal()),
        (init.VarianceScaling(2.0, "fan_out", "uniform"), init.KaimingUniform("fan_out")),
        (init.VarianceScaling(1.0, "fan_avg", "uniform"), init.XavierUniform()),
        (init.VarianceScaling(4.0, "fan_avg", "normal"), init.XavierNormal(2.0)),
    ],
    ids=repr,
)
def test_variance_scaling_holds_the_others(general, named):
    np.testing.assert_allclose(draw(general), draw(named), rtol=1e-6, atol=1e-7)


def test_fans_are_those_given_and_not_read_from_the_shape():
    """A weight of PyTorch's layout, (out, in) = (300, 500), with its fans said."""
    for initializer in (
        init.LecunNormal(),
        init.KaimingUniform(),
        init.VarianceScaling(1, "fan_in", "normal"),
    ):
        w = initializer(SHAPE, rng=0, fan_in=500, fan_out=300)
        np.testing.assert_allclose(draw(initializer), w * math.sqrt(500 / 300), rtol=1e-6, atol=1e-7)


def test_constants_and_mean():
    assert not draw(init.Zeros()).any()
    assert np.array_equal(draw(init.Constant(-1.5)), np.full(SHAPE, -1.5, np.float32))
    assert np.array_equal(init.Uniform(0.25, 0.25)(5, rng=0), np.full(5, 0.25, np.float32))
    w = init.Uniform(2.0, 5.0)(SHAPE, rng=0)
    assert abs(w.mean() - 3.5) < 4 * math.sqrt(9 / 12 / w.size)
    assert 2 <= w.min() < 2.001
    assert 4.999 < w.max() <= 5
    assert np.abs(init.Normal(mean=3.0, std=0.0)((4, 5), rng=0) - 3).max() == 0
    assert abs(init.Normal(mean=-2.0, std=1.0)(SHAPE, rng=0).mean() + 2) < 0.02


@pytest.mark.parametrize(
    ("nonlinearity", "a", "value"),
    [
        ("linear", 0, 1),
        ("sigmoid", 0, 1),
        ("tanh", 0, 5 / 3),
        ("relu", 0, math.sqrt(2)),
        ("selu", 0, 0.75),
        ("leaky_relu", 0, math.sqrt(2)),
        ("leaky_relu", 0.01, 1.4141428569978354),
        ("leaky_relu", math.sqrt(5), math.sqrt(1 / 3)),
    ],
)
def test_gain(nonlinearity, a, value):
    assert init.gain(nonlinearity, a) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("nonlinearity", ["linear", "sigmoid", "tanh", "relu", "selu"])
def test_gain_agrees_with_pytorch(nonlinearity):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    assert init.gain(nonlinearity) == pytest.approx(torch.nn.init.calculate_gain(nonlinearity), rel=1e-15)
    slope = torch.nn.init.calculate_gain("leaky_relu", 0.3)
    assert init.gain("leaky_relu", 0.3) == pytest.approx(slope, rel=1e-15)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (init.XavierUniform(2.0), lambda i, w: i.xavier_uniform_(w, gain=2.0)),
        (init.XavierNormal(), lambda i, w: i.xavier_normal_(w)),
        (init.KaimingUniform(), lambda i, w: i.kaiming_uniform_(w, nonlinearity="relu")),
        (
            init.KaimingNormal("fan_out"),
            lambda i, w: i.kaiming_normal_(w, mode="fan_out", nonlinearity="relu"),
        ),
    ],
    ids=lambda value: repr(value) if isinstance(value, init.Initializer) else "torch",
)
def test_scale_agrees_with_pytorch(ours, theirs):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    weight = torch.empty(SHAPE[1], SHAPE[0])  # PyTorch's layout is (out, in)
    torch.manual_seed(0)
    theirs(torch.nn.init, weight)
    assert draw(ours).std() == pytest.approx(weight.std().item(), rel=0.01)
    if "Uniform" in repr(ours):
        assert np.abs(draw(ours)).max() == pytest.approx(weight.abs().max().item(), rel=1e-3)


def test_variance_of_a_layer():
    """Var(x @ W) = fan_in * Var(x) * Var(W), and Kaiming keeps E[x**2] through layers of ReLU."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2000, 400))
    linear = init.KaimingNormal(nonlinearity="linear")
    assert (x @ linear((400, 400), rng=rng, fan_in=400)).var() == pytest.approx(1, rel=0.05)
    for _ in range(10):
        x = np.maximum(x @ init.KaimingUniform()((400, 400), rng=rng, fan_in=400), 0)
    assert (x**2).mean() == pytest.approx(1, rel=0.35)


@pytest.mark.parametrize(("initializer", "std", "bound"), SCALES)
def test_draws_depend_on_rng_only(initializer, std, bound):
    w = draw(initializer, seed=7)
    assert w.dtype == np.float32
    assert w.flags.c_contiguous
    assert w.flags.writeable
    assert w.shape == SHAPE
    np.random.seed(0)  # noqa: NPY002 - the global generator has no say
    for other in (initializer, copy.deepcopy(initializer), pickle.loads(pickle.dumps(initializer))):
        assert np.array_equal(w, draw(other, seed=7))
        assert np.array_equal(w, draw(other, seed=np.random.default_rng(7)))
    assert not np.array_equal(w, draw(initializer, seed=8))
    rng = np.random.default_rng(7)
    first, second = draw(initializer, rng), draw(initializer, rng)
    assert np.array_equal(w, first)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("shape", [(), (0,), (5,), (0, 3), (2, 3, 4), [2, 3], np.int64(4), 4], ids=repr)
def test_shapes(shape):
    expected = np.empty(shape).shape
    for initializer in (
        init.Zeros(),
        init.Normal(),
        init.KaimingUniform(),
        init.XavierNormal(),
        init.Constant(1.0),
        init.TruncatedNormal(),
        init.Uniform(-1.0, 1.0),
        init.LecunNormal(),
    ):
        assert initializer(shape, rng=0, fan_in=3, fan_out=2).shape == expected


def test_repr_builds_it_again():
    for initializer in (
        init.Zeros(),
        init.Normal(1.0, 2.0),
        init.KaimingNormal("fan_out", "leaky_relu", 0.1),
        init.Uniform.from_std(0.1),
        init.VarianceScaling(2.0, "fan_avg", "truncated_normal"),
        init.Orthogonal(2.0),
        init.Sparse(3, 1.0),
        init.Identity(0.5),
        init.Constant(3.0),
    ):
        again = eval(repr(initializer), vars(init))
        assert np.array_equal(draw(initializer), draw(again))


@pytest.mark.parametrize("name", ["simple", "scaled", "matrices"])
def test_doctests(name):
    found = doctest.testmod(importlib.import_module(f"fastnn.init.{name}"), raise_on_error=False)
    assert found.attempted > 0
    assert found.failed == 0
