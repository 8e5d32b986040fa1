"""The square root of AVX-512 updates, which leaves the divider alone: tests/roots.cpp compares all floats."""

import shutil
import subprocess
from pathlib import Path

import pytest
from fastnn import _core

TESTS = Path(__file__).resolve().parent
COMPILER = shutil.which("g++") or shutil.which("clang++")
ISA = ["-DFASTNN_ISA_AVX512", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"]


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
@pytest.mark.skipif("avx512" not in _core.isas(), reason="a CPU without AVX-512")
@pytest.mark.parametrize("planted", [False, True])
def test_all_floats(tmp_path, planted):
    """Seen to fail where what is exact begins too early."""
    include = TESTS.parent / "csrc"
    if planted:
        include = shutil.copytree(include, tmp_path / "csrc")
        header = include / "cpu" / "simd_avx512.h"
        text = header.read_text()
        assert text.count("127 - 100") == 2
        header.write_text(text.replace("127 - 100", "127 - 125"))
    program = tmp_path / "roots"
    command = [COMPILER, "-std=c++20", "-O2", *ISA, f"-I{include}"]
    subprocess.run([*command, f"{TESTS / 'roots.cpp'}", "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == planted, done.stdout
