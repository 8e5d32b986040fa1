"""Every array of every function of `ops`, and every result it allocates, beside a forbidden page."""

import sys

import fastnn
import guard
import numpy as np
import pytest
from bounds import assert_bits
from draws import Source
from kernel_rows import ROWS

EXAMPLES = 25  # of each function, half of them in strange layouts


def guarded_cases(isa):
    """Results on guarded memory are those on ordinary memory, for drawn examples of every function."""
    fastnn.set_isa(isa)
    for name, row in ROWS.items():
        for seed in range(EXAMPLES):
            fastnn.set_num_threads(1 + seed % 3)
            example = row(Source(integers(seed), layouts=seed % 2 == 1))
            arrays = {**example.inputs, **example.outputs}
            want = example.call(**{key: np.array(a) for key, a in arrays.items()})
            shapes = {key: a.shape for key, a in arrays.items()}
            for where in guard.ENDS:
                print(f"{name}, seed {seed}, {shapes}, page at the {where}", file=sys.stderr, flush=True)
                with guard.allocations(where):  # the same example once more, in guarded memory
                    guarded = row(Source(integers(seed), layouts=seed % 2 == 1))
                    got = guarded.call(**guarded.inputs, **guarded.outputs)
                for g, w in zip(got, want, strict=True):
                    assert_bits(g, w)


def integers(seed):
    rng = np.random.default_rng(seed)
    return lambda low, high: int(rng.integers(low, high + 1))


def test_guard_pages(isa):
    guard.run_isolated("test_guard_pages", "guarded_cases", isa)


# ---- the guard itself --------------------------------------------------------------------------------------


def read_beside(where, index):
    """For a subprocess: read one float of an array that NumPy allocated."""
    import ctypes

    with guard.allocations(where):
        x = np.ones(5, np.float32) + np.float32(1.0)
    assert (np.concatenate([x, x]) == 2.0).all()
    print(ctypes.c_float.from_address(x.ctypes.data + 4 * index).value)


@pytest.mark.parametrize(("where", "inside", "outside"), [("end", 4, 5), ("start", 0, -1)])
def test_a_stray_read_of_an_allocation_dies(where, inside, outside):
    assert guard.run_isolated("test_guard_pages", "read_beside", where, inside).strip() == "2.0"
    with pytest.raises(AssertionError, match="SIGSEGV"):
        guard.run_isolated("test_guard_pages", "read_beside", where, outside)


def allocation_cases():
    """Growing, shrinking, empty and zeroed arrays live in guarded memory as elsewhere, and give it back."""
    for where in guard.ENDS:
        kept = len(guard._ALLOCATORS[where].maps)
        with guard.allocations(where):
            x = np.arange(3.0)
            x.resize(2000, refcheck=False)
            assert (x[:3] == [0, 1, 2]).all()
            assert not x[3:].any()
            assert not np.zeros((50, 50)).any()
            assert np.isnan(np.empty(7, np.float32)).all()
            assert np.empty((0, 3)).size == 0
            assert len(guard._ALLOCATORS[where].maps) > kept
        del x
        assert len(guard._ALLOCATORS[where].maps) == kept


def test_allocations():
    guard.run_isolated("test_guard_pages", "allocation_cases")
