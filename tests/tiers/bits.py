"""Print "kernel hash" for every kernel, and for a short training, on one thread of the active ISA.

Two builds, compilers, CPUs or machines that print the same lines give the same bits.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import fastnn
import numpy as np
from test_determinism import KERNELS, digest, training


def main():
    fastnn.set_num_threads(1)
    print(f"{fastnn.info()['compiler']}, {fastnn.get_isa()}", file=sys.stderr)
    for name, kernel in KERNELS.items():
        print(name, digest(*kernel(np.random.default_rng(11))))
    print("training", training(20))


if __name__ == "__main__":
    main()
