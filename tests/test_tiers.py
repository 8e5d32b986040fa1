"""The heavy tiers as tests: `pytest -m heavy`. Each is a script; docs/reliability.md says what they found."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TIERS = Path(__file__).with_name("tiers")


@pytest.mark.heavy
@pytest.mark.parametrize(
    "command",
    [
        *("aarch64.sh", "old_cpu.sh", "clang.sh", "pythons.sh", "sanitize.sh address", "sanitize.sh thread"),
        *("cuda_shim.sh address", "cuda_shim.sh thread"),
    ],
)
def test_tier(command):
    script, *arguments = command.split()
    done = subprocess.run(
        [str(TIERS / script), *arguments],
        env={**os.environ, "PYTHON": sys.executable},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout[-8000:]


def test_every_test_that_a_tier_names_is_there():
    """A test that moved would be run where it says nothing, or left out of what is wanted."""
    named = [
        found
        for script in TIERS.glob("*.sh")
        for found in re.findall(r"tests/(test_\w+\.py)(?:::(test_\w+))?", script.read_text())
    ]
    assert len(named) > 10
    for file, test in named:
        text = (TIERS.parent / file).read_text()
        assert not test or f"\ndef {test}(" in text, f"{file}::{test}"


def test_every_script_is_a_tier():
    marks = test_tier.pytestmark
    commands = next(mark for mark in marks if mark.name == "parametrize").args[1]
    assert {command.split()[0] for command in commands} == {f.name for f in TIERS.glob("*.sh")}
