"""A file is written whole or not at all: full disks, kill -9 at any moment, several writers, links."""

import errno
import fcntl
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import fastnn
import numpy as np
import pytest
from fastnn import callbacks, losses, nn, optim
from runs import assert_same_run
from small import labelled_rows, network

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[1]


@pytest.fixture
def path(tmp_path):
    """A file with an older model."""
    path = tmp_path / "model.safetensors"
    fastnn.save(path, network(seed=1))
    return path


def assert_as_it_was(path, before):
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


# ---- errors while writing


@pytest.mark.parametrize("function", ["write", "fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_an_error_leaves_the_old_file_and_no_other(path, monkeypatch, function, code):
    before = path.read_bytes()
    real, calls = getattr(os, function), []

    def fails(*arguments):
        calls.append(arguments)
        if function == "write" and len(calls) < 3:  # some of it gets through
            return real(arguments[0], arguments[1][:50])
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, function, fails)
    with pytest.raises(OSError, match=r"save: .*; .*model\.safetensors is as it was") as caught:
        fastnn.save(path, network(seed=2))
    assert caught.value.errno == code
    monkeypatch.undo()
    assert_as_it_was(path, before)
    fastnn.save(path, network(seed=2))
    assert path.read_bytes() != before


def test_ctrl_c_while_writing(path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        fastnn.save(path, network(seed=2))
    assert_as_it_was(path, before)


def test_a_file_larger_than_the_system_allows(path):
    """A real limit: the kernel refuses the write in its middle."""
    before = path.read_bytes()
    code = (
        "import resource, sys, fastnn; from fastnn import nn\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try: fastnn.save(sys.argv[1], nn.Linear(100, 100))\n"
        "except OSError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert "File too large; " in done.stdout
    assert_as_it_was(path, before)


def test_a_folder_that_cannot_be_written(path):
    if os.getuid() == 0:
        pytest.skip("root may write everywhere")
    path.parent.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match=r"save: .* is as it was"):
            fastnn.save(path, network(seed=2))
    finally:
        path.parent.chmod(0o700)


# ---- names, links, other writers


def test_mode_and_links(path, tmp_path):
    umask = os.umask(0o027)
    try:
        fastnn.save(tmp_path / "new", network())
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    (tmp_path / "new").chmod(0o600)
    fastnn.save(tmp_path / "new", network(seed=3))
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
    inner = tmp_path / "inner"
    inner.mkdir()
    link = inner / "link"
    link.symlink_to(path)
    fastnn.save(link, network(seed=7))
    assert link.is_symlink()
    assert [file.name for file in inner.iterdir()] == ["link"]
    assert fastnn.load(path)[0].weight.data[0, 0] == network(seed=7)[0].weight.data[0, 0]


def test_a_pipe_or_a_device_is_not_replaced(tmp_path):
    """A rename over /dev/null would take it from the whole machine."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "link"):
        with pytest.raises(
            ValueError, match=rf"save: .*{name} is no regular file; give the name of a new one"
        ):
            fastnn.save(tmp_path / name, network())
    assert (tmp_path / "pipe").is_fifo()
    assert len(list(tmp_path.iterdir())) == 2


def test_only_unfinished_files_of_the_dead_are_swept(path):
    folder = path.parent
    dead, alive, other = (
        folder / name for name in (f".fastnn-{'0' * 16}.tmp", f".fastnn-{'1' * 16}.tmp", ".fastnn-notes.tmp")
    )
    for file in (dead, alive, other):
        file.write_bytes(b"x")
    with open(alive, "rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        fastnn.save(path, network())
        assert {file.name for file in folder.iterdir()} == {path.name, alive.name, other.name}
    fastnn.save(path, network())
    assert {file.name for file in folder.iterdir()} == {path.name, other.name}


def test_several_writers_of_one_file(path):
    errors = []

    def write(seed):
        try:
            for _ in range(25):
                fastnn.save(path, network(seed))
                fastnn.load(path)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert_as_it_was(path, path.read_bytes())


# ---- kill -9


def build():
    hidden = nn.Linear(6, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3)
    model = nn.Sequential(*hidden, nn.Linear(16, 3), seed=3)
    return fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters()))


class Ballast(callbacks.Callback):
    """Four megabytes of state: most of the time goes into saving."""

    def state_dict(self):
        return {"ballast": np.zeros(1_000_000, np.float32)}


class Telling(callbacks.Checkpoint):
    """Says which epoch is safe."""

    def on_epoch_end(self, trainer, logs):
        super().on_epoch_end(trainer, logs)
        print(trainer.epoch, flush=True)


def start(folder, epochs):
    """What a program does that may be killed: go on from the latest file, or begin."""
    run, checkpoint = build(), Telling(folder, keep=2)
    latest = checkpoint.latest()
    if latest is not None:
        run.load(latest)
    print(run.epoch, flush=True)
    if epochs > run.epoch:
        run.fit(*labelled_rows(), batch_size=16, epochs=epochs - run.epoch, callbacks=[Ballast(), checkpoint])
    return run


def killed(folder, delay):
    """The epochs that a process said were safe before it was killed, `delay` seconds after its start."""
    code = (
        "import sys; sys.path.insert(0, 'tests'); import test_saving_atomic\n"
        f"test_saving_atomic.start({str(folder)!r}, 10**9)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        said = [child.stdout.readline()]
        time.sleep(delay)
        child.kill()
        said += child.stdout.readlines()
    assert child.returncode == -signal.SIGKILL
    return [int(line) for line in said if line.endswith("\n")]


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.heavy)])
def test_kill_at_any_moment_loses_nothing(kills, tmp_path):
    """Every finished file is there and whole, the run goes on, and its end is that of one without a kill."""
    rng, inside = random.Random(kills), set()
    for _ in range(kills):
        said = killed(tmp_path, rng.uniform(0, 0.2))
        names = [file.name for file in tmp_path.iterdir()]
        litter = [name for name in names if name.endswith(".tmp")]
        assert len(litter) <= 1, "the start did not sweep what the kill before left"
        inside.update(litter)
        latest = callbacks.Checkpoint(tmp_path).latest()
        run = build()
        if latest is not None:
            run.load(latest)
        assert run.epoch >= max(said), "a finished checkpoint is lost"
        for name in set(names) - set(litter):
            fastnn.load(tmp_path / name)
    assert inside or kills < 100, "no kill fell into a save"
    print(f"{len(inside)} of {kills} kills fell into a save; {run.epoch} epochs")
    whole = build()
    whole.fit(*labelled_rows(), batch_size=16, epochs=run.epoch + 2)
    assert_same_run(start(tmp_path, run.epoch + 2), whole)
    assert len(list(tmp_path.iterdir())) == 2
