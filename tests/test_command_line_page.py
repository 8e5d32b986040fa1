"""The commands of docs/command-line.md run, and its table holds every option."""

import shlex

import pytest
from fastnn._cli.options import OPTIONS
from pages import ROOT, blocks
from small_files import call, csv_text, flowers, no_plot  # noqa: F401 (a fixture)

PAGE = "command-line.md"


@pytest.mark.usefixtures("no_plot")
def test_the_commands_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X, Y = flowers()
    (tmp_path / "flowers.csv").write_text(csv_text(["length", "weight", "width", "kind"], X, Y))
    (tmp_path / "new.csv").write_text(csv_text(["length", "weight", "width"], X[:5]))
    commands = [shlex.split(line) for line in blocks(PAGE, "sh")[0].splitlines()]
    assert len(commands) == 4
    for command in commands:
        arguments = command[3 : command.index(">")] if ">" in command else command[3:]
        status, out, err = call(*arguments)
        assert (status, err) == (0, "")
        assert out


def test_every_option_is_on_the_page():
    text = (ROOT / "docs" / PAGE).read_text()
    flags = [told.get("flag", f"--{name.replace('_', '-')}") for name, _, told in OPTIONS]
    missing = [
        flag
        for flag in (*flags, "--out", "--resume", "--overwrite", "--threads", "--device")
        if flag not in text
    ]
    assert missing == []
