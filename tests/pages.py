"""The code blocks, headings and names of the pages in docs/."""

import inspect
import re
from pathlib import Path

import fastnn
import fastnn.experiments

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


def resolved(name):
    """The object of a name below fastnn, or None; `name(a=, b=)` asks for these parameters too."""
    path, _, arguments = name.partition("(")
    found = fastnn
    for part in path.split("."):
        found = getattr(found, part, None)
    wanted = set(re.findall(r"(\w+)=", arguments))
    if found is not None and wanted and not wanted <= set(inspect.signature(found).parameters):
        return None
    return found
