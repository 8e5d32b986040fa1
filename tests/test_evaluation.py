"""predict and evaluate by the native program: the layers one by one in evaluation mode, bit for bit."""

import copy
import itertools
import signal
import threading

import fastnn
import guard
import numpy as np
import pytest
from bounds import assert_bits
from conftest import ISAS
from custom import Scale, Square
from device_places import few
from fastnn import losses, nn, optim
from fastnn.nn.module import evaluating
from layouts import SAME_VALUES
from networks import seeded
from runs import assert_equal_tree
from test_signals import check_soon

SEEDS = range(80)
pytestmark = [
    pytest.mark.usefixtures("place"),
    pytest.mark.usefixtures("restore_runtime"),
    pytest.mark.filterwarnings("ignore:Rprop follows"),
]


def by_layers(model, X):
    """The reference: all rows through a copy of the layers, on the CPU."""
    return copy.deepcopy(model).to("cpu").eval()(np.asarray(X, np.float32))


def on(isa, threads):
    fastnn.set_isa(isa)
    fastnn.set_num_threads(threads)


def small(seed=0, **given):
    model = nn.Sequential(
        *(nn.Linear(6, 20), nn.BatchNorm1d(20), nn.GELU(), nn.Dropout(0.5)),
        *(nn.Residual(nn.Sequential(nn.Linear(20, 20), nn.Tanh())), nn.Linear(20, 3)),
        seed=seed,
    )
    trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters()), **given)
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((300, 6)).astype(np.float32), rng.integers(0, 3, 300)
    for _ in range(2):
        trainer.step(X, Y)
    return trainer, X, Y


@pytest.mark.parametrize("seed", few(SEEDS, 7))
def test_predictions_are_those_of_the_layers(seed):
    problem, isa, threads = seeded(seed), ISAS[seed % len(ISAS)], 1 + seed % 3
    trainer, n = problem.trainer(), len(problem.X)
    on(isa, threads)
    for batch in problem.batches(0)[:2]:
        trainer.step(*batch)
    kept = copy.deepcopy(trainer.model)
    on(ISAS[0], 1)
    want = by_layers(trainer.model, problem.X)
    on(isa, threads)
    for batch_size in (n, 1024, max(1, n // 2), max(1, n // 3), 1, n):
        assert_bits(trainer.predict(problem.X, batch_size=batch_size), want, f"batches of {batch_size}")
    assert_equal_tree(trainer.model.state_dict(), kept.state_dict())
    assert [m.training for m in trainer.model.modules()] == [m.training for m in kept.modules()]


@pytest.mark.parametrize("seed", few(SEEDS, 7))
def test_scores_are_those_of_the_predictions(place, seed):
    problem, isa, threads = seeded(seed), ISAS[seed % len(ISAS)], 1 + seed % 3
    trainer, Y = problem.trainer(), problem.Y
    weight = None if problem.weight is None else problem.weight.astype(np.float32)
    on(ISAS[0], 1)
    pred = by_layers(trainer.model, problem.X)
    loss, _ = problem.loss(pred, Y, weight)
    metrics = problem.loss.metrics(pred, Y, weight)
    on(isa, threads)
    for batch_size in (7, 1024):
        got = trainer.evaluate(problem.X, Y, sample_weight=problem.weight, batch_size=batch_size)
        near = (
            0 if place.device == "cpu" else 1e-6
        )  # there float32 sums of an element-wise loss have another order
        assert got == pytest.approx({"loss": loss, **metrics}, abs=0, rel=near, nan_ok=True)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "sizes", few([[5, 8, 3], [300, 400, 300, 2]], 1), ids=["one region", "a region a layer"]
)
def test_every_batch_size(isa, sizes):
    model = nn.Sequential(
        *(
            layer
            for pair in itertools.pairwise(sizes)
            for layer in (nn.Linear(*pair), nn.BatchNorm1d(pair[1]))
        ),
        seed=0,
    )
    trainer = fastnn.Trainer(model, losses.MSELoss(), optim.SGD(model.parameters(), 0.1))
    X = np.random.default_rng(0).standard_normal((500, sizes[0])).astype(np.float32)
    on(ISAS[0], 1)
    want = by_layers(model, X)
    for threads in (1, 2, 3, 8):
        on(isa, threads)
        for batch_size in (500, 383, 384, 97, 96, 33, 17):
            assert_bits(trainer.predict(X, batch_size=batch_size), want, (threads, batch_size))


@pytest.mark.parametrize("layout", few(SAME_VALUES, 1))
@pytest.mark.parametrize(
    "dtype", few(["float32", "uint8", "float64", "float16", ">f4", "int64", ">i2", "bool"], 3)
)
def test_rows_of_every_dtype_and_layout(layout, dtype):
    trainer, _, _ = small()
    X = np.random.default_rng(1).integers(0, 2 if dtype == "bool" else 9, (50, 6)).astype(dtype)
    want = by_layers(trainer.model, X)
    given = SAME_VALUES[layout](X)
    for batch_size in (50, 16, 1):
        assert_bits(trainer.predict(given, batch_size=batch_size), want, batch_size)
    assert np.array_equal(given, X)


def test_other_rows_and_numbers_of_rows_in_turn():
    """What was prepared for one array must not be read or written for another."""
    trainer, X, _ = small()
    want = by_layers(trainer.model, X)
    kept = []
    for rows in (slice(0, 100), slice(100, 200), slice(0, 7), slice(100, 200), slice(0, 0), slice(3, 103)):
        for dtype in (np.float32, np.float64):
            kept.append((trainer.predict(X[rows].astype(dtype), batch_size=50), want[rows]))
    for got, expected in kept:
        assert_bits(got, expected)


def test_changes_between_calls_are_seen():
    trainer, X, _ = small()
    model = trainer.model

    def check():
        assert_bits(trainer.predict(X), by_layers(model, X))

    check()
    model[0].weight.data *= 2
    check()
    model[1].running_mean[...] += 1
    check()
    model[1].eps = 0.5
    check()
    model.eval()
    check()
    trainer.model = model = nn.Sequential(nn.Linear(6, 2), nn.Sigmoid(), seed=3)
    check()
    trainer.model = model = nn.Sequential(nn.Dropout(0.5), nn.Flatten())  # nothing but the rows
    pred = trainer.predict(X)
    assert_bits(pred, X)
    assert not np.may_share_memory(pred, X)


def test_an_evaluation_forgets_the_batch_of_a_forward(place):
    """As a forward of the layers in evaluation mode does."""
    trainer, X, _ = small()
    x, dy = place.all((X, np.zeros((300, 3), np.float32)))
    for _ in range(2):
        trainer.model.train()(x)
        trainer.predict(X)
        with pytest.raises(RuntimeError, match="no training-mode forward"):
            trainer.model.backward(dy)


def test_layers_of_ones_own_are_called_one_by_one():
    model = nn.Sequential(nn.Linear(6, 4, rng=0), Scale(4), Square(), nn.Linear(4, 2, rng=1))
    trainer = fastnn.Trainer(model, losses.MSELoss(), optim.SGD(model.parameters(), 0.1))
    X = np.random.default_rng(0).standard_normal((40, 6))
    want = by_layers(model, X)
    for batch_size in (40, 7):
        assert_bits(trainer.predict(X, batch_size=batch_size), want)
    assert trainer.evaluate(X, want)["loss"] == 0.0
    assert trainer.predict(X[:0]).shape == (0, 2)


@pytest.mark.parametrize("isa", ISAS)
def test_bfloat16(isa):
    on(isa, 2)
    trainer, X, _ = small(precision="bfloat16")
    with evaluating(trainer.model):
        want = trainer._steps._layers.predict("", X, 300)
    for batch_size in (300, 64):
        assert_bits(trainer.predict(X, batch_size=batch_size), want)


@pytest.mark.host("in a process of its own")
@pytest.mark.parametrize("at_end", [True, False])
def test_nothing_beside_the_rows_is_touched(at_end):
    guard.run_isolated("test_evaluation", "guarded_case", at_end)


def guarded_case(at_end):
    trainer, X, _ = small()
    want = by_layers(trainer.model, X)
    for dtype in (np.float32, np.float64):
        rows = guard.guarded(X[:101].astype(dtype), at_end=at_end)
        for batch_size in (101, 100, 13):
            assert_bits(trainer.predict(rows, batch_size=batch_size), want[:101])


def test_bad_targets_leave_all_as_it_was():
    trainer, X, Y = small()
    before = copy.deepcopy(trainer.model.state_dict())
    good = trainer.evaluate(X, Y)
    for wrong, error in ((Y + 1, ValueError), (Y.astype(float), TypeError), (Y[:, None], ValueError)):
        with pytest.raises(error):
            trainer.evaluate(X, wrong)
    with pytest.raises(ValueError, match="Linear: x must have shape"):
        trainer.evaluate(X[:, :5], Y)
    assert trainer.model.training
    assert_equal_tree(trainer.model.state_dict(), before)
    assert trainer.evaluate(X, Y) == good


BAD_VALIDATIONS = {
    r"X must have at least one row": lambda X, Y: (X[:0], Y[:0]),
    r"Linear: x must have shape \(\.\.\., 6\).*got \(300, 5\)": lambda X, Y: (X[:, :5], Y),
    r"X must hold real numbers, got dtype complex128": lambda X, Y: (X.astype(complex), Y),
    r"X must hold real numbers, got dtype <U32": lambda X, Y: (X.astype(str), Y),
    r"Y\[77\] is 5, must be in 0\.\.2": lambda X, Y: (X, np.where(np.arange(300) == 77, 5, Y)),
    r"Y\[0\] is -1, must be in 0\.\.2": lambda X, Y: (X, np.full(300, -1)),
    r"CrossEntropyLoss: target must hold integer class ids": lambda X, Y: (X, Y.astype(float)),
    r"CrossEntropyLoss: target .* float probabilities of shape \(300, 3\)": lambda X, Y: (
        X,
        np.eye(2)[Y % 2],
    ),
    r"CrossEntropyLoss: pred must have shape \(n, classes\)": lambda X, Y: (X[:, None], Y),
}


@pytest.mark.parametrize("said", few(BAD_VALIDATIONS, 3))
def test_a_validation_that_cannot_be_is_refused_before_the_first_step(said):
    trainer, X, Y = small()
    before, steps = copy.deepcopy(trainer.model.state_dict()), trainer.optimizer.step_count
    with pytest.raises((TypeError, ValueError), match=rf"^Trainer\.fit: validation: {said}"):
        trainer.fit(X, Y, batch_size=50, epochs=2, validation=BAD_VALIDATIONS[said](X, Y))
    assert (trainer.epoch, trainer.optimizer.step_count, trainer.model.training) == (0, steps, True)
    assert_equal_tree(trainer.model.state_dict(), before)


def test_a_validation_of_values_is_looked_at_before_the_first_step():
    model = nn.Linear(6, 2, rng=0)
    for loss in (losses.MSELoss(), losses.BCEWithLogitsLoss()):
        trainer = fastnn.Trainer(model, loss, optim.SGD(model.parameters(), 0.1))
        X, Y = np.zeros((40, 6)), np.zeros((40, 2))
        with pytest.raises(
            ValueError, match=r"^Trainer\.fit: validation: .*target must have the shape of pred"
        ):
            trainer.fit(X, Y, batch_size=10, epochs=1, validation=(X, Y[:, :1]))
        assert trainer.optimizer.step_count == 0


def test_of_a_loss_of_one_s_own_the_rows_are_looked_at():
    """What its targets are is its own to say, after an epoch."""

    def loss(pred, target):
        assert target.dtype == int
        return 0.0, 0 * pred

    for layer in ([], [Square()]):
        model = nn.Sequential(nn.Linear(6, 2), *layer, seed=0)
        trainer = fastnn.Trainer(model, loss, optim.SGD(model.parameters(), 0.1))
        X, Y = np.zeros((40, 6)), np.zeros(40, int)
        bad = [(X[:0], Y[:0])] + [(X[:, :5], Y)] * (not layer)
        for rows in bad:
            with pytest.raises(ValueError, match=r"^Trainer\.fit: validation: .*[xX] must have"):
                trainer.fit(X, Y, batch_size=10, epochs=1, validation=rows)
        assert trainer.optimizer.step_count == 0
        with pytest.raises(AssertionError):
            trainer.fit(X, Y, batch_size=10, epochs=1, validation=(X, Y * 1.0))


def own_loss(pred, target):
    return losses.CrossEntropyLoss()(pred, target)


@pytest.mark.parametrize("own", [False, True])
def test_threads_of_python_predict_and_evaluate_at_the_same_time(place, own):
    trainer, X, Y = small()
    trainer.loss = own_loss if own else trainer.loss
    times = 100 if place.device == "cpu" else 3
    X, Y = np.tile(X, (times, 1)), np.tile(Y, times)
    calls = [lambda: trainer.predict(X), lambda: trainer.evaluate(X, Y)["loss"]]
    calls += [] if own else [lambda: trainer.predict_proba(X)]
    want, found = [call() for call in calls], []
    numbers = [*range(len(calls))] * 2
    threads = [
        threading.Thread(target=lambda number=number: found.append((number, calls[number]())))
        for number in numbers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for number, _ in found) == sorted(numbers)
    for number, got in found:
        np.testing.assert_array_equal(got, want[number])
    assert trainer.model.training


@pytest.mark.host("no arrays")
def test_the_last_who_evaluates_gives_back_the_mode():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5).eval(), seed=0)
    one, other = evaluating(model), evaluating(model)
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert not model.training
    other.__exit__(None, None, None)
    assert [module.training for module in model.modules()] == [True, True, False]


@pytest.mark.host("in a process of its own")
def test_a_signal_handler_may_predict():
    guard.run_isolated("test_evaluation", "handler_case")


def handler_case():
    trainer, X, _ = small()
    want = trainer.predict(X)
    large = np.tile(X, (4000, 1))
    inner = []
    signal.signal(signal.SIGALRM, lambda *_: inner.append(trainer.predict(X)))
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    whole = trainer.predict(large, batch_size=300)
    assert_bits(whole[-300:], want)
    assert len(inner) == 1
    assert_bits(inner[0], want)


@pytest.mark.host("in a process of its own")
@pytest.mark.parametrize("batch_size", [256, 1 << 30])
def test_interrupt(batch_size):
    guard.run_isolated("test_evaluation", "interrupt_case", batch_size)


def interrupt_case(batch_size):
    on("scalar", 2)
    model = nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 512), seed=0)
    trainer = fastnn.Trainer(model, losses.MSELoss(), optim.SGD(model.parameters(), 0.1))
    X = np.random.default_rng(0).standard_normal((1000, 512)).astype(np.float32)
    many = np.tile(X, (10, 1))
    before = copy.deepcopy(model.state_dict())
    check_soon(lambda: [trainer.predict(many, batch_size=batch_size) for _ in range(50)])
    assert_equal_tree(model.state_dict(), before)
    assert_bits(trainer.predict(X), by_layers(model, X))
