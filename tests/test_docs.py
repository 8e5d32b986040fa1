"""All Python in README.md and docs/ runs, page by page and block after block.

The examples (`pycon`) of docs/api/ run in test_api_pages.py.
"""

import importlib.util
import re
import tempfile

import pytest
from pages import ROOT, anchors, blocks, run

# Pages whose own test runs their Python and looks at what comes out.
ELSEWHERE = {"models.md": "test_models_page.py", "saving.md": "test_saving_page.py"}
ALL = [
    "../README.md",
    *sorted(str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")),
]
PAGES = [page for page in ALL if blocks(page, "python") and page not in ELSEWHERE]
PEERS = ("torch", "threadpoolctl")


@pytest.mark.parametrize("page", PAGES)
def test_python_runs(page, tmp_path, monkeypatch, restore_runtime):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    names, missing = {"__name__": "page"}, set()
    for block in blocks(page, "python"):
        lacking = {peer for peer in PEERS if f"import {peer}" in block and not importlib.util.find_spec(peer)}
        missing |= lacking
        if not lacking:
            run(page, block, names)
    if missing:
        pytest.skip(f"a block of {page} needs {', '.join(sorted(missing))}")


@pytest.mark.parametrize("page", ELSEWHERE)
def test_the_others_run_in_a_test_of_their_own(page):
    text = (ROOT / "tests" / ELSEWHERE[page]).read_text()
    assert page in text
    assert "def test_the_page_runs" in text


def test_blocks_say_what_they_are():
    """A block without a kind would not run, and nobody would see it."""
    for page in ALL:
        fences = re.findall(r"^ *`{3}(.*)$", (ROOT / "docs" / page).read_text(), re.M)
        assert all(kind in ("python", "pycon", "sh", "console", "text") for kind in fences[::2]), page
        assert not any(fences[1::2]), page


@pytest.mark.parametrize("page", ALL)
def test_links_between_pages_lead(page):
    here = (ROOT / "docs" / page).parent
    text = re.sub(r"^`{3}.*?^`{3}$|`[^`\n]*`", "", (ROOT / "docs" / page).read_text(), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", link):
            path, _, anchor = link.partition("#")
            target = (here / path).resolve() if path else ROOT / "docs" / page
            assert target.exists(), link
            if anchor and target.suffix == ".md":
                assert anchor in anchors(target), link
