"""The Python of docs/diagnostics.md runs and prints what stands there; the doctests of diagnostics."""

import doctest
import importlib
import pkgutil
import re

import pytest
from fastnn import diagnostics
from pages import ROOT, run

PAGE = "diagnostics.md"
FENCE = "`" * 3


def examples():
    """(Python, what it prints) of the page, in order."""
    text = (ROOT / "docs" / PAGE).read_text()
    pattern = rf"^{FENCE}python\n(.*?)^{FENCE}$(?:\n\n{FENCE}text\n(.*?)^{FENCE}$)?"
    return re.findall(pattern, text, re.M | re.S)


def test_the_page_runs_and_prints_what_it_says(capsys):
    names = {"__name__": "page"}
    found = examples()
    assert sum(bool(printed) for _, printed in found) == 8
    for source, printed in found:
        run(PAGE, source, names)
        assert capsys.readouterr().out == printed


def test_the_table_holds_every_function():
    text = (ROOT / "docs" / PAGE).read_text()
    functions = [name for name in diagnostics.__all__ if name[0].islower()]
    assert all(f"| `{name}(" in text for name in functions)


@pytest.mark.parametrize("name", sorted(m.name for m in pkgutil.iter_modules(diagnostics.__path__)))
def test_doctests(name):
    found = doctest.testmod(importlib.import_module(f"fastnn.diagnostics.{name}"), raise_on_error=False)
    assert found.failed == 0
    assert found.attempted or name.startswith("_")


def test_doctest_of_the_package():
    assert doctest.testmod(diagnostics).failed == 0
