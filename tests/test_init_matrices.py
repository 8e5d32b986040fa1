"""Orthogonal, sparse and identity matrices, and the laws of depth and of variances."""

import math

import fastnn
import numpy as np
import pytest
from bounds import EPS, assert_bits
from fastnn import init, losses, nn, ops, optim
from small import labelled_rows

# ---- orthogonal


@pytest.mark.parametrize(
    "shape", [(1, 1), (5, 5), (64, 64), (70, 33), (33, 70), (300, 5), (129, 200)], ids=str
)
@pytest.mark.parametrize("gain", [1.0, 1.5])
def test_orthogonal(isa, shape, gain):
    w = init.Orthogonal(gain)(shape, rng=0).astype(np.float64) / gain
    inner = w.T @ w if shape[0] >= shape[1] else w @ w.T
    # An inner product of m terms, taken away with an error of sqrt(m) roundings, twice; then the norm.
    assert np.abs(inner - np.eye(min(shape))).max() < (2 * math.sqrt(max(shape)) + 4) * EPS


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)], ids=str)
def test_orthogonal_of_nothing(shape):
    assert init.Orthogonal()(shape, rng=0).shape == shape


def test_orthogonal_has_the_same_bits_everywhere(restore_runtime, isas):
    found = []
    for isa in isas:
        for threads in (1, 3):
            fastnn.set_isa(isa)
            fastnn.set_num_threads(threads)
            found.append(init.Orthogonal()((200, 150), rng=3))
    for other in found[1:]:
        assert_bits(other, found[0])
    assert np.any(init.Orthogonal()((200, 150), rng=4) != found[0])


def test_every_orthogonal_matrix_is_equally_likely():
    """Moments of an element under the Haar measure, n = 4; a plain QR leaves the diagonal's sign biased."""
    rng, n, draws = np.random.default_rng(0), 4, 2000
    w = np.array([init.Orthogonal()((n, n), rng=rng) for _ in range(draws)], np.float64)
    second, fourth = 1 / n, 3 / (n * (n + 2))
    eighth = 105 / (n * (n + 2) * (n + 4) * (n + 6))
    assert np.abs(w.mean(axis=0)).max() < 4.5 * math.sqrt(second / draws)  # the largest of 16
    assert np.abs((w**4).mean(axis=0) - fourth).max() < 4.5 * math.sqrt((eighth - fourth**2) / draws)
    assert abs(np.linalg.det(w).mean()) < 4 / math.sqrt(draws)  # +1 and -1


# ---- sparse


@pytest.mark.parametrize(("shape", "k"), [((300, 500), 15), ((1, 4), 1), ((7, 50), 7), ((40, 1), 3)])
def test_sparse_has_k_weights_for_each_neuron(shape, k):
    w = init.Sparse(k, 0.5)(shape, rng=0)
    assert np.array_equal(np.count_nonzero(w, axis=0), np.full(shape[1], k))
    assert w.dtype == np.float32
    assert w.flags.c_contiguous


def test_sparse_draws_are_normal_and_their_places_independent():
    inputs, neurons, k, std = 60, 5000, 15, 0.5
    w = init.Sparse(k, std)((inputs, neurons), rng=0)
    z = w[w != 0].astype(np.float64) / std
    assert abs(z.mean()) < 4 / math.sqrt(z.size)
    assert abs((z**2).mean() - 1) < 4 * math.sqrt(2 / z.size)
    assert abs((z**4).mean() - 3) < 4 * math.sqrt(96 / z.size)
    # How often an input is chosen: binomial, and not the same for all, as by a count for each input.
    share = k / inputs
    counts = np.count_nonzero(w, axis=1)
    assert np.abs(counts - neurons * share).max() < 4.5 * math.sqrt(neurons * share * (1 - share))
    assert counts.std() > 0
    # A neuron's input has variance k std**2.
    x = np.random.default_rng(1).standard_normal((50, inputs))
    y = x @ w
    assert (y**2).mean() == pytest.approx(k * std**2, rel=0.1)


def test_pytorch_counts_for_each_input():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.manual_seed(0)
    weight = torch.nn.init.sparse_(torch.empty(6, 8), sparsity=0.5)  # (out, in)
    assert set(np.count_nonzero(weight.numpy(), axis=0)) == {3}
    assert len(set(np.count_nonzero(weight.numpy(), axis=1))) > 1


# ---- identity, and the laws of depth


def test_identity():
    assert np.array_equal(init.Identity()((3, 3), rng=0), np.eye(3, dtype=np.float32))
    assert np.array_equal(init.Identity(-2.0)((2, 4), rng=None), -2 * np.eye(2, 4, dtype=np.float32))


def stack(gain, depth, columns=3):
    """W[L] drawn, all layers before it `gain` times the identity, no bias, no activation."""
    model = nn.Sequential(*(nn.Linear(columns, columns, bias=False) for _ in range(depth)), seed=1)
    model.reset_parameters(1, init={f"{i}.weight": init.Identity(gain) for i in range(depth - 1)})
    return model


@pytest.mark.parametrize("depth", [1, 2, 5, 16])
@pytest.mark.parametrize("gain", [1.5, 0.5])
def test_the_law_of_depth_forward_and_backward(isa, gain, depth):
    """y = W[L] gain**(L-1) x, and the gradient grows or fades alike; exact while 3**(L-1) has 24 bits."""
    model = stack(gain, depth)
    x = np.array([[1.0, -2.0, 0.25], [0.0, 8.0, -1.0]], np.float32)
    dy = np.array([[1.0, 0.5, -2.0], [4.0, 0.0, 1.0]], np.float32)
    factor = np.float32(gain ** (depth - 1))
    last = model[depth - 1].weight.data
    assert_bits(model(x), ops.gemm(x * factor, last))
    through = ops.gemm(dy, last, trans_b=True)
    want = through.astype(np.float64) * gain ** (depth - 1)
    got = model.backward(dy)
    assert np.all(np.abs(got - want) <= depth * EPS * np.abs(want))
    for i in range(depth):  # a[i] = gain**i x
        x_of_layer = x if i == 0 else nn.Sequential(*list(model)[:i])(x)
        assert_bits(x_of_layer, x * np.float32(gain**i))


def test_the_depth_at_which_float32_ends():
    one = np.ones((1, 1), np.float32)

    def after(gain, depth):
        model = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(depth)))
        model.reset_parameters(0, init={f"{i}.weight": init.Identity(gain) for i in range(depth)})
        return float(model.eval()(one)[0, 0])

    assert math.floor(math.log(np.finfo(np.float32).max, 1.5)) == 218
    assert np.isfinite(after(1.5, 218))
    assert after(1.5, 219) == math.inf
    assert after(0.5, 126) == 2.0**-126
    assert after(0.5, 127) == 0.0


@pytest.mark.parametrize(
    ("initializer", "fourth"),
    [
        (init.LecunNormal(), 3.0),
        (init.XavierNormal(), 3.0),
        (init.XavierUniform(), 1.8),
        (init.KaimingNormal(), 3.0),
        (init.KaimingUniform("fan_out"), 1.8),
        (init.VarianceScaling(0.5, "fan_avg", "truncated_normal"), 2.37),
        (init.Normal(std=0.05), 3.0),
        (init.Uniform.from_std(0.05), 1.8),
    ],
    ids=repr,
)
def test_the_variance_of_a_product(initializer, fourth):
    """Var(y) = n Var(x) Var(W) for independent draws of mean 0, within 3 standard errors."""
    inputs, outputs, rows = 200, 150, 400
    w = initializer((inputs, outputs), rng=2, fan_in=inputs, fan_out=outputs).astype(np.float64)
    variance = {"Lecun": 1 / 200, "Xavier": 2 / 350, "Kaiming": 2 / 200, "Variance": 0.5 / 175}
    name = next((key for key in variance if repr(initializer).startswith(key)), None)
    theory = 0.05**2 if name is None else variance[name]
    if getattr(initializer, "mode", "") == "fan_out":
        theory = 2 / 150
    x = np.random.default_rng(3).standard_normal((rows, inputs))
    ratio = ((x @ w) ** 2).mean() / (inputs * theory)
    of_weights = (fourth - 1) / w.size
    of_rows = 2 * ((w @ w.T) ** 2).sum() / (rows * (outputs * inputs * theory) ** 2)
    assert abs(ratio - 1) < 3 * math.sqrt(of_weights + of_rows)


# ---- through reset_parameters


def test_a_fixed_variance_for_each_layer():
    """N(0, std**2) with a std of one's own for each layer, and a model that learns from it."""
    stds = {"0.weight": 0.3, "3.weight": 0.05}
    model = nn.Sequential(
        nn.Linear(6, 400, bias=False), nn.BatchNorm1d(400), nn.ReLU(), nn.Linear(400, 3), seed=0
    )
    model.reset_parameters(5, init={name: init.Normal(0.0, std) for name, std in stds.items()})
    for p in model.parameters():
        if p.name in stds:
            z = p.data.astype(np.float64) / stds[p.name]
            assert abs(z.mean()) < 4 / math.sqrt(z.size)
            assert abs((z**2).mean() - 1) < 4 * math.sqrt(2 / z.size)
    drawn = model.state_dict()
    model.reset_parameters(5, init={name: init.Normal(0.0, std) for name, std in stds.items()})
    for name, array in model.state_dict().items():
        assert_bits(array, drawn[name])
    trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.01))
    history = trainer.fit(*labelled_rows(), batch_size=10, epochs=20, progress=False)
    assert history["loss"][-1] < 0.5 * history["loss"][0]


@pytest.mark.parametrize(
    "initializer", [init.Orthogonal(), init.Sparse(3, 0.5), init.Identity(), init.TruncatedNormal()], ids=repr
)
def test_new_initializers_in_layers(initializer):
    """As `weight_init` and by name: the same draws from the same seed, with the fans of the layer."""
    model = nn.Sequential(nn.Linear(6, 4, weight_init=initializer), nn.ReLU(), nn.Linear(4, 2), seed=9)
    other = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    other.reset_parameters(9, init={"0.weight": initializer})
    for name, array in model.state_dict().items():
        assert_bits(array, other.state_dict()[name])
    assert_bits(model[0].weight.data, initializer((6, 4), rng=9, fan_in=6, fan_out=4))
