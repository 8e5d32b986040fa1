"""Schedules: golden values (outputs of PaddlePaddle and PyTorch), closed form, composition."""

import copy
import math
import pickle
import sys
import warnings

import pytest
from fastnn import schedulers
from fastnn.schedulers import CosineAnnealingDecay, LinearWarmup, PerEpoch, StepDecay, as_schedule


def warmup_with_jump():
    with pytest.warns(UserWarning, match="jumps from 0.1 to 0.05"):
        return LinearWarmup(0.05, 4, start_lr=0.0, end_lr=0.1)


# schedule, its first rates, further (t, rate)
GOLDEN = {
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
    if not isinstance(schedule, schedulers._Function):  # a lambda cannot be pickled
        copies.append(pickle.loads(pickle.dumps(schedule)))
    for other in copies:
        assert {t: other(t) for t in rates} == forward
        assert repr(other) == repr(schedule)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (StepDecay(0.5, 3), lambda lr, opt: lr.StepLR(opt, 3)),
        (StepDecay(0.5, 1, gamma=0.7), lambda lr, opt: lr.StepLR(opt, 1, gamma=0.7)),
        (CosineAnnealingDecay(0.5, 7, 0.01), lambda lr, opt: lr.CosineAnnealingLR(opt, 7, eta_min=0.01)),
        (CosineAnnealingDecay(0.5, 40), lambda lr, opt: lr.CosineAnnealingLR(opt, 40)),
        (LinearWarmup(0.5, 5, start_lr=0.05), lambda lr, opt: lr.LinearLR(opt, 0.1, total_iters=5)),
        (
            LinearWarmup(CosineAnnealingDecay(0.5, 9), 4, start_lr=0.25),
            lambda lr, opt: lr.SequentialLR(
                opt, [lr.LinearLR(opt, 0.5, total_iters=4), lr.CosineAnnealingLR(opt, 9)], [4]
            ),
        ),
    ],
    ids=lambda value: repr(value) if isinstance(value, schedulers.Schedule) else "torch",
)
def test_agrees_with_pytorch(ours, theirs):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR calls step() in a way that PyTorch itself warns of
        schedule = theirs(torch.optim.lr_scheduler, optimizer)
        for t in range(30):
            assert ours(t) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-12), t
            optimizer.step()
            schedule.step()


def test_a_schedule_comes_back_as_it_is_and_numbers_show_as_numbers():
    schedule = StepDecay(0.1, 5)
    assert as_schedule(schedule) is schedule
    assert repr(as_schedule(0.1)) == "0.1"
    assert repr(LinearWarmup(0.1, 3)) == "LinearWarmup(after=0.1, warmup_steps=3, start_lr=0.0, end_lr=0.1)"


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
    for schedule in (PerEpoch(StepDecay(1.0, 1)), LinearWarmup(PerEpoch(StepDecay(1.0, 1)), 2)):
        with pytest.raises(ValueError, match=r"data\.steps_per_epoch\(len\(X\), batch_size\)"):
            schedule(2)
        filled = schedule.with_steps_per_epoch(3)
        assert [filled(t) for t in (2, 8)] == pytest.approx([1, 0.01])
        with pytest.raises(ValueError, match="PerEpoch"):  # filling makes a copy
            schedule(2)
        again = filled.with_steps_per_epoch(100)  # what is given stays
        assert [again(t) for t in (2, 8)] == pytest.approx([1, 0.01])


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


def test_plot_without_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"StepDecay\.plot needs matplotlib; install it with pip"):
        StepDecay(0.1, 10).plot(25)
