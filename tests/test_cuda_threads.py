"""Python threads on a device: trainers side by side, waiting for another's steps, fit_many, Ctrl-C."""

import ctypes
import queue
import signal
import sys
import threading

import fake_cupy
import fastnn
import numpy as np
import pytest
from fastnn import _core, callbacks, losses, nn, optim
from networks import assert_same_course
from runs import StopAt, assert_equal_tree, assert_same_run, build
from small import assert_same_model, labelled_rows
from test_fit_many import own_loss, several, stops, with_layer
from test_trainer_safety import together

pytestmark = pytest.mark.usefixtures("device", "restore_runtime")
ROWS = labelled_rows()


@pytest.fixture(autouse=True)
def often():
    """Threads change places as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def on_device(runs):
    for run in runs:
        run.model.to("cuda")
    return runs


def many_rows(times):
    return tuple(np.tile(array, (times, 1)[: array.ndim]) for array in ROWS)


def test_trainers_in_threads_of_their_own():
    """By fits and by queued steps they give what they give one after the other."""

    def fit(run):
        run.fit(*ROWS, batch_size=10, epochs=3, progress=False)
        run.evaluate(*ROWS)

    def steps(run):
        for _ in range(12):
            run.step(ROWS[0][:9], ROWS[1][:9])
        run.predict(ROWS[0])

    works = (fit, steps, fit, steps)
    beside, alone = ([build(seed=seed, device="cuda") for seed in range(4)] for _ in range(2))
    together([lambda w=work, r=run: w(r) for work, run in zip(works, beside, strict=True)])
    for work, one, other in zip(works, beside, alone, strict=True):
        work(other)
        assert_same_course(one, other)


def test_another_thread_waits_for_queued_steps():
    run, host = build(device="cuda"), build()
    queued, found = queue.SimpleQueue(), []

    def train():
        for _ in range(40):
            queued.put(run.step(ROWS[0][:9], ROWS[1][:9]))
        queued.put(None)

    together([train, lambda: found.extend(float(loss) for loss in iter(queued.get, None))])
    assert found == [host.step(ROWS[0][:9], ROWS[1][:9]) for _ in range(40)]
    assert_same_course(run, host)


def test_fit_many(tmp_path):
    """The bits of fits of their own, and of the CPU: callbacks, stops and a loss of one's own too."""
    fastnn.set_num_threads(3)
    beside, alone, host = ([*several(), with_layer(nn.Tanh(), own_loss)] for _ in range(3))
    on_device(beside), on_device(alone)
    given, twins, hosts = ([*stops(tmp_path / name), []] for name in ("beside", "alone", "host"))
    given[3], twins[3] = [], []  # its reports are the CPU's
    options = {"batch_size": 16, "epochs": 4, "validation": ROWS}
    fastnn.fit_many(beside, *ROWS, callbacks=given, **options)
    for run, twin, other, own, theirs, others in zip(beside, alone, host, given, twins, hosts, strict=True):
        assert run.device == twin.device == "cuda"
        twin.fit(*ROWS, callbacks=theirs, progress=False, **options)
        other.fit(*ROWS, callbacks=others, progress=False, **options)
        assert_same_run(run, twin)
        assert_same_model(run, other)
        for callback, same in zip(own, theirs, strict=True):
            assert_equal_tree(callback.state_dict(), same.state_dict())


def test_fit_many_on_both_places_and_with_rows_there():
    """Each is trained where its model is; rows on the device are for those there."""
    mixed, host = [build(device="cuda"), build()], build()
    options = {"batch_size": 16, "epochs": 2}
    fastnn.fit_many(mixed, *ROWS, **options)
    there = [build(device="cuda") for _ in range(3)]
    fastnn.fit_many(there, *map(fake_cupy.asarray, ROWS), **options)
    host.fit(*ROWS, progress=False, **options)
    for run in (*mixed, *there):
        assert_same_run(run, host)
    with pytest.raises(TypeError, match=r"X lies on a CUDA device and the model on the CPU"):
        fastnn.fit_many(mixed, *map(fake_cupy.asarray, ROWS), **options)


def test_rows_of_the_host_are_copied_for_each():
    X, Y = many_rows(10)
    moved = []
    for rows in ((X, Y), tuple(map(fake_cupy.asarray, (X, Y)))):
        runs = [build(device="cuda") for _ in range(2)]
        before = fastnn.cuda.transfer_bytes().to_device
        fastnn.fit_many(runs, *rows, batch_size=100, epochs=1)
        moved.append(fastnn.cuda.transfer_bytes().to_device - before)
    assert moved[0] - moved[1] == 2 * (X.nbytes + Y.nbytes)


def test_fit_many_takes_the_callers_device_and_stream():
    class Where(callbacks.Callback):
        def on_fit_begin(self, trainer):
            self.found = fake_cupy.cuda.runtime.getDevice(), fake_cupy.cuda.get_current_stream().ptr

    memory = (ctypes.c_char * 64)()  # a stream of the shim that captures nothing
    number = ctypes.addressof(memory)
    runs, seen = [build(device="cuda") for _ in range(3)], [Where() for _ in range(3)]
    fastnn.set_num_threads(2)
    fake_cupy.Device(1).use()
    fake_cupy.Stream(number).use()
    try:
        fastnn.fit_many(runs, *ROWS, batch_size=16, epochs=1, callbacks=[[one] for one in seen])
    finally:
        fake_cupy.Device(0).use()
        fake_cupy.stream.use()
    assert [one.found for one in seen] == [(1, number)] * 3


def test_an_error_of_one_is_raised_when_all_have_ended():
    narrow = nn.Sequential(nn.Linear(6, 2), seed=0)
    made = optim.SGD(narrow.parameters(), 0.1)
    bad = fastnn.Trainer(narrow, losses.CrossEntropyLoss(), made, device="cuda")
    good = build(device="cuda")
    fastnn.set_num_threads(2)
    with pytest.raises(ValueError, match=r"Y\[\d+\] is 2"):
        fastnn.fit_many([bad, good], *ROWS, batch_size=16, epochs=3)
    assert good.epoch == 3


def test_an_evaluation_is_of_all_rows_whatever_ends_the_fits_beside_it():
    X, Y = map(fake_cupy.asarray, many_rows(100))
    run = build(device="cuda")
    want = run.evaluate(X, Y, batch_size=20)
    _core.stop_steps(True)
    try:
        assert run.evaluate(X, Y, batch_size=20) == want
    finally:
        _core.stop_steps(False)


@pytest.mark.parametrize("many", [False, True])
def test_ctrl_c_ends_a_fit_inside_an_epoch(many):
    """After whole steps; those that were not queued are not."""
    X, Y = many_rows(400)
    fit = {"batch_size": 2, "epochs": 1, "progress": False}
    run, host = build("SGD", device="cuda"), build("SGD")
    fastnn.set_num_threads(2)

    def begin():
        if many:
            fastnn.fit_many([run, build(device="cuda")], X, Y, batch_size=2, epochs=1)
        else:
            run.fit(X, Y, **fit)

    main = threading.main_thread().ident
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            begin()
    finally:
        signal.signal(signal.SIGINT, old)
    steps = run.optimizer.step_count
    assert steps < len(X) // 2
    if steps:
        host.fit(X, Y, callbacks=[StopAt(steps)], **fit)
    assert_same_model(run, host)
