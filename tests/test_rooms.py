"""The rooms of docs/architecture.md are kept, and each rule finds a planted breach."""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from rooms import (
    CHECKS,
    CPP_ROOMS,
    PYTHON_ROOMS,
    baseline_objects,
    check_build_flags,
    check_imports,
    check_includes,
    check_indices,
    check_lengths,
    check_reference,
    check_what_kernels_reach,
    check_words,
    kernel_objects,
    vex_instructions,
    weak_symbols,
)

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_rooms(check):
    assert list(check(ROOT)) == []


# A small tree that keeps every rule; each planted breach changes one file of it.
CLEAN = {
    "csrc/core/kernels.h": "#include <cstdint>\n// throw _mm256_add_ps std::vector\n",
    "csrc/core/types.h": "struct A {\n    Index m, n = 0;\n};\nstatic_assert(are_indices(&A::m, &A::n));\n",
    "csrc/core/team.cpp": '#include <thread>\n#include "core/kernels.h"\n',
    "csrc/cpu/gemm.cpp": '#include <cmath>\n#include "core/kernels.h"\n#include "cpu/simd_avx2.h"\n/*throw*/',
    "csrc/cpu/simd_avx2.h": "#include <immintrin.h>\n__m256 f() { return _mm256_setzero_ps(); }\n",
    "csrc/cuda/gemm.cu": '#include <cuda_runtime.h>\n#include "core/kernels.h"\n',
    "csrc/program/step.cpp": '#include <vector>\n#include "core/kernels.h"\n',
    "csrc/bind/module.cpp": '#include <pybind11/pybind11.h>\n#include "program/step.cpp"\n',
    "python/fastnn/__init__.py": "from fastnn.trainer import Trainer\nfrom fastnn import nn\n",
    "python/fastnn/ops.py": "from fastnn._core import gemm\n",
    "python/fastnn/init.py": "import math\n\nimport numpy as np\n",
    "python/fastnn/losses.py": "from . import ops\n",
    "python/fastnn/nn/linear.py": "from fastnn import ops\nfrom ..init import Zeros\nfrom .a import M\n",
    "python/fastnn/schedulers.py": "def plot():\n    import matplotlib.pyplot\n",
    "python/fastnn/optim.py": "from fastnn import ops\nfrom fastnn._optimizer import x\n",
    "python/fastnn/_program.py": "from fastnn import nn, optim\nfrom fastnn._core import run_steps\n",
    "python/fastnn/__main__.py": "import fastnn\nfrom fastnn import data\n",
    "tests/reference.py": "import math\nimport numpy as np\n",
    "examples/first.py": "import fastnn\n" * 40,
    "CMakeLists.txt": "target_compile_options(avx2 PRIVATE -mavx2 -mfma)\n",
}

# check, file, its new text, the message
BREACHES = [
    (check_includes, "csrc/core/a.h", "#include <immintrin.h>\n", "core may not include <immintrin.h>"),
    (
        check_includes,
        "csrc/core/a.h",
        "  #  include <cuda_runtime.h>\n",
        "core may not include <cuda_runtime.h>",
    ),
    (check_includes, "csrc/core/a.h", "#include <Python.h>\n", "core may not include <Python.h>"),
    (
        check_includes,
        "csrc/core/a.h",
        '#include "pybind11/numpy.h"\n',
        "core may not include <pybind11/numpy.h>",
    ),
    (check_includes, "csrc/core/a.h", '#include "cpu/simd_avx2.h"\n', "core may not include cpu/simd_avx2.h"),
    (
        check_includes,
        "csrc/core/a.h",
        '#include "../cpu/gemm.cpp"\n',
        r"core may not include \.\./cpu/gemm.cpp",
    ),
    (check_includes, "csrc/cpu/a.cpp", "#include <vector>\n", "cpu may not include <vector>"),
    (check_includes, "csrc/cpu/a.cpp", "#include <string>  // names\n", "cpu may not include <string>"),
    (check_includes, "csrc/cpu/a.cpp", "#include <thread>\n", "cpu may not include <thread>"),
    (check_includes, "csrc/cpu/a.cpp", "#include <algorithm>\n", "cpu may not include <algorithm>"),
    (check_includes, "csrc/cpu/a.cpp", "#include <Python.h>\n", "cpu may not include <Python.h>"),
    (check_includes, "csrc/cpu/a.cpp", "#include WHAT\n", "cpu may not include <WHAT>"),
    (check_includes, "csrc/cpu/a.cpp", "#include <immintrin.h>\n", "only csrc/cpu/simd_"),
    (check_includes, "csrc/cpu/a.cpp", '#include "bind/module.cpp"\n', "cpu may not include bind/module.cpp"),
    (check_includes, "csrc/cuda/a.cu", '#include "cpu/gemm.cpp"\n', "cuda may not include cpu/gemm.cpp"),
    (check_includes, "csrc/cuda/a.cu", "#include <pybind11/pybind11.h>\n", "cuda may not include <pybind11"),
    (check_includes, "csrc/program/a.cpp", "#include <Python.h>\n", "program may not include <Python.h>"),
    (
        check_includes,
        "csrc/program/a.cpp",
        '#include "cpu/gemm.cpp"\n',
        "program may not include cpu/gemm.cpp",
    ),
    (
        check_includes,
        "csrc/program/a.cpp",
        "#include <immintrin.h>\n",
        "program may not include <immintrin.h>",
    ),
    (check_includes, "csrc/bind/a.cpp", '#include "cpu/gemm.cpp"\n', "bind may not include cpu/gemm.cpp"),
    (check_includes, "csrc/bind/a.cpp", "#include <immintrin.h>\n", "bind may not include <immintrin.h>"),
    (check_includes, "csrc/new/a.cpp", "", "csrc has no room 'new'"),
    (
        check_what_kernels_reach,
        "csrc/core/kernels.h",
        "#include <vector>\n",
        r"kernels\.h: reached from csrc/cpu",
    ),
    (check_words, "csrc/cpu/a.cpp", 'if (bad) throw "no";\n', "kernels have no 'throw'"),
    (check_words, "csrc/cpu/a.cpp", "std::vector<float> x;\n", "kernels have no 'std::vector'"),
    (check_words, "csrc/cpu/a.cpp", "std::string x;\n", "kernels have no 'std::string'"),
    (check_words, "csrc/cpu/a.cpp", "std::jthread x;\n", "kernels have no 'std::jthread'"),
    (check_words, "csrc/cpu/a.cpp", "#pragma omp parallel for\n", "kernels have no '#pragma omp'"),
    (check_words, "csrc/cpu/a.cpp", "x = _mm512_add_ps(x, x);\n", "intrinsic _mm512_add_ps outside"),
    (check_words, "csrc/bind/a.cpp", "__m256 x;\n", "intrinsic __m256 outside"),
    (check_words, "csrc/core/simd_a.h", "_mm_pause();\n", "intrinsic _mm_pause outside"),
    (check_indices, "csrc/core/a.h", "struct B {\n    Index n;\n};\n", "are_indices lacks B::n"),
    (
        check_imports,
        "python/fastnn/nn/a.py",
        "from fastnn import _core\n",
        r"nn may not import fastnn\._core",
    ),
    (check_imports, "python/fastnn/nn/a.py", "from .._core import x\n", r"nn may not import fastnn\._core"),
    (
        check_imports,
        "python/fastnn/nn/a.py",
        "import fastnn._core as c\n",
        r"nn may not import fastnn\._core",
    ),
    (
        check_imports,
        "python/fastnn/nn/a.py",
        "from fastnn import losses\n",
        r"nn may not import fastnn\.losses",
    ),
    (
        check_imports,
        "python/fastnn/nn/a.py",
        "from ..optim import Adam\n",
        r"nn may not import fastnn\.optim",
    ),
    (check_imports, "python/fastnn/optim.py", "from fastnn import schedulers\n", "optim may not import"),
    (check_imports, "python/fastnn/losses.py", "from . import nn\n", r"losses may not import fastnn\.nn"),
    (
        check_imports,
        "python/fastnn/losses.py",
        "from fastnn import isas\n",
        r"losses may not import fastnn\.fastnn",
    ),
    (
        check_imports,
        "python/fastnn/optim.py",
        "def f():\n    import fastnn.nn\n",
        r"optim may not import fastnn\.nn",
    ),
    (
        check_imports,
        "python/fastnn/init.py",
        "from .trainer import x\n",
        r"init may not import fastnn\.trainer",
    ),
    (check_imports, "python/fastnn/schedulers.py", "import fastnn.trainer\n", "schedulers may not import"),
    (check_imports, "python/fastnn/schedulers.py", "from .optim import SGD\n", "schedulers may not import"),
    (check_imports, "python/fastnn/data.py", "from fastnn import Trainer\n", "data may not import"),
    (
        check_imports,
        "python/fastnn/trainer.py",
        "from fastnn import ops\n",
        r"trainer may not import fastnn\.ops",
    ),
    (check_imports, "python/fastnn/__main__.py", "import fastnn._core\n", "__main__ may not import"),
    (check_imports, "python/fastnn/__init__.py", "from fastnn._core import x\n", "__init__ may not import"),
    (check_imports, "python/fastnn/extra.py", "", "no rule for module 'extra'"),
    (check_imports, "python/fastnn/data.py", "importlib.import_module('tqdm')\n", "tqdm is optional"),
    (check_imports, "python/fastnn/data.py", "import pandas\n", "does not depend on pandas"),
    (check_imports, "python/fastnn/data.py", "import matplotlib\n", "matplotlib is optional"),
    (check_reference, "tests/reference.py", "import fastnn\n", "not fastnn"),
    (check_reference, "tests/reference.py", "from fastnn.ops import gemm\n", "not fastnn.ops"),
    (check_reference, "tests/reference.py", "import torch\n", "not torch"),
    (check_lengths, "csrc/cpu/a.cpp", "\n" * 401, "401 lines, at most 400"),
    (check_lengths, "python/fastnn/a.py", "\n" * 401, "401 lines, at most 400"),
    (check_lengths, "bench/cases/a.py", "\n" * 401, "401 lines, at most 400"),
    (check_lengths, "tests/a.py", "\n" * 401, "401 lines, at most 400"),
    (check_lengths, "examples/a.py", "\n" * 41, "41 lines, at most 40"),
    (check_build_flags, "CMakeLists.txt", "-march" + "=native", "native would tie the build"),
    (check_build_flags, "pyproject.toml", "args = ['-ffast" + "-math']", "-math would tie the build"),
    (check_build_flags, "cmake/a.cmake", "-Ofast", "-Ofast would tie the build"),
    (check_build_flags, ".ci/run", "CXXFLAGS=-march" + "=native", "native would tie the build"),
]


def plant(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_clean_tree_keeps_every_rule(check, tmp_path):
    assert list(check(plant(tmp_path, CLEAN))) == []


@pytest.mark.parametrize(("check", "file", "text", "message"), BREACHES)
def test_a_planted_breach_is_found(check, file, text, message, tmp_path):
    found = list(check(plant(tmp_path, {**CLEAN, file: text})))
    assert len(found) == 1
    assert re.search(message, found[0]), found


def test_every_room_stands_in_the_table_of_architecture_md():
    page = (ROOT / "docs" / "architecture.md").read_text().partition("## One call")[0]
    first = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `")]
    named = {name.removesuffix(".py") for cell in first for name in re.findall(r"`([\w./]+)`", cell)}
    rooms = {f"csrc/{room}" for room in CPP_ROOMS} | PYTHON_ROOMS.keys() - {"__init__"}
    assert rooms == named - {"tests/reference"}


def objects_of_the_build(find, tool):
    """find(the CMake build directory), or a skip that says what is missing."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    named = os.environ.get("FASTNN_BUILD_DIR")
    build = Path(named) if named else ROOT / "build"
    objects = find(build)
    if not objects and not named:
        pytest.skip(f"no CMake build directory with objects at {build}; name one with FASTNN_BUILD_DIR")
    assert objects, f"FASTNN_BUILD_DIR={named} holds no objects"
    return objects


def compiled(tmp_path, target, name, text, *flags):
    """The directory of a build with one object: `text` as csrc/`name` of a CMake target."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None or shutil.which("nm") is None:
        pytest.skip("no C++ compiler or no binutils")
    source = plant(tmp_path, {f"csrc/{name}": text})
    build = tmp_path / "build"
    file = build / f"{target}.dir" / "csrc" / f"{name}.o"
    file.parent.mkdir(parents=True)
    subprocess.run([compiler, *flags, "-c", str(source / "csrc" / name), "-o", str(file)], check=True)
    return build


def test_kernel_objects_export_no_weak_symbols():
    assert weak_symbols(objects_of_the_build(kernel_objects, "nm")) == []


def test_a_weak_symbol_is_found(tmp_path):
    text = "inline int f() { return 1; }\nint (*g())() { return f; }\n"
    found = weak_symbols(kernel_objects(compiled(tmp_path, "fastnn_avx2", "cpu/a.cpp", text)))
    assert len(found) == 1
    assert "f()" in found[0]


x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="VEX is an encoding of x86-64")


@x86
def test_objects_of_every_cpu_hold_no_avx():
    objects = objects_of_the_build(baseline_objects, "objdump")
    assert {"team.cpp.o", "gemm.cpp.o"} <= {f.name for f in objects}
    assert any("bind" in f.as_posix() for f in objects)
    assert list(vex_instructions(objects)) == []


@x86
@pytest.mark.parametrize(
    ("flag", "text", "instruction"),
    [
        ("-mavx", "float f(float x, float y) { return x + y; }\n", "vaddss"),
        ("-mfma", "float f(float x, float y) { return __builtin_fmaf(x, y, x); }\n", "vfmadd"),
        ("-mbmi2", "unsigned f(unsigned x, int n) { return x << n; }\n", "shlx"),
    ],
)
def test_an_instruction_of_newer_cpus_is_found(tmp_path, flag, text, instruction):
    build = compiled(tmp_path, "_core", "core/a.cpp", text, "-O2", flag)
    found = list(vex_instructions(baseline_objects(build)))
    assert any(line.startswith(f"a.cpp.o: {instruction}") for line in found), found
