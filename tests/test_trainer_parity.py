"""Networks drawn at random: Trainer.step is the plain loop, fit is step over data.batches, bit for bit."""

import fastnn
import numpy as np
import pytest
from conftest import ISAS
from device_places import few
from draws import Source
from fastnn import losses, nn, optim
from hypothesis import given
from hypothesis import strategies as st
from networks import (
    CLIPS,
    DEVICE_FITS,
    DEVICE_STEPS,
    FLOATS,
    INTEGERS,
    OWN,
    assert_same_course,
    assert_same_loss,
    draw,
    seeded,
)

# Those in front run on a device too.
SEEDS = [*DEVICE_STEPS, *sorted(set(range(160)) - {*DEVICE_STEPS})]
FITS = [*DEVICE_FITS, *sorted(set(range(160)) - {*DEVICE_FITS})]
pytestmark = [
    pytest.mark.usefixtures("restore_runtime"),
    pytest.mark.filterwarnings("ignore:Rprop follows"),
]


def drawn(data):
    """A problem, an instruction set and a number of threads of hypothesis."""
    source = Source(lambda low, high: data.draw(st.integers(low, high)))
    return draw(source), source.choose(*ISAS), source.integer(1, 3)


def of_seed(seed):
    return seeded(seed), ISAS[seed % len(ISAS)], 1 + seed % 3


def on(isa, threads):
    fastnn.set_isa(isa)
    fastnn.set_num_threads(threads)


def check_steps(problem, isa, threads, steps=10):
    """After 1, 3 and 10 steps everything equals the plain loop's, which runs on one thread of the CPU."""
    one, other = problem.trainer(), problem.plain()
    batches = [batch for epoch in range(steps) for batch in problem.batches(epoch)][:steps]
    for count, batch in enumerate(batches, 1):
        on(ISAS[0], 1)
        want = other.step(*batch)
        on(isa, threads)
        got = one.step(*batch)
        assert_same_loss(got, want, count)
        if count in (1, 3, 10):
            assert_same_course(one, other, f"after {count} steps")


def check_fit(problem, isa, threads):
    """Two epochs in one fit are the steps over the batches, and the history holds their means."""
    one, other = problem.trainer(seed=3), problem.trainer(seed=3)
    X, Y, n = problem.X, problem.Y, len(problem.X)
    order = {"shuffle": n % 4 > 0, "drop_last": n % 3 == 0 and n >= problem.batch_size}
    validation = (X, Y) if n % 5 == 0 else None
    on(isa, threads)
    history = one.fit(
        *(X, Y),
        batch_size=problem.batch_size,
        epochs=2,
        sample_weight=problem.weight,
        validation=validation,
        **order,
    )
    for epoch in range(2):
        total, share = 0.0, 0.0
        for x, y, weight in problem.batches(epoch, seed=3, **order):
            part = problem.loss.total_weight(y, None if weight is None else np.float32(weight))
            total += part * other.step(x, y, weight)
            share += part
        assert history["loss"][epoch] == pytest.approx(total / share, rel=1e-12, nan_ok=True)
        if validation:
            assert history["val_loss"][epoch] == other.evaluate(X, Y)["loss"]
    assert_same_course(one, other)


@pytest.mark.parametrize("seed", few(SEEDS, len(DEVICE_STEPS)))
def test_steps_are_the_plain_loop(place, seed):
    check_steps(*of_seed(seed), steps=10 if place.device == "cpu" else 3)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("seed", few(FITS, len(DEVICE_FITS)))
def test_a_fit_is_the_steps(seed):
    check_fit(*of_seed(seed))


@given(data=st.data())
def test_steps_of_any_network(data):
    check_steps(*drawn(data))


@given(data=st.data())
def test_a_fit_of_any_network(data):
    check_fit(*drawn(data))


def test_the_draws_for_a_device_reach_every_layer_loss_and_rule():
    problems = [seeded(seed) for seed in (*DEVICE_STEPS, *DEVICE_FITS)]
    modules = {type(module) for problem in problems for module in problem.model.modules()}
    layers = {getattr(nn, name) for name in nn.__all__} - {nn.Module, nn.Parameter}
    assert {kind for kind in layers if isinstance(kind, type) and issubclass(kind, nn.Module)} <= modules
    assert {type(problem.loss) for problem in problems} == {getattr(losses, name) for name in losses.__all__}
    assert {type(problem.optimizer) for problem in problems} >= set(OWN)
    for seeds in (DEVICE_STEPS, DEVICE_FITS):
        norms = [m for s in seeds for m in seeded(s).model.modules() if isinstance(m, nn.BatchNorm1d)]
        averages = {(norm.debias, norm.unbiased) for norm in norms if 0 < norm.momentum < 1}
        assert averages >= {(False, False), (True, True), (True, False)}


def test_the_draws_reach_every_layer_loss_and_option():
    """The seeds would say little of a layer or an option that none of them draws."""
    problems = [seeded(seed) for seed in SEEDS]
    modules = [module for p in problems for module in p.model.modules()]
    layers = {getattr(nn, name) for name in nn.__all__} - {nn.Module}
    layers = {kind for kind in layers if isinstance(kind, type) and issubclass(kind, nn.Module)}
    assert {type(module) for module in modules} == layers
    assert {type(p.loss) for p in problems} == {getattr(losses, name) for name in losses.__all__}
    seen = {}

    def see(what, value):
        seen.setdefault(what, set()).add(repr(value))

    for p in problems:
        for group in p.optimizer.param_groups:
            for key in group.keys() - {"params"}:
                see((type(p.optimizer).__name__, key), group[key])
    assert len({kind for kind, _ in seen}) == len(OWN)
    for module in modules:
        for key in {nn.BatchNorm1d: ("eps", "momentum", "unbiased", "debias")}.get(type(module), ()):
            see(key, getattr(module, key))
        if isinstance(module, nn.Residual):
            see("zero_gamma", module.zero_gamma)
            see("shortcut", module.shortcut is None)
        if isinstance(module, (nn.LeakyReLU, nn.ELU, nn.GELU)):
            see(type(module).__name__, module)
        if isinstance(module, nn.Linear):
            see("bias", module.bias is None)
    for p in problems:
        see("axes of X", p.X.ndim)
        see("axes of Y", p.Y.ndim)
        see("weights", p.weight is None)
        see("groups", len(p.optimizer.param_groups))
        see("one row is left", len(p.X) % p.batch_size == 1)
        see("frozen", all(parameter.trainable for parameter in p.model.parameters()))
        see("columns", p.Y.shape == (len(p.X), 1))
        for key, value in vars(p.loss).items():
            see(key, value)
    assert not [what for what, values in seen.items() if len(values) < 2]
    assert {repr(p.optimizer.clip) for p in problems} == {repr(c) for c in (*CLIPS, optim.AdaptiveClip(0.05))}
    assert {p.optimizer.nonfinite for p in problems} == {"raise", "skip", "ignore"}
    assert {module.p for module in modules if isinstance(module, nn.Dropout)} >= {0.0, 0.5, 1.0}
    assert {p.Y.dtype for p in problems} == {np.dtype(name) for name in ("bool", *INTEGERS, *FLOATS)}
