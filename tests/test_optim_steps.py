"""Steps of every optimizer with its options against float64, on every ISA; bits, edges, guard pages."""

from statistics import NormalDist

import fastnn
import guard
import numpy as np
import pytest
import reference as ref
import reference_updates as rules
import shapes
from bounds import assert_bits, host
from device_places import few
from fastnn import losses, nn, optim, schedulers
from small import one

quantiles = np.vectorize(NormalDist().inv_cdf, otypes=[np.float64])  # of the normal distribution

# name -> (class, arguments of the rule, name of the reference, starts of its slots)
CASES = {
    "sgd": (optim.SGD, {"lr": 0.1}, "sgd", ()),
    "momentum": (optim.Momentum, {"lr": 0.05, "momentum": 0.8, "dampening": 0.3}, "momentum", (0.0,)),
    "nesterov": (optim.Momentum, {"lr": 0.05, "nesterov": True}, "momentum", (0.0,)),
    "velocity": (
        optim.Momentum,
        {"lr": 0.05, "style": "velocity", "dampening": 0.3},
        "momentum",
        (0.0,),
    ),
    "velocity nesterov": (
        optim.Momentum,
        {"lr": 0.05, "style": "velocity", "nesterov": True},
        "momentum",
        (0.0,),
    ),
    "rmsprop": (optim.RMSProp, {"eps": 1e-4}, "rmsprop", (0.0,)),
    "rmsprop inside": (optim.RMSProp, {"eps": 1e-4, "eps_mode": "inside"}, "rmsprop", (0.0,)),
    "rmsprop centered": (optim.RMSProp, {"eps": 1e-2, "centered": True}, "rmsprop", (0.0, 0.0)),
    "rmsprop momentum": (optim.RMSProp, {"eps": 1e-4, "momentum": 0.7}, "rmsprop", (0.0, 0.0)),
    "rmsprop both": (
        optim.RMSProp,
        {"eps": 1e-2, "centered": True, "momentum": 0.7, "eps_mode": "inside"},
        "rmsprop",
        (0.0, 0.0, 0.0),
    ),
    "adagrad": (optim.AdaGrad, {"eps": 1e-4}, "adagrad", (0.0,)),
    "adagrad inside": (optim.AdaGrad, {"eps": 1e-4, "eps_mode": "inside"}, "adagrad", (0.0,)),
    "adam": (optim.Adam, {"eps": 1e-4}, "adam", (0.0, 0.0)),
    "adam inside": (optim.Adam, {"eps": 1e-4, "eps_mode": "inside"}, "adam", (0.0, 0.0)),
    "adam hat": (optim.Adam, {"eps": 1e-4, "eps_mode": "hat"}, "adam", (0.0, 0.0)),
    "adam amsgrad": (optim.Adam, {"eps": 1e-4, "amsgrad": True}, "adam", (0.0, 0.0, 0.0)),
    "rprop": (optim.Rprop, {"lr": 0.01}, "rprop", (0.0, 0.01)),
}
CLIPS = {
    "none": None,
    "value": optim.ClipByValue(0.7),
    "norm": optim.ClipByNorm(2.0),
    "global_norm": optim.ClipByGlobalNorm(3.0),
    "adaptive": optim.AdaptiveClip(0.1, 0.05),
}
LENGTHS = [2049, 16385, 1, 17, *sorted({*shapes.LENGTHS, 2047, 2048, 16383, 40_001} - {1, 17})]
SHAPES = [(3, 40), (40,), (70, 33), (), (0, 4), (5, 1), (1, 6), (17,)]


def made(rng, given=SHAPES):
    return [nn.Parameter(rng.standard_normal(shape), name=f"p{i}") for i, shape in enumerate(given)]


def follow(place, name, steps, rng, given=SHAPES, **options):
    """Run an optimizer beside its float64 formulas; every parameter must stay within a relative 1e-5."""
    make, numbers, rule, starts = CASES[name]
    ps = place.moved(made(rng, given))
    opt = make(ps, **numbers, **options, decay="all")
    exact = [ref.f64(host(p.data)).copy() for p in ps]
    first = [p.copy() for p in exact]
    slots = [tuple(np.full(p.shape, start) for start in starts) for p in exact]
    clip, noise = options.get("clip"), options.get("grad_noise")
    for step in range(1, steps + 1):
        for p in ps:
            p.grad = rng.standard_normal(p.data.shape)
        grads = [host(p.grad).copy() for p in ps]
        opt.step()
        kind = "none" if clip is None else clip.kind
        grads = rules.clipped(kind, grads, exact, getattr(clip, "limit", 0), getattr(clip, "floor", 0))
        for i, (param, grad) in enumerate(zip(exact, grads, strict=True)):
            if noise:
                deviation = np.sqrt(noise[0] / step ** noise[1])
                uniforms = rules.noise_uniforms(grad.size, noise[2], step - 1, i)
                grad = grad + deviation * quantiles(uniforms).reshape(grad.shape)
            target = first[i] if options.get("decay_to") == "init" else None
            grad = rules.decayed(grad, param, target, options.get("weight_decay", 0), options.get("l1", 0))
            exact[i], slots[i] = getattr(rules, rule)(param, grad, slots[i], step, **numbers)
    for p, want in zip(ps, exact, strict=True):
        np.testing.assert_allclose(host(p.data), want, rtol=1e-5, atol=5e-6, err_msg=f"{name} {p.name}")
    return ps


@pytest.mark.parametrize("name", CASES)
def test_every_rule(isa, place, rng, name):
    follow(place, name, 12, rng)


# rprop sees signs alone: a gradient beside 0 may round to the other side
@pytest.mark.parametrize("name", sorted(CASES.keys() - {"rprop"}))
def test_every_rule_with_everything(isa, place, rng, name):
    follow(
        place,
        name,
        5,
        rng,
        weight_decay=0.1,
        l1=0.02,
        decay_to="init",
        clip=CLIPS["global_norm"],
        grad_noise=(0.3, 0.55, 7),
    )


@pytest.mark.parametrize("name", CASES)
def test_gradients_whose_squares_overflow_leave_no_nan(isa, place, name):
    """Finite ones: a rule that divides by the root of an infinite sum stands still."""
    make, numbers, *_ = CASES[name]
    (p,) = place.moved([nn.Parameter(np.ones(20))])
    opt = make([p], **numbers)
    for value in (1e25, -1e30, 1.0):
        p.grad = np.full(20, value)
        opt.step()
    assert np.isfinite(host(p.data)).all()


@pytest.mark.parametrize("clip", CLIPS)
def test_clips(isa, place, rng, clip):
    follow(place, "sgd", 3, rng, clip=CLIPS[clip])


@pytest.mark.parametrize("options", [{"weight_decay": 0.3}, {"l1": 0.2}, {"weight_decay": 0.3, "l1": 0.2}])
@pytest.mark.parametrize("to", ["zero", "init"])
def test_decay(isa, place, rng, options, to):
    follow(place, "momentum", 4, rng, **options, decay_to=to)


@pytest.mark.parametrize(
    "n", few([2049, 16385, 1, 17, *sorted({*shapes.LENGTHS, 2047, 2048, 16383, 40_001} - {1, 17})], 4)
)
def test_lengths(isa, place, rng, n):
    for clip in ("global_norm", "value"):
        follow(
            place, "adam", 1, rng, [(n,), (3,)], weight_decay=0.1, clip=CLIPS[clip], grad_noise=(0.1, 0.5, 1)
        )


@pytest.mark.parametrize(
    "shape", [(2, 16), (3, 17), (200, 65), (64, 5), (5, 4, 3), (300, 128), (2, 1)], ids=str
)
def test_adaptive_units(isa, place, rng, shape):
    follow(place, "sgd", 2, rng, [shape, (7,)], clip=CLIPS["adaptive"])


def everything(rng):
    """Parameters after steps with every option, for hashes."""
    done = []
    for name, (make, numbers, _, _) in CASES.items():
        for clip in CLIPS.values():
            ps = made(rng, [(150, 70), (70,), (40_001,)])
            opt = make(ps, **numbers, clip=clip, weight_decay=0.1, l1=0.01, decay_to="init")
            opt.param_groups[0]["grad_noise"] = (0.1, 0.5)
            for _ in range(2):
                for p in ps:
                    p.grad = rng.standard_normal(p.data.shape)
                opt.step()
            done += [p.data for p in ps]
            assert all(np.isfinite(p.data).all() for p in ps), name
    return done


def test_the_same_bits_for_every_number_of_threads_and_isa(restore_runtime, isas):
    found = []
    for isa in isas:
        fastnn.set_isa(isa)
        for threads in (1, 2, 3, 8):
            fastnn.set_num_threads(threads)
            found.append(everything(np.random.default_rng(3)))
    for other in found[1:]:
        for got, want in zip(other, found[0], strict=True):
            assert_bits(got, want)


def test_alignment_does_not_change_the_norm(isa, rng):
    """Gradients lie anywhere in memory (here behind parameters of odd lengths); the sums have one order."""
    grad = rng.standard_normal(20_000).astype(np.float32)
    found = []
    for offset in range(5):
        raw = np.zeros(20_020, np.float32)
        p = nn.Parameter(np.zeros(20_000))
        view = raw[offset : offset + 20_000]
        view[...] = grad
        p._grad = view
        optim.SGD([p], 1.0, clip=1.0).step()
        found.append(p.data)
    for other in found[1:]:
        assert_bits(other, found[0])


def test_norms_beyond_float32_and_below(isa, place):
    """Squares of 1e30 overflow, of 1e-30 vanish; the clipped step has the right length all the same."""
    for size in (1e30, 1e37, 1e19):
        p, q = place.moved([nn.Parameter(np.zeros(3)), nn.Parameter(np.zeros((2, 2)))])
        p.grad, q.grad = np.full(3, size), np.full((2, 2), -size)
        for clip in (1.0, optim.ClipByNorm(1.0), optim.AdaptiveClip(1.0, 1.0)):
            p.data, q.data = np.zeros(3), np.zeros((2, 2))
            optim.SGD([p, q], 1.0, clip=clip).step()
            want = {float: 7.0, optim.ClipByNorm: 3.0, optim.AdaptiveClip: 3.0}[type(clip)] ** -0.5
            np.testing.assert_allclose(host(p.data), -want, rtol=1e-5)
    p.grad, q.grad = np.full(3, 1e-30), np.zeros((2, 2))
    p.data = np.zeros(3)
    optim.SGD([p, q], 1.0, clip=1.0).step()
    np.testing.assert_allclose(host(p.data), -1e-30, rtol=1e-6)


def guard_cases(isa):
    fastnn.set_isa(isa)
    for name, (make, numbers, _, _) in CASES.items():
        for n in (1, 15, 17, 2049):
            for clip in CLIPS.values():
                rng = np.random.default_rng(n)
                results = []
                for ends in (None, 0, 1):
                    rng = np.random.default_rng(n)
                    ps = made(rng, [(n,), (2, n)])
                    opt = make(ps, **numbers, clip=clip, weight_decay=0.1, decay_to="init", grad_noise=(1, 1))
                    if ends is not None:
                        for p, slots in zip(ps, opt._state, strict=True):
                            p._data = list(guard.both_ends(p._data))[ends][1]
                            p._grad = list(guard.both_ends(p._grad))[ends][1]
                            for slot in slots:
                                slots[slot] = list(guard.both_ends(slots[slot]))[ends][1]
                    opt._cache.clear()
                    opt._update = None
                    for p in ps:
                        p._grad[...] = rng.standard_normal(p.data.shape)
                    opt.step()
                    results.append([p.data for p in ps])
                for other in results[1:]:
                    for got, want in zip(other, results[0], strict=True):
                        assert_bits(got, want, name)


def test_guard_pages(isa):
    guard.run_isolated("test_optim_steps", "guard_cases", isa)


# ---- noise


def test_noise_is_normal(isa):
    """Mean, deviation, kurtosis and neighbours of 2^18 numbers, each within four standard errors."""
    n = 2**18
    p = nn.Parameter(np.zeros(n))
    opt = optim.SGD([p], 1.0, grad_noise=(1.0, 0.0))
    opt.step()
    x = -p.data.astype(np.float64)
    assert abs(x.mean()) < 4 / np.sqrt(n)
    assert abs(x.var() - 1) < 4 * np.sqrt(2 / n)
    assert abs((x**4).mean() - 3) < 4 * np.sqrt(96 / n)
    for distance in (1, 2, 16, 1000, 16384):
        assert abs((x[distance:] * x[:-distance]).mean()) < 4 / np.sqrt(n - distance)
    p.data = np.zeros(n)
    opt.step()
    assert abs((x * p.data).mean()) < 4 / np.sqrt(n)  # the next step's


def test_noise_is_the_quantile_of_its_bits(isa, place):
    (p,) = place.moved([nn.Parameter(np.zeros(2**17))])
    optim.SGD([p], 1.0, grad_noise=(1.0, 0.0, 3)).step()
    want = quantiles(rules.noise_uniforms(2**17, 3, 0, 0))
    np.testing.assert_allclose(-host(p.data), want, rtol=2e-5, atol=1e-6)


def test_noise_depends_on_parameter_step_and_seed_only(rng):
    def draw(which, step, seed):
        ps = [nn.Parameter(np.zeros(5)) for _ in range(3)]
        opt = optim.SGD(ps, 1.0, grad_noise=(1.0, 0.0, seed))
        opt.step_count = step
        for i, p in enumerate(ps):
            p.trainable = i == which
        opt.step()
        return tuple(ps[which].data.tolist())

    found = {draw(which, step, seed) for which in (0, 2) for step in (0, 1) for seed in (0, 1)}
    assert len(found) == 8
    assert draw(2, 1, 1) == draw(2, 1, 1)


# ---- groups that somebody writes into

WRITES = {
    "a group": lambda groups, new: groups.append({"params": [new]}),
    "a whole group": lambda groups, new: groups.append({**groups[0], "params": [new]}),
    "a group of nothing": lambda groups, new: groups.append({}),
    "a parameter": lambda groups, new: groups[0]["params"].append(new),
    "another parameter": lambda groups, new: groups[0]["params"].__setitem__(0, new),
    "no group": lambda groups, new: groups.clear(),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("trained", ["by itself", "by step", "by fit"])
def test_other_parameters_in_a_group_are_refused_by_the_next_step(write, trained):
    model = nn.Linear(3, 2, rng=0)
    opt = optim.Adam(model.parameters())
    run = fastnn.Trainer(model, losses.CrossEntropyLoss(), opt)
    X, Y = np.ones((4, 3), np.float32), np.zeros(4, int)
    step = {
        "by itself": opt.step,
        "by step": lambda: run.step(X, Y),
        "by fit": lambda: run.fit(X, Y, batch_size=4, epochs=1),
    }[trained]
    step()
    step()
    WRITES[write](opt.param_groups, nn.Parameter(np.ones(2)))
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"^Adam: param_groups cannot get or lose groups or parameters; "
        ):
            step()
    assert opt.step_count == 2


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda ps, given: optim.SGD(ps, given), "SGD: lr"),
        (lambda ps, given: optim.Adam([{"params": ps, "lr": given}]), "Adam: lr"),
        (lambda ps, given: setattr(optim.Adam(ps), "lr", given), "Adam: lr"),
        (lambda ps, given: optim.Momentum(ps, 0.1, momentum=given), "Momentum: momentum"),
        (lambda ps, given: optim.Adam(ps, betas=(given, 0.9)), r"Adam: betas\[0\]"),
    ],
)
def test_a_schedule_s_class_is_no_schedule(make, what):
    said = rf"^{what} must be a number or a schedule, got the class StepDecay; pass StepDecay\(\.\.\.\)$"
    with pytest.raises(TypeError, match=said):
        make([one()], schedulers.StepDecay)
