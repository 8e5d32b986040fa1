"""What cuda_compile.py reads in the words of ptxas."""

import cuda_compile
import pytest
from cuda_compile import Kernel

# CUDA 13.0, for two kernels of which one had too few registers.
SAID = """\
ptxas info    : 24 bytes gmem, 8 bytes cmem[4]
ptxas info    : Compiling entry function '_Z5cleanPf' for 'sm_80'
ptxas info    : Function properties for _Z5cleanPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers, 360 bytes cmem[0]
ptxas info    : Compile time = 14.028 ms
ptxas info    : Compiling entry function '_Z8spillingPfi' for 'sm_80'
ptxas info    : Function properties for _Z8spillingPfi
    1272 bytes stack frame, 1184 bytes spill stores, 1444 bytes spill loads
ptxas info    : Used 24 registers, used 1 barriers, 1272 bytes cumulative stack size, 364 bytes cmem[0]
ptxas info    : Compile time = 29.388 ms
"""
CLEAN, SPILLING = Kernel("_Z5cleanPf", "sm_80", 0, 8), Kernel("_Z8spillingPfi", "sm_80", 2628, 24)


def faults(found, architectures=("sm_80",), has_kernels=True):
    return cuda_compile.faults(found, architectures, 24, has_kernels)


def test_kernels_are_read():
    assert cuda_compile.kernels(SAID) == [CLEAN, SPILLING]


def test_a_spill_and_too_many_registers_are_faults():
    assert faults([CLEAN]) == []
    assert faults([CLEAN, SPILLING]) == ["sm_80 _Z8spillingPfi: 2628 bytes spilled, 24 of 24 registers"]
    assert faults([CLEAN._replace(registers=25)]) == ["sm_80 _Z5cleanPf: 0 bytes spilled, 25 of 24 registers"]


def test_a_file_whose_kernels_were_not_seen_is_a_fault():
    assert faults([]) == ["ptxas names no kernel for sm_80"]
    assert faults([CLEAN], ["sm_80", "sm_90"]) == ["ptxas names no kernel for sm_90"]
    assert faults([], has_kernels=False) == []


@pytest.mark.parametrize("words", ["Used 8 registers", "bytes spill stores", "_Z8spillingPfi' for"])
def test_other_words_are_not_passed_over(words):
    """Of the first or the last kernel: none is read with the numbers of another."""
    with pytest.raises(ValueError, match="not understood"):
        cuda_compile.kernels(SAID.replace(words, "?"))
