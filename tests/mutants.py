"""Wrong edits that the tests must notice: `python tests/mutants.py [python] [native] [TRAP...]`.

Each mutant is one small edit of fastnn: a constant, a sign, an order, an axis, a comparison, the very mistake
that others made there. It is made in a copy, and each of the tests it names must then fail (not: not run).
"python" mutants (mutant_table.py, mutant_table_diagnostics.py) edit a file of a copy of the installed
package; "native" ones (mutant_table_native.py, mutant_table_program.py) a C++ file, and the copy is built
anew (incrementally, with ccache where there is one). Without an argument both run. First all named tests must
pass without an edit. Exit 77: a tool is missing.

WORK=DIR keeps the copy and its build there.
"""

import compileall
import importlib.util
import json
import os
import py_compile
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from mutant_table import PYTHON as FORMULAS
from mutant_table_diagnostics import DIAGNOSTICS
from mutant_table_native import NATIVE as KERNELS
from mutant_table_program import PROGRAMS

PYTHON = [*FORMULAS, *DIAGNOSTICS]
NATIVE = [*KERNELS, *PROGRAMS]
ROOT = Path(__file__).resolve().parents[1]
SECONDS = 120  # a mutant may also be one that never ends


def mutated(text, mutant):
    """The text of the file with the edit."""
    count = text.count(mutant.old)
    if count != 1:
        raise ValueError(f"{mutant.file}: {mutant.old!r} occurs {count} times, must occur once")
    return text.replace(mutant.old, mutant.new)


def run(where, calls):
    """Exit codes of pytest (0 passed, 1 failed) for each list of tests, with the package `where`/fastnn.

    In a child of this process, which has imported pytest and NumPy already, but not fastnn. None: the child
    died or never came back.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(SECONDS)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            sys.dont_write_bytecode = False
            sys.pycache_prefix = str(where.parent / "pycache")
            sys.path.insert(0, str(where))
            import fastnn
            import pytest

            assert Path(fastnn.__file__).is_relative_to(where), fastnn.__file__
            options = [
                "-q",
                "-x",
                "-m",
                "not slow and not heavy",
                "-k",
                "not shim",  # which would be compiled for each
                "-p",
                "no:cacheprovider",
                "--rootdir",
                str(ROOT),
                "-c",
                str(ROOT / "pyproject.toml"),
            ]
            codes = [int(pytest.main([*options, *(str(ROOT / test) for test in tests)])) for tests in calls]
            os.write(write, json.dumps(codes).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else None


def judge(mutant, codes):
    """What is wrong, in words; empty when every test failed."""
    if codes is None:
        return "the package did not import, or a test killed the process"
    wrong = {0: "passed", 2: "were interrupted", 4: "do not exist", 5: "do not exist"}
    return "; ".join(
        f"{test} {wrong.get(code, f'ended with {code}')}"
        for test, code in zip(mutant.tests, codes, strict=True)
        if code != 1
    )


def copy_of_package(work):
    """The installed package, compiled module included, under `work`."""
    installed = Path(importlib.util.find_spec("fastnn").origin).parent
    where = work / "python"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(installed, where / "fastnn", ignore=ignore, dirs_exist_ok=True)
    # Compiled once, not in every child; by hash, as an edit may keep the size and the second of its file.
    sys.pycache_prefix = str(work / "pycache")
    compileall.compile_dir(where, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    sys.pycache_prefix = None
    return where


def copy_of_sources(work):
    """What a build needs, under `work`; files that did not change keep their time."""
    for name in ("csrc", "CMakeLists.txt", "python"):
        source = ROOT / name
        files = source.rglob("*") if source.is_dir() else [source]
        for file in files:
            target = work / file.relative_to(ROOT)
            if not file.is_file() or "__pycache__" in file.parts or file.suffix == ".so":
                continue
            if not (target.is_file() and target.read_bytes() == file.read_bytes()):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())


def build(work):
    """Build the sources under `work` into its package."""
    folder = work / "build"
    missing = [name for name in ("pybind11",) if importlib.util.find_spec(name) is None]
    missing += [name for name in ("cmake", "ninja") if shutil.which(name) is None]
    if missing:
        print(f"skipped: no {', '.join(missing)} (pip install {' '.join(missing)})")
        sys.exit(77)
    if not (folder / "build.ninja").exists():
        import pybind11

        options = [
            "-DCMAKE_BUILD_TYPE=Release",
            "-DSKBUILD_PROJECT_VERSION=0",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            "-DPYBIND11_FINDPYTHON=ON",
        ]
        if shutil.which("ccache"):
            options.append("-DCMAKE_CXX_COMPILER_LAUNCHER=ccache")
        if "avx512vl" not in Path("/proc/cpuinfo").read_text():
            options += ["-DFASTNN_COMPILES_AVX512=OFF", "-DFASTNN_COMPILES_AVX512BF16=OFF"]
        call(["cmake", "-S", str(work), "-B", str(folder), "-G", "Ninja", *options])
    call(["cmake", "--build", str(folder)])
    (module,) = folder.glob("_core*.so")
    target = work / "python" / "fastnn" / module.name
    target.unlink(missing_ok=True)
    shutil.copy2(module, target)


def call(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-3000:]}")


def survivors(mutants, work, native):
    """One line for each mutant that a test it names did not notice; `work` is an empty or a kept folder."""
    if native:
        copy_of_sources(work)
        build(work)
        where = work / "python"
    else:
        where = copy_of_package(work)
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    if run(where, [tests]) != [0]:
        yield f"without an edit these do not pass, or the package does not import: {', '.join(tests)}"
        return
    for mutant in mutants:
        file = work / mutant.file
        text = file.read_text()
        try:
            file.write_text(mutated(text, mutant))
            if native:
                build(work)
            wrong = judge(mutant, run(where, [[test] for test in mutant.tests]))
        finally:
            file.write_text(text)
        print(f"{'SURVIVED' if wrong else 'caught'}  {mutant.trap:>2}  {mutant.what}", flush=True)
        if wrong:
            yield f"{mutant.what} ({mutant.file}): {wrong}"


def prepare():
    """Import what costs time, so that children need not."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # threads do not survive a fork
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    import hypothesis  # noqa: F401
    import numpy as np  # noqa: F401
    import pytest  # noqa: F401


def main(arguments):
    prepare()
    os.chdir(ROOT)
    kinds = [kind for kind in ("python", "native") if kind in arguments] or ["python", "native"]
    traps = [int(a) for a in arguments if a.isdecimal()]
    found = []
    for kind in kinds:
        table = NATIVE if kind == "native" else PYTHON
        chosen = [mutant for mutant in table if not traps or mutant.trap in traps]
        with tempfile.TemporaryDirectory() as folder:
            kept = os.environ.get("WORK")
            work = Path(kept, kind) if kept else Path(folder)
            found += survivors(chosen, work.resolve(), kind == "native")
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
