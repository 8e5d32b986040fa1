"""Ctrl-C and signal handlers while a kernel runs; each case in an interpreter of its own."""

import os
import signal
import threading
import time

import fastnn
import guard
import numpy as np
import pytest
from fastnn import ops
from test_team import tasks, work

pytestmark = pytest.mark.alone

# Seconds in which a call must end; a sanitizer makes all of it slower (tests/tiers/sanitize.sh).
SOON = float(os.environ.get("FASTNN_TEST_SOON", "0.5"))


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


def check_soon(call):
    """Ctrl-C in the middle of call() is a KeyboardInterrupt within SOON.

    Seconds of this thread's own CPU time, in one of four tries: a loaded machine may let it wait for its turn
    any time longer. A thread that waits for a chunk of another one is busy too, so it counts.
    """
    late = []
    while len(late) < 4 and min(late, default=SOON) >= SOON:
        late.append(interrupted_after(call))
    assert min(late) < SOON, f"KeyboardInterrupt came {late} seconds after the signals"


def interrupted_after(call):
    """CPU seconds of this thread from a SIGINT in the middle of call() to its KeyboardInterrupt."""
    clock = time.pthread_getcpuclockid(threading.get_ident())
    sent = []

    def send():
        time.sleep(0.3)
        sent.append(time.clock_gettime(clock))
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        call()
    except KeyboardInterrupt:
        late = time.clock_gettime(clock) - sent[0]
    else:
        raise AssertionError("the call ended before the signal: the test is too small")
    finally:
        sender.join()
    return late


def interrupt_case(isa, threads):
    """Ctrl-C ends a long product within half a second, and the next call is right."""
    a, b = long_product(isa, threads)
    check_soon(lambda: ops.gemm(a, b))
    before = tasks()
    assert (ops.gemm(a[:100], b) == 4096.0).all()
    assert tasks() <= before


def deep_interrupt_case(isa):
    """The same for few rows and columns and a long sum: a chunk must not last long either."""
    fastnn.set_isa(isa)
    fastnn.set_num_threads(2)
    terms = 300_000 if isa == "scalar" else 8_000_000
    a = np.broadcast_to(np.ones((1, 1), np.float32), (192, terms))
    check_soon(lambda: [ops.gemm(a, a, trans_b=True) for _ in range(30)])


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

        check_soon(steps)
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
    guard.run_isolated("test_signals", "interrupt_case", isa, threads)


def test_interrupt_of_a_long_sum(isa):
    guard.run_isolated("test_signals", "deep_interrupt_case", isa)


def test_interrupt_leaves_no_half_step():
    guard.run_isolated("test_signals", "update_case")


def test_signal_handler_may_compute(isa):
    guard.run_isolated("test_signals", "nested_case", isa)
