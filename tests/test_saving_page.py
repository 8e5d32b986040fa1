"""The Python of docs/saving.md runs, and the doctests of saving, callbacks and pre-training."""

import doctest
import importlib
import pkgutil
import re
import tempfile
from pathlib import Path

import pytest
from fastnn import callbacks

PAGE = Path(__file__).parents[1] / "docs" / "saving.md"
FENCE = "`" * 3


def test_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names = {"__name__": "page"}
    blocks = re.findall(rf"^{FENCE}python\n(.*?)^{FENCE}$", PAGE.read_text(), re.M | re.S)
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert len(blocks) == 6
    assert 0 < names["averaged"]["loss"] < 0.5


@pytest.mark.parametrize(
    "name",
    [
        *("checkpoint", "history", "pretrain", "trainer", "callbacks"),
        *(f"callbacks.{module.name}" for module in pkgutil.iter_modules(callbacks.__path__)),
    ],
)
def test_doctests(name):
    assert doctest.testmod(importlib.import_module(f"fastnn.{name}"), raise_on_error=False).failed == 0
