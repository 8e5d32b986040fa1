"""The suite catches a wrong edit of every trap; mutants.py and its tables say which and how."""

import subprocess
import sys
from pathlib import Path

import mutants
import pytest
from mutant_table import LEFT_OUT, TRAPS, Mutant
from mutants import NATIVE, PYTHON

pytestmark = pytest.mark.ci

SCRIPT = Path(mutants.__file__)
STEPS = "python/fastnn/_batch_norm_steps.py"


def test_every_trap_has_a_mutant_or_a_reason():
    planted = {mutant.trap for mutant in [*PYTHON, *NATIVE]}
    assert planted | set(LEFT_OUT) == set(TRAPS)
    assert not planted & set(LEFT_OUT)


@pytest.mark.parametrize("mutant", [*PYTHON, *NATIVE], ids=lambda mutant: f"{mutant.trap}-{mutant.what}")
def test_the_place_of_every_mutant_is_there(mutant):
    """In the repository, and the same for the tests that must fail."""
    text = (mutants.ROOT / mutant.file).read_text()
    assert mutants.mutated(text, mutant) != text
    assert mutant.tests
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert f"def {name.split('[')[0]}(" in (mutants.ROOT / file).read_text(), test


def run_script(*arguments):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False
    )


def test_every_mutant_in_python_is_caught():
    done = run_script("python")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert done.stdout.count("caught") == len(PYTHON)


@pytest.mark.heavy
def test_every_native_mutant_is_caught():
    done = run_script("native")
    if done.returncode == 77:
        pytest.skip(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert done.stdout.count("caught") == len(NATIVE)


CHAIN = "tests/test_batch_norm_steps.py::test_the_chain_is_the_closed_form"
NOT_CAUGHT = {
    "an edit that changes nothing": ("mu = x.sum(axes) / m", "mu =  x.sum(axes) / m", CHAIN, "passed"),
    "a test that is not there": ("carre = xmu * xmu", "carre = xmu + xmu", f"{CHAIN}_at_all", "do not pass"),
    "no longer Python": ("carre = xmu * xmu", "carre = xmu xmu", CHAIN, "did not import"),
    "an edit that has no place": ("xmu = x * mu", "xmu = x + mu", CHAIN, "occurs 0 times"),
}


@pytest.mark.parametrize("case", NOT_CAUGHT)
def test_a_mutant_that_is_not_caught_is_reported(case, tmp_path):
    """In a fresh process, as the script: children must not inherit a fastnn that was imported before."""
    old, new, test, message = NOT_CAUGHT[case]
    mutant = Mutant(0, case, STEPS, old, new, (test,))
    code = (
        "import pathlib, mutants; from mutant_table import Mutant; mutants.prepare(); "
        f"print(list(mutants.survivors([{mutant!r}], pathlib.Path({str(tmp_path)!r}), False)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=SCRIPT.parent, capture_output=True, text=True, check=False
    )
    assert message in done.stdout + done.stderr, done.stdout + done.stderr


def test_a_mutant_that_kills_its_process_is_reported():
    mutant = Mutant(0, "", "", "", "", ("a", "b"))
    assert "killed the process" in mutants.judge(mutant, None)
    assert mutants.judge(mutant, [1, 0]) == "b passed"
    assert mutants.judge(mutant, [1, 1]) == ""
