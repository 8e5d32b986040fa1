"""The comparison of instruction counts (tests/counts.py) sees a decay, and the table is of this program."""

import json
import re

import counts
import pytest

TABLE = json.loads(counts.TABLE.read_text())
DUMP = """version: 1
part: 1

desc: Trigger: Client Request: relu
events: Ir
fn=(1) f
1 7
summary: 12345

part: 2
desc: Trigger: Program termination
events: Ir
summary: 9
totals: 12354
"""


def test_dumps_are_read():
    assert counts.totals(DUMP) == {"relu": 12345}


def test_three_percent_pass_and_more_is_named():
    want = {"a": 1000, "b": 1000, "c": 1000, "old": 1}
    got = {"a": 1029, "b": 1031, "c": 969, "new": 1}
    assert list(counts.differences(want, got)) == [
        "b: 1,031 instructions, +3.1% (were 1,000)",
        "c: 969 instructions, -3.1% (were 1,000)",
        "new: only in the program",
        "old: only in the table",
    ]
    assert not list(counts.differences(want, want))


def test_nothing_is_compared_without_objects_and_that_is_said(tmp_path):
    with pytest.raises(counts.NotComparedError, match="holds no objects of the AVX2 kernels"):
        counts.avx2_objects(tmp_path)


def test_where_nothing_is_compared_the_exit_is_that_of_a_skip(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["counts.py", str(tmp_path)])
    assert counts.main() == 77
    assert capsys.readouterr().out.startswith("skipped: ")


def test_every_kernel_is_counted():
    """All of the table of an ISA but the yardsticks."""
    table = (counts.TESTS.parent / "csrc" / "core" / "kernels.h").read_text()
    kernels = set(re.findall(r"^    Kernel<\w+> (\w+)", table, re.M)) - {"limit"}
    assert kernels == set(re.findall(r"kernels\.(\w+)[,)]", (counts.TESTS / "counts.cpp").read_text()))
    assert len(kernels) > 10


def test_the_table_holds_every_call_of_the_program():
    names = re.findall(r'"([^"/\n]+)"', (counts.TESTS / "counts.cpp").read_text().partition("int main()")[2])
    assert set(names) == TABLE["counts"].keys()
    assert TABLE["compiler"]
    assert all(count > 0 for count in TABLE["counts"].values())
