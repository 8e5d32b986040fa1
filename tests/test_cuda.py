"""fastnn.cuda: what it says where there is no GPU, and that the two extensions must be of one build."""

import ctypes
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import fastnn
import pytest
from fastnn import _core, cuda, nn

CAPSULE = b"fastnn._cuda.kernels"


def capsule(build_id, name=CAPSULE):
    """A capsule as `_cuda` makes it: a table that begins with the build id. It is never freed."""
    text = ctypes.create_string_buffer(build_id.encode())
    table = (ctypes.c_void_p * 64)(ctypes.addressof(text))
    name = ctypes.create_string_buffer(name)
    capsule.kept += [text, table, name]
    make = ctypes.pythonapi.PyCapsule_New
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    return make(ctypes.addressof(table), ctypes.addressof(name), None)


capsule.kept = []


def test_kernels_of_the_same_build_fit():
    assert _core.check_cuda(capsule(_core.build_info()["build_id"])) is None


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: capsule("0123456789abcdef"), r"other sources \(0123456789abcdef\).*install fastnn anew"),
        (lambda: capsule("x", b"numpy._core"), r"not named fastnn\._cuda\.kernels"),
        (lambda: capsule("", CAPSULE), r"other sources \(\)"),
    ],
)
def test_kernels_of_another_build_are_an_import_error(made, said):
    with pytest.raises(ImportError, match=said):
        _core.check_cuda(made())


def test_what_is_no_capsule_is_a_type_error():
    with pytest.raises(TypeError):
        _core.check_cuda(None)


def test_availability_and_the_reason_agree():
    reason = cuda.why_not()
    assert cuda.is_available() == (reason is None)
    if reason is None:
        assert {"name", "compute_capability", "memory_bytes"} <= set(cuda.device_info())
    else:
        assert len(reason.split()) > 4
        with pytest.raises(fastnn.CudaError, match=re.escape(f"device_info(): {reason}")):
            cuda.device_info()


def test_a_build_without_kernels_says_why():
    built = fastnn.info()["cuda"]
    if not built.startswith("not built: "):
        pytest.skip(f"this build has CUDA kernels: {built}")
    assert cuda.why_not() == f"this build of fastnn has no CUDA kernels ({built.removeprefix('not built: ')})"


def test_nothing_was_moved():
    assert cuda.transfer_bytes() == (0, 0)
    assert cuda.transfer_bytes()._fields == ("to_host", "to_device")


def test_the_device_is_never_replaced_by_the_cpu():
    model = nn.Linear(2, 2)
    with pytest.raises(fastnn.CudaError, match=r'Linear\.to: device "cuda" cannot be used: .*stay on "cpu"'):
        model.to("cuda")
    assert issubclass(fastnn.CudaError, RuntimeError)


def test_the_extension_is_imported_only_when_asked_for():
    code = "import sys, fastnn; assert 'fastnn._cuda' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


def test_another_build_of_the_extension_is_not_used(tmp_path):
    """As pip leaves it when the new build is CPU-only: the old _cuda is beside the new _core."""
    code = """
import sys, types
import fastnn
from fastnn import cuda
import test_cuda
sys.modules["fastnn._cuda"] = fastnn._cuda = types.SimpleNamespace(kernels=test_cuda.capsule("old"))
try:
    cuda.is_available()
except ImportError as error:
    print(error)
"""
    path = os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert "fastnn._cuda was built from other sources (old)" in done.stdout


# Each build by its architectures, of which the last is the PTX's: the devices that it runs on.
RUNS_ON = {
    "75-80-90": [75, 86, 89, 90, 100, 120],
    "80-90": [86, 89, 90, 100, 120],
    "90": [90, 100, 120],
    "75": [75, 86, 89, 90, 100, 120],
    "86-120": [86, 89, 120],
}


@pytest.mark.parametrize("built", RUNS_ON)
@pytest.mark.parametrize("device", [70, 75, 86, 89, 90, 100, 120])
def test_a_device_that_the_build_has_no_code_for_is_named(cuda_kernels, built, device):
    own = built.split("-")
    said = ""
    if device not in RUNS_ON[built]:
        said = (
            f"the device GPU X is sm_{device}; this build holds code for "
            f"{' '.join(f'sm_{one}' for one in own)} and PTX for what comes after sm_{own[-1]}"
        )
    assert cuda_kernels.why_not_on(built, int(own[-1]), device, "GPU X") == said


def test_the_benchmark_of_a_device_says_why_there_is_none(tmp_path):
    if cuda.is_available():
        pytest.skip("there is a GPU")
    line = [sys.executable, str(Path(__file__).parents[1] / "bench" / "run.py"), "--device", "cuda"]
    line += ["--json", str(tmp_path / "found.json")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (77, f"no GPU: {cuda.why_not()}\n"), done.stderr
    assert not any(tmp_path.iterdir())


@pytest.fixture
def finder(monkeypatch):
    """What stands for `cuda.pathfinder`; the search is made again."""
    found = types.ModuleType("cuda.pathfinder")
    monkeypatch.setitem(sys.modules, "cuda", types.ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", found)
    cuda._load_cublaslt.cache_clear()
    yield found
    cuda._load_cublaslt.cache_clear()


def test_cublaslt_is_looked_for_once(finder):
    asked = []
    finder.load_nvidia_dynamic_lib = asked.append
    cuda._load_cublaslt()
    cuda._load_cublaslt()
    assert asked == ["cublasLt"]


def test_cublaslt_need_not_be_there(finder, monkeypatch):
    def fails(name):
        raise RuntimeError(f"no {name}")  # as its DynamicLibNotFoundError is

    finder.load_nvidia_dynamic_lib = fails
    cuda._load_cublaslt()
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)  # an ImportError
    cuda._load_cublaslt.cache_clear()
    cuda._load_cublaslt()
