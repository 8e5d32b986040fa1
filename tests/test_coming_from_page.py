"""docs/coming-from.md: every fastnn name in it is there and takes the arguments that it shows."""

import ast
import re

import fastnn
import numpy as np
import pytest
from fastnn import nn
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
    """Each piece of code in the right columns."""
    for line in PAGE.splitlines():
        if line.startswith("| ") and not line.startswith("| ---"):
            yield from re.findall(r"`([^`]+)`", line.strip("| ").split(" | ")[-1])


NAMES = sorted({name for code in ours() for name in names_of(code)})
# What makes an object, with values for what the page leaves open.
ROOMS = ("callbacks", "data", "init", "losses", "nn", "optim", "preprocessing", "schedulers")
CALLS = sorted(
    {code for code in ours() if re.match(rf"({'|'.join(ROOMS)})\.\w+\(", code) and "..." not in code}
)
X = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
OPEN = {
    "a": 0.1,
    "alpha": 0.1,
    "b": 0.1,
    "k": 0.1,
    "lr": 0.1,
    "lr_decay": 0.1,
    "rate": 0.5,
    "std": 1.0,
    "steps": 10,
}
OPEN |= {"X": X, "Y": np.zeros(20, int), "batch_size": 10, "path": "checkpoints"}


def test_names_are_found():
    assert {"optim.Momentum(momentum=, style=)", "schedulers.Sequence", "data.batches(epoch=, seed=)"} <= set(
        NAMES
    )
    assert list(names_of("fastnn.save(path, model)")) == ["save"]
    assert list(names_of("model.step(x)")) == []
    assert "schedulers.StepDecay(0.1, steps, rate)" in CALLS


@pytest.mark.parametrize("name", NAMES)
def test_names_are_there_and_take_these_arguments(name):
    assert resolved(name) is not None


@pytest.mark.parametrize("code", CALLS)
def test_calls_are_taken(code):
    scaler = fastnn.preprocessing.StandardScaler().fit(X)
    model = nn.Sequential(nn.Standardize(scaler), nn.Linear(3, 3), nn.BatchNorm1d(3), seed=0)
    given = {**OPEN, "params": model.parameters(), "model": model, "scaler": scaler}
    k = 2 if "Sparse" in code else OPEN["k"]
    eval(code, {room: getattr(fastnn, room) for room in ROOMS} | given | {"k": k})
