"""A wheel with the CUDA kernels: pytest -m heavy -s tests/test_cuda_build.py

It needs nvcc, and one test cuobjdump beside it, on the PATH or of the wheel nvidia-cuda-cuobjdump. -s shows
how long the build took.
"""

from __future__ import annotations

import importlib.util
import os
import re
import resource
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NVCC = shutil.which(os.environ.get("CUDACXX", "nvcc"))
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(NVCC is None, reason="no nvcc on the PATH or in CUDACXX"),
]


def run(*command: object, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(env or {})},
    )
    assert done.returncode == 0, done.stdout[-8000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the unpacked wheel."""
    folder = tmp_path_factory.mktemp("built")
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-cache-dir", "-w", folder, ROOT]
    run(*command, "-C", "fastnn.cuda=on", "-C", f"build-dir={folder / 'build'}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"\nwheel: {time.monotonic() - began:.0f} s, {busy:.0f} s of processor time")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def extension(built: Path) -> Path:
    return next((built / "fastnn").glob("_cuda.*.so"))


def test_it_imports_without_a_driver(built: Path) -> None:
    code = (
        "import fastnn; from fastnn import _cuda, cuda; print(_cuda.__file__, fastnn.info()['cuda'], "
        "cuda.is_available(), cuda.why_not(), sep=chr(10))"
    )
    if Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists():
        pytest.skip("there is an NVIDIA driver")
    file, info, available, why_not = run(
        sys.executable, "-c", code, env={"PYTHONPATH": str(built), "PYTHONSAFEPATH": "1"}
    ).splitlines()
    assert Path(file).is_relative_to(built)
    assert re.fullmatch(r"nvcc \d+\.\d+\.\d+, sm_75, sm_80, sm_90 and newer", info)
    assert (available, why_not) == (
        "False",
        "no NVIDIA driver is installed here (libcuda.so.1 was not found)",
    )


def test_it_needs_no_library_of_cuda(extension: Path) -> None:
    needed = re.findall(r"\(NEEDED\).*\[(.*?)\.so", run("readelf", "-d", extension))
    libc = {"libc", "libm", "libdl", "librt", "libpthread", "libgcc_s", "libstdc++", "ld-linux-x86-64"}
    assert needed
    assert set(needed) <= libc


def test_it_holds_code_for_each_architecture_and_ptx_of_the_last(extension: Path) -> None:
    assert NVCC is not None
    wheels = importlib.util.find_spec("nvidia") and importlib.util.find_spec("nvidia.cu13")
    places = [os.environ["PATH"], str(Path(NVCC).parent)]
    places += [f"{place}/bin" for place in (wheels and wheels.submodule_search_locations) or []]
    cuobjdump = shutil.which("cuobjdump", path=os.pathsep.join(places))
    if cuobjdump is None:
        pytest.skip("no cuobjdump: pip install nvidia-cuda-cuobjdump")
    elf = re.findall(r"\.(sm_\w+)\.cubin", run(cuobjdump, "--list-elf", extension))
    ptx = re.findall(r"\.(sm_\w+)\.ptx", run(cuobjdump, "--list-ptx", extension))
    assert set(elf) == {"sm_75", "sm_80", "sm_90"}
    assert set(ptx) == {"sm_90"}
    with_kernels = [f for f in (ROOT / "csrc" / "cuda").glob("*.cu") if "__global__" in f.read_text()]
    assert len(ptx) >= len(with_kernels)


def test_ptx_is_of_the_largest_architecture_in_whatever_order(tmp_path: Path) -> None:
    pybind11 = pytest.importorskip("pybind11")
    run(
        *("cmake", "-S", ROOT, "-B", tmp_path, "-G", "Ninja", "-DSKBUILD_PROJECT_VERSION=0.0.1"),
        *(f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}"),
        *("-DFASTNN_CUDA=on", "-DFASTNN_CUDA_ARCHITECTURES=90;80"),
    )
    rules = (tmp_path / "build.ninja").read_text()
    assert set(re.findall(r"-DFASTNN_CUDA_PTX=(\w+)", rules)) == {"90"}
    assert set(re.findall(r"code=\[?(compute_\w+)", rules)) <= {"compute_90"}
    assert 'FASTNN_CUDA_BUILT=\\"80-90\\"' in rules
