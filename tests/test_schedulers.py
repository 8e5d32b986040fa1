"""Schedules: golden values (outputs of PaddlePaddle and PyTorch), closed form, composition."""

import copy
import doctest
import importlib
import math
import pickle
import pkgutil
import sys
import warnings

import pytest
from fastnn import schedulers
from fastnn.schedulers import (
    CosineAnnealingDecay,
    CosineAnnealingWarmRestarts,
    Cyclic,
    Epochs,
    ExponentialDecay,
    InverseTimeDecay,
    LambdaDecay,
    LinearDecay,
    LinearWarmup,
    MultiStepDecay,
    NaturalExpDecay,
    NoamDecay,
    OneCycle,
    PerEpoch,
    PiecewiseDecay,
    PolynomialDecay,
    ReduceOnPlateau,
    Sequence,
    StepDecay,
    as_schedule,
)


def warmup_with_jump():
    with pytest.warns(UserWarning, match="jumps from 0.1 to 0.05"):
        return LinearWarmup(0.05, 4, start_lr=0.0, end_lr=0.1)


# schedule, its first rates, further (t, rate)
GOLDEN = {
    # Strict: the rate changes at the boundary itself (Keras: one update later).
    "piecewise": (
        lambda: PiecewiseDecay([3, 6], [0.1, 0.2, 0.3]),
        [0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.3, 0.3],
        {10**9: 0.3},
    ),
    "piecewise-source": (
        lambda: PiecewiseDecay((100, 200), (1.0, 0.5, 0.1)),
        [1.0] * 100 + [0.5] * 100 + [0.1],
        {},
    ),
    "piecewise-one": (lambda: PiecewiseDecay([], [0.1]), [0.1, 0.1], {}),
    "piecewise-from-0": (lambda: PiecewiseDecay([0, 1], [0.1, 0.2, 0.3]), [0.2, 0.3, 0.3], {}),
    "exponential": (lambda: ExponentialDecay(0.5, 0.9), [0.5, 0.45, 0.405, 0.3645], {10**6: 0.0}),
    "exponential-1": (lambda: ExponentialDecay(0.5, 1), [0.5, 0.5], {10**9: 0.5}),
    "natural": (
        lambda: NaturalExpDecay(0.5, 0.1),
        [0.5, 0.452419, 0.409365, 0.370409, 0.33516],
        {10**6: 0.0},
    ),
    "inverse": (
        lambda: InverseTimeDecay(0.5, 0.1),
        [0.5, 0.454545, 0.416667, 0.384615, 0.357143],
        {10**6: 0.5 / 100001},
    ),
    # At t = 0 the first cycle (a bare ceil makes 0 / 0); the troughs are met exactly, the peaks get lower.
    "polynomial-cycle": (
        lambda: PolynomialDecay(1.0, 4, end_lr=0.1, cycle=True),
        [1, 0.775, 0.55, 0.325, 0.1, 0.4375, 0.325, 0.2125, 0.1, 0.325, 0.25],
        {4 * 10**6: 0.1},
    ),
    "polynomial-cycle-2": (
        lambda: PolynomialDecay(1.0, 4, 0.1, 2.0, True),
        [1, 0.60625, 0.325, 0.15625, 0.1, 0.2265625, 0.15625, 0.1140625, 0.1, 0.15625, 0.125],
        {},
    ),
    "polynomial": (
        lambda: PolynomialDecay(1.0, 4, end_lr=0.1),
        [1, 0.775, 0.55, 0.325, 0.1, 0.1, 0.1],
        {10**9: 0.1},
    ),
    "polynomial-2": (
        lambda: PolynomialDecay(1.0, 4, 0.1, power=2),
        [1, 0.60625, 0.325, 0.15625, 0.1, 0.1],
        {},
    ),
    "polynomial-defaults": (lambda: PolynomialDecay(1.0, 2), [1, 0.50005, 1e-4, 1e-4], {}),
    "multi-step": (
        lambda: MultiStepDecay(0.5, [30, 50]),
        [0.5] * 30 + [0.05] * 20 + [0.005],
        {10**9: 0.005},
    ),
    "multi-step-gamma": (lambda: MultiStepDecay(1.0, [0, 2], gamma=0.5), [0.5, 0.5, 0.25], {}),
    # Not clamped it would be -0.0188 at 12.
    "linear": (
        lambda: LinearDecay(0.1, 10, 0.001),
        [0.1, 0.0901, 0.0802, 0.0703, 0.0604, 0.0505, 0.0406, 0.0307, 0.0208, 0.0109, 0.001, 0.001],
        {12: 0.001, 10**9: 0.001},
    ),
    "linear-rising": (lambda: LinearDecay(0.0, 2, 0.5), [0, 0.25, 0.5, 0.5], {}),
    "lambda": (lambda: LambdaDecay(0.5, lambda t: 0.95**t), [0.5, 0.475, 0.45125], {}),
    # 0 at t = 0, and the peak of (d * warmup) ** -0.5 where the two terms meet.
    "noam": (
        lambda: NoamDecay(512, 4),
        [0, 0.00552427, 0.0110485, 0.0165728, 0.0220971, 0.0197642],
        {4: (512 * 4) ** -0.5, 400: (512 * 400) ** -0.5},
    ),
    "noam-lr": (lambda: NoamDecay(1, 1, lr=3.0), [0, 3.0, 3 / math.sqrt(2)], {}),
    "restarts": (
        lambda: CosineAnnealingWarmRestarts(1.0, 3, T_mult=2, eta_min=0.1),
        [1, 0.775, 0.325, 1, 0.939711, 0.775, 0.55, 0.325, 0.160289, 1],
        {21: 1.0, 3 * (2**40 - 1): 1.0, 3 * (2**40 - 1) + 3 * 2**39: 0.55},
    ),
    "restarts-equal": (
        lambda: CosineAnnealingWarmRestarts(1.0, 2, eta_min=0.5),
        [1, 0.75, 1, 0.75],
        {10**15: 1.0, 10**15 + 1: 0.75},
    ),
    # cos(k pi / 3) = 1, 1/2, -1/2, -1 on the way down; the last rate stays.
    "one-cycle": (
        lambda: OneCycle(1.0, 6, pct_start=0.5, div=10.0, final_div=100.0),
        [0.1, 0.55, 1.0, 0.75025, 0.25075, 0.001, 0.001],
        {10**9: 0.001},
    ),
    "one-cycle-defaults": (lambda: OneCycle(0.5, 10), [0.02, 0.26, 0.5], {9: 2e-6, 10: 2e-6}),
    "one-cycle-falling": (lambda: OneCycle(1.0, 3, 0.0, 2.0, 1.0), [0.875, 0.625, 0.5], {}),
    "one-cycle-1": (lambda: OneCycle(1.0, 1), [4e-6, 4e-6], {}),
    "cyclic": (
        lambda: Cyclic(0.1, 0.5, 2, 4),
        [0.1, 0.3, 0.5, 0.4, 0.3, 0.2, 0.1, 0.3, 0.5, 0.4],
        {6 * 10**12: 0.1, 6 * 10**12 + 2: 0.5},
    ),
    "cyclic-even": (lambda: Cyclic(0.0, 1.0, 4), [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0], {}),
    # Each counts from its own boundary.
    "sequence": (
        lambda: Sequence([0.3, StepDecay(1.0, 2), ExponentialDecay(0.5, 0.5)], [2, 5]),
        [0.3, 0.3, 1, 1, 0.1, 0.5, 0.25, 0.125],
        {},
    ),
    "sequence-of-one": (lambda: Sequence([StepDecay(1.0, 1)], []), [1, 0.1, 0.01], {}),
    "sequence-of-epochs": (
        lambda: PerEpoch(Sequence([0.3, StepDecay(1.0, 1)], [1]), 2),
        [0.3, 0.3, 1, 1, 0.1, 0.1],
        {},
    ),
    "plateau": (lambda: ReduceOnPlateau(0.3), [0.3, 0.3], {10**9: 0.3}),
    "warmup-plateau": (lambda: LinearWarmup(ReduceOnPlateau(0.4), 4), [0, 0.1, 0.2, 0.3, 0.4, 0.4], {}),
    "step": (lambda: StepDecay(0.5, 30), [0.5] * 30 + [0.05] * 30 + [0.005], {300: 0.5e-10}),
    "step-gamma": (lambda: StepDecay(1.0, 2, gamma=0.5), [1, 1, 0.5, 0.5, 0.25, 0.25], {}),
    "step-constant": (lambda: StepDecay(0.1, 1, gamma=1.0), [0.1, 0.1, 0.1], {}),
    "cosine-reflect": (
        lambda: CosineAnnealingDecay(1.0, 4, eta_min=0.1),
        [1, 0.868198, 0.55, 0.231802, 0.1, 0.231802, 0.55, 0.868198, 1, 0.868198],
        {8_000_000_001: 0.868198},
    ),
    "cosine-hold": (
        lambda: CosineAnnealingDecay(1.0, 4, eta_min=0.1, after="hold"),
        [1, 0.868198, 0.55, 0.231802, 0.1, 0.1, 0.1],
        {8_000_000_001: 0.1},
    ),
    # Recursive implementations resumed at 24 give 0.7639 (Paddle) and 1.0 (PyTorch) here.
    "cosine-resumed": (lambda: CosineAnnealingDecay(1.0, 10), [1.0], {25: 0.5}),
    "cosine-one": (lambda: CosineAnnealingDecay(0.2, 1), [0.2, 0.0, 0.2, 0.0], {}),
    "warmup-jump": (warmup_with_jump, [0, 0.025, 0.05, 0.075, 0.05, 0.05], {}),
    "warmup": (lambda: LinearWarmup(0.1, 4), [0, 0.025, 0.05, 0.075, 0.1, 0.1], {}),
    "warmup-start": (lambda: LinearWarmup(0.1, 2, start_lr=0.02), [0.02, 0.06, 0.1], {}),
    "warmup-falling": (lambda: LinearWarmup(0.1, 2, start_lr=0.3), [0.3, 0.2, 0.1], {}),
    "warmup-none": (lambda: LinearWarmup(StepDecay(1.0, 1), 0), [1, 0.1, 0.01], {}),
    # The inner schedule counts from the end of the warm-up.
    "warmup-cosine": (
        lambda: LinearWarmup(CosineAnnealingDecay(1.0, 4, eta_min=0.1), 2),
        [0, 0.5, 1, 0.868198, 0.55, 0.231802, 0.1],
        {},
    ),
    "warmup-twice": (
        lambda: LinearWarmup(LinearWarmup(1.0, 2, start_lr=0.5), 2),
        [0, 0.25, 0.5, 0.75, 1, 1],
        {},
    ),
    "epoch": (lambda: PerEpoch(StepDecay(0.5, 1), 3), [0.5, 0.5, 0.5, 0.05, 0.05, 0.05, 0.005], {}),
    "epoch-of-warmup": (lambda: PerEpoch(LinearWarmup(1.0, 2), 2), [0, 0, 0.5, 0.5, 1, 1], {}),
    "warmup-of-epoch": (
        lambda: LinearWarmup(PerEpoch(StepDecay(1.0, 1), 2), 2),
        [0, 0.5, 1, 1, 0.1, 0.1],
        {},
    ),
    "number": (lambda: as_schedule(0.1), [0.1, 0.1], {10**9: 0.1}),
    "function": (lambda: as_schedule(lambda t: 0.5 * 0.95**t), [0.5, 0.475, 0.45125], {}),
}


@pytest.fixture(params=GOLDEN)
def golden(request):
    make, first, further = GOLDEN[request.param]
    return make(), {**dict(enumerate(first)), **further}


def test_golden_values(golden):
    schedule, rates = golden
    got = {t: schedule(t) for t in rates}
    assert got == pytest.approx(rates, rel=5e-6, abs=1e-15)
    assert all(type(rate) is float for rate in got.values())


def test_a_schedule_is_a_pure_function(golden):
    """Asked in any order, any number of times, and after a copy: the rate at t has the same bits."""
    schedule, rates = golden
    forward = {t: schedule(t) for t in rates}
    assert {t: schedule(t) for t in reversed(rates)} == forward
    copies = [copy.deepcopy(schedule)]
    if not isinstance(schedule, (schedulers._base._Function, LambdaDecay)):  # a lambda cannot be pickled
        copies.append(pickle.loads(pickle.dumps(schedule)))
    for other in copies:
        assert {t: other(t) for t in rates} == forward
        assert repr(other) == repr(schedule)


def test_a_schedule_comes_back_as_it_is_and_numbers_show_as_numbers():
    schedule = StepDecay(0.1, 5)
    assert as_schedule(schedule) is schedule
    assert repr(as_schedule(0.1)) == "0.1"
    assert repr(LinearWarmup(0.1, 3)) == "LinearWarmup(after=0.1, warmup_steps=3, start_lr=0.0, end_lr=0.1)"
    assert eval(repr(PiecewiseDecay((3,), (1, 2))))(3) == 2.0
    assert eval(repr(ReduceOnPlateau(0.1, patience=3, semantics="optax"))).patience == 3


def test_golden_values_hold_every_schedule():
    made = {type(make()).__name__ for name, (make, *_) in GOLDEN.items() if name != "warmup-jump"}
    assert set(schedulers.__all__) - {"Schedule"} <= made


def test_a_pure_schedule_has_no_state(golden):
    schedule, rates = golden
    before = {t: schedule(t) for t in rates}
    assert (schedule.state_dict() == {}) == (not schedulers.plateaus([schedule]))
    schedule.update(1.0)
    schedule.load_state_dict(schedule.state_dict())
    assert {t: schedule(t) for t in rates} == before


@pytest.mark.parametrize(
    "name", sorted(m.name for m in pkgutil.iter_modules(schedulers.__path__, "fastnn.schedulers."))
)
def test_doctests(name):
    assert doctest.testmod(importlib.import_module(name), raise_on_error=False).failed == 0


def test_doctest_of_the_module():
    result = doctest.testmod(schedulers)
    assert result.attempted
    assert result.failed == 0


def test_warmup_warns_of_a_jump_only():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LinearWarmup(0.1, 4)
        LinearWarmup(0.1, 4, end_lr=0.1)
        LinearWarmup(CosineAnnealingDecay(0.3, 10), 4, end_lr=0.1 + 0.2)
        LinearWarmup(0.1, 0, end_lr=0.5)
    with pytest.warns(UserWarning, match="jumps from 0.2 to 0.1") as record:
        LinearWarmup(CosineAnnealingDecay(0.1, 10), 4, end_lr=0.2)
    assert record[0].filename == __file__  # the user's line, not fastnn's


def test_open_per_epoch_names_the_cure_until_it_is_filled():
    open_ = PerEpoch(StepDecay(1.0, 1))
    for schedule in (open_, LinearWarmup(open_, 2), Sequence([0.5, open_], [2]), Sequence([open_], [])):
        with pytest.raises(ValueError, match=r"data\.steps_per_epoch\(len\(X\), batch_size\)"):
            schedule(2)
        filled = schedule.with_steps_per_epoch(3)
        assert [filled(t) for t in (2, 8)] == pytest.approx([1, 0.01])
        with pytest.raises(ValueError, match="PerEpoch"):  # filling makes a copy
            schedule(2)
        again = filled.with_steps_per_epoch(100)  # what is given stays
        assert [again(t) for t in (2, 8)] == pytest.approx([1, 0.01])


def test_what_follows_a_fit_counts_its_epochs():
    """Epochs of 4, 2, 0 (all skipped) and 3 updates, then of 5; a rollback took two updates back before."""
    epochs = Epochs.of(5, [4, 8, 6, 6, 9], 9)
    open_ = PerEpoch(lambda epoch: epoch)
    told = open_.with_steps_per_epoch(epochs)
    assert [told(t) for t in (0, 3, 4, 5)] == [0, 0, 1, 2]
    assert [told(t) for t in (6, 8, 9, 13, 14)] == [4, 4, 5, 5, 6]
    assert (epochs, epochs.begins(5, 9), epochs.begins(5, 10)) == (5, True, False)
    late = Sequence([7, open_], [11])
    assert [late.with_steps_per_epoch(epochs)(t) for t in (10, 11, 15, 16)] == [7, 0, 0, 1]
    # It follows the next fit too; a number of the user's is the last word.
    assert told.with_steps_per_epoch(Epochs.of(3, [2], 2))(2) == 1
    assert told.with_steps_per_epoch(3)(2) == 0
    assert PerEpoch(lambda epoch: epoch, 3).with_steps_per_epoch(epochs)(9) == 3
    for other in (copy.deepcopy(told), copy.copy(told)):
        assert [other(t) for t in (5, 9)] == [2, 5]
    assert pickle.loads(pickle.dumps(epochs)).done(9) == 5


def test_epochs_of_one_length_are_a_quotient():
    for steps in (1, 3, 7):
        for n in (0, 2):
            epochs = Epochs.of(steps, [steps * (i + 1) for i in range(n)], steps * n)
            for later in (0, 2, 5, 30):
                counted = epochs.after(later)
                assert [counted.done(t) for t in range(50)] == [t // steps for t in range(50)]


def test_filling_repeats_no_warning():
    with pytest.warns(UserWarning, match="jumps"):
        schedule = LinearWarmup(PerEpoch(1.0), 2, end_lr=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert schedule.with_steps_per_epoch(3)(2) == 1.0


def test_filling_leaves_schedules_without_epochs_alone():
    schedule = CosineAnnealingDecay(0.1, 10)
    assert schedule.with_steps_per_epoch(7) is schedule


def test_the_middle_of_a_cosine_is_the_mean():
    for T_max in (2, 10, 630, 10**6):
        assert CosineAnnealingDecay(1e-3, T_max, 1e-5)(T_max // 2) == pytest.approx(
            (1e-3 + 1e-5) / 2, rel=1e-12
        )
        assert CosineAnnealingDecay(1e-3, T_max, 1e-5)(T_max) == 1e-5
        assert math.isclose(CosineAnnealingDecay(1e-3, T_max)(2 * T_max), 1e-3)


def test_plot_draws_the_rates():
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    schedule = LinearWarmup(CosineAnnealingDecay(0.1, 20), 5)
    axes = schedule.plot(25)
    try:
        assert StepDecay(0.1, 10).plot(25, ax=axes) is axes
        assert axes.lines[0].get_ydata().tolist() == [schedule(t) for t in range(25)]
        assert len(axes.lines) == 2
        assert axes.get_xlabel()
        assert axes.get_ylabel()
    finally:
        pyplot.close(axes.figure)


def test_every_schedule_draws_its_rates(golden):
    figure = pytest.importorskip("matplotlib.figure", reason="matplotlib is not installed")
    schedule, _ = golden
    axes = schedule.plot(12, ax=figure.Figure().subplots())
    assert axes.lines[0].get_ydata().tolist() == [schedule(t) for t in range(12)]


def test_plot_without_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"StepDecay\.plot needs matplotlib; install it with pip"):
        StepDecay(0.1, 10).plot(25)
