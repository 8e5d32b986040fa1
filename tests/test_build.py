"""What CMake says before it builds anything: one line that names the cure."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sysconfig.get_path("scripts")


def tool(name: str) -> str:
    found = shutil.which(name, path=f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}")
    assert found is not None, f"{name} comes with the extra `test`"
    return found


def configure(build: Path, *options: str, path: str, python: str = sys.executable) -> list[str]:
    """The lines that a failing configure run prints."""
    command = [
        tool("cmake"),
        *("-S", str(ROOT), "-B", str(build), "-G", "Ninja"),
        f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}",
        f"-DPython_EXECUTABLE={python}",
        "-DSKBUILD_PROJECT_VERSION=0.0.1",
        *options,
    ]
    env = {name: value for name, value in os.environ.items() if name not in ("CXX", "CC", "CXXFLAGS")}
    run = subprocess.run(command, env={**env, "PATH": path}, capture_output=True, text=True, timeout=120)
    assert run.returncode != 0, run.stdout
    return [line.strip() for line in run.stderr.splitlines()]


@pytest.fixture
def no_headers(tmp_path: Path) -> str:
    """A Python whose headers are not installed."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho {tmp_path}/include\n")
    python.chmod(0o755)
    return str(python)


def test_no_compiler_names_the_package(tmp_path: Path) -> None:
    lines = configure(tmp_path / "build", path=str(tmp_path))
    assert "fastnn needs a C++ compiler; install it with: sudo apt install g++" in lines


def test_no_python_headers_names_the_package(tmp_path: Path, no_headers: str) -> None:
    lines = configure(tmp_path / "build", path=os.environ["PATH"], python=no_headers)
    assert (
        f"fastnn needs the Python headers (no Python.h in {tmp_path}/include); "
        "install them with: sudo apt install python3-dev"
    ) in lines


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-DCMAKE_SYSTEM_NAME=Darwin"], "fastnn builds on Linux only; this is Darwin."),
        (
            ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=riscv64"],
            "fastnn builds for x86-64 and aarch64; this is riscv64.",
        ),
    ],
)
def test_another_machine_stops(tmp_path: Path, options: list[str], said: str) -> None:
    assert said in configure(tmp_path / "build", *options, path=os.environ["PATH"])


def test_an_old_compiler_stops(tmp_path: Path) -> None:
    """A compiler that says it is gcc 10."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    old = tmp_path / "old"
    old.write_text(f'#!/bin/sh\nexec {compiler} -U__GNUC__ -D__GNUC__=10 "$@"\n')
    old.chmod(0o755)
    lines = configure(tmp_path / "build", f"-DCMAKE_CXX_COMPILER={old}", path=os.environ["PATH"])
    assert any(line.startswith("fastnn needs gcc 11 or clang 14 or newer; found GNU 10.") for line in lines)


def test_a_wrong_choice_of_cuda_stops(tmp_path: Path) -> None:
    said = "fastnn.cuda must be auto, on or off; got 'perhaps'."
    assert said in configure(tmp_path / "build", "-DFASTNN_CUDA=perhaps", path=os.environ["PATH"])


@pytest.mark.parametrize("given", ["80;90a", "80,90"])
def test_architectures_that_are_no_numbers_stop(tmp_path: Path, given: str) -> None:
    said = f"FASTNN_CUDA_ARCHITECTURES must be numbers such as 80;90, without letters; got '{given}'."
    option = f"-DFASTNN_CUDA_ARCHITECTURES={given}"
    assert said in configure(tmp_path / "build", option, path=os.environ["PATH"])


def test_cuda_that_cannot_be_built_stops(tmp_path: Path) -> None:
    """A CUDA compiler that does not work, as CUDACXX names it."""
    lines = configure(
        tmp_path / "build",
        *("-DFASTNN_CUDA=on", "-DCMAKE_CUDA_COMPILER=NOTFOUND", f"-DCUDAToolkit_ROOT={tmp_path}"),
        path=os.environ["PATH"],
    )
    said = "fastnn.cuda=on: no working CUDA compiler (nvcc 12.4 or newer) was found"
    assert any(said in line for line in lines), lines


@pytest.mark.parametrize("named", [False, True])
def test_nvcc_of_wheels_is_taken_unless_another_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    """Compilers that only say that they were asked: of the wheels that Python finds, and of CUDACXX."""
    for place in ("nvidia/cu13/bin", "other"):
        compiler = tmp_path / place / "nvcc"
        compiler.parent.mkdir(parents=True)
        compiler.write_text(f"#!/bin/sh\necho {place} >> {tmp_path}/asked\nexit 1\n")
        compiler.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("CUDACXX", raising=False)
    if named:
        monkeypatch.setenv("CUDACXX", str(tmp_path / "other" / "nvcc"))
    configure(tmp_path / "build", "-DFASTNN_CUDA=on", "-DFASTNN_CUDA_WHEELS=ON", path=os.environ["PATH"])
    asked = set((tmp_path / "asked").read_text().split())
    assert asked == {"other" if named else "nvidia/cu13/bin"}
