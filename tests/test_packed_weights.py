"""Weights packed once a step for blocks of rows: the bits of products that pack for themselves, or do not."""

import itertools

import fastnn
import numpy as np
import pytest
from bounds import assert_bits
from conftest import ISAS
from fastnn import _explain, diagnostics, losses, nn, optim
from fastnn.nn.module import evaluating
from networks import Plain, assert_same_loss

pytestmark = pytest.mark.usefixtures("restore_runtime")
COLUMNS = 5
SIZES = (1, 2, 7, 8, 15, 16, 17, 63, 64, 65, 100)
LONG = (511, 512, 513, 1025)  # beside and beyond a block of K (csrc/cpu/tile.h)
PACKED = (17, 63, 65, 100, *LONG)  # columns that are no whole lines, or rows in a few sets of the caches
# Rows: one block; two; more, of which the last is short.
ROWS = (1, 2, 16, 17, 32, 33, 48, 64, 97, 200)
WHOLE = 16  # rows that are one block
THREADS = (1, 2, 3, 8, 2, 1, 3)  # seven, so that each number of rows meets all of them
LONG_FORWARD = 400  # rows that a forward cuts into longer blocks


def network(width, out):
    """Its second weight is read in both directions, the first forward alone. Tanh leaves no zeros."""
    return nn.Sequential(nn.Linear(COLUMNS, width), nn.Tanh(), nn.Linear(width, out), nn.Tanh(), seed=0)


def trainer(model, **given):
    return fastnn.Trainer(model, losses.MSELoss(), optim.Adam(model.parameters(), lr=0.01), **given)


def pairs(width):
    """Sizes of a second weight that still leaves a network in blocks of rows; 65 is above every panel."""
    if width in LONG:
        return [(width, out) for out in (1, 16, 17, *((65,) if width <= 513 else ()))]
    return [(width, out) for out in (*SIZES, *LONG) if out <= 100 or width <= 17 or (width, out) == (65, 513)]


def on(isa, threads):
    fastnn.set_isa(isa)
    fastnn.set_num_threads(threads)


def batches(rng, out):
    for n in ROWS:
        yield rng.standard_normal((n, COLUMNS), np.float32), rng.standard_normal((n, out), np.float32)


@pytest.mark.parametrize("width", (*SIZES, *LONG))
def test_steps_are_the_plain_loop(width, isa, rng):
    threads = itertools.cycle(THREADS)
    for sizes in pairs(width):
        run, same = trainer(network(*sizes)), network(*sizes)
        other = Plain(same, losses.MSELoss(), optim.Adam(same.parameters(), lr=0.01))
        for x, y in batches(rng, sizes[1]):
            on(ISAS[0], 1)
            want = other.step(x, y)
            on(isa, next(threads))
            what = f"{sizes}, {len(x)} rows, {fastnn.get_num_threads()} threads"
            assert_same_loss(run.step(x, y), want, what)
            for mine, plain in zip(run.model.parameters(), same.parameters(), strict=True):
                assert_bits(mine.grad, plain.grad, what)
                assert_bits(mine.data, plain.data, what)


@pytest.mark.parametrize("width", (*SIZES, *LONG))
def test_predictions_are_those_of_the_layers(width, isa, rng):
    threads = itertools.cycle(THREADS)
    for sizes in pairs(width):
        run = trainer(network(*sizes))
        X = rng.standard_normal((LONG_FORWARD, COLUMNS), np.float32)
        on(ISAS[0], 1)
        with evaluating(run.model):
            want = run.model(X)
        for n in (*ROWS, LONG_FORWARD):
            on(isa, next(threads))
            got = run.predict(X[: 2 * n + 1], batch_size=n)
            assert_bits(got, want[: 2 * n + 1], f"{sizes}, batches of {n}")


# ---- that the cases above are packed


@pytest.fixture
def packed(capsys, monkeypatch):
    """The sizes of the weights that a step on n rows packs."""
    monkeypatch.setattr(_explain, "_TIMINGS", 1)
    monkeypatch.setattr(_explain, "_REPEATS", 1)
    monkeypatch.setattr(_explain, "_LIMIT_SECONDS", 1e-4)

    def of(run, n):
        run.explain(n)
        words = [line.split() for line in capsys.readouterr().out.splitlines()]
        return [line[line.index("pack_weight") + 1] for line in words if "pack_weight" in line]

    return of


@pytest.mark.parametrize("width", (*SIZES, *LONG))
def test_blocks_of_rows_are_what_is_packed_for(width, packed):
    for _, out in pairs(width):
        run = trainer(network(width, out))
        first, second = f"{COLUMNS}x{width}", f"{width}x{out}"
        # Forward what no instruction set reads in place, and the transpose that the gradient needs.
        want = [first] * (width in PACKED) + [second] * (out in PACKED) + [second]
        for n in (1, WHOLE, WHOLE + 1, 200):
            assert sorted(packed(run, n)) == sorted(want if n > WHOLE else []), (second, n)


def test_a_prediction_in_blocks_is_packed(rng):
    run = trainer(network(64, 17))
    for n in (WHOLE, WHOLE + 1):
        run.predict(rng.standard_normal((n, COLUMNS), np.float32))
        native = run._steps._forward._native
        # The first operation packs the second weight.
        assert [number for number, *_ in native.lines() if number < 1] == [0] * (n > WHOLE)


def test_without_blocks_nothing_is_packed(packed):
    large = nn.Sequential(nn.Linear(64, 600), nn.Tanh(), nn.Linear(600, 200), seed=0)
    assert packed(trainer(large), 200) == []
    assert packed(trainer(network(64, 64), precision="bfloat16"), 200) == []


def test_a_batch_in_one_block_has_no_room_for_panels():
    run = trainer(network(64, 64))
    sizes = [int(diagnostics.memory_plan(run, n)) for n in (WHOLE - 1, WHOLE, WHOLE + 1)]
    panels = 4 * 64 * 64  # of the transposed weight
    assert sizes[1] - sizes[0] < panels <= sizes[2] - sizes[1]
