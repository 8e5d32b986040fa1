"""docs/coverage.md: every row once, names that import, tests that are collected, links."""

import re
import subprocess
import sys

import pytest
from pages import ROOT, anchors, resolved

PAGE = (ROOT / "docs" / "coverage.md").read_text()

# All rows of the list: document -> how many.
ROWS = {0: 16, 1: 46, 2: 23, 3: 17, 4: 40}


def rows():
    """(row, names, last column) of each line of the tables."""
    for line in PAGE.splitlines():
        if match := re.match(r"\| (\d\.\d+) \|", line):
            cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
            assert len(cells) == 4, line
            yield match[1], cells[2], cells[3]


TABLE = list(rows())
NAMES = sorted({name for _, names, _ in TABLE for name in re.findall(r"`([^`]+)`", names)})
TESTS = sorted({test for _, _, last in TABLE for test in re.findall(r"`([^`]+::[^`]+)`", last)})
LINKS = sorted({link for _, _, last in TABLE for link in re.findall(r"\]\(([^)]+)\)", last)})


def test_every_row_is_there_once_and_in_order():
    found = [row for row, _, _ in TABLE]
    assert found == [f"{document}.{i}" for document, count in ROWS.items() for i in range(1, count + 1)]


@pytest.mark.parametrize(("row", "names", "last"), TABLE, ids=[row for row, _, _ in TABLE])
def test_a_row_has_names_and_tests_or_says_why_not(row, names, last):
    tests = re.findall(r"`([^`]+)`", last)
    if tests:
        assert all("::" in test for test in tests)
        assert re.fullmatch(r"`[^`]+`(, `[^`]+`)*", names)
    else:
        assert re.fullmatch(r"\[[^]]+\]\([^)]+\)|[A-Z][^`]{20,}\.", last)


@pytest.mark.parametrize("name", NAMES)
def test_names_import(name):
    assert resolved(name) is not None


@pytest.fixture(scope="module")
def collected():
    """Ids of all tests in the files that the page names, with and without the parameters."""
    files = sorted({f"tests/{test.partition('::')[0]}" for test in TESTS})
    there = [file for file in files if (ROOT / file).exists()]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-m",
        "",
        "-p",
        "no:cacheprovider",
        *there,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    ids = {line.removeprefix("tests/") for line in done.stdout.splitlines()}
    return ids | {test.partition("[")[0] for test in ids}


@pytest.mark.parametrize("test", TESTS)
def test_tests_are_collected(collected, test):
    assert test in collected


@pytest.mark.parametrize("link", LINKS)
def test_links_lead(link):
    page, _, anchor = link.partition("#")
    assert (ROOT / "docs" / page).exists()
    assert anchor in anchors(page)


def test_these_checks_see_what_is_wrong(collected):
    assert resolved("optim.Adam") is not None
    for wrong in ("optim.Adamm", "optim.Adam(etas=)", "schedulers.StepDecay.none"):
        assert resolved(wrong) is None
    assert "test_schedulers.py::test_golden_values[no-such]" not in collected
    assert "test_schedulers.py::test_no_such" not in collected
    assert "no-such" not in anchors("training.md")
