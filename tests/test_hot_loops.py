"""The inner loops of the AVX-512 kernels, in the disassembly: no machine is needed that can run them.

A spilled register or a second load costs a tenth of the speed and no test of values sees it.
"""

import platform
import shutil
import subprocess
from fractions import Fraction

import pytest
from counts import compiler_of
from hot_loops import loops
from test_rooms import objects_of_the_build

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="AVX-512 is of x86-64")


def avx512(name):
    """The object of csrc/cpu/`name` for AVX-512; a skip where the build emulates it or leaves it out."""
    found = objects_of_the_build(
        lambda build: sorted(build.rglob(f"fastnn_avx512.dir/csrc/cpu/{name}.o")), "objdump"
    )
    if "GCC" not in compiler_of(found):
        pytest.skip("what is wanted here was read in gcc's code")
    if not any("%zmm" in line for line in disassembly(found[0])):
        pytest.skip("this build emulates AVX-512")
    return found[0]


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
    assert any("vmaxps" in loop.names and not loop.fmas for loop in found), "no loop looks like ReLU's"
    for loop in found:
        assert (loop.addresses, loop.stack) == (loop.stores, 0), loop


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
