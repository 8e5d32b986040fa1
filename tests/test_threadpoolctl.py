"""threadpoolctl's limits govern fastnn, whichever of the two is imported first."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.alone

pytest.importorskip("threadpoolctl")

BOTH = ["import fastnn, threadpoolctl", "import threadpoolctl, fastnn"]


def run(code):
    """The lines that the code prints in a process of its own."""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("imports", BOTH)
def test_limits_hold_inside_and_end_after(imports):
    code = f"""
{imports}
fastnn.set_num_threads(5)
with threadpoolctl.threadpool_limits(1):
    print(fastnn.get_num_threads())
    with threadpoolctl.threadpool_limits(3, user_api="fastnn"):
        print(fastnn.get_num_threads())
    print(fastnn.get_num_threads())
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        print(fastnn.get_num_threads())
print(fastnn.get_num_threads())
with threadpoolctl.threadpool_limits({{"fastnn": 2}}):
    print(fastnn.get_num_threads())
try:
    with threadpoolctl.threadpool_limits(4):
        raise KeyError
except KeyError:
    print(fastnn.get_num_threads())
"""
    assert run(code) == ["1", "3", "1", "1", "5", "2", "5"]


@pytest.mark.parametrize("imports", BOTH)
def test_a_limited_call_uses_that_many_threads(imports):
    """As the system counts them, and with the same bits."""
    code = f"""
{imports}
import os, time
import numpy as np
from fastnn import ops

x = np.random.default_rng(0).standard_normal((300, 300), np.float32)
def tasks():
    time.sleep(0.05)  # the system lists a thread for a moment after it was joined
    return len(os.listdir("/proc/self/task"))

fastnn.set_num_threads(1)
alone = tasks()
fastnn.set_num_threads(3)
free = ops.gemm(x, x)
print(tasks() - alone)
with threadpoolctl.threadpool_limits(1, user_api="fastnn"):
    print(np.array_equal(ops.gemm(x, x), free), tasks() - alone)
ops.gemm(x, x)
print(tasks() - alone)
"""
    assert run(code) == ["2", "True", "0", "2"]


@pytest.mark.parametrize("imports", BOTH)
def test_threadpool_info_lists_fastnn_once(imports):
    code = f"""
{imports}
fastnn.set_num_threads(2)
found = [i for i in threadpoolctl.threadpool_info() if i["internal_api"] == "fastnn"]
for i in found:
    print(i["user_api"], i["num_threads"], i["version"] == fastnn.__version__, "_core." in i["filepath"])
"""
    assert run(code) == ["fastnn", "2", "True", "True"]


@pytest.mark.parametrize("imports", BOTH)
def test_another_library_of_that_name_is_not_ours(imports, tmp_path):
    """Many packages call their compiled module _core."""
    code = f"""
{imports}
import ctypes, _ctypes, shutil
path = {str(tmp_path / "_core.so")!r}
shutil.copy(_ctypes.__file__, path)
library = ctypes.CDLL(path)
print(sum(i["internal_api"] == "fastnn" for i in threadpoolctl.threadpool_info()))
"""
    assert run(code) == ["1"]


def test_import_leaves_threadpoolctl_alone():
    """fastnn does not import it, finding it changes nothing, and the hook ends with its use."""
    code = """
import sys
before = list(sys.meta_path)
import fastnn
print("threadpoolctl" in sys.modules)
import importlib.util
print(importlib.util.find_spec("threadpoolctl").name, importlib.util.find_spec("no_such_module"))
import threadpoolctl
print(sys.meta_path == before, any(i["internal_api"] == "fastnn" for i in threadpoolctl.threadpool_info()))
import inspect
print(len(inspect.getsource(threadpoolctl)) > 1000)
"""
    assert run(code) == ["False", "threadpoolctl", "None", "True", "True", "True"]


def test_absent_or_old_threadpoolctl(tmp_path):
    """An import that fails fails as ever, and a later one of a version without `register` passes."""
    (tmp_path / "threadpoolctl.py").write_text("version = 2")
    code = f"""
import sys
import fastnn

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "threadpoolctl":
            raise ModuleNotFoundError(name)

sys.meta_path.append(Absent())
paths, sys.path[:] = list(sys.path), []
try:
    import threadpoolctl
except ModuleNotFoundError as error:
    print(error)
sys.path[:] = [{str(tmp_path)!r}, *paths]
import threadpoolctl
print(threadpoolctl.version)
"""
    assert run(code) == ["threadpoolctl", "2"]
