"""BatchNorm1d as a layer: running statistics of every kind, recalibration, both orders, one row."""

import copy

import fastnn
import numpy as np
import pytest
import reference as ref
from bounds import assert_bits, host
from device_places import There
from fastnn import data, losses, nn, ops, optim
from small import assert_state, labelled_rows


def batches_of(rng, count=5, rows=20, columns=4):
    return (rng.standard_normal((count, rows, columns)) * [1.0, 5.0, 0.1, 2.0] + 3.0).astype(np.float32)


def divisor(unbiased):
    return 1 if unbiased else 0


# ---- running statistics


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("kind", ["unbiased", "biased"])
@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.75, 1.0])
def test_running_variance_of_both_kinds(isa, kind, momentum, rng):
    layer = There(nn.BatchNorm1d(4, momentum=momentum, running_var=kind))
    mean, var = np.zeros(4), np.ones(4)
    for x in batches_of(rng):
        layer(x)
        mean = ref.running(mean, ref.f64(x).mean(0), momentum)
        var = ref.running(var, ref.f64(x).var(0, ddof=divisor(kind == "unbiased")), momentum)
    np.testing.assert_allclose(host(layer.running_mean), mean, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(host(layer.running_var), var, rtol=2e-6)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("rows", [2, 3, 1000])
def test_biased_and_unbiased_differ_by_the_factor_n_over_n_minus_1(rows, rng):
    x = rng.standard_normal((rows, 4), np.float32)
    biased, unbiased = (
        There(nn.BatchNorm1d(4, momentum=1.0, running_var=kind)) for kind in ("biased", "unbiased")
    )
    assert_bits(biased(x), unbiased(x))
    assert_bits(biased.running_mean, unbiased.running_mean)
    np.testing.assert_allclose(
        host(biased.running_var) * rows / (rows - 1), host(unbiased.running_var), rtol=2e-7
    )


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("kind", ["unbiased", "biased"])
@pytest.mark.parametrize("momentum", [1e-3, 0.1, 0.5, 1.0])
def test_debiased_statistics_are_weighted_means_of_the_batches(isa, kind, momentum, rng):
    """Batch i of t counts (1 - momentum)^(t - i), and the weights sum to 1: nothing is left of 0 and 1."""
    layer = There(nn.BatchNorm1d(4, momentum=momentum, running_var=kind, debias=True))
    means, variances = [], []
    for t, x in enumerate(batches_of(rng), start=1):
        layer(x)
        means.append(ref.f64(x).mean(0))
        variances.append(ref.f64(x).var(0, ddof=divisor(kind == "unbiased")))
        weights = (1.0 - momentum) ** np.arange(t)[::-1]
        weights /= weights.sum()
        np.testing.assert_allclose(host(layer.running_mean), weights @ means, rtol=3e-6, atol=1e-6)
        np.testing.assert_allclose(host(layer.running_var), weights @ variances, rtol=3e-6)
        assert layer.updates == t


@pytest.mark.usefixtures("place")
def test_debiased_statistics_are_exact_after_one_batch(rng):
    x = batches_of(rng)[0]
    layer, exact = There(nn.BatchNorm1d(4, debias=True)), There(nn.BatchNorm1d(4, momentum=1.0))
    layer(x)
    exact(x)
    assert_bits(layer.running_mean, exact.running_mean)
    assert_bits(layer.running_var, exact.running_var)


def test_debiased_weights_end_at_momentum(rng):
    """So a long run is the same as without: what differs is the beginning."""
    layer, plain = nn.BatchNorm1d(4, momentum=0.25, debias=True), nn.BatchNorm1d(4, momentum=0.25)
    for x in batches_of(rng, count=150):
        layer(x)
        plain(x)
    np.testing.assert_allclose(layer.running_mean, plain.running_mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(layer.running_var, plain.running_var, rtol=1e-6)


def test_the_count_of_updates_is_part_of_the_state(rng):
    x = batches_of(rng)
    model = nn.Sequential(nn.BatchNorm1d(4, debias=True))
    model(x[0])
    assert list(model.state_dict()) == [
        *("0.gamma", "0.beta", "0.running_mean", "0.running_var", "0.updates"),
    ]
    other = nn.Sequential(nn.BatchNorm1d(4, debias=True))
    other.load_state_dict(model.state_dict())
    third = copy.deepcopy(model)
    model.eval()(x[0])  # an evaluation does not count
    for one in (model, other, third):
        one.train()(x[1])
    assert_state(other, model.state_dict())
    assert_state(third, model.state_dict())
    model.reset_parameters(0)
    assert model[0].updates == 0
    assert_state(nn.Sequential(nn.BatchNorm1d(4, debias=True)), model.state_dict())
    assert "updates" not in nn.BatchNorm1d(4).state_dict()


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("options", [{}, {"running_var": "biased"}, {"debias": True}])
def test_evaluation_uses_them_and_leaves_them(options, rng):
    layer = There(nn.BatchNorm1d(4, **options))
    layer(batches_of(rng)[0])
    before = layer.state_dict()
    x = batches_of(rng)[1]
    y = layer.eval()(x)
    want, *_ = ref.batch_norm(
        x,
        *map(host, (layer.gamma.data, layer.beta.data)),
        mean=before["running_mean"],
        var=before["running_var"],
    )
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-5)
    assert_state(layer, before)


def test_repr_shows_what_differs():
    assert repr(nn.BatchNorm1d(4)).startswith("BatchNorm1d(4) ")
    layer = nn.BatchNorm1d(4, 1e-3, 0.2, running_var="biased", debias=True)
    assert "BatchNorm1d(4, eps=0.001, momentum=0.2, running_var='biased', debias=True)" in repr(layer)


# ---- one row


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("options", [{}, {"running_var": "biased"}, {"debias": True}])
def test_one_row_raises_before_anything_changes(options, rng):
    layer = There(nn.BatchNorm1d(4, **options))
    layer(batches_of(rng)[0])
    before = layer.state_dict()
    for shape in [(1, 4), (1, 1, 4), (0, 4)]:
        with pytest.raises(ValueError, match="at least two rows in training"):
            layer(np.ones(shape, np.float32))
    assert_state(layer, before)


@pytest.mark.usefixtures("place")
def test_trainer_with_one_row(rng):
    """A step of one row raises and changes nothing; fit joins a last batch of one row."""
    X, Y = labelled_rows()
    bn = nn.BatchNorm1d(8, debias=True)
    model = nn.Sequential(nn.Linear(6, 8), bn, nn.ReLU(), nn.Linear(8, 3), seed=0)
    trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    before = model.state_dict()
    with pytest.raises(ValueError, match="at least two rows in training"):
        trainer.step(X[:1], Y[:1])
    assert_state(model, before)
    trainer.fit(X[:33], Y[:33], batch_size=16, epochs=1, progress=False)
    assert bn.updates == 2
    trainer.fit(X[:33], Y[:33], batch_size=16, epochs=1, progress=False, drop_last=True)
    assert bn.updates == 4
    with pytest.raises(ValueError, match="at least two rows in training"):
        trainer.fit(X[:33], Y[:33], batch_size=1, epochs=1, progress=False)


# ---- recalibration


def forward64(model, x):
    """The network in float64 in evaluation mode, with the exact statistics of x in place of running ones.

    Also gives them: name -> (mean, variance). The variance has the divisor of the layer.
    """
    found = {}

    def run(layer, h, name):
        if isinstance(layer, nn.Sequential):
            for i, inner in enumerate(layer):
                h = run(inner, h, f"{name}{i}.")
        elif isinstance(layer, nn.Linear):
            h = ref.gemm(h.reshape(-1, h.shape[-1]), layer.weight.data).reshape(*h.shape[:-1], -1)
            h = h + (0 if layer.bias is None else ref.f64(layer.bias.data))
        elif isinstance(layer, nn.BatchNorm1d):
            rows = h.reshape(-1, h.shape[-1])
            found[name[:-1]] = rows.mean(0), rows.var(0, ddof=divisor(layer.unbiased))
            mean, var = found[name[:-1]]
            h, *_ = ref.batch_norm(h, layer.gamma.data, layer.beta.data, eps=layer.eps, mean=mean, var=var)
        elif isinstance(layer, nn.Residual):
            past = h if layer.shortcut is None else run(layer.shortcut, h, f"{name}shortcut.")
            h = run(layer.block, h, f"{name}block.") + past
        elif not isinstance(layer, nn.Dropout):
            h = ref.activation(h, layer.kind)
        return h

    return run(model, ref.f64(x), ""), found


def deep(kind="unbiased"):
    block = nn.Sequential(
        nn.Linear(16, 16, bias=False), nn.BatchNorm1d(16, running_var=kind), nn.ReLU(), nn.Linear(16, 16)
    )
    shortcut = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16, running_var=kind))
    return nn.Sequential(
        *(nn.Linear(4, 16), nn.Tanh(), nn.BatchNorm1d(16, running_var=kind), nn.Dropout(0.5)),
        nn.Residual(block, shortcut),
        *(nn.BatchNorm1d(16, running_var=kind), nn.ReLU(), nn.Linear(16, 3)),
        seed=0,
    )


@pytest.mark.parametrize("kind", ["unbiased", "biased"])
@pytest.mark.parametrize("batch_size", [7, 32, 1000])
def test_recalibrated_statistics_are_those_of_all_rows(isa, kind, batch_size, rng):
    """Layer after layer against a float64 network; batches whose means differ, a last one of one row."""
    X = (rng.standard_normal((141, 4)) + np.linspace(-8, 8, 141)[:, None]).astype(np.float32)
    model = deep(kind)
    for _ in range(3):
        model(X[:50])
    trained = model.state_dict()
    nn.recalibrate_bn(model, X, batch_size=batch_size)
    want, statistics = forward64(model, X)
    assert len(statistics) == 4
    for name, (mean, var) in statistics.items():
        state = model.state_dict()
        np.testing.assert_allclose(state[f"{name}.running_mean"], mean, rtol=2e-5, atol=2e-6, err_msg=name)
        np.testing.assert_allclose(state[f"{name}.running_var"], var, rtol=2e-5, err_msg=name)
    np.testing.assert_allclose(model.eval()(X), want, rtol=1e-4, atol=1e-5)
    for name, array in model.state_dict().items():
        if "running" not in name:
            assert_bits(array, trained[name], name)


def test_the_mean_of_batch_variances_is_something_else(rng):
    """What PyTorch's update_bn computes: wrong by the variance of the batch means."""
    X = (rng.standard_normal((100, 4)) + np.linspace(-8, 8, 100)[:, None]).astype(np.float32)
    model = nn.Sequential(nn.BatchNorm1d(4))
    nn.recalibrate_bn(model, X, batch_size=10)
    batches = np.mean([x.var(0, ddof=1) for x in X.reshape(10, 10, 4)], axis=0)
    assert (model[0].running_var > 5 * batches).all()


def test_biased_statistics_reproduce_a_training_forward_over_all_rows(isa, rng):
    """With all rows in one batch training and population statistics are the same."""
    X = batches_of(rng, rows=60)[0]
    model = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8, running_var="biased"), nn.ReLU(), nn.Linear(8, 3), seed=0
    )
    nn.recalibrate_bn(model, X)
    want = model.train()(X)
    np.testing.assert_allclose(model.eval()(X), want, rtol=1e-5, atol=1e-5)


def test_data_far_from_zero_keep_their_variance(rng):
    """Never E[x^2] - E[x]^2: at a mean of 1e4 and a deviation of 0.1 that gives nonsense in float32."""
    X = (1e4 + 0.1 * rng.standard_normal((1000, 3))).astype(np.float32)
    model = nn.Sequential(nn.BatchNorm1d(3, eps=0))
    nn.recalibrate_bn(model, X, batch_size=64)
    np.testing.assert_allclose(model[0].running_var, ref.f64(X).var(0, ddof=1), rtol=1e-6)
    np.testing.assert_allclose(model.eval()(X).std(0), 1.0, rtol=1e-2)


@pytest.mark.parametrize("dtype", [np.float64, np.uint8, np.float16])
def test_recalibration_of_other_dtypes_and_axes(dtype, rng):
    X = rng.integers(0, 9, (30, 5, 4)).astype(dtype)
    one, other = nn.Sequential(nn.BatchNorm1d(4)), nn.Sequential(nn.BatchNorm1d(4))
    nn.recalibrate_bn(one, X, batch_size=8)
    nn.recalibrate_bn(other, X.reshape(150, 4).astype(np.float32))
    np.testing.assert_allclose(one[0].running_mean, other[0].running_mean, rtol=1e-6)
    np.testing.assert_allclose(one[0].running_var, other[0].running_var, rtol=1e-6)


def test_recalibration_restores_modes_and_counts(rng):
    X = batches_of(rng)[0]
    model = deep()
    model[1].eval()
    modes = [m.training for m in model.modules()]
    nn.recalibrate_bn(model, X)
    assert [m.training for m in model.modules()] == modes
    assert model[3].forwards == 0
    lone = nn.BatchNorm1d(4)
    nn.recalibrate_bn(lone, X)
    np.testing.assert_allclose(lone.running_mean, X.mean(0), rtol=1e-5)


class Overflow(nn.ReLU):
    def forward(self, x):
        return x + np.float32(np.inf)


class Failing(nn.ReLU):
    def forward(self, x):
        raise RuntimeError("no way")


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        (Overflow, ValueError, "recalibrate_bn: the input of '2' is not finite"),
        (Failing, RuntimeError, "no way"),
    ],
)
def test_a_refused_recalibration_changes_nothing(layer, error, message, rng):
    """Also not the layers in front, whose statistics were there already."""
    x = batches_of(rng)[0]
    model = nn.Sequential(nn.BatchNorm1d(4), layer(), nn.BatchNorm1d(4))
    before = model.state_dict()
    with pytest.raises(error, match=message):
        nn.recalibrate_bn(model, x)
    assert_state(model, before)
    assert all(m.training for m in model.modules())
    assert "_observe" not in vars(model[0])
    model[0](x)


def test_recalibration_improves_early_evaluation():
    """After a few steps running averages still hold their first values; the population's do not."""
    (X, Y), _ = data.digits()
    X, Y = X[:2000], Y[:2000]
    model = nn.Sequential(
        nn.Linear(784, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10), seed=0
    )
    trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.01))
    trainer.fit(X, Y, batch_size=256, epochs=1, progress=False)
    before = trainer.evaluate(X, Y)["loss"]
    nn.recalibrate_bn(model, X)
    assert trainer.evaluate(X, Y)["loss"] < before


# ---- both orders against PyTorch


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("activation", ["ReLU", "Tanh", "SiLU"])
def test_batch_norm_before_and_after_the_activation(isa, order, activation, rng):
    """Twenty steps of SGD: losses, parameters, running statistics and evaluation are PyTorch's."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install '.[peers]')")

    def between(norm, act):
        return (norm, act) if order == "before" else (act, norm)

    model = nn.Sequential(
        nn.Linear(6, 16), *between(nn.BatchNorm1d(16), getattr(nn, activation)()), nn.Linear(16, 3), seed=0
    )
    net = torch.nn.Sequential(
        torch.nn.Linear(6, 16),
        *between(torch.nn.BatchNorm1d(16), getattr(torch.nn, activation)()),
        torch.nn.Linear(16, 3),
    )
    with torch.no_grad():
        for mine, theirs in ((model[0], net[0]), (model[3], net[3])):
            theirs.weight.copy_(torch.from_numpy(mine.weight.data.T.copy()))
            theirs.bias.copy_(torch.from_numpy(mine.bias.data))
    X, Y = labelled_rows()
    loss, ours = losses.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
    for _ in range(20):
        value, grad = loss(model(X), Y)
        model.backward(grad, input_grad=False)
        ours.step()
        optimizer.zero_grad()
        theirs = torch.nn.functional.cross_entropy(net(torch.from_numpy(X)), torch.from_numpy(Y))
        theirs.backward()
        optimizer.step()
        assert value == pytest.approx(theirs.item(), rel=1e-5)
    other = nn.Sequential(
        nn.Linear(6, 16), *between(nn.BatchNorm1d(16), getattr(nn, activation)()), nn.Linear(16, 3)
    )
    other.load_state_dict(net.state_dict(), layout="pytorch")
    for name, array in model.state_dict().items():
        np.testing.assert_allclose(array, other.state_dict()[name], rtol=1e-4, atol=1e-5, err_msg=name)
    with torch.no_grad():
        want = net.eval()(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(model.eval()(X), want, rtol=1e-4, atol=1e-5)


def test_the_count_of_pytorch_is_taken_over():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install '.[peers]')")
    net = torch.nn.Sequential(torch.nn.BatchNorm1d(4))
    for _ in range(3):
        net(torch.ones(5, 4))
    model = nn.Sequential(nn.BatchNorm1d(4, debias=True))
    model.load_state_dict(net.state_dict(), layout="pytorch")
    assert model[0].updates == 3
    plain = nn.Sequential(nn.BatchNorm1d(4))
    plain.load_state_dict(net.state_dict(), layout="pytorch")


def test_kernels_and_layers_agree_on_the_default(rng):
    x = batches_of(rng)[0]
    layer, mean, var = nn.BatchNorm1d(4), np.zeros(4, np.float32), np.ones(4, np.float32)
    layer(x)
    ops.batch_norm(x, layer.gamma.data, layer.beta.data, mean, var)
    assert_bits(layer.running_mean, mean)
    assert_bits(layer.running_var, var)
