"""Tests marked `alone` run without others beside them; `pytest` takes two processes for the whole suite."""

import os
import select
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import turns

RUN = """
import sys, turns
with turns.turn(sys.argv[1], sys.argv[2] == "alone"):
    print("in", flush=True)
    input()
"""


class Worker:
    """A process whose test begins, when it may, and ends when told to."""

    def __init__(self, run, how):
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, run, how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(turns.__file__).parent)},
        )

    def runs(self, seconds=20.0):
        return bool(select.select([self.process.stdout], [], [], seconds)[0])

    def end(self):
        self.process.communicate("\n", timeout=20)


@pytest.fixture
def start():
    run, workers = f"of-{os.getpid()}", []

    def new(how):
        workers.append(Worker(run, how))
        return workers[-1]

    yield new
    for worker in workers:
        worker.process.kill()
        worker.process.communicate()
    turns.forget(run)


def test_others_run_together(start):
    assert start("together").runs()
    assert start("together").runs()


def test_nothing_runs_beside_what_is_alone(start):
    alone = start("alone")
    assert alone.runs()
    other = start("together")
    assert not other.runs(0.3)
    alone.end()
    assert other.runs()


def test_who_waits_to_be_alone_is_not_overtaken(start):
    first = start("together")
    assert first.runs()
    alone = start("alone")
    assert not alone.runs(0.5)
    late = start("together")
    assert not late.runs(0.5)
    first.end()
    assert alone.runs()
    assert not late.runs(0.3)
    alone.end()
    assert late.runs()


SOURCE = pytest.Config.ArgsSource
ASKED = {
    "numprocesses": None,
    "dist": "no",
    "usepdb": False,
    "collectonly": False,
    "markexpr": "not slow and not heavy and not ci",
}


@pytest.mark.parametrize(
    ("changed", "source", "plugin", "cores", "want"),
    [
        ({}, SOURCE.TESTPATHS, True, 2, 2),
        ({}, SOURCE.TESTPATHS, True, 64, 2),
        ({}, SOURCE.TESTPATHS, True, 1, None),
        ({}, SOURCE.TESTPATHS, False, 2, None),
        ({}, SOURCE.ARGS, True, 2, None),
        ({"usepdb": True}, SOURCE.TESTPATHS, True, 2, None),
        ({"collectonly": True}, SOURCE.TESTPATHS, True, 2, None),
        ({"numprocesses": 0}, SOURCE.TESTPATHS, True, 2, 0),
        ({"dist": "loadscope"}, SOURCE.TESTPATHS, True, 2, None),
        ({"markexpr": "slow"}, SOURCE.TESTPATHS, True, 2, None),
    ],
)
def test_processes_of_a_run(monkeypatch, changed, source, plugin, cores, want):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    config = SimpleNamespace(
        option=SimpleNamespace(**{**ASKED, **changed}),
        args_source=source,
        ArgsSource=SOURCE,
        pluginmanager=SimpleNamespace(hasplugin=lambda name: plugin and name == "xdist"),
    )
    turns.two_at_a_time(config)
    assert config.option.numprocesses == want
    assert config.option.dist == ("loadfile" if want == 2 else {**ASKED, **changed}["dist"])
