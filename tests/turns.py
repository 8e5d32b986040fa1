"""Several tests at a time (pytest-xdist), but those marked `alone` without any other beside them.

They look at the clock, at signals, or at the threads and the memory of their process. A test holds a lock on
one byte of a file that the workers share, `alone` for itself. Everyone comes in through a gate, a second
byte, at which whoever waits to be alone keeps out those that come later.
"""

import fcntl
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

_GATE, _ROOM = 0, 1
_files = {}


def _path(run):
    return Path(tempfile.gettempdir()) / f"fastnn-tests-{run}.lock"


def _file(run):
    if run not in _files:
        _files[run] = open(_path(run), "ab+")  # noqa: SIM115 (open until the worker ends)
    return _files[run]


@contextmanager
def turn(run, alone):
    """One test of a worker of the run."""
    file = _file(run)
    fcntl.lockf(file, fcntl.LOCK_EX, 1, _GATE)
    fcntl.lockf(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, 1, _ROOM)
    fcntl.lockf(file, fcntl.LOCK_UN, 1, _GATE)
    try:
        yield
    finally:
        fcntl.lockf(file, fcntl.LOCK_UN, 1, _ROOM)


def forget(run):
    """Remove the file, after the run."""
    _path(run).unlink(missing_ok=True)


def two_at_a_time(config):
    """The whole suite takes two processes where there are pytest-xdist and two cores."""
    asked = config.option
    whole = config.args_source is config.ArgsSource.TESTPATHS
    if (
        whole
        and config.pluginmanager.hasplugin("xdist")
        and not hasattr(config, "workerinput")
        and asked.numprocesses is None
        and "not slow" in asked.markexpr  # others may want all of the memory
        and asked.dist == "no"
        and not (asked.usepdb or asked.collectonly)
        and len(os.sched_getaffinity(0)) > 1
    ):
        asked.numprocesses, asked.dist = 2, "loadfile"
