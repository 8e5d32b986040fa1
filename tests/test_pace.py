"""Whether the team shares a short step: csrc/program/pace.h, told of given times by tests/pace.cpp."""

import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
COMPILER = shutil.which("g++") or shutil.which("clang++")


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
def test_pace(tmp_path):
    program = tmp_path / "pace"
    command = [COMPILER, "-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{TESTS.parent / 'csrc'}"]
    subprocess.run([*command, f"{TESTS / 'pace.cpp'}", "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
