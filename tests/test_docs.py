"""All Python in README.md and docs/ runs, page by page and block after block.

The examples (`pycon`) of docs/api/ run in test_api_pages.py.
"""

import ast
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


def test_the_readme_names_what_is_needed_then_two_commands():
    text = (ROOT / "README.md").read_text()
    lines = [line for block in blocks("../README.md", "sh") for line in block.splitlines()]
    prepare = "python3 -m venv .venv && . .venv/bin/activate && pip install"
    assert lines[:3] == [
        "sudo apt install g++ python3-dev python3-venv",
        f'{prepare} ".[bench]" && python bench/run.py --quick',
        f'{prepare} ".[test]" && pytest',
    ]
    assert text.index("python3 -m venv --without-pip .venv && python3 -m pip --python") > text.index(
        "&& pytest"
    )
    extras = set(re.findall(r"\w+", " ".join(re.findall(r'"\.\[([\w,]+)\]"', text))))
    project = (ROOT / "pyproject.toml").read_text()
    there = re.findall(r"^(\w+) = \[", project.partition("[project.optional-dependencies]")[2], re.M)
    assert {"bench", "test"} <= extras <= set(there)


def test_the_readme_begins_with_an_example_of_six_lines():
    source = blocks("../README.md", "python")[0]
    assert len([line for line in source.splitlines() if line]) == len(ast.parse(source).body) == 6


def test_the_map_of_the_tree_is_the_tree():
    text = (ROOT / "README.md").read_text().partition("## Map of the tree")[2]
    rooms = {f"csrc/{path.name}/" for path in (ROOT / "csrc").iterdir()}
    places = {"python/fastnn/", "tests/", "bench/", "examples/", "docs/"}
    assert set(re.findall(r"^\| `(\S+)` \|", text, re.M)) == rooms | places
    (pages,) = re.findall(r"^\| `docs/` \| (.*) \|$", text, re.M)
    named = set(re.findall(r"\(docs/([\w./-]+)\)", pages)) - {"api/index.md"}
    assert named == {path.name for path in (ROOT / "docs").glob("*.md")}


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
