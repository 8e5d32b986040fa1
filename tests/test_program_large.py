"""Networks whose weights do not fit a cache, so that a step is a region for each product: the plain loop."""

import copy

import fastnn
import numpy as np
import pytest
from bounds import assert_bits
from fastnn import _explain, losses, nn, optim
from networks import Plain, assert_same_course, assert_same_loss

pytestmark = pytest.mark.usefixtures("restore_runtime")
COLUMNS, WIDTH, CLASSES = 70, 230, 11


def layers():
    """Each kind of operation beside and between products."""
    block = [nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH)]
    return nn.Sequential(
        *(nn.Linear(COLUMNS, WIDTH), nn.Tanh(), nn.Dropout(0.2), nn.Linear(WIDTH, WIDTH), nn.ReLU()),
        *(nn.Residual(nn.Sequential(*block)), nn.Linear(WIDTH, CLASSES)),
        seed=0,
    )


def deep():
    return nn.Sequential(
        *(layer for _ in range(90) for layer in (nn.Linear(40, 40), nn.SELU())),
        nn.Linear(40, CLASSES),
        seed=0,
    )


def assert_steps_are_the_plain_loop(model, loss, batches):
    """With weights for every other batch; the loop runs on one thread."""
    rule = optim.Adam(model.parameters(), lr=0.01, clip=1.0)
    run, other = fastnn.Trainer(*copy.deepcopy((model, loss, rule))), Plain(model, loss, rule)
    threads = fastnn.get_num_threads()
    for x, y, weight in batches:
        fastnn.set_num_threads(1)
        want = other.step(x, y, weight)
        fastnn.set_num_threads(threads)
        assert_same_loss(run.step(x, y, weight), want)
        assert_same_course(run, other)


def batches(rng, sizes, columns):
    for i, n in enumerate(sizes):
        x = rng.standard_normal((n, columns), np.float32)
        yield x, rng.integers(0, CLASSES, n), rng.random(n, np.float32) if i % 2 else None


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("loss", [losses.CrossEntropyLoss(label_smoothing=0.1), losses.HuberLoss()])
def test_steps_are_the_plain_loop(rng, threads, loss):
    fastnn.set_num_threads(threads)
    steps = batches(rng, (128, 300, 2), COLUMNS)
    if isinstance(loss, losses.HuberLoss):
        steps = ((x, np.eye(CLASSES, dtype=np.float32)[y], weight) for x, y, weight in steps)
    assert_steps_are_the_plain_loop(layers(), loss, steps)


def test_on_every_instruction_set(isa, rng):
    fastnn.set_num_threads(2)
    assert_steps_are_the_plain_loop(layers(), losses.CrossEntropyLoss(), batches(rng, (31, 20), COLUMNS))


@pytest.mark.parametrize("threads", [1, 2])
def test_more_regions_than_a_call_of_the_team_takes(rng, threads):
    fastnn.set_num_threads(threads)
    assert_steps_are_the_plain_loop(deep(), losses.CrossEntropyLoss(), batches(rng, (50, 20), 40))


def test_metrics_get_the_predictions_of_the_step(rng):
    """Which are the widest values, so that those of the way back could lie in their place."""
    model = nn.Sequential(
        *(nn.Linear(300, 300), nn.Tanh(), nn.Linear(300, 300), nn.Tanh(), nn.Linear(300, 600)), seed=0
    )
    x, y = rng.standard_normal((64, 300), np.float32), rng.integers(0, 600, 64)
    before, seen = copy.deepcopy(model)(x), []
    run = fastnn.Trainer(
        *(model, losses.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1)),
        metrics={"own": lambda pred, target: float(seen.append(pred.copy()) or 0)},
    )
    history = run.fit(x, y, batch_size=64, epochs=1, shuffle=False)
    assert_bits(seen[0], before)
    assert history["accuracy"] == [np.mean(before.argmax(1) == y)]


def test_these_networks_are_what_they_are_for(capsys, monkeypatch):
    """Not cut into blocks of rows; and one is deeper than kMaxTasks of csrc/core/team.h."""
    monkeypatch.setattr(_explain, "_TIMINGS", 1)
    monkeypatch.setattr(_explain, "_REPEATS", 1)
    for model, more_than in ((layers(), 12), (deep(), 255)):
        rule = optim.Adam(model.parameters(), lr=0.01)
        fastnn.Trainer(model, losses.CrossEntropyLoss(), rule).explain(20)
        table = capsys.readouterr().out
        (count,) = (int(part.split()[0]) for part in table.split(", ") if "regions" in part)
        assert count > more_than
        assert "blocks" not in table
