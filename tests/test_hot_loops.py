"""The inner loops of the AVX-512 kernels, in the disassembly: no machine is needed that can run them.

A spilled register or a second load costs a tenth of the speed and no test of values sees it.
"""

import json
import platform
import re
import shutil
import subprocess
from fractions import Fraction

import counts
import pytest
from hot_loops import loops
from test_rooms import objects_of_the_build

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="AVX-512 is of x86-64")


def avx512(name, isa="avx512"):
    """The object of csrc/cpu/`name` for AVX-512; a skip where the build emulates it or leaves it out."""
    found = objects_of_the_build(
        lambda build: sorted(build.rglob(f"fastnn_{isa}.dir/csrc/cpu/{name}.o")), "objdump"
    )
    if "GCC" not in counts.compiler_of(found):
        pytest.skip("what is wanted here was read in gcc's code")
    if not any("%zmm" in line for line in disassembly(found[0])):
        pytest.skip("this build emulates AVX-512")
    return found[0]


def of_the_recorded_compiler(name, isa="avx512"):
    """The same; a skip where another gcc made it, which may spill or read elsewhere than this one."""
    found = avx512(name, isa)
    recorded = json.loads(counts.TABLE.read_text())["compiler"]
    if counts.compiler_of([found]) != recorded:
        pytest.skip(f"what is wanted here was read in code of {recorded}")
    return found


def disassembly(path):
    return subprocess.run(
        ["objdump", "-d", str(path)], capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_the_matrix_product_keeps_its_tile_in_registers():
    """6x64: a step is 24 FMAs on 4 loads of b and 6 broadcasts of a, and nothing lies on the stack."""
    found = [loop for loop in loops(avx512("gemm_block.cpp"), r"\btile<6, 4, false, ") if loop.fmas]
    assert found
    for loop in found:
        steps = Fraction(loop.fmas, 24)
        assert (loop.loads, loop.broadcasts, loop.stores, loop.stack) == (4 * steps, 6 * steps, 0, 0), loop


TILE = re.compile(r"\btile<(\d+), (\d+), (true|false), .*?\)([01])>")
# As csrc/cpu/tile.h has them: the most rows of a tile so many registers wide.
ROWS = {1: 14, 2: 12, 3: 8, 4: 6}
SIDE_BY_SIDE, ANY = "0", "1"
TILES = {(rows, width, "true", ANY) for width, most in ROWS.items() for rows in range(1, most + 1)} | {
    (rows, 4, "false", terms) for rows in range(1, 7) for terms in (SIDE_BY_SIDE, ANY)
}
# Of single terms alone: seven and eight rows that read b once, one and two that read it where it lies.
SINGLE = {
    (7, 3, "false", SIDE_BY_SIDE),
    (8, 3, "false", SIDE_BY_SIDE),
    (1, 8, "false", ANY),
    (1, 16, "false", ANY),
}


@pytest.mark.parametrize(("isa", "tiles"), [("avx512", TILES | SINGLE), ("avx512bf16", TILES)])
def test_every_tile_reads_b_once_and_keeps_its_sums_in_registers(isa, tiles):
    """A step of n rows and v registers: n v FMAs or vdpbf16ps, v vectors of b, n broadcasts of a. For up to
    three rows gcc reads b again for each, as an operand in memory, where FMAs wait for their sums anyway."""
    product = {"avx512": "vfmadd231ps", "avx512bf16": "vdpbf16ps"}[isa]
    seen = set()
    for loop in loops(of_the_recorded_compiler("gemm_block.cpp", isa), r"\btile<"):
        if not loop.fmas:
            continue
        rows, width, edge, terms = TILE.search(loop.function).groups()
        rows, width = int(rows), int(width)
        seen.add((rows, width, edge, terms))
        steps = Fraction(loop.fmas, rows * width)
        assert product in loop.names, loop
        assert (loop.addresses, loop.broadcasts) == (width * steps, rows * steps), loop
        assert loop.loads == width * steps or (rows <= 3 and loop.loads <= loop.fmas), loop
        assert (loop.stores, loop.stack) == (0, 0), loop
    assert seen == tiles


def whole_vectors(path, function):
    """The loops that store whole vectors."""
    return [loop for loop in loops(path, function) if loop.stores and not loop.masked]


def test_updates_touch_each_array_once():
    """Parameter, gradient and state are read, all but the gradient written: 2 to 1 up to 5 to 4."""
    found = whole_vectors(avx512("update.cpp"), r"\brun_rule<")
    assert {Fraction(loop.addresses, loop.stores) for loop in found} == {
        Fraction(2, 1),
        Fraction(3, 2),
        Fraction(4, 3),
        Fraction(5, 4),
    }
    assert not any(loop.stack for loop in found), found


def test_activations_read_once_and_write_once():
    found = whole_vectors(avx512("activation.cpp"), r"\bactivate\(")
    found = [loop for loop in found if "each_group<4" not in loop.function]  # those are among the passes
    assert any("vmaxps" in loop.names and not loop.fmas for loop in found), "no loop looks like ReLU's"
    for loop in found:
        assert (loop.addresses, loop.stack) == (loop.stores, 0), loop


# What a pass of each loop over vectors does, for each way of the source: FMAs, loads and stores of vectors,
# accesses to the stack. Statistics go through eight, four and one row at a time beside two running sums, or
# (narrow) through four and one with sums in registers; the last passes take what belongs to the columns from
# memory, or (narrow, and a run of rows, which is four vectors) from registers.
PASSES = {
    "batch-norm, statistics": (
        "batchnorm.cpp",
        r"\breduce\(",
        {(4, 11, 2, 0), (2, 7, 2, 0), (0, 4, 2, 0), (2, 4, 0, 0), (0, 1, 0, 0), (0, 0, 2, 0)},
    ),
    "batch-norm, last pass, with and without ReLU": (
        "batchnorm.cpp",
        r"\bapply\(",
        {(1, 4, 1, 0), (1, 1, 1, 0), (4, 4, 4, 0)},
    ),
    # Bounds and pointers lie on the stack, of rows of three arrays with ReLU, and no vector.
    "batch-norm backward, statistics": (
        "batchnorm_backward.cpp",
        r"\breduce_block<false>",
        {(4, 19, 2, 1), (2, 11, 2, 1), (0, 6, 2, 0), (2, 8, 0, 0), (0, 3, 0, 0), (0, 0, 2, 0)},
    ),
    "batch-norm + ReLU backward, statistics": (
        "batchnorm_backward.cpp",
        r"\breduce_block<true>",
        {(4, 27, 2, 4), (2, 15, 2, 1), (0, 6, 2, 0), (2, 12, 0, 1), (0, 3, 0, 0), (0, 0, 2, 0)},
    ),
    "batch-norm backward, last pass": (
        "batchnorm_backward.cpp",
        r"\bapply<false>",
        {(1, 6, 1, 0), (1, 2, 1, 0), (4, 8, 4, 0)},
    ),
    "batch-norm + ReLU backward, last pass": (
        "batchnorm_backward.cpp",
        r"\bapply<true>",
        {(1, 7, 1, 0), (1, 3, 1, 0), (4, 12, 4, 0)},
    ),
    # Of ReLU, and of the others without an exp, where gcc reads dy or y once more as an operand.
    "gradients of simple activations": (
        "activation.cpp",
        r"^fastnn::avx512::activate_backward\(",
        {(0, 2, 1, 0), (0, 3, 1, 0), (1, 3, 1, 0)},
    ),
    # Four vectors at a time, and what is left two at a time. The fours of GELU, tanh and softplus read some
    # constants, or x once more, from memory; the heaviest leave a bound or one of the vectors on the stack.
    "activations with an exp": (
        "activation.cpp",
        r"\beach_group<.*activate\(",
        {
            (18, 3, 2, 0),
            (20, 2, 2, 0),
            (20, 3, 2, 0),
            (26, 3, 2, 0),
            (30, 2, 2, 0),
            (36, 8, 4, 0),
            (40, 4, 4, 0),
            (40, 8, 4, 0),
            (40, 9, 4, 1),
            (52, 9, 4, 1),
            (60, 5, 4, 1),
        },
    ),
    # The same, and up to two vectors and some constants on the stack.
    "gradients of activations with an exp": (
        "activation.cpp",
        r"\beach_group<.*(activate_backward|backward_of_input)",
        {
            (20, 4, 2, 0),
            (20, 5, 2, 0),
            (20, 6, 2, 0),
            (22, 4, 2, 0),
            (26, 4, 2, 0),
            (36, 6, 2, 1),
            (40, 8, 4, 3),
            (40, 12, 4, 2),
            (40, 17, 5, 5),
            (44, 8, 4, 3),
            (52, 10, 5, 6),
            (72, 14, 5, 6),
        },
    ),
    # The largest logit, exp with its sum, the gradient, that of an ignored row, folds of the sums.
    "softmax cross-entropy of class ids": (
        "softmax.cpp",
        r"\bsoftmax_group<true>",
        {(0, 1, 0, 0), (9, 1, 1, 0), (1, 1, 1, 0), (0, 0, 1, 0), (0, 2, 1, 0)},
    ),
    # The same, and the sums of the targets.
    "softmax cross-entropy of probabilities": (
        "softmax.cpp",
        r"\bsoftmax_group<false>",
        {(0, 1, 0, 0), (9, 1, 1, 0), (1, 2, 0, 0), (2, 2, 1, 0), (0, 0, 1, 0), (0, 0, 2, 0), (0, 2, 1, 0)},
    ),
    "sums of squares of gradients": ("update_norm.cpp", r"\bupdate_sum\(", {(4, 4, 0, 0), (1, 1, 0, 0)}),
    "sum of two arrays": ("add.cpp", r"\badd\(", {(0, 2, 1, 0)}),
    "rows of a data set": ("gather.cpp", r"\bgather\(", {(0, 1, 1, 0)}),
    "dropout, and all dropped": ("dropout.cpp", r"\bdropout\(", {(0, 1, 1, 0), (0, 0, 1, 0)}),
}


def passes(path, function):
    return {
        (loop.fmas, loop.loads, loop.stores, loop.stack)
        for loop in loops(path, function)
        if any(name.endswith("ps") for name in loop.names)
    }


@pytest.mark.parametrize("case", PASSES)
def test_passes_over_arrays_do_what_they_must_and_no_more(case):
    name, function, wanted = PASSES[case]
    assert passes(of_the_recorded_compiler(name), function) == wanted


# ---- planted


PLANTED = """
#include <immintrin.h>
void scale(float* p, long n, __m512 f) {{
    {variable} __m512 factor = f;
    for (long i = 0; i < n; i += 16)
        _mm512_storeu_ps(p + i, _mm512_fmadd_ps(_mm512_loadu_ps(p + i), factor, f));
}}
"""


@pytest.mark.parametrize(("variable", "stack"), [("const", 0), ("volatile", 1)])
def test_a_spilled_register_is_found(tmp_path, variable, stack):
    if shutil.which("g++") is None or shutil.which("objdump") is None:
        pytest.skip("no g++ or no objdump")
    (tmp_path / "a.cpp").write_text(PLANTED.format(variable=variable))
    command = ["g++", "-O2", "-mavx512f", "-c", str(tmp_path / "a.cpp"), "-o", str(tmp_path / "a.o")]
    subprocess.run(command, check=True)
    (loop,) = loops(tmp_path / "a.o", "scale")
    assert (loop.fmas, loop.stores, loop.stack) == (1, 1, stack)
