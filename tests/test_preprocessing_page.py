"""The Python of docs/preprocessing.md runs."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "preprocessing.md"
FENCE = "`" * 3


def test_the_page_runs():
    names = {"__name__": "page"}
    blocks = re.findall(rf"^{FENCE}python\n(.*?)^{FENCE}$", PAGE.read_text(), re.M | re.S)
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
