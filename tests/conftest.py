"""Fixtures every test file shares: the instruction set, the number of threads, random numbers."""

import contextlib
import fcntl
import os
import platform
import re
import signal
import sys
import zlib

import device_places
import fastnn
import numpy as np
import pytest
import scarce
import turns
from fastnn import _device

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # a machine with a GPU (bench/gpu_check.sh); what needs it says so
    settings = None

# A shell starts background jobs with SIGINT ignored, and Python leaves it so: Ctrl-C could not be tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# "short" runs the same examples every time; "long" is a search (docs/reliability.md).
if settings is not None:
    _ANY = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}
    settings.register_profile("short", max_examples=30, derandomize=True, **_ANY)
    settings.register_profile("long", max_examples=3000, **_ANY)
    settings.load_profile("short")

# FASTNN_ISA set outside (a forced-ISA run) limits the tests to that one.
ISAS = [os.environ["FASTNN_ISA"]] if os.environ.get("FASTNN_ISA") else fastnn.isas()
PASSED = pytest.StashKey[bool]()  # of a test
THREADS = (1, 2, 3, 8)

# Where tests compute: this CPU, a device that the shim runs on it, a GPU. A forced ISA is the CPU's.
PLACES = ["cpu"] if os.environ.get("FASTNN_ISA") else ["cpu", "shim", "gpu"]


def _cpu_name():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    turns.two_at_a_time(config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    worker = getattr(item.config, "workerinput", None)
    if worker is None:
        return (yield)
    with turns.turn(worker["testrunuid"], item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """On a device: no test marked `host`, and each with one instruction set and number of threads.

    Where there is no GPU test_places.py alone says so.
    """
    first, no_gpu = {"isa": ISAS[0], "threads": THREADS[0]}, device_places.missing("CuPy")
    kept = []
    for item in items:
        given = getattr(getattr(item, "callspec", None), "params", {})
        where = given.get("place", "cpu")
        if where == "cpu" or (
            not item.get_closest_marker("host")
            and all(given.get(name, first[name]) == first[name] for name in first)
            and not (where == "gpu" and no_gpu and item.path.name != "test_places.py")
        ):
            kept.append(item)
        if where == "shim" and item.get_closest_marker("slow_on_shim"):
            item.add_marker(pytest.mark.ci)
    items[:] = kept


def pytest_unconfigure(config):
    if hasattr(config, "workerinput"):
        turns.forget(config.workerinput["testrunuid"])


def pytest_report_header():
    config = fastnn.info()
    return [
        f"cpu: {_cpu_name()}, {len(os.sched_getaffinity(0))} usable",
        f"fastnn {config['version']}: tested ISAs {', '.join(ISAS)} (built: {config['isas_built']}), "
        f"{fastnn.get_num_threads()} threads",
        f"python {sys.version.split()[0]}, numpy {np.__version__}",
    ]


@pytest.fixture(scope="session")
def isas():
    """The names of the instruction sets under test, best first."""
    return list(ISAS)


@pytest.fixture(params=ISAS)
def isa(request):
    """Each instruction set in turn, active during the test."""
    previous = fastnn.get_isa()
    fastnn.set_isa(request.param)
    yield request.param
    fastnn.set_isa(previous)


@pytest.fixture(params=THREADS)
def threads(request):
    """Each number of threads in turn, active during the test."""
    previous = fastnn.get_num_threads()
    fastnn.set_num_threads(request.param)
    yield request.param
    fastnn.set_num_threads(previous)


@pytest.fixture
def rng(request):
    """Random numbers of this test alone, the same in every run and place, whatever other tests run."""
    places = "|".join(PLACES)
    name = re.sub(rf"(?<=\[)({places})-|-({places})(?=[-\]])|\[({places})\]$", "", request.node.nodeid)
    return np.random.default_rng(zlib.crc32(name.encode()))


@pytest.fixture
def restore_runtime():
    """Give back the instruction set and the number of threads that a test changes itself."""
    isa, threads = fastnn.get_isa(), fastnn.get_num_threads()
    yield
    fastnn.set_isa(isa)
    fastnn.set_num_threads(threads)


@pytest.fixture(scope="session")
def scarce_library(tmp_path_factory):
    """The path of the library that makes allocations fail (scarce.py)."""
    if scarce.COMPILER is None:
        pytest.skip("needs a C compiler")
    path = tmp_path_factory.mktemp("scarce") / "libscarce.so"
    scarce.build(path)
    return str(path)


@pytest.fixture(scope="session")
def cuda_kernels(tmp_path_factory):
    """The kernels of csrc/cuda, compiled for this CPU (tests/cuda_shim)."""
    from cuda_shim import shim

    if shim.compiler() is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with one_build(folder):
        return shim.Kernels(folder / "cuda_kernels")


@pytest.fixture(scope="session")
def kernels_with_cublaslt(cuda_kernels):
    """The same where there is a stand-in for cuBLASLt."""
    from cuda_shim import shim

    with one_build(cuda_kernels.folder.parent):
        return shim.with_cublaslt(cuda_kernels)


@contextlib.contextmanager
def one_build(folder):
    """One for all workers."""
    with open(folder / "cuda_kernels.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def device(monkeypatch, cuda_kernels):
    """Trainer(device="cuda") on the shim."""
    import shimmed

    shimmed.install(monkeypatch, cuda_kernels.library)
    return cuda_kernels


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed  # neither failed nor skipped, for want of a peer
    return report


@pytest.fixture(params=PLACES)
def place(request, monkeypatch):
    """Where the test computes (device_places.py): a `Trainer` made without `device` is there."""
    if request.param == "shim":
        request.getfixturevalue("device")
    elif request.param == "gpu" and (reason := device_places.missing("CuPy")):
        pytest.skip(reason)
    found = device_places.place({"cpu": "NumPy", "shim": "CuPy's stand-in", "gpu": "CuPy"}[request.param])
    if request.param == "cpu":
        yield found
        return
    monkeypatch.setitem(fastnn.Trainer.__init__.__kwdefaults__, "device", "cuda")
    uses, put = [], found.put
    moves = _device.moves
    with device_places.inside(found._replace(put=lambda array: uses.append(array) or put(array))):
        yield device_places.here()
    used = uses or _device.moves > moves
    assert used or not request.node.stash.get(PASSED, False), (
        "nothing was on the device: the test is the host's"
    )
