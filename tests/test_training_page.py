"""The table of docs/training.md holds every schedule."""

from fastnn import schedulers
from pages import ROOT


def test_the_table_holds_every_schedule():
    text = (ROOT / "docs" / "training.md").read_text()
    missing = [name for name in schedulers.__all__ if f"`{name}`" not in text]
    assert missing == ["Schedule"]
