"""Optimizers as objects: formulas, groups, rates, slots, state (the rules alone: test_updates.py)."""

import copy
import pickle

import numpy as np
import pytest
import reference as ref
from bounds import assert_bits, host
from fastnn import ops, optim, schedulers
from small import parameter

pytestmark = pytest.mark.usefixtures("place")


RULES = {
    "sgd": (lambda p, **k: optim.SGD(p, **{"lr": 0.1, **k}), "sgd_"),
    "momentum": (lambda p, **k: optim.Momentum(p, **{"lr": 0.1, **k}), "momentum_"),
    "velocity": (
        lambda p, **k: optim.Momentum(p, **{"lr": 0.1, "nesterov": True, "style": "velocity", **k}),
        "momentum_",
    ),
    "rmsprop": (optim.RMSProp, "rmsprop_"),
    "adagrad": (optim.AdaGrad, "adagrad_"),
    "adam": (optim.Adam, "adam_"),
    "adam with decay": (lambda p, **k: optim.Adam(p, **{"weight_decay": 0.1, **k}), "adam_"),
    "adamw": (lambda p, **k: optim.AdamW(p, **{"weight_decay": 0.1, **k}), "adam_"),
}


@pytest.fixture(params=RULES)
def make(request):
    return RULES[request.param][0]


def parameters(rng, shapes=((3, 4), (4,), (4, 2))):
    """A weight, a bias, a weight, with gradients."""
    made = []
    for i, shape in enumerate(shapes):
        p = parameter(rng.standard_normal(shape), name=f"{i}", decay=len(shape) > 1)
        p.grad = rng.standard_normal(shape)
        made.append(p)
    return made


def twins(make, seed, **options):
    """Two optimizers on equal parameters."""
    pair = [parameters(np.random.default_rng(seed)) for _ in range(2)]
    return [(ps, make(ps, **options)) for ps in pair]


def assert_same(ones, others):
    for one, other in zip(ones, others, strict=True):
        assert_bits(one.data, other.data, one.name)


def run(ps, opt, steps, seed=5):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        for p in ps:
            p.grad = rng.standard_normal(p.data.shape)
        opt.step()


# ---- formulas


@pytest.mark.parametrize(
    ("make_one", "want"),
    [
        (lambda p: optim.Adam(p, lr=0.1, eps=1e-2), 0.972525158594558),
        (lambda p: optim.RMSProp(p, lr=0.1, rho=0.9, eps=1e-2), 0.980929811920582),
        (lambda p: optim.AdaGrad(p, lr=0.1, eps=1e-2), 0.982596429),
    ],
    ids=["adam", "rmsprop", "adagrad"],
)
def test_golden_values_of_pytorch(make_one, want, isa):
    p = parameter(np.ones(1))
    opt = make_one([p])
    for grad in (1e-3, 2e-3, -1e-3):
        p.grad = np.array([grad])
        opt.step()
    assert host(p.data)[0] == pytest.approx(want, rel=2e-7)


@pytest.mark.parametrize(
    ("style", "nesterov", "want"),
    [
        ("velocity", False, 0.709),
        ("buffer", False, 0.87829),
        ("velocity", True, 0.6271),
        ("buffer", True, 0.779461),
    ],
)
def test_golden_values_of_both_momentum_styles(style, nesterov, want, isa):
    p = parameter(np.ones(1))
    p.grad = np.ones(1)
    opt = optim.Momentum([p], 0.1, nesterov=nesterov, style=style)
    for lr in (0.1, 0.01, 0.001):
        opt.lr = lr
        opt.step()
    assert host(p.data)[0] == pytest.approx(want, rel=2e-7)


def test_adam_follows_the_float64_formula_for_many_steps(isa, rng):
    p = parameter(rng.standard_normal(50))
    opt = optim.Adam([p], lr=0.01, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1)
    exact, m, v = host(p.data).astype(np.float64), np.zeros(50), np.zeros(50)
    for step in range(1, 101):
        grad = rng.standard_normal(50).astype(np.float32)
        p.grad = grad
        opt.step()
        exact, m, v = ref.adam(
            *(exact, grad, m, v), step=step, lr=0.01, beta1=0.8, beta2=0.99, eps=1e-6, weight_decay=0.1
        )
    np.testing.assert_allclose(host(p.data), exact, rtol=1e-5, atol=1e-6)


def test_weight_decay_leaves_out_what_does_not_decay():
    weight, bias = parameter(np.ones(3)), parameter(np.ones(3), decay=False)
    opt = optim.Adam([weight, bias], lr=0.1, weight_decay=0.5)
    opt.step()
    np.testing.assert_allclose(host(weight.data), 0.9, rtol=1e-6)
    assert host(bias.data).tolist() == [1, 1, 1]
    bias.decay = True
    opt.step()
    assert np.all(host(bias.data) < 1)


@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW])
def test_decay_of_all(kind):
    weight, bias = parameter(np.ones(3)), parameter(np.ones(3), decay=False)
    opt = kind([weight, bias], lr=0.1, weight_decay=0.5, decay="all")
    opt.step()
    assert_bits(weight.data, bias.data)
    assert host(weight.data)[0] < 1
    opt.param_groups[0]["decay"] = "weights"
    before = bias.data.copy()
    opt.step()
    assert host(weight.data)[0] < host(bias.data)[0]
    if kind is optim.AdamW:
        assert_bits(bias.data, before)


def test_adamw_decays_the_parameter_and_adam_the_gradient():
    """Source golden values: 2 -> 1.998 decoupled, 1.99 coupled (lr 0.01, decay 0.1, no gradient)."""
    found = {}
    for kind in (optim.Adam, optim.AdamW):
        p = parameter(np.full(1, 2.0))
        kind([p], lr=0.01, weight_decay=0.1).step()
        found[kind] = host(p.data).item()
    assert found[optim.AdamW] == pytest.approx(1.998, rel=1e-6)
    assert found[optim.Adam] == pytest.approx(1.99, rel=1e-6)
    assert optim.AdamW([p]).param_groups[0]["weight_decay"] == 0.01


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_finds_the_lowest_point_of_a_parabola(rule):
    p = parameter(np.array([1.5, -2.0]))
    opt = RULES[rule][0]([p], **({"weight_decay": 0.0} if rule in ("adam with decay", "adamw") else {}))
    opt.lr = schedulers.CosineAnnealingDecay(1.0 if rule == "adagrad" else 0.1, 300)
    for _ in range(300):
        p.grad = np.array([1.0, 3.0]) * host(p.data)
        opt.step()
    assert np.abs(host(p.data)).max() < 1e-2


# ---- one native call a step


def test_a_step_is_one_native_call(make, rng, monkeypatch):
    calls, kernel = [], ops._run_update
    monkeypatch.setattr(ops, "_run_update", lambda *a: calls.append(len(a[1])) or kernel(*a))
    ps, others = parameters(rng), parameters(rng)
    make(ps).step()
    make([{"params": others[:1]}, {"params": others[1:]}], decay="all").step()
    assert len(calls) == 2
    assert calls[1] == 2  # groups


# ---- groups


def test_groups_have_options_of_their_own(rng):
    ps, twin = parameters(rng), None
    twin = copy.deepcopy(ps)
    opt = optim.Adam([{"params": ps[:1], "lr": 0.1, "betas": (0.5, 0.6)}, {"params": ps[1:]}], lr=0.01)
    singles = [optim.Adam(twin[:1], 0.1, betas=(0.5, 0.6)), optim.Adam(twin[1:], 0.01)]
    assert opt.param_groups[0]["lr"] == 0.1
    assert opt.param_groups[1]["betas"] == (0.9, 0.999)
    for _ in range(3):
        opt.step()
        for single in singles:
            single.step()
    assert_same(ps, twin)


def test_an_option_changed_in_a_group_counts_from_the_next_step():
    p = parameter(np.zeros(1))
    p.grad = np.ones(1)
    opt = optim.Momentum([p], 1.0, momentum=0.0)
    opt.step()
    opt.param_groups[0]["momentum"] = 0.5
    opt.step()
    assert host(p.data)[0] == -1 - 1.5


def test_parameters_may_come_from_a_generator(rng):
    assert len(optim.SGD((p for p in parameters(rng)), 0.1).param_groups[0]["params"]) == 3


def test_frozen_parameters_stay_and_thaw(make):
    ps = parameters(np.random.default_rng(0))
    opt = make(ps)
    ps[1].trainable = False
    before = [host(p.data).copy() for p in ps]
    run(ps, opt, 2)
    assert_bits(ps[1].data, before[1])
    assert np.any(host(ps[0].data) != before[0])
    ps[1].trainable = True
    run(ps, opt, 1)
    assert np.any(host(ps[1].data) != before[1])
    for p in ps:
        p.trainable = False
    frozen = [p.data.copy() for p in ps]
    run(ps, opt, 1)
    assert opt.step_count == 4
    for p, data in zip(ps, frozen, strict=True):
        assert_bits(p.data, data)


# ---- rates


def test_a_schedule_is_seen_as_a_function_of_the_updates_done():
    p = parameter(np.zeros(1))
    p.grad = np.ones(1)
    seen = []

    def schedule(t):
        seen.append(t)
        return 10.0**-t

    opt = optim.SGD([p], schedule)
    assert opt.lr == 1.0
    seen.clear()
    values = []
    for _ in range(3):
        opt.step()
        values.append(host(p.data).item())
    assert seen == [0, 1, 2]
    np.testing.assert_allclose(values, [-1, -1.1, -1.11], rtol=1e-6)
    assert opt.step_count == 3
    assert opt.lr == pytest.approx(1e-3)


def test_lr_is_assignable_with_numbers_and_schedules(rng):
    opt = optim.Adam([{"params": parameters(rng)}, {"params": parameters(rng), "lr": 0.5}])
    assert opt.lr == 1e-3
    opt.lr = 0.25
    assert [group["lr"] for group in opt.param_groups] == [0.25, 0.25]
    opt.lr = schedulers.StepDecay(1.0, 2, gamma=0.5)
    for want in (1.0, 1.0, 0.5, 0.5, 0.25):
        assert opt.lr == want
        opt.step()


def test_a_bad_rate_from_a_schedule_changes_nothing(rng):
    ps = parameters(rng)
    opt = optim.SGD([{"params": ps[:1]}, {"params": ps[1:], "lr": lambda t: -1.0}], 0.1)
    before = [p.data.copy() for p in ps]
    with pytest.raises(ValueError, match=r"SGD: lr after 0 updates must be at least 0 and finite, got -1\.0"):
        opt.step()
    for p, data in zip(ps, before, strict=True):
        assert_bits(p.data, data)
    assert opt.step_count == 0


def test_an_open_per_epoch_schedule_says_what_to_pass(rng):
    opt = optim.SGD(parameters(rng), schedulers.PerEpoch(schedulers.StepDecay(0.1, 2)))
    with pytest.raises(ValueError, match="steps_per_epoch"):
        opt.step()


# ---- state


def test_state_goes_over_and_the_run_goes_on_bit_for_bit(make):
    (ones, one), (others, other) = twins(make, 0)
    run(ones, one, 20)
    state = pickle.loads(pickle.dumps(one.state_dict()))
    run(others, other, 3)
    for a, b in zip(ones, others, strict=True):
        b.data = a.data
    other.load_state_dict(state)
    assert other.step_count == 20
    run(ones, one, 20, seed=6)
    run(others, other, 20, seed=6)
    assert_same(ones, others)


def test_a_state_dict_is_a_snapshot(make):
    ((ps, opt), _) = twins(make, 0)
    run(ps, opt, 2)
    state = opt.state_dict()
    kept = copy.deepcopy(state)
    run(ps, opt, 2)
    opt.lr = 0.5
    assert state["step_count"] == 2
    assert state["param_groups"] == kept["param_groups"]
    for i, slots in state["state"].items():
        for name, array in slots.items():
            assert_bits(array, kept["state"][i][name])


def test_load_takes_numbers_over_and_leaves_schedules(rng):
    one, other = optim.Adam(parameters(rng), lr=0.5, eps=1e-3), optim.Adam(parameters(rng), lr=0.1)
    other.load_state_dict(one.state_dict())
    assert (other.lr, other.param_groups[0]["eps"]) == (0.5, 1e-3)
    one.lr = other.lr = schedulers.StepDecay(1.0, 1)
    other.load_state_dict(one.state_dict())
    assert isinstance(other.param_groups[0]["lr"], schedulers.StepDecay)
    assert one.state_dict()["param_groups"][0]["lr"] is None


def test_load_lists_all_mismatches_and_changes_nothing(rng):
    ps = parameters(rng)
    opt = optim.Adam(ps)
    run(ps, opt, 2)
    before = opt.state_dict()
    bad = copy.deepcopy(before)
    bad["step_count"] = 7
    bad["param_groups"][0]["lr"] = None
    bad["state"][0]["m"] = np.zeros((4, 3), np.float32)
    bad["state"][1]["v"] = "nothing"
    del bad["state"][2]["v"]
    bad["state"][3] = {}
    with pytest.raises(ValueError, match=r"Adam\.load_state_dict") as error:
        opt.load_state_dict(bad)
    for text in (
        "lr of group 0 is a schedule, must be a number",
        "slot 'm' of '0' has shape (4, 3), must be (3, 4)",
        "slot 'v' of '1' must be a NumPy array",
        "'2' has slots ['m'], must be ['m', 'v']",
        "unexpected parameters [3]",
    ):
        assert text in str(error.value)
    after = opt.state_dict()
    assert after["step_count"] == 2
    for i in range(3):
        assert_bits(after["state"][i]["m"], before["state"][i]["m"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["param_groups"].append({}), "2 parameter groups, must be 1"),
        (lambda s: s["param_groups"][0].pop("eps"), r"group 0 has options \['amsgrad'"),
        (lambda s: s["param_groups"][0].update(params=[0]), r"has parameters \[0\], must be \[0, 1, 2\]"),
        (lambda s: s["param_groups"][0].update(eps=-1), "group 0: Adam: eps must be at least 0"),
        (lambda s: s["param_groups"][0].update(lr=-1), "group 0: Adam: lr must be at least 0"),
        (lambda s: s.update(step_count=-1), "step_count must be at least 0"),
        (lambda s: s.pop("state"), "missing 'state'"),
    ],
)
def test_load_refuses(change, message, rng):
    opt = optim.Adam(parameters(rng))
    state = opt.state_dict()
    change(state)
    with pytest.raises(ValueError, match=message):
        opt.load_state_dict(state)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_with_their_parameters_go_on_alike(make, duplicate):
    ((ps, opt), _) = twins(make, 0)
    run(ps, opt, 3)
    others, other = duplicate((ps, opt))
    run(ps, opt, 3, seed=6)
    with pytest.raises(AssertionError):
        assert_same(ps, others)
    run(others, other, 3, seed=6)
    assert_same(ps, others)


def test_repr(rng):
    text = repr(optim.Momentum(parameters(rng), 0.1, l1=0.5, clip=1.0))
    assert text == (
        "Momentum(lr=0.1, momentum=0.9, nesterov=False, style='buffer', dampening=0.0, l1=0.5, clip=1.0; "
        "3 parameters, 0 steps)"
    )
