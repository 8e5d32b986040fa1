"""The thread team: after fork, from several Python threads, under Ctrl-C, nested, with too many threads.

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
    """Threads of this process that the system knows."""
    return len(os.listdir("/proc/self/task"))


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
        finally:
            os._exit(0)
    os.close(write)
    end = time.monotonic() + seconds
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError("the forked child hangs")
        time.sleep(0.01)
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


@pytest.mark.parametrize("case", ["fork_case", "fork_while_busy_case"])
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


def test_threads_and_isa_change_while_others_compute():
    guard.run_isolated("test_team", "changing_case")


# ---- signals -----------------------------------------------------------------------------------------------


def long_product(isa, threads, seconds=10.0):
    """Operands of a product that lasts about that long here; a is one row, repeated with stride 0."""
    fastnn.set_isa(isa)
    fastnn.set_num_threads(threads)
    b = np.ones((4096, 1024), np.float32)
    rows = 8
    while True:
        a = np.broadcast_to(np.ones((1, 4096), np.float32), (rows, 4096))
        start = time.perf_counter()
        ops.gemm(a, b)
        spent = time.perf_counter() - start
        if spent > 0.1:
            break
        rows *= 2
    return np.broadcast_to(a[:1], (int(rows * seconds / spent), 4096)), b


def interrupted_after(call):
    """Seconds from a SIGINT in the middle of call() to its KeyboardInterrupt."""
    sent = []

    def send():
        time.sleep(0.3)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        call()
    except KeyboardInterrupt:
        late = time.monotonic() - sent[0]
    else:
        raise AssertionError("the call ended before the signal: the test is too small")
    finally:
        sender.join()
    return late


def interrupt_case(isa, threads):
    """Ctrl-C ends a long product within half a second, and the next call is right."""
    a, b = long_product(isa, threads)
    late = interrupted_after(lambda: ops.gemm(a, b))
    assert late < 0.5, f"KeyboardInterrupt came {late:.2f} s after the signal"
    before = tasks()
    assert (ops.gemm(a[:100], b) == 4096.0).all()
    assert tasks() <= before


def deep_interrupt_case(isa):
    """The same for few rows and columns and a long sum: a chunk must not last long either."""
    fastnn.set_isa(isa)
    fastnn.set_num_threads(2)
    terms = 300_000 if isa == "scalar" else 8_000_000
    a = np.broadcast_to(np.ones((1, 1), np.float32), (192, terms))
    late = interrupted_after(lambda: [ops.gemm(a, a, trans_b=True) for _ in range(30)])
    assert late < 0.5, f"KeyboardInterrupt came {late:.2f} s after the signal"


def update_case():
    """An optimizer step is never seen half done: all elements have made the same number of steps."""
    fastnn.set_num_threads(2)
    p, g, m, v = (np.full(1_000_000, x, np.float32) for x in (1.0, 0.5, 0.0, 0.0))
    params = [p[:400_000], p[400_000:]]
    for _ in range(3):

        def steps():
            for step in range(1, 1_000_000):
                halves = ([a[:400_000], a[400_000:]] for a in (g, m, v))
                ops.adam_(params, *halves, step=step)

        interrupted_after(steps)
        for a in (p, m, v):
            assert (a == a[0]).all()


def nested_case(isa):
    """A signal handler that computes while the interrupted call computes: both are right."""
    fastnn.set_isa(isa)
    fastnn.set_num_threads(2)
    want = work(6)
    inner = []
    signal.signal(signal.SIGALRM, lambda *_: inner.append(work(6)))
    rng = np.random.default_rng(0)
    size = 700 if isa == "scalar" else 2000
    a, b = rng.standard_normal((2, size, size), np.float32)
    plain = ops.gemm(a, b)
    for i in range(1, 6):
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        assert np.array_equal(ops.gemm(a, b), plain)
        assert inner == [want] * i


@pytest.mark.parametrize("threads", [1, 2])
def test_interrupt(isa, threads):
    guard.run_isolated("test_team", "interrupt_case", isa, threads)


def test_interrupt_of_a_long_sum(isa):
    guard.run_isolated("test_team", "deep_interrupt_case", isa)


def test_interrupt_leaves_no_half_step():
    guard.run_isolated("test_team", "update_case")


def test_signal_handler_may_compute(isa):
    guard.run_isolated("test_team", "nested_case", isa)


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
