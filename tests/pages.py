"""The code blocks and headings of the pages in docs/."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FENCE = "`" * 3


def blocks(page, kind):
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"^{FENCE}{kind}\n(.*?)^{FENCE}$", text, re.M | re.S)


def run(page, source, names):
    exec(compile(source, page, "exec"), names)


def anchors(page):
    """The #names of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", (ROOT / "docs" / page).read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
