"""The thread team: after fork, from several Python threads, with too many threads.

Whatever could hang or crash runs in an interpreter of its own, which is ended when it takes too long.
"""

import hashlib
import os
import signal
import threading
import time
import warnings

import fastnn
import guard
import numpy as np
import pytest
from fastnn import ops

pytestmark = pytest.mark.alone


def work(seed, steps=3):
    """A digest after a few steps of everything that opens a parallel region."""
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((200, 150), np.float32), rng.standard_normal((150, 170), np.float32)
    gamma, m, v = np.ones(170, np.float32), np.zeros_like(w), np.zeros_like(w)
    labels = rng.integers(0, 170, 200)
    for step in range(1, steps + 1):
        h = ops.gemm(x, w)
        y, mean, rstd = ops.batch_norm(h, gamma, gamma, activation="relu")
        _, dy = ops.softmax_cross_entropy(y, labels)
        dh, _, _ = ops.batch_norm_backward(dy, h, gamma, mean, rstd, activation="relu", y=y)
        _, dw, _ = ops.linear_backward(dh, x, w, need_dx=False)
        ops.adam_(w, dw, m, v, step=step)
    return hashlib.sha256(w.tobytes()).hexdigest()


def tasks():
    """Threads of this process that the system knows, which lists one for a moment after it was joined."""
    before, now = -1, len(os.listdir("/proc/self/task"))
    while now != before:
        time.sleep(0.01)
        before, now = now, len(os.listdir("/proc/self/task"))
    return now


# ---- fork --------------------------------------------------------------------------------------------------


def in_child(compute, seconds=30.0):
    """compute() in a forked child: its text, or AssertionError when the child dies or hangs."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # Python warns of forks beside threads: that is the test
        pid = os.fork()
    if pid == 0:
        try:
            os.write(write, compute().encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(write)
    end = time.monotonic() + seconds
    while (done := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError("the forked child hangs")
        time.sleep(0.01)
    assert done[1] == 0, f"the forked child ended with status {done[1]}"
    with os.fdopen(read) as pipe:
        return pipe.read()


def fork_case():
    """The team is used, then the process forks: the child trains and equals, and so does the parent later."""
    fastnn.set_num_threads(3)
    want = work(1, 10)
    assert in_child(lambda: work(1, 10)) == want
    assert work(1, 10) == want

    def resized():
        fastnn.set_num_threads(2)
        return in_child(lambda: work(1, 10))  # a grandchild

    assert in_child(resized) == want
    assert fastnn.get_num_threads() == 3


def many_forks_case():
    """A hundred children of a used team each run an operation with two threads."""
    fastnn.set_num_threads(2)
    a = np.random.default_rng(0).standard_normal((200, 200), np.float32)
    want = ops.gemm(a, a)

    def child():
        right = np.array_equal(ops.gemm(a, a), want)
        return f"{right} {tasks()}"

    for _ in range(100):
        assert in_child(child) == "True 2"  # the parent's worker is not there, the child has one of its own
    assert np.array_equal(ops.gemm(a, a), want)


def fork_while_busy_case():
    """Another thread is inside a kernel when the process forks: the child must not wait for it."""
    fastnn.set_num_threads(2)
    want = work(2)
    stop = threading.Event()

    def busy():
        a = np.ones((700, 700), np.float32)
        while not stop.is_set():
            ops.gemm(a, a)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(10):
            assert in_child(lambda: work(2)) == want
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("case", ["fork_case", "many_forks_case", "fork_while_busy_case"])
def test_fork(case):
    guard.run_isolated("test_team", case)


# ---- several Python threads --------------------------------------------------------------------------------


def python_threads_case(team):
    """8 Python threads, own arrays: each result is the serial one."""
    fastnn.set_num_threads(1)
    want = [work(seed) for seed in range(8)]
    fastnn.set_num_threads(team)
    got = [[] for _ in range(8)]
    start = threading.Barrier(8)

    def run(seed):
        start.wait()
        for _ in range(5):
            got[seed].append(work(seed))

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert got == [[digest] * 5 for digest in want]


def operations():
    """Eight operations, each on arrays of its own: name -> a call that gives its results."""
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((300, 200), np.float32), rng.standard_normal((200, 100), np.float32)
    dy, gamma = rng.standard_normal((300, 200), np.float32), rng.standard_normal(200, np.float32)
    mean, rstd = np.zeros(200, np.float32), np.ones(200, np.float32)
    state = np.abs(rng.standard_normal((4, 100_000), np.float32))
    labels = rng.integers(0, 200, 300)

    def update(rule, count, **options):
        arrays = [a.copy() for a in state[:count]]
        rule(*arrays, **options)
        return arrays

    return {
        "gemm": lambda: ops.gemm(x, w),
        "linear_backward": lambda: ops.linear_backward(x @ w, x, w),
        "activation": lambda: ops.activation_backward(dy, ops.activation(x, "relu"), "relu"),
        "batch_norm": lambda: ops.batch_norm(x, gamma, gamma, activation="relu"),
        "batch_norm_backward": lambda: ops.batch_norm_backward(dy, x, gamma, mean, rstd),
        "softmax_cross_entropy": lambda: ops.softmax_cross_entropy(x, labels),
        "momentum_": lambda: update(ops.momentum_, 3, lr=0.1),
        "adam_": lambda: update(ops.adam_, 4, step=3),
    }


def digest(result):
    arrays = result if isinstance(result, (tuple, list)) else (result,)
    return hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in arrays)).hexdigest()


def different_operations_case(team):
    """8 Python threads, each another operation again and again: the results of one thread alone."""
    fastnn.set_num_threads(1)
    calls = operations()
    want = {name: digest(call()) for name, call in calls.items()}
    fastnn.set_num_threads(team)
    got = {name: set() for name in calls}
    start = threading.Barrier(len(calls))

    def run(name, call):
        start.wait()
        for _ in range(100):
            got[name].add(digest(call()))

    threads = [threading.Thread(target=run, args=item) for item in calls.items()]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert got == {name: {one} for name, one in want.items()}


def changing_case():
    """The number of threads and the instruction set change while others compute: same bits, no crash."""
    want = work(4)
    stop = threading.Event()
    wrong = []

    def run():
        while not stop.is_set():
            if work(4) != want:
                wrong.append("bits")

    threads = [threading.Thread(target=run) for _ in range(3)]
    for t in threads:
        t.start()
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        for n in (1, 2, 4):
            fastnn.set_num_threads(n)
            for isa in fastnn.isas():
                fastnn.set_isa(isa)
    stop.set()
    for t in threads:
        t.join()
    assert not wrong


@pytest.mark.parametrize("team", [1, 2, 8])
def test_python_threads(team):
    guard.run_isolated("test_team", "python_threads_case", team)


@pytest.mark.parametrize("team", [1, 2, 8])
def test_different_operations_at_once(team):
    guard.run_isolated("test_team", "different_operations_case", team)


def test_threads_and_isa_change_while_others_compute():
    guard.run_isolated("test_team", "changing_case")


# ---- how many ----------------------------------------------------------------------------------------------


def count_case():
    """A team of n is n - 1 threads beside the caller; a smaller team ends the others."""
    fastnn.set_num_threads(1)
    work(0)
    alone = tasks()
    for n in (2, 5, 3, 1):
        fastnn.set_num_threads(n)
        work(0)
        assert tasks() == alone + n - 1, (n, tasks(), alone)


def test_number_of_threads():
    guard.run_isolated("test_team", "count_case")


def test_more_threads_than_cores(restore_runtime):
    """Many threads give the bits of one, and come to an end."""
    fastnn.set_num_threads(1)
    want = work(7)
    for n in (4 * (os.cpu_count() or 1), 64):
        fastnn.set_num_threads(n)
        assert work(7) == want


@pytest.mark.parametrize("n", [0, -1, 2**40])
def test_impossible_numbers_raise(n):
    before = fastnn.get_num_threads()
    with pytest.raises(ValueError, match=rf"set_num_threads.*{n}"):
        fastnn.set_num_threads(n)
    assert fastnn.get_num_threads() == before


@pytest.mark.parametrize("n", [1.5, "2", None, [2]], ids=repr)
def test_what_is_no_number_raises(n):
    with pytest.raises(TypeError, match="set_num_threads"):
        fastnn.set_num_threads(n)


def number_case():
    print(fastnn.get_num_threads())


UNSET = {"FASTNN_NUM_THREADS": "", "OMP_NUM_THREADS": ""}


@pytest.mark.parametrize(
    ("own", "omp", "want"), [("3", "", 3), ("3", "5", 3), ("", "5", 5), ("", "4,2", 4), ("1", "", 1)]
)
def test_environment(own, omp, want):
    env = {"FASTNN_NUM_THREADS": own, "OMP_NUM_THREADS": omp}
    assert int(guard.run_isolated("test_team", "number_case", env=env)) == want


@pytest.mark.parametrize("text", ["0", "-2", "two", "2.5", "2 x", "99999999999999999999"])
def test_a_wrong_environment_raises(text):
    with pytest.raises(AssertionError, match=r"FASTNN_NUM_THREADS is '"):
        guard.run_isolated("test_team", "number_case", env={**UNSET, "FASTNN_NUM_THREADS": text})


def test_default_is_what_the_process_may_use():
    allowed = os.sched_getaffinity(0)
    assert int(guard.run_isolated("test_team", "number_case", env=UNSET)) <= len(allowed)
    os.sched_setaffinity(0, {min(allowed)})  # of this thread, and of the processes it starts
    try:
        assert int(guard.run_isolated("test_team", "number_case", env=UNSET)) == 1
    finally:
        os.sched_setaffinity(0, allowed)
