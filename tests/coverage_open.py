"""What docs/coverage.md and docs/coming-from.md name and is not there yet (coverage_open.txt, one a line).

Each line must fail for as long as it stands there: what has come is taken out.
"""

from pathlib import Path

import pytest

OPEN = set(Path(__file__).with_suffix(".txt").read_text().splitlines())


def is_open(name):
    """A parameter for pytest: the name, expected to fail while it is open."""
    missing = pytest.mark.xfail(strict=True, reason="not there yet")
    return pytest.param(name, marks=missing) if name in OPEN else name
