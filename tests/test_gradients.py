"""Gradients of layers and of whole networks against central differences of the float64 formulas."""

import numpy as np
import pytest
import reference as ref
from bounds import host
from custom import Scale, Square
from device_places import There
from fastnn import losses, nn
from reference_dropout import dropout_mask

pytestmark = pytest.mark.usefixtures("place")
# float32 rounding through a few layers; a wrong term or factor is off by far more
RELATIVE = 2e-5


def forward64(model, parameters, x, prefix="", masks=None):
    """The network in float64, with these parameters (name -> array) instead of its own.

    `masks`: name of a Dropout -> which elements the forward under test kept.
    """
    for i, layer in enumerate(model):
        name = f"{prefix}{i}."
        if isinstance(layer, nn.Linear):
            rows = x.reshape(-1, x.shape[-1])
            y = ref.gemm(rows, parameters[f"{name}weight"], bias=parameters.get(f"{name}bias"))
            x = y.reshape(*x.shape[:-1], -1)
        elif isinstance(layer, nn.BatchNorm1d):
            x, *_ = ref.batch_norm(x, parameters[f"{name}gamma"], parameters[f"{name}beta"], eps=layer.eps)
        elif isinstance(layer, nn.Dropout):
            x = np.where(masks[name], x / (1 - layer.p), 0)
        elif isinstance(layer, nn.Flatten):
            x = x.reshape(len(x), -1)
        elif isinstance(layer, nn.Residual):
            past = x
            if layer.shortcut is not None:
                past = forward64([layer.shortcut], renamed(parameters, f"{name}shortcut."), x)
            x = forward64(layer.block, parameters, x, f"{name}block.", masks) + past
        elif isinstance(layer, Scale):
            x = x * parameters[f"{name}factor"]
        elif isinstance(layer, Square):
            x = x**2
        elif not isinstance(layer, nn.Identity):
            if layer.kind in ("relu", "leaky_relu", "elu", "selu"):
                # A kink between two differences would be no derivative at all.
                assert np.abs(x).min() > 1e-4
            x = ref.activation(x, layer.kind, getattr(layer, "negative_slope", getattr(layer, "alpha", None)))
    return x


def renamed(parameters, prefix):
    """The parameters of the one layer at this prefix, as layer 0 of a network of its own."""
    return {f"0.{n.removeprefix(prefix)}": a for n, a in parameters.items() if n.startswith(prefix)}


def masks_of(model):
    """What every Dropout kept in its last training forward."""
    return {
        f"{name}.": dropout_mask(layer._saved[0], layer.p, layer.seed, layer._saved[1])
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Dropout)
    }


def assert_gradients(model, x, cost64, dx):
    """Compare dx and every .grad of the model with differences of cost64(output)."""
    exact = {p.name: ref.f64(host(p.data)) for p in model.parameters()}
    masks = masks_of(model)
    gradients = {"x": dx, **{p.name: host(p.grad) for p in model.parameters()}}
    for name, got in gradients.items():

        def cost(value, name=name):
            inputs = value if name == "x" else x
            return cost64(forward64(model, {**exact, name: value}, inputs, masks=masks))

        want = ref.numerical_gradient(cost, x if name == "x" else exact[name], h=1e-5)
        scale = np.abs(want).max()
        assert scale > 1e-3, f"{name}: nothing to compare"
        np.testing.assert_allclose(got, want, rtol=0, atol=RELATIVE * scale, err_msg=name)


def randomize(model, rng):
    """Also gamma, beta and biases away from their first values: ones and zeros would hide errors."""
    for p in model.parameters():
        p.data = p.data + 0.3 * rng.standard_normal(p.data.shape)
    return model


LAYERS = {
    "linear": lambda: (nn.Linear(4, 3),),
    "linear without bias": lambda: (nn.Linear(4, 3, bias=False),),
    "relu": lambda: (nn.Linear(4, 3), nn.ReLU()),
    "fused relu": lambda: (nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)),
    **{
        name: lambda activation=activation: (nn.Linear(4, 3), activation(), nn.Linear(3, 2))
        for name, activation in {
            "leaky relu": lambda: nn.LeakyReLU(0.2),
            "sigmoid": nn.Sigmoid,
            "tanh": nn.Tanh,
            "gelu": nn.GELU,
            "gelu tanh": lambda: nn.GELU("tanh"),
            "silu": nn.SiLU,
            "elu": nn.ELU,
            "elu of 0.6": lambda: nn.ELU(0.6),
            "selu": nn.SELU,
            "softplus": nn.Softplus,
            "identity": nn.Identity,
        }.items()
    },
    "batch norm": lambda: (nn.BatchNorm1d(4, eps=1e-2),),
    "fused batch norm": lambda: (nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3)),
    "batch norm after relu": lambda: (nn.Linear(4, 5), nn.ReLU(), nn.BatchNorm1d(5)),
    "dropout": lambda: (nn.Linear(4, 6), nn.Dropout(0.4), nn.Linear(6, 3)),
    "dropout behind relu": lambda: (nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.4), nn.Linear(6, 3)),
    "residual": lambda: (nn.Residual(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))),),
    "residual with shortcut": lambda: (
        nn.Residual(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), nn.Linear(4, 3, bias=False)),
    ),
    "residual with batch norm and dropout": lambda: (
        nn.Linear(4, 5, bias=False),
        nn.Residual(
            nn.Sequential(
                nn.Linear(5, 5, bias=False),
                *(nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.2)),
                nn.Linear(5, 5, bias=False),
            )
        ),
        nn.BatchNorm1d(5),
        nn.Linear(5, 2),
    ),
    "custom layers": lambda: (nn.Linear(4, 3), Square(), Scale(3), nn.Linear(3, 2)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("rows", [5, 7, 50])
def test_layers(name, rows, isa):
    rng = np.random.default_rng(rows + len(name))
    model = randomize(nn.Sequential(*LAYERS[name](), seed=1), rng)
    x = rng.standard_normal((rows, 4), np.float32)
    there = There(model)
    y = there(x)
    dy = rng.standard_normal(y.shape, np.float32)
    assert_gradients(model, x, lambda out: float((out * dy).sum()), there.backward(dy))


def test_more_than_two_axes(isa):
    rng = np.random.default_rng(2)
    model = nn.Sequential(
        nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3), nn.ReLU(), nn.Flatten(), nn.Linear(9, 2), seed=1
    )
    randomize(model, rng)
    x = rng.standard_normal((6, 3, 4), np.float32)
    there = There(model)
    y = there(x)
    dy = rng.standard_normal(y.shape, np.float32)
    assert_gradients(model, x, lambda out: float((out * dy).sum()), there.backward(dy))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("probabilities", [False, True])
def test_whole_network_with_loss(weighted, probabilities, isa):
    rng = np.random.default_rng(5)
    model = nn.Sequential(
        nn.Linear(6, 8, bias=False),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Linear(8, 7),
        nn.ReLU(),
        nn.Linear(7, 4),
        seed=1,
    )
    randomize(model, rng)
    x = rng.standard_normal((20, 6), np.float32)
    target = rng.random((20, 4), np.float32) if probabilities else rng.integers(0, 4, 20)
    weight = rng.random(20, np.float32) if weighted else None
    options = {"label_smoothing": 0.1} if probabilities else {"label_smoothing": 0.2, "ignore_index": 1}
    there, loss = There(model), There(losses.CrossEntropyLoss(**options))
    value, dpred = loss(there(x), target, weight)
    exact = {p.name: host(p.data) for p in model.parameters()}
    cost64 = lambda out: ref.softmax_cross_entropy(out, target, weight, **options)[0]  # noqa: E731
    assert value == pytest.approx(cost64(forward64(model, exact, x)), rel=1e-5)
    assert_gradients(model, x, cost64, there.backward(dpred))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (losses.MSELoss(), "mse"),
        (losses.QuadraticCost(), "quadratic_cost"),
        (losses.HuberLoss(), "huber"),
        (losses.BCEWithLogitsLoss(), "sigmoid_cross_entropy"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_whole_network_with_elementwise_loss(weighted, loss, name, isa):
    rng = np.random.default_rng(6)
    model = randomize(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), seed=1), rng)
    x, target = rng.standard_normal((20, 6), np.float32), rng.random((20, 4), np.float32)
    weight = rng.random(20, np.float32) if weighted else None
    there = There(model)
    _, dpred = There(loss)(there(x), target, weight)
    assert_gradients(model, x, lambda out: getattr(ref, name)(out, target, weight)[0], there.backward(dpred))


def test_the_comparison_finds_a_wrong_gradient():
    rng = np.random.default_rng(3)
    model = randomize(nn.Sequential(nn.BatchNorm1d(4), seed=1), rng)
    x = rng.standard_normal((7, 4), np.float32)
    there = There(model)
    dy = rng.standard_normal(there(x).shape, np.float32)
    dx = there.backward(dy)
    model[0].beta.grad = host(model[0].beta.grad) * 1.001
    with pytest.raises(AssertionError, match=r"0\.beta"):
        assert_gradients(model, x, lambda out: float((out * dy).sum()), dx)
