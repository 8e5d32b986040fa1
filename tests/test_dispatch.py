"""Which instruction set runs: chosen at import, changed by name, proved by the object's own macros."""

import os
import platform
import re

import fastnn
import guard
import pytest
from fastnn import _core

KNOWN = ("avx512bf16", "avx512", "avx2", "scalar")

# Macros the compiler predefines for an instruction set, and those it must not.
MACROS = {
    "avx512bf16": ({"__AVX512F__", "__AVX512BF16__", "__FMA__"}, set()),
    "avx512": (
        {"__AVX512F__", "__AVX512BW__", "__AVX512DQ__", "__AVX512VL__", "__FMA__"},
        {"__AVX512BF16__"},
    ),
    "avx2": ({"__AVX2__", "__FMA__"}, {"__AVX512F__"}),
    "scalar": (set(), {"__AVX__", "__AVX2__", "__FMA__", "__AVX512F__"}),
}


def active():
    """For a subprocess: print the instruction set that import chose."""
    print(fastnn.get_isa())


def flags_of_the_cpu():
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        return next(set(line.split(":")[1].split()) for line in lines if line.startswith("flags"))


def skip_if_emulated(isa):
    """The build that emulates AVX-512 (docs/adding.md) offers it on any CPU, compiled without its flags."""
    if isa.startswith("avx512") and "-mavx512f" not in fastnn.info()["flags"][isa]:
        pytest.skip("this build emulates AVX-512")


def best_first():
    """Intel's vdpbf16ps is slower than FMAs of widened numbers."""
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        intel = "GenuineIntel" in lines.read()
    return ("avx512", "avx512bf16", "avx2", "scalar") if intel else KNOWN


def test_best_first_and_scalar_always():
    names = fastnn.isas()
    assert names == [n for n in best_first() if n in names]
    assert names[-1] == "scalar"
    assert fastnn.get_isa() in names


@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads the flags of an x86-64 CPU")
def test_what_the_cpu_lacks_is_not_offered():
    skip_if_emulated(fastnn.isas()[0])
    flags = flags_of_the_cpu()
    assert ("avx2" in fastnn.isas()) <= {"avx2", "fma"}.issubset(flags)
    assert ("avx512" in fastnn.isas()) <= {"avx512f", "avx512bw", "avx512dq", "avx512vl"}.issubset(flags)
    assert ("avx512bf16" in fastnn.isas()) <= ("avx512_bf16" in flags)


def test_the_list_is_the_callers():
    fastnn.isas().clear()
    assert fastnn.isas()


def test_the_active_table_is_of_its_own_object(isa):
    """A function in the active table returns the macros its own object was compiled with."""
    skip_if_emulated(isa)
    macros = set(_core.isa_macros())
    wanted, forbidden = MACROS[isa]
    if platform.machine() == "x86_64":
        assert wanted <= macros
    assert not macros & forbidden
    assert fastnn.get_isa() == isa
    assert fastnn.info()["isa"] == isa


@pytest.mark.parametrize("name", ["sse9", "AVX2", "", "avx2 ", "native"])
def test_unknown_names_raise_and_change_nothing(name):
    before = fastnn.get_isa()
    with pytest.raises(ValueError, match=r"unknown ISA '.*scalar, avx2, avx512, avx512bf16"):
        fastnn.set_isa(name)
    assert fastnn.get_isa() == before


@pytest.mark.parametrize("name", [None, 3, b"avx2", ["avx2"]], ids=repr)
def test_what_is_no_name_raises(name):
    said = re.escape(f"set_isa(): 'name' must be a str such as \"avx2\", got {name!r}")
    with pytest.raises(TypeError, match=f"^{said}$"):
        fastnn.set_isa(name)


def unsupported():
    names = [n for n in KNOWN if n not in fastnn.isas()]
    if not names:
        pytest.skip("this CPU runs every instruction set there is")
    return names


def test_unsupported_names_raise():
    for name in unsupported():
        with pytest.raises(ValueError, match=rf"'{name}' is not (supported by this CPU|in this build)"):
            fastnn.set_isa(name)


def test_environment_chooses(isas):
    for name in isas:
        assert guard.run_isolated("test_dispatch", "active", env={"FASTNN_ISA": name}).strip() == name


def test_without_the_variable_the_best_runs():
    assert guard.run_isolated("test_dispatch", "active", env={"FASTNN_ISA": ""}).strip() == fastnn.isas()[0]


def test_environment_with_an_unknown_name_raises():
    with pytest.raises(AssertionError, match=r"FASTNN_ISA: unknown ISA 'sse9'.*scalar, avx2"):
        guard.run_isolated("test_dispatch", "active", env={"FASTNN_ISA": "sse9"})


def test_environment_with_an_unsupported_name_raises():
    for name in unsupported():
        with pytest.raises(AssertionError, match=rf"FASTNN_ISA: ISA '{name}' is not"):
            guard.run_isolated("test_dispatch", "active", env={"FASTNN_ISA": name})


def test_a_forced_run_tests_what_it_was_asked_to(isas):
    forced = os.environ.get("FASTNN_ISA")
    assert isas == ([forced] if forced else fastnn.isas())
