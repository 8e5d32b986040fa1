"""The update rules: a table of cases, each within 2 ULP of the largest term of its sums, a step."""

import sys
from dataclasses import dataclass

import bounds
import fastnn
import guard
import layouts
import numpy as np
import pytest
import reference as ref
import shapes
from bounds import assert_bits, assert_within
from fastnn import ops


@dataclass(frozen=True)
class Case:
    """One rule with its numbers; `slots` start as zeros except where `positive` asks for squares."""

    rule: str
    numbers: dict
    slots: int
    positive: tuple = ()

    def __str__(self):
        return self.rule + "".join(f"-{k}={v}" for k, v in self.numbers.items())

    @property
    def stepwise(self):
        return self.rule == "adam"

    def update(self, *arrays, step):
        numbers = {**self.numbers, "step": step} if self.stepwise else self.numbers
        return getattr(ops, self.rule + "_")(*arrays, **numbers)

    def want(self, *arrays, step):
        """(new values, their bounds) of all arrays but the gradient."""
        numbers = {**self.numbers, "step": step} if self.stepwise else self.numbers
        new = getattr(ref, self.rule)(*arrays, **numbers)
        return new, getattr(bounds, self.rule + "_bounds")(*arrays, **numbers)

    def draw(self, rng, shape, *, zero_state=False):
        """param, grad, slots."""
        arrays = [rng.standard_normal(shape, np.float32) for _ in range(2 + self.slots)]
        for i in self.positive:
            arrays[2 + i] = np.square(arrays[2 + i])
        if zero_state:
            for slot in arrays[2:]:
                slot.fill(0.0)
        return arrays


CASES = [
    Case("sgd", {"lr": 0.1}, 0),
    Case("sgd", {"lr": 0.0}, 0),
    *(
        Case("momentum", {"lr": 0.05, "momentum": mu, "nesterov": nesterov, "style": style}, 1)
        for mu in (0.9, 0.0)
        for nesterov in (False, True)
        for style in ("buffer", "velocity")
    ),
    Case("rmsprop", {"lr": 1e-2}, 1, (0,)),
    Case("rmsprop", {"lr": 1e-3, "rho": 0.99, "eps": 1e-3}, 1, (0,)),
    Case("adagrad", {"lr": 1e-2}, 1, (0,)),
    Case("adagrad", {"lr": 0.5, "eps": 1e-3}, 1, (0,)),
    Case("adam", {}, 2, (1,)),
    Case("adam", {"lr": 0.01, "beta1": 0.5, "beta2": 0.9, "eps": 1e-4}, 2, (1,)),
    Case("adam", {"beta1": 0.0, "beta2": 0.0}, 2, (1,)),
    Case("adam", {"weight_decay": 0.1}, 2, (1,)),
    Case("adam", {"lr": 0.01, "weight_decay": 0.1, "decoupled": True}, 2, (1,)),
]

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


def check_step(case, arrays, step, what=""):
    """One native step on `arrays`, compared with the reference from the same start."""
    want, limits = case.want(*arrays, step=step)
    grad = arrays[1].copy()
    assert case.update(*arrays, step=step) is None
    assert_bits(arrays[1], grad, "the gradient is only read")
    changed = [arrays[0], *arrays[2:]]
    for i, (got, w, limit) in enumerate(zip(changed, want, limits, strict=True)):
        assert_within(got, w, limit, f"{case} step {step} array {i} {what}")


def test_lengths(isa, rng, case):
    for n in shapes.LENGTHS:
        check_step(case, case.draw(rng, n), 3, f"length {n}")


def test_many_steps(isa, rng, case):
    """Each step starts from the kernel's own state, so the bound is that of one step."""
    arrays = case.draw(rng, 1000, zero_state=True)
    for step in (*range(1, 40), 1000, 10**6, 2**31, 2**40):
        arrays[1][:] = rng.standard_normal(1000, np.float32) * np.float32(10.0 ** rng.integers(-6, 3))
        check_step(case, arrays, step)


def test_gradients_of_every_size(isa, rng, case):
    """Zero, tiny and huge gradients side by side, on parameters of every size."""
    arrays = case.draw(rng, 4096, zero_state=True)
    for a in arrays[:2]:
        a *= (10.0 ** rng.uniform(-8, 4, 4096)).astype(np.float32)
    arrays[1][::9] = 0.0
    check_step(case, arrays, 1)


@pytest.mark.parametrize("shape", [(), (1,), (3, 0), (7, 9), (2, 3, 4, 5)], ids=str)
def test_any_number_of_dimensions(isa, rng, case, shape):
    check_step(case, [np.array(a, np.float32) for a in case.draw(rng, shape)], 2)


def test_list_equals_one_by_one_bit_for_bit(isa, rng, case):
    """A list is one native call; where an array stands in it changes nothing."""
    lengths = [(5,), (17000,), (3, 4), (0,), (1,), (16384,), (100, 70)]
    rows = [case.draw(rng, shape) for shape in lengths]
    single = [[a.copy() for a in row] for row in rows]
    for row in single:
        case.update(*row, step=7)
    columns = [list(c) for c in zip(*rows, strict=True)]
    case.update(*columns, step=7)
    for row, one in zip(rows, single, strict=True):
        for got, want in zip(row, one, strict=True):
            assert_bits(got, want)
    case.update(*(tuple(c) for c in columns), step=8)
    case.update(*([] for _ in columns), step=1)


def test_alignment_does_not_change_bits(isa, rng, case):
    plain = case.draw(rng, 1030)
    start = [a.copy() for a in plain]
    case.update(*plain, step=2)
    for make in (layouts.cache_aligned, layouts.off_by_one_element):
        moved = [make(a) for a in start]
        case.update(*moved, step=2)
        for got, want in zip(moved, plain, strict=True):
            assert_bits(got, want)


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_gradient_layouts(isa, rng, case, layout):
    """The gradient is only read, so it may lie anyhow."""
    arrays = case.draw(rng, (20, 30))
    arrays[1] = layouts.LAYOUTS[layout](arrays[1])
    plain = [np.array(a) for a in arrays]
    case.update(*plain, step=2)
    case.update(*arrays, step=2)
    for got, want in zip(arrays, plain, strict=True):
        assert_bits(got, want)


def test_nan_and_infinity_stay_in_their_element(isa, rng, case):
    arrays = case.draw(rng, 50)
    arrays[1][7], arrays[1][20] = np.nan, np.inf
    case.update(*arrays, step=1)
    assert np.array_equal(np.flatnonzero(~np.isfinite(arrays[0])), [7, 20]) or case.numbers.get("lr") == 0.0


def test_every_number_of_threads(isa, threads, rng, case):
    check_step(case, case.draw(rng, 150_001), 5)


def test_numbers_of_numpy_are_numbers(isa, rng):
    one, two = np.ones(3, np.float32), np.ones(3, np.float32)
    ops.sgd_(one, np.ones(3, np.float32), lr=np.float64(0.5))
    ops.sgd_(two, np.ones(3, np.float32), lr=np.float32(0.5))
    assert_bits(one, two)
    ops.sgd_(one, np.ones(3, np.float32), lr=1)
    state = np.zeros((2, 3), np.float32)
    ops.adam_(one, two, *state, step=np.int64(1))


def guard_cases(isa):
    fastnn.set_isa(isa)
    rng = np.random.default_rng(0)
    for case in CASES:
        for n in (1, 7, 8, 9, 15, 16, 17, 31, 33, 100, 1025, 16385):
            arrays = case.draw(rng, n)
            want = [a.copy() for a in arrays]
            case.update(*want, step=3)
            for ends in zip(*map(guard.both_ends, arrays), strict=True):
                print(f"{case} {n}, page at the {ends[0][0]}", file=sys.stderr, flush=True)
                guarded = [a for _, a in ends]
                case.update(*guarded, step=3)
                for got, w in zip(guarded, want, strict=True):
                    assert_bits(got, w)


def test_guard_pages(isa):
    guard.run_isolated("test_updates", "guard_cases", isa)
