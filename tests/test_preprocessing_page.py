"""The Python of docs/preprocessing.md runs."""

from pages import blocks, run


def test_the_page_runs():
    names = {"__name__": "page"}
    found = blocks("preprocessing.md", "python")
    assert len(found) == 4
    for block in found:
        run("preprocessing.md", block, names)
