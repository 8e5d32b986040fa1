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


def test_the_table_holds_every_call_of_the_program():
    names = re.findall(r'"([^"/\n]+)"', (counts.TESTS / "counts.cpp").read_text().partition("int main()")[2])
    assert set(names) == TABLE["counts"].keys()
    assert TABLE["compiler"]
    assert all(count > 0 for count in TABLE["counts"].values())
