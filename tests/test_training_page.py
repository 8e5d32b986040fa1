"""The Python of docs/training.md runs, and its table holds every schedule."""

from fastnn import schedulers
from pages import ROOT, blocks, run


def test_the_page_runs():
    names = {"__name__": "page"}
    found = blocks("training.md", "python")
    for block in found:
        run("training.md", block, names)
    assert len(found) == 4


def test_the_table_holds_every_schedule():
    text = (ROOT / "docs" / "training.md").read_text()
    missing = [name for name in schedulers.__all__ if f"`{name}`" not in text]
    assert missing == ["Schedule"]
