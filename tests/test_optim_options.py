"""Clipping, gradients that are not finite, groups, schedules, state: as objects."""

import copy
import json
import pickle

import fastnn
import numpy as np
import pytest
from bounds import assert_bits, host
from fastnn import losses, nn, optim, schedulers
from small import course, one, parameter

pytestmark = pytest.mark.usefixtures("place")
ALL = [optim.SGD, optim.Momentum, optim.RMSProp, optim.AdaGrad, optim.Adam, optim.AdamW, optim.Rprop]


def lr_of(kind):
    return {"lr": 0.1} if kind in (optim.SGD, optim.Momentum) else {}


def parameters(rng, *given):
    made = []
    for i, shape in enumerate(given or ((3, 4), (4,))):
        p = parameter(rng.standard_normal(shape), name=f"{i}", decay=len(shape) > 1)
        p.grad = rng.standard_normal(shape)
        made.append(p)
    return made


# ---- clipping in an own loop and in Trainer


def test_a_float_is_a_global_norm(isa, rng):
    found = []
    for clip in (0.5, np.float32(0.5), optim.ClipByGlobalNorm(0.5)):
        ps = parameters(np.random.default_rng(0))
        optim.SGD(ps[:1] + ps[1:], 1.0, clip=clip).step()
        found.append(ps)
    for a, *others in zip(*found, strict=True):
        assert all(host(a.data).tobytes() == host(b.data).tobytes() for b in others)


def test_the_global_norm_is_taken_over_all_groups_and_only_what_is_trained(isa, rng):
    ps = [one(0.0) for _ in range(3)]
    for p, g in zip(ps, (3.0, 4.0, 100.0), strict=True):
        p.grad = np.array([g])
    ps[2].trainable = False
    optim.SGD([{"params": ps[:1]}, {"params": ps[1:]}], 1.0, clip=1.0).step()
    np.testing.assert_allclose([host(p.data).item() for p in ps], [-0.6, -0.8, 0.0], rtol=2e-7)


def test_gradients_within_the_limit_keep_their_bits(isa, rng):
    for clip in (1e3, optim.ClipByNorm(1e3), optim.ClipByValue(1e3), optim.AdaptiveClip(1e4)):
        ps, others = parameters(np.random.default_rng(0)), parameters(np.random.default_rng(0))
        optim.Adam(ps, clip=clip).step()
        optim.Adam(others).step()
        for a, b in zip(ps, others, strict=True):
            assert_bits(a.data, b.data)


def test_the_factor_is_exact(isa):
    """PyTorch's max / (norm + 1e-6) would leave 0.9999998 of a norm of 5."""
    p = parameter(np.zeros(2))
    p.grad = np.array([3.0, 4.0])
    optim.SGD([p], 1.0, clip=1.0).step()
    assert np.linalg.norm(host(p.data).astype(float)) == pytest.approx(1.0, abs=5e-8)
    p.grad, before = np.zeros(2), p.data.copy()
    optim.SGD([p], 1.0, clip=1.0).step()
    assert_bits(p.data, before)


# ---- gradients that are not finite


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ALL)
def test_a_non_finite_gradient_is_found_before_anything_changes(isa, rng, kind, value):
    ps = parameters(rng, (3, 4), (300, 70), (5,))
    opt = kind([{"params": ps[:1]}, {"params": ps[1:]}], **lr_of(kind))
    opt.step()
    kept = copy.deepcopy((opt.state_dict(), [p.data for p in ps]))
    ps[1].grad[299, 3] = value
    ps[2].grad[0] = value
    with pytest.raises(optim.NonFiniteGradientError) as error:
        opt.step()
    assert (error.value.parameter, error.value.index) == ("1", (299, 3))
    assert f"{kind.__name__}: the gradient of '1' is {value} at (299, 3) after 1 updates" in str(error.value)
    assert isinstance(error.value, ValueError)
    assert pickle.loads(pickle.dumps(error.value)).index == (299, 3)
    assert opt.skipped_steps == 1
    for p, data in zip(ps, kept[1], strict=True):
        assert_bits(p.data, data)
    after = opt.state_dict()
    assert after["step_count"] == 1
    for i, slots in after["state"].items():
        for slot, array in slots.items():
            assert_bits(array, kept[0]["state"][i][slot])


@pytest.mark.parametrize("at", [0, 15, 16, 4095, 4096, 16383, 16384, 33_000])
@pytest.mark.parametrize("clip", [None, 1.0, optim.ClipByValue(1.0), optim.AdaptiveClip()])
def test_found_wherever_it_stands(isa, threads, at, clip):
    p = parameter(np.zeros(33_001))
    p.grad[at] = np.nan
    with pytest.raises(optim.NonFiniteGradientError) as error:
        optim.SGD([p], 0.1, clip=clip).step()
    assert error.value.index == (at,)
    assert not host(p.data).any()


def test_huge_finite_gradients_are_no_error(isa):
    p = parameter(np.zeros(5000))
    p.grad = np.full(5000, 3e38)
    optim.SGD([p], 2e-38).step()
    np.testing.assert_allclose(host(p.data), -6.0, rtol=1e-6)


def test_skip_leaves_all_as_it_was_and_counts(isa, rng):
    ps, others = parameters(np.random.default_rng(0)), parameters(np.random.default_rng(0))
    opt, other = optim.Adam(ps, nonfinite="skip"), optim.Adam(others)
    for step in range(4):
        for p, q in zip(ps, others, strict=True):
            p.grad = q.grad = rng.standard_normal(p.data.shape)
        if step == 1:
            ps[1].grad[2] = np.inf
            opt.step()
        else:
            opt.step()
            other.step()
    assert (opt.step_count, opt.skipped_steps) == (3, 1)
    for p, q in zip(ps, others, strict=True):
        assert_bits(p.data, q.data)


def test_ignore_looks_for_nothing(isa):
    p = parameter(np.ones(3))
    p.grad = np.array([1.0, np.nan, 1.0])
    opt = optim.SGD([p], 0.5, nonfinite="ignore")
    opt.step()
    assert opt.step_count == 1
    np.testing.assert_array_equal(host(p.data), [0.5, np.nan, 0.5])


def test_a_frozen_parameter_is_not_looked_at():
    p, q = one(), one()
    p.grad, p.trainable = np.array([np.nan]), False
    optim.SGD([p, q], 0.1).step()
    assert host(p.data).item() == 1.0


# ---- decay and the penalty


@pytest.mark.parametrize("options", [{"weight_decay": 0.3, "l1": 0.2}, {"l1": 0.5}, {"weight_decay": 2.0}])
@pytest.mark.parametrize("to", ["zero", "init"])
def test_what_decay_adds_is_the_gradient_of_the_penalty(isa, options, to):
    weight, bias = parameter(np.array([3.0, -4.0, 0.0])), parameter(np.ones(2), decay=False)
    opt = optim.SGD([weight, bias], 1.0, decay_to=to, **options)
    start = np.array([3.0, -4.0, 0.0]) * (to == "init")
    point = np.array([2.0, 1.5, 0.25])
    weight.data = point
    gap = point - start
    want = 0.5 * options.get("weight_decay", 0) * gap @ gap + options.get("l1", 0) * np.abs(gap).sum()
    assert opt.penalty() == pytest.approx(want, rel=1e-12)
    slopes = []
    for i in range(3):
        values = []
        for h in (2**-10, -(2**-10)):
            weight.data = point + h * (np.arange(3) == i)
            values.append(opt.penalty())
        slopes.append((values[0] - values[1]) / 2**-9)
    weight.data = point
    opt.step()
    np.testing.assert_allclose(point - host(weight.data), slopes, rtol=1e-5, atol=1e-6)
    assert host(bias.data).tolist() == [1, 1]


def test_l1_leaves_zero_alone():
    p = parameter(np.array([0.0, -0.0, 1.0]))
    optim.SGD([p], 0.5, l1=0.25).step()
    assert host(p.data).tolist() == [0.0, 0.0, 0.875]


def test_adamw_decays_the_parameter_towards_its_start(isa):
    p = parameter(np.array([2.0, -1.0]))
    opt = optim.AdamW([p], lr=0.1, weight_decay=0.5, l1=0.1, decay_to="init")
    p.data = np.array([3.0, -1.0])
    opt.step()
    np.testing.assert_allclose(host(p.data), [3.0 - 0.1 * (0.5 + 0.1), -1.0], rtol=1e-6)
    assert not opt.state_dict()["state"][0]["m"].any()


def test_decay_without_a_term_touches_nothing(isa):
    """0 times an infinite parameter is no number: without decay it takes no part."""
    p = parameter(np.array([np.inf, 1.0]))
    optim.SGD([p], 0.5, l1=0.25).step()
    assert host(p.data)[0] == np.inf
    optim.SGD([p], 0.5, weight_decay=0.0, clip=1.0).step()
    assert host(p.data)[0] == np.inf


def test_the_history_holds_the_penalty_beside_the_loss(rng):
    X, Y = rng.standard_normal((40, 3)), rng.integers(0, 2, 40)

    def fit(**options):
        model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2), seed=0)
        trainer = fastnn.Trainer(
            model, losses.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1, **options)
        )
        return trainer, trainer.fit(X, Y, batch_size=10, epochs=2, progress=False)

    trainer, history = fit(weight_decay=0.1)
    weights = [host(p.data).astype(float) for p in trainer.model.parameters() if p.decay]
    squares = sum(float((weight**2).sum()) for weight in weights)
    assert len(history["penalty"]) == 2
    assert history["penalty"][-1] == pytest.approx(0.05 * squares, rel=1e-12)
    value = trainer.evaluate(X, Y)["loss"]
    assert trainer.step(X, Y) == pytest.approx(value, rel=1e-6)  # of the data alone
    assert "penalty" not in fit()[1]


def test_everything_works_in_trainer_as_in_an_own_loop(rng):
    X, Y = rng.standard_normal((30, 3)).astype(np.float32), rng.integers(0, 2, 30)
    options = {"clip": 0.1, "grad_noise": (0.01, 0.55), "l1": 0.01, "decay_to": "init", "nonfinite": "skip"}
    for kind in ALL[:-1]:
        made = []
        for _ in range(2):
            model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2), seed=0)
            made.append((model, kind(model.parameters(), **lr_of(kind), **options)))
        loss = losses.CrossEntropyLoss()
        fastnn.Trainer(made[0][0], loss, made[0][1]).fit(X, Y, batch_size=10, epochs=2, progress=False)
        model, opt = made[1]
        for epoch in range(2):
            for x, y in fastnn.data.batches(X, Y, 10, epoch=epoch):
                model.backward(loss(model(x), y)[1])
                opt.step()
        for a, b in zip(made[0][0].parameters(), model.parameters(), strict=True):
            assert_bits(a.data, b.data, kind.__name__)


# ---- schedules of momentum


def test_momentum_may_be_a_schedule(isa):
    p = one(0.0)
    opt = optim.Momentum([p], 1.0, momentum=lambda t: (0.5, 0.0, 0.25)[t])
    np.testing.assert_allclose(course(opt, p, (1, 1, 1)), [-1.0, -2.0, -3.25])
    p = one(0.0)
    opt = optim.RMSProp([p], 1.0, rho=0, eps=0, momentum=lambda t: 0.5 * (t > 1))
    np.testing.assert_allclose(course(opt, p, (1, 1, 1)), [-1.0, -2.0, -3.5])


def test_the_first_beta_may_be_a_schedule(isa):
    p, q = one(), one()
    opt = optim.Adam([p], 0.1, betas=(lambda t: (0.9, 0.5)[t], 0.99))
    fixed = optim.Adam([q], 0.1, betas=(0.9, 0.99))
    course(opt, p, (1.0,))
    course(fixed, q, (1.0,))
    assert_bits(p.data, q.data)
    fixed.param_groups[0]["betas"] = (0.5, 0.99)
    course(opt, p, (0.3,))
    course(fixed, q, (0.3,))
    assert_bits(p.data, q.data)


@pytest.mark.parametrize("pair", [tuple, list])
def test_a_fit_asks_for_the_first_beta_at_every_step(rng, pair):
    X, Y = rng.standard_normal((24, 3)).astype(np.float32), rng.integers(0, 2, 24)

    def made(schedule):
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), seed=0)
        return model, optim.Adam(model.parameters(), 0.1, betas=pair((schedule, 0.999)))

    loss, (other, own) = losses.CrossEntropyLoss(), made(lambda t: 0.9 * 0.1 ** (t // 3))
    model, opt = made(schedulers.PerEpoch(schedulers.StepDecay(0.9, 1, gamma=0.1)))
    fastnn.Trainer(model, loss, opt).fit(X, Y, batch_size=8, epochs=2, progress=False)
    for epoch in range(2):
        for x, y in fastnn.data.batches(X, Y, 8, epoch=epoch):
            other.backward(loss(other(x), y)[1])
            own.step()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert_bits(a.data, b.data)


def test_fit_fills_the_steps_per_epoch_of_a_momentum_schedule(rng):
    model = nn.Linear(3, 2, rng=0)
    per_epoch = schedulers.PerEpoch(schedulers.StepDecay(0.9, 1, gamma=0.5))
    opt = optim.Momentum(model.parameters(), per_epoch, momentum=per_epoch)
    X, Y = rng.standard_normal((8, 3)), rng.integers(0, 2, 8)
    fastnn.Trainer(model, losses.CrossEntropyLoss(), opt).fit(X, Y, batch_size=4, epochs=2, progress=False)
    assert opt.param_groups[0]["momentum"](3) == 0.45


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.Momentum(p, 0.1, momentum=lambda t: 1.0),
        lambda p: optim.RMSProp(p, momentum=lambda t: 1.0),
        lambda p: optim.Adam(p, betas=(lambda t: 1.0, 0.9)),
    ],
)
def test_a_bad_momentum_from_a_schedule_changes_nothing(make):
    p, q = one(), one()
    opt = make([{"params": [p]}, {"params": [q]}])
    with pytest.raises(ValueError, match=r"(momentum|betas\[0\]) after 0 updates must be in \[0, 1\)"):
        opt.step()
    assert (host(p.data).item(), host(q.data).item(), opt.step_count) == (1.0, 1.0, 0)


@pytest.mark.parametrize(
    ("option", "value"), [("eps", -1.0), ("betas", (0.9, 2.0)), ("lr", -1), ("l1", "a"), ("decay", "some")]
)
def test_a_bad_option_put_into_a_group_is_found_by_the_next_step(option, value):
    p = one()
    opt = optim.Adam([p])
    opt.step()
    opt.param_groups[0][option] = value
    with pytest.raises((TypeError, ValueError), match=f"Adam: {option}"):
        opt.step()
    assert (host(p.data).item(), opt.step_count) == (1.0, 1)


# ---- state

FULL = {"weight_decay": 0.1, "l1": 0.01, "decay_to": "init", "grad_noise": (0.1, 0.55, 3), "clip": 0.5}
STATES = [
    (optim.SGD, {}),
    (optim.Momentum, {"dampening": 0.5}),
    (optim.RMSProp, {"centered": True, "momentum": 0.5, "initial_accumulator": 0.1}),
    (optim.AdaGrad, {"initial_accumulator": 0.1, "eps_mode": "inside"}),
    (optim.Adam, {"amsgrad": True, "betas": (lambda t: 0.8, 0.99)}),
    (optim.AdamW, {"eps_mode": "hat"}),
    (optim.Rprop, {}),
]


@pytest.mark.parametrize(("kind", "options"), STATES, ids=[kind.__name__ for kind, _ in STATES])
def test_a_resumed_run_goes_on_bit_for_bit(kind, options):
    """Initial weights, noise and every slot come over, through JSON for all but the arrays."""

    def made():
        ps = parameters(np.random.default_rng(0))
        return ps, kind(
            [{"params": ps[:1], "l1": 0.02}, {"params": ps[1:]}], **lr_of(kind), **options, **FULL
        )

    def run(ps, opt, steps, seed):
        rng = np.random.default_rng(seed)
        for _ in range(steps):
            for p in ps:
                p.grad = rng.standard_normal(p.data.shape)
            opt.step()

    (ps, opt), (others, other) = made(), made()
    run(ps, opt, 5, 1)
    state = opt.state_dict()
    numbers = json.loads(json.dumps({key: state[key] for key in state if key != "state"}))
    run(others, other, 2, 2)
    for p, q in zip(ps, others, strict=True):
        q.data = p.data
    other.load_state_dict({**numbers, "state": state["state"]})
    run(ps, opt, 5, 3)
    run(others, other, 5, 3)
    for p, q in zip(ps, others, strict=True):
        assert_bits(p.data, q.data)


def test_an_option_that_needs_an_array_may_be_turned_on_later(isa):
    p = one()
    opt = optim.Adam([p])
    course(opt, p, (1.0,))
    opt.param_groups[0] |= {"amsgrad": True, "decay_to": "init", "weight_decay": 0.1}
    start = host(p.data).item()
    course(opt, p, (1.0,))
    assert opt.state_dict()["state"][0].keys() == {"m", "v", "v_max", "initial"}
    assert opt.state_dict()["state"][0]["initial"].item() == start


def test_load_tells_schedules_from_numbers():
    ps = [one()]
    opt = optim.Momentum(ps, 0.1, momentum=lambda t: 0.5)
    with pytest.raises(ValueError, match="momentum of group 0 is a number, must be a schedule"):
        opt.load_state_dict(optim.Momentum(ps, 0.1).state_dict())
    adam = optim.Adam(ps, betas=(lambda t: 0.5, 0.9))
    with pytest.raises(ValueError, match="betas of group 0 is a number and a number, must be a schedule and"):
        adam.load_state_dict(optim.Adam(ps).state_dict())
    with pytest.raises(ValueError, match=r"'' has slots \['m', 'v'\], must be \['m', 'v', 'v_max'\]"):
        optim.Adam(ps, amsgrad=True).load_state_dict(optim.Adam(ps).state_dict())
