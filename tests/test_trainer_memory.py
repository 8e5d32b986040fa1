"""Training takes no more memory the longer it lasts, and survives each allocation that fails."""

import functools

import fastnn
import guard
import numpy as np
import pytest
from fastnn import data, losses, nn, optim
from networks import state
from runs import assert_equal_tree
from scarce import isolated, scarce
from test_trainer_inputs import memory

pytestmark = pytest.mark.alone

MODULE = "test_trainer_memory"
ROWS, COLUMNS, BATCH = 48, 20, 16


def rows():
    rng = np.random.default_rng(0)
    return rng.standard_normal((ROWS, COLUMNS), np.float32), rng.integers(0, 5, ROWS)


def trainer(normed=False):
    between = [nn.BatchNorm1d(24), nn.Dropout(0.1)] if normed else []
    model = nn.Sequential(nn.Linear(COLUMNS, 24), *between, nn.GELU(), nn.Linear(24, 5), seed=0)
    optimizer = optim.Adam(model.parameters(), lr=0.01, clip=1.0)
    return fastnn.Trainer(model, losses.CrossEntropyLoss(), optimizer)


# ---- growth


def flat_case(way, steps):
    """The process has at most 1 MB more after so many small steps than after the first tenth of them."""
    X, Y = (np.concatenate([part] * 170) if way == "fit" else part for part in rows())  # 510 batches
    run = trainer(normed=True)
    done = 0
    while done < steps:
        if way == "fit":
            run.fit(X, Y, batch_size=BATCH, epochs=steps // 5100)
        else:
            for x, y in [*data.batches(X, Y, BATCH)] * (steps // 30):
                run.step(x, y)
        if not done:
            before = memory("RssAnon"), memory("VmHWM")
        done += steps // 10
    assert run.optimizer.step_count == done == steps
    grown = memory("RssAnon") - before[0], memory("VmHWM") - before[1]
    assert max(grown) < 1e6, grown


@pytest.mark.parametrize("way", ["step", "fit"])
def test_memory_stays_flat(way):
    guard.run_isolated(MODULE, "flat_case", way, 5100)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["step", "fit"])
def test_memory_stays_flat_over_a_hundred_thousand_steps(way):
    guard.run_isolated(MODULE, "flat_case", way, 122_400, timeout=600.0)


def sizes_case():
    """Batches of all sizes, again and again: what was made for one of them is used again or given back."""
    X, Y = rows()
    run = trainer(normed=True)
    for i in range(60):
        for n in range(2, ROWS):
            run.step(X[:n], Y[:n])
        if i == 10:
            before = memory("RssAnon")
    assert memory("RssAnon") - before < 1e6, memory("RssAnon") - before


def trainers_case():
    """Trainers that are gone have given back their memory."""
    X, Y = rows()
    for i in range(1200):
        trainer(normed=True).step(X, Y)
        if i == 200:
            before = memory("RssAnon")
    assert memory("RssAnon") - before < 1e6, memory("RssAnon") - before


@pytest.mark.parametrize("case", ["sizes_case", "trainers_case"])
def test_what_is_not_used_any_more_is_given_back(case):
    guard.run_isolated(MODULE, case)


# ---- allocations that fail


def courses(epochs):
    """The state after each number of steps of a training."""
    X, Y = rows()
    run = trainer()
    found = [state(run)]
    for epoch in range(epochs):
        for x, y in data.batches(X, Y, BATCH, epoch=epoch):
            run.step(x, y)
            found.append(state(run))
    return found


def attempt(call, arm):
    """(an allocation failed, the call raised MemoryError)."""
    raised = False
    try:
        arm()
        call()
    except MemoryError:
        raised = True
    except SystemError as error:  # how NumPy's x[rows] says that it has no memory
        raised = "without exception set" in str(error)
        if not raised:
            raise
    return scarce().scarce_disarm() > 0, raised


def every_allocation(arm, begin, check, count):
    """For each allocation of begin()() that fails: check(run) afterwards. Prints how many, and the errors."""
    fastnn.set_num_threads(1)
    run, call = begin()
    call()
    errors = 0
    for nth in range(1, count):
        run, call = begin()
        failed, raised = attempt(call, functools.partial(arm, nth))
        errors += raised
        try:
            check(run, raised)
        except Exception as error:
            raise AssertionError(f"allocation {nth}: {error!r}") from error
        if not failed:
            print(nth - 1, errors)
            return
    raise AssertionError("no end")


def step_case(which):
    """A step that raises has changed nothing that counts, and the next one is right."""
    X, Y = rows()
    (x, y), (x2, y2), _ = data.batches(X, Y, BATCH)
    want = courses(1)

    def begin():
        run = trainer()
        if which != "first":
            run.step(x, y)
            return run, lambda: run.step(x2, y2)
        return run, lambda: run.step(x, y)

    def check(run, raised):
        steps = run.optimizer.step_count
        assert steps == (which != "first") + (not raised)
        assert_equal_tree(state(run), want[steps])
        run.step(*[(x, y), (x2, y2)][steps] if steps < 2 else (x, y))
        if steps < 2:
            assert_equal_tree(state(run), want[steps + 1])

    arm = scarce().scarce_arm if which == "small" else lambda nth: scarce().scarce_arm_anywhere(nth, 512)
    every_allocation(arm, begin, check, 3000)


def fit_case():
    """A fit that raises has done whole steps; the next one ends the epoch, and all is as without an error."""
    X, Y = rows()
    want = courses(2)

    def begin():
        run = trainer()
        return run, lambda: run.fit(X, Y, batch_size=BATCH, epochs=2)

    def check(run, raised):
        steps = run.optimizer.step_count
        assert raised or steps == 6
        assert_equal_tree(state(run), want[steps])
        if run.epoch < 2:
            run.fit(X, Y, batch_size=BATCH, epochs=2 - run.epoch)
        assert_equal_tree(state(run), want[6])

    every_allocation(lambda nth: scarce().scarce_arm_anywhere(nth, 512), begin, check, 1000)


@pytest.mark.parametrize("which", ["first", "later", "small"])
def test_every_allocation_of_a_step(scarce_library, which):
    """Of its first step and a later one: blocks of 512 bytes and more; `small`: all of a later one."""
    allocations, errors = map(int, isolated(scarce_library, MODULE, "step_case", which).split())
    assert which == "later" or (allocations > 0 and errors > 0)


def test_every_allocation_of_a_fit(scarce_library):
    allocations, errors = map(int, isolated(scarce_library, MODULE, "fit_case").split())
    assert allocations > 0
    assert errors > 0
