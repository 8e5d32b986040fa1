"""docs/coming-from.md: every fastnn name in it is there and takes the arguments that it shows."""

import ast
import re

import pytest
from pages import ROOT, resolved

PAGE = (ROOT / "docs" / "coming-from.md").read_text()
MODULES = (
    "callbacks",
    "data",
    "init",
    "losses",
    "nn",
    "ops",
    "optim",
    "preprocessing",
    "schedulers",
    "Trainer",
)


def names_of(code):
    """The fastnn names in a piece of code: `optim.Adam(lr=)` for a call with arguments by name."""
    try:
        tree = ast.parse(code)
    except SyntaxError:  # `lr=`
        assert not re.search(rf"\b({'|'.join(MODULES)})\.", code), code
        return
    called = {node.func: node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Attribute, ast.Name)):
            continue
        name = ast.unparse(node).removeprefix("fastnn.")
        first = name.partition(".")[0]
        if not re.fullmatch(r"[\w.]+", name) or (
            first not in MODULES and not ast.unparse(node).startswith("fastnn.")
        ):
            continue
        arguments = sorted(word.arg for word in called[node].keywords if word.arg) if node in called else []
        if name not in MODULES:
            yield name + (f"({', '.join(f'{word}=' for word in arguments)})" if arguments else "")


def ours():
    for line in PAGE.splitlines():
        if line.startswith("| ") and not line.startswith("| ---"):
            for code in re.findall(r"`([^`]+)`", line.strip("| ").split(" | ")[-1]):
                yield from names_of(code)


NAMES = sorted(set(ours()))


def test_names_are_found():
    assert {"optim.Momentum(momentum=, style=)", "schedulers.Sequence", "data.batches(epoch=, seed=)"} <= set(
        NAMES
    )
    assert list(names_of("fastnn.save(path, model)")) == ["save"]
    assert list(names_of("model.step(x)")) == []


@pytest.mark.parametrize("name", NAMES)
def test_names_are_there_and_take_these_arguments(name):
    assert resolved(name) is not None
