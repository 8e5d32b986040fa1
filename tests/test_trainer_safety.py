"""Trainers in several threads, after fork, on shared parameters, with bad batches, and under Ctrl-C."""

import copy
import gc
import threading

import fastnn
import guard
import numpy as np
import pytest
from custom import Scale
from fastnn import data, losses, nn, optim
from networks import Plain, assert_same_course, assert_same_loss, state
from runs import assert_equal_tree
from small import assert_same_model, assert_state, labelled_rows, layers
from test_signals import check_soon
from test_team import in_child

pytestmark = pytest.mark.alone

N, COLUMNS, CLASSES, BATCH = 60, 6, 4, 12


def rows(seed=0, n=N):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, COLUMNS), np.float32), rng.integers(0, CLASSES, n)


def trainer(seed=1, loss=None, normed=True, hidden=16, **options):
    between = [nn.BatchNorm1d(hidden), nn.Dropout(0.2)] if normed else []
    model = nn.Sequential(
        nn.Linear(COLUMNS, hidden), *between, nn.Tanh(), nn.Linear(hidden, CLASSES), seed=seed
    )
    optimizer = optim.Adam(model.parameters(), lr=0.01, **options)
    return fastnn.Trainer(model, loss or losses.CrossEntropyLoss(), optimizer, seed=seed)


def plain(run):
    model, loss, optimizer = copy.deepcopy((run.model, run.loss, run.optimizer))
    return Plain(model.to("cpu"), loss, optimizer)


# ---- several Python threads


def together(works):
    """Calls the functions in a Python thread each, at the same time."""
    errors, start = [], threading.Barrier(len(works))

    def run(work):
        try:
            start.wait()
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def python_threads_case():
    """Trainers at the same time give what they give one after the other, by fits and by steps."""
    X, Y = rows(n=600)

    def fit(run):
        run.fit(X, Y, batch_size=200, epochs=10)
        run.evaluate(X, Y)

    def steps(run):
        for _ in range(30):
            run.step(X[:200], Y[:200])

    for threads in (1, 2):
        fastnn.set_num_threads(threads)
        for works in ((fit, fit), (steps, steps), (fit, steps, fit, steps)):
            one = [trainer(seed, hidden=64) for seed in range(len(works))]
            other = [trainer(seed, hidden=64) for seed in range(len(works))]
            for work, run in zip(works, one, strict=True):
                work(run)
            together([lambda w=work, r=run: w(r) for work, run in zip(works, other, strict=True)])
            for a, b in zip(one, other, strict=True):
                assert_same_course(a, b)


def settings_while_training_case():
    """The number of threads and the instruction set change while another thread trains."""
    X, Y = rows(n=600)
    one, other = trainer(hidden=64), trainer(hidden=64)
    one.fit(X, Y, batch_size=200, epochs=100)
    done = threading.Event()

    def fit():
        other.fit(X, Y, batch_size=200, epochs=100)
        done.set()

    def change():
        i = 0
        while not done.wait(1e-3):
            fastnn.set_num_threads(1 + i % 4)
            fastnn.set_isa(fastnn.isas()[i % len(fastnn.isas())])
            i += 1

    together([fit, change])
    assert_same_course(one, other)


def fork_case():
    """A trainer that has trained goes on in a child, in the parent beside it, and in a grandchild."""
    X, Y = rows(n=600)
    fastnn.set_num_threads(3)
    run, whole = trainer(hidden=64), trainer(hidden=64)
    whole.fit(X, Y, batch_size=200, epochs=4)
    want = state(whole)
    run.fit(X, Y, batch_size=200, epochs=2)

    def fit(epochs):
        run.fit(X, Y, batch_size=200, epochs=epochs)
        if run.epoch == 4:
            assert_equal_tree(state(run), want)
            run.step(X, Y)
        return "done"

    def fit_in_child():
        fit(1)
        return in_child(lambda: fit(1))

    assert in_child(lambda: fit(2)) == "done"
    assert in_child(fit_in_child) == "done"
    assert fit(2) == "done"


@pytest.mark.parametrize("case", ["python_threads_case", "settings_while_training_case", "fork_case"])
def test_threads_and_forks(case):
    guard.run_isolated("test_trainer_safety", case)


# ---- parameters of two trainers


def test_one_model_of_two_trainers_in_turn():
    X, Y = rows()
    one = trainer()
    other = plain(one)
    second = optim.Momentum(one.model.parameters()[:3], 0.05)
    target = np.eye(CLASSES, dtype=np.float32)[Y]
    shared = fastnn.Trainer(one.model, losses.MSELoss(), second)
    twin = Plain(other.model, losses.MSELoss(), optim.Momentum(other.model.parameters()[:3], 0.05))
    for i in range(6):
        assert_same_loss(one.step(X, Y), other.step(X, Y))
        assert_same_loss(shared.step(X[i:], target[i:]), twin.step(X[i:], target[i:]))
    assert_same_course(one, other)
    assert_same_course(shared, twin)
    one.fit(X, Y, batch_size=BATCH, epochs=1)
    shared.fit(X, target, batch_size=BATCH, epochs=1)
    for x, y in data.batches(X, Y, BATCH, seed=1):
        other.step(x, y)
    for x, y in data.batches(X, target, BATCH):
        twin.step(x, y)
    assert_same_course(one, other)
    assert_same_course(shared, twin)


def test_two_models_with_a_layer_in_common():
    """Two tasks, one first layer."""
    X, Y = rows()

    def two(kind):
        first = nn.Sequential(nn.Linear(COLUMNS, 8), nn.BatchNorm1d(8), nn.ReLU(), seed=0)
        heads = [nn.Sequential(first, nn.Linear(8, k, rng=k)) for k in (CLASSES, 1)]
        rules = [optim.Adam(heads[0].parameters()), optim.SGD(heads[1].parameters(), 0.1)]
        found = [losses.CrossEntropyLoss(), losses.MSELoss()]
        return [kind(*made) for made in zip(heads, found, rules, strict=True)]

    (one, two_), (other, twin) = two(fastnn.Trainer), two(Plain)
    for _ in range(4):
        assert_same_loss(one.step(X, Y), other.step(X, Y))
        assert_same_loss(two_.step(X, X[:, 0]), twin.step(X, X[:, 0]))
    assert_same_course(one, other)
    assert_same_course(two_, twin)


def test_arrays_and_models_outlive_their_trainer():
    X, Y = rows()
    run = trainer()
    run.step(X, Y)
    want, weight, model = run.predict(X), run.model[0].weight.data, run.model
    before = weight.copy()
    run.step(X, Y)
    moved = weight.copy()
    del run
    gc.collect()
    assert (moved != before).any()
    np.testing.assert_array_equal(weight, moved)
    assert model.eval()(X).shape == want.shape


# ---- Ctrl-C


def interrupt_case(isa, threads):
    """A fit ends within half a second, again and again, each time after a whole step."""
    fastnn.set_isa(isa)
    fastnn.set_num_threads(threads)
    X, Y = rows(n=2000)
    run, other = (trainer(hidden=256) for _ in range(2))
    check_soon(lambda: run.fit(X, Y, batch_size=100, epochs=10**6))
    check_soon(lambda: run.fit(X, Y, batch_size=100, epochs=10**6))
    steps = run.optimizer.step_count
    assert steps > 0
    for epoch in range(steps // 20 + 1):
        for batch in list(data.batches(X, Y, 100, seed=1, epoch=epoch))[: steps - 20 * epoch]:
            other.step(*batch)
    assert_same_course(run, other)
    run.fit(X, Y, batch_size=100, epochs=1)
    assert run.optimizer.step_count == 20 * run.epoch


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c(isa, threads):
    guard.run_isolated("test_trainer_safety", "interrupt_case", isa, threads)


# ---- layers of one's own


class Halved(nn.ReLU):
    """A layer of the library with another forward."""

    def forward(self, x):
        return super().forward(x) * np.float32(0.5)


@pytest.mark.parametrize("layer", [Scale(8), Halved()], ids=["new", "derived"])
@pytest.mark.parametrize("call", ["step", "fit"])
def test_a_layer_of_ones_own_is_refused_by_name(layer, call):
    X, Y = rows()
    model = nn.Sequential(nn.Linear(COLUMNS, 8), layer, nn.Linear(8, CLASSES), seed=0)
    optimizer = optim.SGD(model.parameters(), 0.1)

    def train():
        run = fastnn.Trainer(model, losses.CrossEntropyLoss(), optimizer)
        run.step(X, Y) if call == "step" else run.fit(X, Y, batch_size=BATCH, epochs=1)

    with pytest.raises(TypeError, match=rf"{type(layer).__name__}.*loop"):
        train()


# ---- an optimizer of one's own


class Counting(optim.SGD):
    calls = 0

    def step(self):
        self.calls += 1
        super().step()


def test_an_optimizer_whose_step_is_overridden_is_refused_by_name():
    X, Y = labelled_rows()
    model = layers()
    run = fastnn.Trainer(model, losses.CrossEntropyLoss(), Counting(model.parameters(), 0.1))
    before = run.model.state_dict()
    message = (
        r"^Trainer: the optimizer Counting has a `step` of its own, .*plain loop: .*optimizer\.step\(\)$"
    )
    for call in (lambda: run.step(X, Y), lambda: run.fit(X, Y, batch_size=16, epochs=1, progress=False)):
        with pytest.raises(TypeError, match=message):
            call()
    assert_state(run.model, before)
    assert run.optimizer.step_count == run.epoch == 0
    run.optimizer = optim.SGD(model.parameters(), 0.1)
    for _ in range(2):  # before its first step and after it
        run.optimizer.step = lambda: None  # of the object alone
        with pytest.raises(TypeError, match="the optimizer SGD has a `step` of its own"):
            run.step(X, Y)
        del run.optimizer.step
        run.step(X, Y)
    # With a loss of one's own it is called, and evaluation needs none.
    run.optimizer = Counting(model.parameters(), 0.1)
    run.evaluate(X, Y)
    run.loss = lambda pred, target: losses.CrossEntropyLoss()(pred, target)
    run.fit(X, Y, batch_size=16, epochs=2, progress=False)
    assert run.optimizer.calls == run.optimizer.step_count == 8


def test_a_subclass_that_leaves_step_alone_trains():
    class Named(optim.SGD):
        pass

    X, Y = labelled_rows()
    runs = []
    for made in (Named, optim.SGD):
        model = layers()
        runs.append(fastnn.Trainer(model, losses.CrossEntropyLoss(), made(model.parameters(), 0.1)))
        runs[-1].step(X, Y)
    assert_same_model(*runs)
