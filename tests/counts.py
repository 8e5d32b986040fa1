"""Instructions of the AVX2 kernels, counted by callgrind: they show a slow decay that no timing would.

    python tests/counts.py BUILD             compares with tests/counts.json; exit 1 beyond 3 % either way
    python tests/counts.py BUILD --update    writes tests/counts.json

BUILD is a CMake build directory that holds the objects of csrc/cpu. Another compiler makes other code: counts
are compared only with those of the same one, and where they are not, a line says why and the exit is 77.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parent
TABLE = TESTS / "counts.json"
MOST = 0.03


class NotComparedError(Exception):
    """Why nothing can be counted or compared here."""


def avx2_objects(build):
    found = sorted(Path(build).rglob("fastnn_avx2.dir/csrc/cpu/*.o"))
    if not found:
        raise NotComparedError(f"{build} holds no objects of the AVX2 kernels")
    return found


def compiler_of(objects):
    """What the compiler wrote of itself into the objects."""
    text = subprocess.run(
        ["readelf", "-p", ".comment", *map(str, objects)], capture_output=True, text=True, check=True
    ).stdout
    return ", ".join(sorted(set(re.findall(r"^\s*\[ *\w+\]\s+(.+)$", text, re.M))))


def totals(text):
    """name -> instructions, of a file of callgrind's dumps; those without a name of ours are left out."""
    parts = re.split(r"^part: ", text, flags=re.M)[1:]
    found = {}
    for part in parts:
        name = re.search(r"^desc: Trigger: Client Request: (.+)$", part, re.M)
        if name:
            found[name[1].strip()] = int(re.search(r"^(?:summary|totals): (\d+)", part, re.M)[1])
    return found


def measure(objects):
    """name -> instructions of each call of tests/counts.cpp."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise NotComparedError("there is no C++ compiler")
    if shutil.which("valgrind") is None:
        raise NotComparedError("there is no valgrind (apt install valgrind)")
    with tempfile.TemporaryDirectory() as folder:
        program, out = Path(folder, "counts"), Path(folder, "out")
        include = TESTS.parent / "csrc"
        command = [compiler, "-std=c++20", "-O2", "-Wall", "-Werror", f"-I{include}"]
        subprocess.run([*command, TESTS / "counts.cpp", *objects, "-o", program], check=True)
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--combine-dumps=yes", f"--callgrind-out-file={out}", program],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"valgrind: exit {done.returncode}\n{done.stderr[-2000:]}")
        return totals(out.read_text())


def differences(want, got):
    """A line for each count that moved by more than 3 %, or is on one side only."""
    for name in sorted(want.keys() | got.keys()):
        if name not in got or name not in want:
            yield f"{name}: only in the {'table' if name in want else 'program'}"
        elif abs(got[name] / want[name] - 1) > MOST:
            change = got[name] / want[name] - 1
            yield f"{name}: {got[name]:,} instructions, {change:+.1%} (were {want[name]:,})"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("build", type=Path)
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    try:
        objects = avx2_objects(options.build)
        compiler = compiler_of(objects)
        held = json.loads(TABLE.read_text()) if TABLE.exists() else {"compiler": None, "counts": {}}
        if not options.update and compiler != held["compiler"]:
            raise NotComparedError(f"the table is of {held['compiler']}, these objects of {compiler}")
        counts = measure(objects)
    except NotComparedError as reason:
        print(f"skipped: {reason}")
        return 77
    if options.update:
        TABLE.write_text(json.dumps({"compiler": compiler, "counts": counts}, indent=1) + "\n")
        print(f"wrote {TABLE.name}: {len(counts)} counts of {compiler}")
        return 0
    found = list(differences(held["counts"], counts))
    print("\n".join(found) or f"instruction counts: all {len(counts)} within {MOST:.0%}")
    if found:
        print("if that is as it must be: python tests/counts.py BUILD --update, and say why in the commit")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
