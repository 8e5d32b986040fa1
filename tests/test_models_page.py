"""The Python of docs/models.md runs, and the doctests of the layers and of ops.dropout."""

import doctest
import importlib
import pkgutil

import pytest
from fastnn import nn, ops
from pages import blocks, run

PAGE = "models.md"


def test_the_page_runs(capsys):
    names = {"__name__": "page"}
    for block in blocks(PAGE, "python"):
        if "import torch" in block:
            continue
        run(PAGE, block, names)
    assert capsys.readouterr().out == blocks(PAGE, "text")[0]


def test_the_pytorch_part_of_the_page_runs():
    pytest.importorskip("torch", reason="PyTorch is not installed (pip install '.[peers]')")
    first, *_ = blocks(PAGE, "python")
    (block,) = (block for block in blocks(PAGE, "python") if "import torch" in block)
    names = {"__name__": "page"}
    run(PAGE, first, names)
    run(PAGE, block, names)


@pytest.mark.parametrize("name", sorted(f"fastnn.nn.{m.name}" for m in pkgutil.iter_modules(nn.__path__)))
def test_doctests_of_the_layers(name):
    assert doctest.testmod(importlib.import_module(name), raise_on_error=False).failed == 0


def test_doctest_of_dropout():
    test = doctest.DocTestParser().get_doctest(ops.dropout.__doc__, {}, "dropout", None, 0)
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0
