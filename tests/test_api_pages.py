"""docs/api/ is what the docstrings say; every public name has a docstring, and every example in them runs."""

import doctest
import importlib.util
import inspect

import pytest
from pages import ROOT

spec = importlib.util.spec_from_file_location("make_api", ROOT / "docs" / "make_api.py")
make_api = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_api)

PAGES = make_api.pages()
ENTRIES = {
    f"{module.__name__}.{name}": value
    for module in make_api.modules().values()
    for name, value in [("__doc__", module), *make_api.entries(module)]
}


def test_the_pages_are_the_docstrings():
    committed = {path.name: path.read_text() for path in (ROOT / "docs" / "api").iterdir()}
    assert committed.keys() == PAGES.keys()
    other = [name for name, text in PAGES.items() if committed[name] != text]
    assert not other, f"run python docs/make_api.py: {', '.join(other)}"


def test_nothing_depends_on_the_run():
    assert not [name for name, text in PAGES.items() if " at 0x" in text]


@pytest.mark.parametrize("name", ENTRIES)
def test_a_docstring_whose_examples_run(name):
    text = make_api.doc(ENTRIES[name])
    assert text
    module = importlib.import_module(getattr(ENTRIES[name], "__module__", None) or "fastnn")
    names = {**vars(module), "__name__": "page"}
    test = doctest.DocTestParser().get_doctest(text, names, name, None, 0)
    assert doctest.DocTestRunner().run(test).failed == 0


# Without an example: they say what a machine has or change it for the whole process, or are bases and errors.
NO_EXAMPLE = {
    "fastnn": {
        "CudaError",
        "get_isa",
        "get_num_threads",
        "isas",
        "set_isa",
        "set_num_threads",
        "show_config",
    },
    "fastnn.data": {"Table"},
    "fastnn.init": {"Initializer"},
    "fastnn.optim": {"Clip", "Optimizer"},
    "fastnn.preprocessing": {"ColumnScaler", "Scaler"},
}
ROOMS = ("", ".callbacks", ".data", ".init", ".losses", ".nn", ".optim", ".preprocessing", ".schedulers")


@pytest.mark.parametrize("room", [f"fastnn{room}" for room in ROOMS])
def test_every_docstring_has_an_example(room):
    entries = {name.removeprefix(f"{room}."): value for name, value in ENTRIES.items()}
    without = {
        name
        for name, value in entries.items()
        if "." not in name and name != "__doc__" and ">>>" not in make_api.doc(value)
    }
    assert without == NO_EXAMPLE.get(room, set())


def test_markdown_of_a_docstring():
    text = """A sum x * y over i < n.

    Parameters
    ----------
    x, y : arrays; `x * y`
        of any length

    >>> 1 + 1
    2

    f(x) = x
    a     b
    """
    assert make_api.markdown(inspect.cleandoc(text)) == (
        "A sum x \\* y over i \\< n.\n\n**Parameters**\n\n- `x, y`: arrays; `x * y`\n  of any length\n\n"
        "```pycon\n>>> 1 + 1\n2\n```\n\n```text\nf(x) = x\na     b\n```"
    )
