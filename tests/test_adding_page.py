"""docs/adding.md: the files that a recipe names are those of what was made by it."""

import re

import pytest
from pages import ROOT

# Recipe -> what was made by it.
EXAMPLES = {
    "an optimizer": "rprop",
    "an update in `ops`": "adagrad",
    "an elementwise loss": "huber",
    "an activation": "softplus",
    "a scheduler": "InverseTimeDecay",
    "an initializer": "Orthogonal",
    "a scaler": "MinMaxScaler",
    "a command": "evaluate",
    "a layer from existing kernels": "Dropout",
    "a diagnostic": "signal_report",
    "an experiment": "clipping",
    "a kernel family": "gemm",
    "an ISA": "avx2",
}
# Those whose example is a word of its own in the C++: all files that have it must be named.
NATIVE = ("an optimizer", "an elementwise loss", "an activation")


def recipes():
    """What each row of the table names, the new files with the others."""
    page = (ROOT / "docs" / "adding.md").read_text()
    rows = re.findall(r"^\| (an? .*?) \| (.*) \| (.*?) \|$", page, re.M)
    return {name: f"{touch}, {new}" for name, touch, new in rows}


RECIPES = recipes()


def files_of(text, example):
    """The paths that a recipe names; one without a folder is in that of the path before it."""
    folder = ""
    for name in re.findall(r"`([\w./<>*]+(?:\.(?:h|cpp|cu|py|pyi|md|txt)|/))`", text):
        name = re.sub(r"<\w+>", example.lower(), name)
        if name == "CMakeLists.txt":
            yield name
            continue
        folder = name[: name.rindex("/") + 1] if "/" in name else folder
        yield folder + name[name.rfind("/") + 1 :]


def having(path, example):
    """Whether a file, or one of a folder or of a pattern, holds the example."""
    found = [ROOT / path] if not path.endswith("/") else [*(ROOT / path).glob("*.py")]
    found = [*ROOT.glob(path)] if "*" in path else found
    return any(file.is_file() and example.lower() in file.read_text().lower() for file in found)


def test_every_recipe_has_an_example():
    assert RECIPES.keys() == EXAMPLES.keys()
    assert {
        "a kernel family",
        "an optimizer",
        "a scheduler",
        "a layer from existing kernels",
        "an ISA",
    } <= set(RECIPES)


@pytest.mark.parametrize("recipe", EXAMPLES)
def test_the_files_that_a_recipe_names_have_its_example(recipe):
    named = list(files_of(RECIPES[recipe], EXAMPLES[recipe]))
    assert len(named) > 1
    assert [path for path in named if not having(path, EXAMPLES[recipe])] == []


@pytest.mark.parametrize("recipe", NATIVE)
def test_no_file_of_c_plus_plus_is_left_out(recipe):
    example = EXAMPLES[recipe]
    there = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "csrc").rglob("*.*")
        if example in re.sub(r"//.*", "", path.read_text().lower())
    }
    assert there - set(files_of(RECIPES[recipe], example)) == set()
