"""Signatures, and the conventions of the peers by their own numbers."""

import inspect

import fastnn
import numpy as np
import pytest
from fastnn import losses, nn, optim
from small import course, one

pytestmark = pytest.mark.usefixtures("place")


# ---- signatures


COMMON = (
    "*, weight_decay=0.0, l1=0.0, decay='weights', decay_to='zero', clip=None, nonfinite='raise', "
    "grad_noise=None, like=None"
)


@pytest.mark.host("arguments alone")
@pytest.mark.parametrize(
    ("kind", "own"),
    [
        (optim.SGD, "params, lr"),
        (optim.Momentum, "params, lr, momentum=0.9, nesterov=False, style='buffer', dampening=0.0"),
        (
            optim.RMSProp,
            "params, lr=0.01, rho=0.9, eps=1e-08, centered=False, momentum=0.0, eps_mode='outside', "
            "initial_accumulator=0.0",
        ),
        (optim.AdaGrad, "params, lr=0.01, eps=1e-10, eps_mode='outside', initial_accumulator=0.0"),
        (optim.Adam, "params, lr=0.001, betas=(0.9, 0.999), eps=1e-08, amsgrad=False, eps_mode='outside'"),
        (optim.AdamW, "params, lr=0.001, betas=(0.9, 0.999), eps=1e-08, amsgrad=False, eps_mode='outside'"),
        (optim.Rprop, "params, lr=0.01, etas=(0.5, 1.2), step_sizes=(1e-06, 50)"),
    ],
)
def test_signatures(kind, own):
    signature = inspect.signature(kind)
    plain = signature.replace(
        parameters=[p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    )
    common = COMMON.replace("weight_decay=0.0", "weight_decay=0.01") if kind is optim.AdamW else COMMON
    assert str(plain) == f"({own}, {common})"


# ---- golden values, as the peers gave them: one number from 1, gradients 1e-3, 2e-3, -1e-3, lr 0.1, eps 1e-2

GOLDEN = [
    (optim.Adam, "pytorch", {}, 0.972525158594558),
    (optim.Adam, "paddle", {}, 0.972525158594558),
    (optim.Adam, "optax", {}, 0.972525158594558),
    (optim.Adam, "source", {}, 0.972525158594558),
    (optim.Adam, "keras", {}, 0.998684403257463),
    (optim.Adam, "mindspore", {}, 0.998684403257463),
    (optim.Adam, "sklearn", {}, 0.998684403257463),
    (optim.Adam, None, {"eps_mode": "inside"}, 0.996879888477444),
    (optim.RMSProp, "source", {"rho": 0.9}, 0.980929811920582),
    (optim.RMSProp, "pytorch", {"rho": 0.9}, 0.980929811920582),
    (optim.RMSProp, "paddle", {"rho": 0.9}, 0.998000026949259),
    (optim.RMSProp, "keras", {"rho": 0.9}, 0.998000026949259),
    (optim.RMSProp, "optax", {"rho": 0.9}, 0.998000026949259),
    (optim.RMSProp, "mindspore", {"rho": 0.9}, 0.999790634757490),
    (optim.AdaGrad, "source", {}, 0.982596429),
    (optim.AdaGrad, "pytorch", {}, 0.982596429),
    (optim.AdaGrad, "paddle", {}, 0.982596429),
    (optim.AdaGrad, "optax", {}, 0.999396984),
    (optim.AdaGrad, "keras", {}, 0.999396984),
]


@pytest.mark.parametrize(
    ("kind", "like", "options", "want"), GOLDEN, ids=[f"{k.__name__} {like}" for k, like, *_ in GOLDEN]
)
def test_golden_values_of_every_convention(isa, kind, like, options, want):
    p = one()
    got = course(kind([p], lr=0.1, eps=1e-2, like=like, **options), p, (1e-3, 2e-3, -1e-3))[-1]
    assert got == pytest.approx(want, abs=6e-8)


def test_mindspores_adagrad_has_no_epsilon(isa):
    p = one()
    opt = optim.AdaGrad([p], lr=0.1, like="mindspore")
    assert course(opt, p, (1e-3, 2e-3, -1e-3))[-1] == pytest.approx(0.999367535, abs=6e-8)


DEFAULT_EPS = {
    optim.RMSProp: {
        1e-6: ("paddle",),
        1e-7: ("source", "keras"),
        1e-8: (None, "pytorch", "optax"),
        1e-10: ("mindspore",),
    },
    optim.AdaGrad: {
        1e-6: ("paddle",),
        1e-7: ("source", "keras", "optax"),
        1e-10: (None, "pytorch"),
        0.0: ("mindspore",),
    },
    optim.Adam: {
        1e-7: ("source", "keras"),
        1e-8: (None, "pytorch", "paddle", "mindspore", "optax", "sklearn"),
    },
    optim.AdamW: {1e-7: ("keras",), 1e-8: (None, "pytorch", "paddle", "optax")},
}


@pytest.mark.parametrize("kind", DEFAULT_EPS)
def test_default_epsilon_of_every_convention(kind):
    """The golden values above give an epsilon; this is the one without."""
    for eps, peers in DEFAULT_EPS[kind].items():
        for like in peers:
            assert kind([one()], lr=0.1, like=like).param_groups[0]["eps"] == eps, like


@pytest.mark.parametrize(
    ("like", "nesterov", "want"),
    [
        *((like, False, 0.709) for like in ("source", "keras", "sklearn")),
        *((like, False, 0.87829) for like in ("pytorch", "paddle", "mindspore", "optax")),
        *((like, True, 0.6271) for like in ("keras", "sklearn")),
        *((like, True, 0.779461) for like in ("pytorch", "paddle", "optax", "mindspore")),
    ],
)
def test_golden_values_of_momentum(isa, like, nesterov, want):
    p = one()
    opt = optim.Momentum([p], lr=lambda t: 0.1 ** (t + 1), nesterov=nesterov, like=like)
    assert course(opt, p, (1, 1, 1))[-1] == pytest.approx(want, rel=2e-7)


def test_golden_values_of_rprop(isa):
    p = one()
    got = course(optim.Rprop([p], lr=0.01), p, (1, 0.5, -0.2, -0.1, 0.3, 0.3))
    np.testing.assert_allclose(got, [0.99, 0.978, 0.978, 0.984, 0.984, 0.981], rtol=2e-7)


@pytest.mark.slow_on_shim
@pytest.mark.parametrize("style", ["buffer", "velocity"])
@pytest.mark.parametrize(("lr", "grad", "beta"), [(0.01, -2.0, 0.9), (0.001, 0.5, 0.5), (1e-4, 3.0, 0.99)])
def test_terminal_velocity(isa, style, lr, grad, beta):
    """A constant gradient moves p by lr |g| / (1 - beta) a step in the end.

    To 1e-6; at 0.99 a velocity in float32 stands still within half its last bit times 1 / (1 - beta), 6e-6.
    """
    p = one(0.0)
    opt = optim.Momentum([p], lr, momentum=beta, style=style)
    for _ in range(3000):
        p.grad = np.array([grad])
        opt.step()
    speed = abs(opt.state_dict()["state"][0]["velocity"].item()) * (lr if style == "buffer" else 1.0)
    assert speed == pytest.approx(lr * abs(grad) / (1 - beta), rel=1e-6 if beta < 0.99 else 6e-6)


def test_like_sets_what_was_not_given():
    def options(kind, **given):
        return kind([one()], **given).param_groups[0]

    assert options(optim.Momentum, lr=0.1, like="source")["style"] == "velocity"
    assert options(optim.Momentum, lr=0.1, style="buffer", like="source")["style"] == "buffer"
    assert options(optim.Adam, like="source")["eps"] == 1e-7
    adam = optim.Adam([one()], 0.5, (0.9, 0.999), 1e-3, like="keras").param_groups[0]
    assert (adam["lr"], adam["eps"], adam["eps_mode"], adam["decay"]) == (0.5, 1e-3, "hat", "all")
    assert options(optim.AdamW, like="keras")["weight_decay"] == 4e-3
    assert options(optim.AdamW, like="keras", weight_decay=0.01)["weight_decay"] == 0.01
    assert options(optim.RMSProp, like="pytorch")["rho"] == 0.99
    assert options(optim.AdaGrad, like="mindspore")["eps"] == 0.0
    group = optim.Adam([{"params": [one()], "eps": 0.5}], like="keras").param_groups[0]
    assert (group["eps"], group["eps_mode"]) == (0.5, "hat")


def test_rprop_warns_of_mini_batches(rng):
    X, Y = rng.standard_normal((30, 3)), rng.integers(0, 2, 30)
    model = nn.Sequential(nn.Linear(3, 2), seed=0)
    trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Rprop(model.parameters()))
    with pytest.warns(UserWarning, match=r"Rprop .* 3 batches; pass batch_size=len\(X\)"):
        trainer.fit(X, Y, batch_size=10, epochs=1, progress=False)
    first = trainer.evaluate(X, Y)["loss"]
    trainer.fit(X, Y, batch_size=30, epochs=20, progress=False)
    assert trainer.evaluate(X, Y)["loss"] < first
