"""Compile csrc/cuda with nvcc and look at what ptxas says: python tests/cuda_compile.py [sm_90 ...]

For each architecture that is built: no kernel may spill registers, none may take more than its budget, and
each must have been seen. Without nvcc: exit 77.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
# As CMakeLists.txt has them.
ARCHITECTURES = ["sm_75", "sm_80", "sm_90"]
FLAGS = ["-std=c++20", "-fmad=false", "-ftz=true", "--expt-relaxed-constexpr", "-Werror=all-warnings"]
FLAGS += ["-Xcompiler=-Wall,-Wextra", "-Xptxas=-v", f"-I{ROOT / 'csrc'}"]
FLAGS += ['-DFASTNN_BUILD_ID="x"', '-DFASTNN_CUDA_BUILT="80-90"', "-DFASTNN_CUDA_PTX=90"]
# Registers a thread: what leaves room for the threads that hide the latency of memory. The large tile of gemm
# holds 64 sums.
BUDGET = {
    "gemm": 255,
    "gemm_small": 80,
    "gemm_tensor": 128,
    "batchnorm_backward": 96,
    "batchnorm": 80,
    "update": 104,
}
OTHERS = 64

ENTRY = re.compile(
    r"Compiling entry function '(\w+)' for '(sm_\d+)'.*?"
    r"(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers",
    re.S,
)


class Kernel(NamedTuple):
    name: str
    architecture: str
    spilled: int  # bytes stored and loaded
    registers: int


def kernels(said):
    """The kernels in what ptxas printed; ValueError where it has other words than those read here."""
    found = []
    for part in re.split("(?=Compiling entry function)", said)[1:]:
        entry = ENTRY.match(part)
        if entry is None:
            raise ValueError(f"not understood: {part}")
        name, architecture, stored, loaded, registers = entry.groups()
        found.append(Kernel(name, architecture, int(stored) + int(loaded), int(registers)))
    return found


def faults(found, architectures, most, has_kernels):
    """What is wrong with the kernels found in a source file."""
    missing = [a for a in architectures if has_kernels and a not in {k.architecture for k in found}]
    return [f"ptxas names no kernel for {a}" for a in missing] + [
        f"{k.architecture} {k.name}: {k.spilled} bytes spilled, {k.registers} of {most} registers"
        for k in found
        if k.spilled or k.registers > most
    ]


def main(architectures):
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        print("skipped: no nvcc")
        return 77
    codes = [f"-gencode=arch=compute_{a[3:]},code={a}" for a in architectures]

    def compiled(source):
        with tempfile.NamedTemporaryFile(suffix=".o") as out:
            command = [nvcc, *FLAGS, *codes, "-c", str(source), "-o", out.name]
            return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    wrong = []
    sources = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = list(pool.map(compiled, sources))
    for source, done in zip(sources, runs):
        if done.returncode:
            print(done.stdout)
            return 1
        found = kernels(done.stdout)
        most = BUDGET.get(source.stem, OTHERS)
        said = faults(found, architectures, most, "__global__" in source.read_text())
        wrong += [f"{source.name} {one}" for one in said]
        largest = max((kernel.registers for kernel in found), default=0)
        print(f"{source.name:<24} {len(found):>3} kernels, at most {largest} of {most} registers")
    print("\n".join(wrong) or f"no kernel spills or is beyond its budget ({', '.join(architectures)})")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ARCHITECTURES))
