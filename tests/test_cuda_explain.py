"""Trainer.explain on the device, run by the shim: the operations of a step with their work, and its time."""

import re
import types

import fastnn
import numpy as np
import pytest
from custom import Square
from fastnn import _explain, losses, nn, optim
from networks import assert_same_course, seeded
from small import labelled_rows

pytestmark = pytest.mark.usefixtures("device")


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(_explain, "_TIMINGS", 2)
    monkeypatch.setattr(_explain, "_STEPS", 3)


def trainer(device="cuda", loss=None, precision="float32"):
    layers = nn.Linear(64, 40, bias=False), nn.BatchNorm1d(40), nn.ReLU(), nn.Dropout(0.5), nn.Linear(40, 50)
    model = nn.Sequential(*layers, nn.GELU(), nn.Linear(50, 3), seed=1)
    made = optim.Adam(model.parameters())
    loss = loss or losses.CrossEntropyLoss()
    return fastnn.Trainer(model, loss, made, device=device, precision=precision)


def table(run, batch_size, capsys):
    """The first line, the cells of the operations and the update, their times, the last line."""
    run.explain(batch_size)
    head, columns, *lines, last = capsys.readouterr().out.splitlines()
    assert re.split(r"\s\s+", columns) == ["operation", "kflop", "KB", "measured us"]
    (begin, _), *cells, (end, _) = (re.split(r"\s\s+", line) for line in lines)
    assert (begin, end) == ("begin", "end")  # without work of their own
    return head, [line[:-1] for line in cells], [float(line[-1]) for line in cells], last


def test_every_operation_has_a_line_with_its_work(capsys):
    head, lines, times, last = table(trainer(), 128, capsys)
    assert re.fullmatch(r"128 rows: 15 operations and the update in one graph, \d+ KB, CUDA", head)
    assert [line[:2] for line in lines] == [  # 2 n k m operations in thousands
        ["gather", "0"],
        ["linear 64x40", "655"],
        ["batch_norm 40 relu", "0"],
        ["dropout", "0"],
        ["linear 40x50", "512"],
        ["activation gelu", "0"],
        ["linear 50x3", "38"],
        ["cross_entropy", "0"],
        ["linear_weight 50x3 + linear_bias 3", "38"],
        ["linear_input 50x3 + activation_backward gelu", "38"],
        ["linear_weight 40x50 + linear_bias 50", "512"],
        ["linear_input 40x50", "512"],
        ["dropout", "0"],
        ["batch_norm_backward 40", "0"],
        ["linear_weight 64x40", "655"],
        ["update", "0"],
    ]
    on_host, _ = _explain._program_of_copies(trainer("cpu")._steps, 128)
    moved = {_explain._described(on_host.ops[op]): floats for op, *_, floats, _ in on_host.native.lines()}
    moved["update"] = on_host.native.update_work()[0]
    moved["linear 64x40"] = 128 * 40  # the statistics of the batch-norm behind it
    moved["batch_norm 40 relu"] -= 128 * 40
    moved["linear_weight 50x3 + linear_bias 3"] = 128 * 3
    moved["linear_weight 40x50 + linear_bias 50"] = 128 * 50
    moved["linear_input 50x3 + activation_backward gelu"] = 128 * 50  # that its slope is of
    assert [line[2] for line in lines] == [f"{moved[line[0]] * 4 / 1024:.0f}" for line in lines]
    assert min(times) > 0
    assert re.fullmatch(r"a step: \d+\.\d us, of 3 queued together", last)


def test_times(capsys, monkeypatch, device):
    """Medians; of a step over the runs, of which each waits once. The update begins with its norms."""
    clock = iter([0.0, 0.006, 10.0, 10.3, 20.0, 20.012])
    times = iter([np.arange(19.0), np.full(19, 99.0), np.arange(19.0) / 2])
    monkeypatch.setattr(_explain, "_TIMINGS", 3)
    monkeypatch.setattr(_explain, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(_explain._core.Program, "time_parts", lambda program, stream: 1e-6 * next(times))
    waits = device.library.shim_waits()
    _, _, found, last = table(trainer(), 8, capsys)
    assert device.library.shim_waits() - waits < 3 * 3
    assert found == [*range(1, 16), 16 + 18]
    assert last == "a step: 4000.0 us, of 3 queued together"


@pytest.mark.parametrize("seed", [0, 3, 54, 182, 319, 771])
def test_every_operation_has_its_own_time(seed, monkeypatch):
    """Of drawn networks: a part of the graph for each."""
    problem = seeded(seed)
    program, _ = _explain._program_of_copies(problem.trainer(device="cuda")._steps, problem.batch_size)
    program.queue.settle()
    parts = program.native.time_parts(0)
    assert [line[1] for line in program.native.lines()] == list(range(1, len(parts) - 3))
    shown = {line[0] for line in program.native.lines()}
    assert len(shown) == len(parts) - 4
    assert shown <= set(range(len(program.ops)))
    assert min(parts) > 0


def test_nothing_changes(capsys):
    X, Y = labelled_rows()
    X = np.tile(X, 11)[:, :64]
    one, other = trainer(), trainer("cpu")
    table(one, 8, capsys)  # before its first step
    for _ in range(2):
        assert float(one.step(X, Y)) == other.step(X, Y)
        table(one, 9, capsys)
        assert_same_course(one, other)


@pytest.mark.parametrize("precision", ["bfloat16", "tf32"])
def test_other_precisions(capsys, precision):
    head, lines, *_ = table(trainer(precision=precision), 8, capsys)
    assert head.endswith(f", CUDA, {precision}")
    rounded = [line[0] for line in lines if line[0].startswith("round")]
    assert ("round_weight 40x50" in rounded and "round 40" in rounded) == (precision == "bfloat16")


@pytest.mark.parametrize(
    "loss",
    [losses.MSELoss(), losses.BCEWithLogitsLoss(), losses.CrossEntropyLoss(ignore_index=0)],
    ids=lambda loss: type(loss).__name__,
)
def test_other_losses(capsys, loss):
    """Their rows count: steps that do nothing would be timed otherwise."""
    run = trainer(loss=loss)
    lines = [line[0] for line in table(run, 8, capsys)[1]]
    assert ("gather" in lines[1:]) == (not isinstance(loss, losses.CrossEntropyLoss))
    assert lines[-1] == "update"


def test_errors_of_queued_steps_come_first(capsys):
    run = trainer()
    run.step(np.zeros((4, 64)), np.array([0, 1, 2, 3]))
    with pytest.raises(ValueError, match=r"Trainer\.step: y\[3\] is 3"):
        run.explain(8)
    table(run, 8, capsys)


def test_what_has_no_program():
    for wrong, error in ((0, ValueError), (2.0, TypeError), (1, ValueError)):
        with pytest.raises(error, match=r"batch_size|at least two rows"):
            trainer().explain(wrong)
    with pytest.raises(TypeError, match="a loss of one's own"):
        trainer(loss=lambda pred, target: (0.0, pred)).explain(4)
    model = nn.Sequential(nn.Linear(6, 3), Square(), seed=0)
    made = fastnn.Trainer(model, losses.MSELoss(), optim.SGD(model.parameters(), lr=0.1), device="cuda")
    with pytest.raises(TypeError, match=r"Square is a layer of your own.*plain loop"):
        made.explain(4)
