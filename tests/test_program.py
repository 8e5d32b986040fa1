"""Programs: what explain prints, what refuses, what two trainers may share."""

import copy
import itertools
import re
import threading

import fastnn
import guard
import numpy as np
import pytest
from bounds import assert_bits
from custom import Square
from fastnn import losses, nn, ops, optim, schedulers
from small import assert_same_model, labelled_rows, layers, trainer


@pytest.fixture
def rows():
    return labelled_rows()


def table(run, batch_size, capsys):
    run.explain(batch_size)
    head, columns, *lines, step = capsys.readouterr().out.splitlines()
    assert columns.split("  ")[0] == "region"
    assert float(re.fullmatch(r"a step: (\d+\.\d) us, of 10 in one call", step)[1]) > 0
    return head, lines


def test_every_operation_has_a_line(capsys):
    head, lines = table(trainer(), 16, capsys)
    text = "\n".join(lines)
    for operation in (
        "gather",
        "linear 6x",
        "batch_norm 16 relu",
        "cross_entropy",
        "linear_weight",
        "update",
    ):
        assert operation in text
    assert head.startswith("16 rows: ")
    assert f"{fastnn.get_num_threads()} threads, {fastnn.get_isa()}" in head
    # The regions are numbered one after another, and have a time above 0.
    numbers = [line for line in lines if line[0] != " "]
    assert [int(line.split(",")[0].split()[0]) for line in numbers] == list(range(1, len(numbers) + 1))
    assert all(float(line.split()[-2]) > 0 for line in numbers)
    # The last line has their sums; each number is rounded.
    figures = np.array([[float(cell) for cell in line.split()[-5:-1]] for line in numbers])
    *shown, share = (float(cell) for cell in lines[-1].split()[-5:])
    assert lines[-1].split()[:3] == ["all", "of", "them"]
    np.testing.assert_allclose(shown, figures.sum(0), atol=0.5 * (len(numbers) + 1))
    shares = [float(line.split()[-1]) for line in numbers]
    assert min(shares) - 0.01 <= share <= max(shares) + 0.01


def test_products_are_counted(capsys):
    model = nn.Sequential(nn.Linear(1000, 300, bias=False), seed=0)
    run = fastnn.Trainer(model, losses.MSELoss(), optim.SGD(model.parameters(), lr=0.1))
    text = "\n".join(table(run, 10, capsys)[1])
    forward = next(line for line in text.splitlines() if " linear 1000x300" in line)
    assert " 6000 " in forward  # 2 * 10 * 1000 * 300 operations


def test_explain_changes_nothing(rows, capsys):
    one, other = trainer(), trainer()
    for _ in range(2):
        table(one, 9, capsys)
        assert one.step(*rows) == other.step(*rows)
        assert_same_model(one, other)


def explain_case():
    """In memory that is gone when its array is: explain runs the regions again, and they read the batch."""
    model = layers()
    values = fastnn.Trainer(model, losses.MSELoss(), optim.SGD(model.parameters(), lr=0.1))
    with guard.allocations("end"):
        trainer().explain(16)
        values.explain(16)


def test_explain_keeps_its_batch():
    guard.run_isolated("test_program", "explain_case")


def test_explain_of_what_has_no_program(rows):
    model = nn.Sequential(nn.Linear(6, 3), Square(), seed=0)
    made = model, losses.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TypeError, match=r"Square is a layer of your own.*plain loop"):
        fastnn.Trainer(*made).explain(4)
    own = fastnn.Trainer(model, lambda pred, target: (0.0, pred), made[2])
    with pytest.raises(TypeError, match="a loss of one's own"):
        own.explain(4)
    for wrong, error in ((0, ValueError), (2.0, TypeError), (1, ValueError)):
        with pytest.raises(error, match=r"batch_size|at least two rows"):
            trainer().explain(wrong)


def refused_beside(busy, other):
    """What `other`, called again and again from a second thread, is told while `busy` runs."""
    refused, errors = [], []
    done = threading.Event()

    def beside():
        while not done.is_set():
            try:
                other()
            except RuntimeError as error:
                refused.append(str(error))

    thread = threading.Thread(target=beside)
    thread.start()
    try:
        for _ in range(200):
            try:
                busy()
            except RuntimeError as error:
                errors.append(error)
            if refused:
                break
    finally:
        done.set()
        thread.join()
    assert refused, "the two calls never met"
    return refused[0]


def test_parameters_are_in_one_call_at_a_time(rows):
    """Two trainers of one model take turns; both at once is refused, and the first goes on."""
    X, Y = (np.tile(a, (400, 1) if a.ndim == 2 else 400) for a in rows)
    model = layers()
    one, two = (
        fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=1e-3))
        for _ in range(2)
    )
    said = refused_beside(lambda: one.step(X, Y), lambda: two.step(X[:2], Y[:2]))
    assert "is being trained already" in said
    one.step(*rows)
    two.step(*rows)


def test_an_optimizer_is_in_one_step_at_a_time(rows):
    """Its update is kept from step to step, so a loop of one's own and a trainer take turns, too."""
    X, Y = (np.tile(a, (400, 1) if a.ndim == 2 else 400) for a in rows)
    run = trainer()
    run.step(X, Y)
    said = refused_beside(lambda: run.step(X, Y), run.optimizer.step)
    assert said.startswith("Optimizer.step: a step of this optimizer is running already")
    run.step(*rows)
    run.optimizer.step()


def test_a_copy_of_a_trainer_has_a_program_of_its_own(rows):
    one = trainer()
    one.step(*rows)
    other = copy.deepcopy(one)
    before = copy.deepcopy(one.model)
    other.step(*rows)
    for a, b in zip(one.model.parameters(), before.parameters(), strict=True):
        assert np.array_equal(a.data, b.data)
    one.step(*rows)
    assert_same_model(one, other)


def test_accuracy_counts_the_first_of_the_largest_as_argmax_does():
    X = np.array(list(itertools.product([0.0, 1.0, -2.0], repeat=3)), np.float32)
    X[::5] = np.nan  # whose argmax is 0
    for label in range(3):
        model = nn.Sequential(nn.Linear(3, 3))
        model[0].weight.data = np.eye(3)
        optimizer = optim.SGD(model.parameters(), lr=0.1, nonfinite="ignore")
        labels = np.full(len(X), label)
        history = fastnn.Trainer(model, losses.CrossEntropyLoss(), optimizer).fit(
            X, labels, batch_size=len(X), epochs=1, progress=False
        )
        assert history["accuracy"] == [np.mean(X.argmax(axis=1) == labels)]


def test_an_update_is_made_once_while_it_stays(monkeypatch):
    made, kind = [], ops._Update
    monkeypatch.setattr(ops, "_Update", lambda *a, **k: made.append(a) or kind(*a, **k))
    model = nn.Linear(3, 2, rng=0)
    weight, bias = ps = model.parameters()
    for p in ps:
        p.grad = np.ones(p.data.shape)
    opt = optim.Adam(ps)
    for lr in (0.1, 0.1, 0.2, schedulers.StepDecay(0.1, 2), schedulers.StepDecay(0.1, 2)):
        opt.lr = lr
        opt.step()
    fastnn.Trainer(model, losses.MSELoss(), opt).step(np.ones((2, 3)), np.ones((2, 2)))
    assert len(made) == 1
    opt.clip = 0.5
    opt.step()
    assert len(made) == 2
    weight.trainable = False
    before = weight.data.copy(), bias.data.copy()
    opt.step()
    opt.step()
    assert len(made) == 3
    assert_bits(weight.data, before[0])
    assert (bias.data != before[1]).all()
    twin = copy.deepcopy(opt)
    twin.step()  # of arrays of its own
    assert len(made) == 4
    assert (opt.step_count, twin.step_count) == (9, 10)
    assert (twin.param_groups[0]["params"][1].data != bias.data).all()
