"""What the package says of itself: info, show_config, the command line, the cost of the import."""

import os
import re
import subprocess
import sys

import fastnn
import numpy as np
import pytest
from fastnn import ops

pytestmark = pytest.mark.alone


def python(*arguments, **environment):
    """Run Python in a process of its own, without fastnn's variables but these."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("FASTNN_")}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def printed(code, **environment):
    done = python("-c", code, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_info_says_what_was_built_and_what_runs(restore_runtime):
    fastnn.set_num_threads(2)
    info = fastnn.info()
    for key in (
        "version",
        "build_id",
        "compiler",
        "flags",
        "isas_built",
        "isas_left_out",
        "cuda",
        "platform",
    ):
        assert key in info
    assert info["isas"] == fastnn.isas()
    assert set(info["isas"]) <= set(info["isas_built"])
    assert info["isa"] == fastnn.get_isa()
    assert info["threads"] == 2
    assert info["cpus"] == len(os.sched_getaffinity(0))
    assert info["numpy"] == np.__version__
    assert info["workspace_bytes"] >= 0
    assert info["version"] == fastnn.__version__


@pytest.mark.parametrize("n", [1.5, 2.0, "2", True, None, [2], np.float64(2), np.array([2, 3])], ids=repr)
def test_a_number_of_threads_that_is_no_whole_number(n):
    before = fastnn.get_num_threads()
    with pytest.raises(TypeError, match=r"^set_num_threads\(\): 'n' must be an integer, got ") as caught:
        fastnn.set_num_threads(n)
    assert str(caught.value).endswith(repr(n))
    assert fastnn.get_num_threads() == before


@pytest.mark.parametrize("n", [0, -1, 1025, 10**30, np.int64(-3)], ids=repr)
def test_a_number_of_threads_that_cannot_be(n):
    before = fastnn.get_num_threads()
    said = re.escape(f"set_num_threads(): 'n' must be from 1 to 1024, got {n!r}")
    with pytest.raises(ValueError, match=f"^{said}$"):
        fastnn.set_num_threads(n)
    assert fastnn.get_num_threads() == before


def test_threads_of_every_kind_of_whole_number(restore_runtime):
    for n in (np.int32(2), np.uint8(3), 1):
        fastnn.set_num_threads(n)
        assert fastnn.get_num_threads() == n


def test_show_config_prints_info(capsys):
    fastnn.show_config()
    lines = dict(
        line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if " " in line.strip()
    )
    assert lines["version"] == fastnn.__version__
    assert lines["isas"] == ", ".join(fastnn.isas())
    assert lines["cuda"]


def test_command_line_info():
    done = python("-m", "fastnn", "info")
    assert done.returncode == 0
    for key in ("version", "isas_built", "isa ", "threads", "cuda"):
        assert key in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["info", "more"]])
def test_a_wrong_command_line_gets_one_line(arguments):
    done = python("-m", "fastnn", *arguments)
    assert done.returncode == 2
    assert re.fullmatch(r"python -m fastnn.*: error: .*--help lists the options\n", done.stderr)


def test_import_brings_nothing_but_numpy():
    code = """
import sys
import numpy
before = set(sys.modules)
import fastnn
loaded = set(sys.modules) - before
print(*sorted({name.partition(".")[0] for name in loaded} - sys.stdlib_module_names - {"numpy"}))
print(*sorted({"fastnn.diagnostics", "fastnn.experiments", "fastnn._cli", "fastnn._cuda"} & loaded))
"""
    assert printed(code) == "fastnn"


def test_all_names_are_there():
    for module in (fastnn, ops, fastnn.nn, fastnn.losses, fastnn.optim, fastnn.data, fastnn.schedulers):
        for name in module.__all__:
            assert getattr(module, name) is not None
