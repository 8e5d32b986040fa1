"""The shim that runs csrc/cuda on this CPU: what it must catch, it catches."""

import ctypes
import signal
import subprocess
import sys

import numpy as np
import pytest
from cuda_shim import shim
from cuda_step_checks import USERS

pytestmark = pytest.mark.skipif(shim.compiler() is None, reason="no C++ compiler")

SCHEDULES = [shim.FORWARD, shim.BACKWARD, shim.MIXED]
REVERSE, NO_BARRIER, DIVERGENT, ABSENT_LANE, EARLY_END, LANES = range(6)
BLOCKS, LAST_ADDS = 7, 8


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    library = shim.build(folder, [shim.HERE / "planted.cu", shim.HERE / "shim.cpp"], name="planted")

    def run(kernel, schedule=shim.FORWARD):
        out = np.zeros(65, np.uint32)
        failure = ctypes.create_string_buffer(400)
        library.planted_run(
            kernel, ctypes.c_void_p(out.ctypes.data), schedule, failure, ctypes.c_size_t(len(failure))
        )
        return out, failure.value.decode()

    run.library, run.folder = library, folder
    return run


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_barrier_is_waited_for(planted, schedule):
    out, failure = planted(REVERSE, schedule)
    assert failure == ""
    assert out[:64].tolist() == list(range(64, 0, -1))


@pytest.mark.parametrize("schedule", [shim.FORWARD, shim.BACKWARD])
def test_a_removed_barrier_is_caught(planted, schedule):
    """Whoever runs first reads shared memory that nobody wrote: all ones, which is NaN."""
    out, _ = planted(NO_BARRIER, schedule)
    assert (out[:64] == 0xFFFFFFFF).sum() == 32


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kernel", [DIVERGENT, ABSENT_LANE])
def test_threads_that_wait_at_different_places_are_caught(planted, kernel, schedule):
    _, failure = planted(kernel, schedule)
    assert failure.startswith("divergent barrier"), failure
    assert planted(REVERSE, schedule)[1] == ""  # and the pool goes on


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ended_threads_are_not_waited_for(planted, schedule):
    out, failure = planted(EARLY_END, schedule)
    assert failure == ""
    assert out[:64].tolist() == [0, 1] * 32


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ballots_shuffles_and_atomics(planted, schedule):
    out, failure = planted(LANES, schedule)
    assert failure == ""
    assert out[:64].tolist() == [i ^ 1 for i in range(64)]
    assert out[64] == 64


def test_blocks_run_in_several_orders(planted):
    def order(schedule):
        return planted(BLOCKS, schedule)[0][:5].tolist()

    assert order(shim.FORWARD) == [0, 1, 2, 3, 4]
    assert order(shim.BACKWARD) == [4, 3, 2, 1, 0]
    drawn = [order(shim.MIXED) for _ in range(20)]
    assert all(sorted(one) == [0, 1, 2, 3, 4] for one in drawn)
    assert len({tuple(one) for one in drawn}) > 10


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_block_that_comes_last_sees_what_the_others_wrote(planted, schedule):
    assert planted(LAST_ADDS, schedule)[0][4] == 1 + 2 + 3 + 4


def test_a_graph_runs_in_every_order_that_it_leaves_open(planted):
    def run(order, joined=True):
        out = np.zeros(1, np.uint32)
        return planted.library.planted_graph(order, joined, ctypes.c_void_p(out.ctypes.data)), out[0]

    assert run(shim.EARLY) == (0, 3124)
    assert run(shim.LATE) == (0, 1234)
    assert {run(shim.DRAWN) for _ in range(50)} == {(0, 3124), (0, 1324), (0, 1234)}
    assert run(shim.EARLY, joined=False) == (904, 0)  # cudaErrorStreamCaptureUnjoined


def test_a_thread_that_neither_waits_nor_ends_stops_the_process(planted):
    """After one second here, where it is a hundred elsewhere."""
    command = [sys.executable, str(shim.HERE / "planted.py"), "endless", str(planted.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGABRT
    assert "shim: a thread of a kernel neither waits nor ends" in done.stderr


UNSEEN = [
    # before a tile counts itself as written: blocks run one after another here; ThreadSanitizer reports it
    ("gemm_tensor.cu", 2),
    ("gemm_tensor.cu", 5),  # before the rest of the rows, in which each thread writes to its own column
    ("update_norm.cu", 1),  # for a second round, in arrays past 2^33 elements
]
BARRIERS = [
    (source.name, number)
    for source in shim.KERNELS
    for number in range(len(shim.WAIT.findall(shim.text_of(source.name))))
    if (source.name, number) not in UNSEEN
]


def test_there_are_barriers():
    assert {name for name, _ in BARRIERS} == set(USERS)


@pytest.mark.heavy  # a build for each
@pytest.mark.parametrize(("name", "number"), BARRIERS)
def test_each_removed_barrier_of_a_kernel_changes_a_result(tmp_path, cuda_kernels, name, number):
    """A copy of the kernel without its n-th barrier or wait, in the three orders: one of them shows it."""
    text = shim.text_of(name)
    wait = list(shim.WAIT.finditer(text))[number]
    broken = tmp_path / name
    broken.write_text(text[: wait.start()] + text[wait.end() :])
    ready = [f for f in cuda_kernels.folder.glob("*.o") if f.stem != broken.stem]
    library = shim.Kernels(tmp_path / "build", [broken], ready)
    caught = []
    for schedule in SCHEDULES:
        try:
            USERS[name](library, schedule)
        except AssertionError as error:
            caught.append(str(error))
    assert caught
