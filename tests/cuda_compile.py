"""Compile csrc/cuda with nvcc and look at what ptxas says: python tests/cuda_compile.py [sm_90 ...]

No kernel may spill registers, and none may take more than its budget. Without nvcc: exit 77.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# As CMakeLists.txt has them.
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

ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(sm_\d+)'(.*?)Used (\d+) registers", re.S)


def kernels(text):
    """(name, architecture, bytes spilled, registers) of each kernel in what ptxas printed."""
    for name, arch, between, registers in ENTRY.findall(text):
        stores, loads = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", between).groups()
        yield name, arch, int(stores) + int(loads), int(registers)


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
        found = list(kernels(done.stdout))
        most = BUDGET.get(source.stem, OTHERS)
        for name, arch, spilled, registers in found:
            if spilled or registers > most:
                wrong.append(
                    f"{source.name} {arch} {name}: {spilled} bytes spilled, {registers} of {most} registers"
                )
        largest = max((registers for *_, registers in found), default=0)
        print(f"{source.name:<24} {len(found):>3} kernels, at most {largest} of {most} registers")
    print("\n".join(wrong) or "no kernel spills or is beyond its budget")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["sm_90"]))
