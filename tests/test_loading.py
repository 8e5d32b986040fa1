"""Rows from npz, CSV and idx files: what comes back, and what is refused."""

import csv
import doctest
import gzip
import importlib
import io
import pickle

import numpy as np
import pytest
from bad_input_files import BAD_FILES, X, Y, npz
from fastnn import data
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def table(tmp_path):
    """Writes a CSV file and loads it."""

    def load(text, **options):
        path = tmp_path / "rows.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return data.load_csv(path, **options)

    return load


# ---- npz


@pytest.mark.parametrize("dtype", ["u1", "f4", "f8", "i8", ">f4", "?"])
def test_npz_arrays_come_as_they_are(dtype, tmp_path):
    images = np.arange(5 * 2 * 3).reshape(5, 2, 3).astype(dtype)
    npz(x_train=images, y_train=Y, x_test=images[:2], y_test=Y[:2], names=np.array(["a"]))(tmp_path / "a.npz")
    (x, y), (x_test, y_test) = data.load_npz(tmp_path / "a.npz")
    for got, want in ((x, images), (y, Y), (x_test, images[:2]), (y_test, Y[:2])):
        assert got.dtype == want.dtype
        assert np.array_equal(got, want)


@pytest.mark.parametrize("y", [Y.astype(str), Y > 1, Y / 2, np.ones((5, 3)), Y.astype("S")])
def test_npz_without_test_rows(y, tmp_path):
    npz(x_train=X, y_train=y)(tmp_path / "a.npz")
    (_, got), test = data.load_npz(str(tmp_path / "a.npz"))
    assert test is None
    assert np.array_equal(got, y)


def test_npz_runs_no_code(tmp_path):
    class Boom:
        def __reduce__(self):
            return open, (str(tmp_path / "boom"), "w")

    boom = np.empty(5, object)
    boom[:] = [Boom()] * 5
    npz(x_train=X, y_train=boom)(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="holds Python objects"):
        data.load_npz(tmp_path / "a.npz")
    assert not (tmp_path / "boom").exists()
    pickle.loads(pickle.dumps(Boom())).close()
    assert (tmp_path / "boom").exists()  # what the file would have done


# ---- csv


TEXTS = {
    "header": ("a,b,kind\n1,2,u\n3,4,v\n5,6,u\n", {}, ["a", "b"], "kind"),
    "no-header": ("1,2,u\n3,4,v\n5,6,u\n", {}, ["1", "2"], "3"),
    "windows": ("\ufeffa,b,kind\r\n1,2,u\r\n3,4,v\r\n5,6,u\r\n", {}, ["a", "b"], "kind"),
    "no-last-newline": ("a,b,kind\n1,2,u\n3,4,v\n5,6,u", {}, ["a", "b"], "kind"),
    "spaces": (" a, b ,kind\n 1 , 2,u\n3,4, v \n5,6,u\n", {}, ["a", "b"], "kind"),
    "blank-lines": ("\na,b,kind\n\n1,2,u\n\n3,4,v\n5,6,u\n\n", {}, ["a", "b"], "kind"),
    "quotes": ('a,"b, c",kind\n"1",2,"u"\n3,"4",v\n5,6,u\n', {}, ["a", "b, c"], "kind"),
    "quotes-inside": ('"a","b ""x""",kind\r\n"1",2,"u"\r\n3,4,v\r\n5,6,u', {}, ["a", 'b "x"'], "kind"),
    "lines-inside": ('a,"b\nx",kind\n"1","2","u"\n3,"4\n",v\n5,6,"\nu"\n', {}, ["a", "b\nx"], "kind"),
    "exponents": ("a,b,kind\n1e0,+2.0,u\n.3e1,4.,v\n5,600E-2,u\n", {}, ["a", "b"], "kind"),
    "target-first": ("kind,a,b\nu,1,2\nv,3,4\nu,5,6\n", {"target": "kind"}, ["a", "b"], "kind"),
    "target-between": ("a,kind,b\n1,u,2\n3,v,4\n5,u,6\n", {"target": "kind"}, ["a", "b"], "kind"),
    "target-number": ("u,1,2\nv,3,4\nu,5,6\n", {"target": "1"}, ["2", "3"], "1"),
    "numbers-as-names": ("kind,10,11\nu,1,2\nv,3,4\nu,5,6\n", {"target": "kind"}, ["10", "11"], "kind"),
    "comment-signs": ("a,b,kind\n1,2,#u\n3,4,v\n5,6,#u\n", {}, ["a", "b"], "kind"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_csv(case, table):
    text, options, features, target = TEXTS[case]
    got = table(text, **options)
    assert got.X.dtype == np.float32
    assert got.X.flags.c_contiguous
    assert got.X.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert got.Y.dtype == np.int64
    assert [name.strip("#") for name in got.classes] == ["u", "v"]
    assert got.Y.tolist() == [0, 1, 0]
    assert (got.features, got.target) == (features, target)


@pytest.mark.parametrize(
    ("texts", "task", "classes", "y"),
    [
        ("10 9 10", None, ["9", "10"], [1, 0, 1]),
        ("-1 1 -1", None, ["-1", "1"], [0, 1, 0]),
        ("01 1 2", None, ["1", "2"], [0, 0, 1]),
        ("1.0 2.0 1.0", None, None, [1, 2, 1]),
        ("1 2 2.5", None, None, [1, 2, 2.5]),
        ("1 2 3", "regression", None, [1, 2, 3]),
        ("1.5 2 1.5", "classification", ["1.5", "2"], [0, 1, 0]),
        ("b a NA", None, ["NA", "a", "b"], [2, 1, 0]),
        ("1 NA 2", "classification", ["1", "2", "NA"], [0, 2, 1]),
        ("True False True", None, ["False", "True"], [1, 0, 1]),
    ],
)
def test_the_target_says_what_the_task_is(texts, task, classes, y, table):
    got = table("".join(f"0,{text}\n" for text in texts.split()), task=task)
    assert got.classes == classes
    assert got.Y.tolist() == y
    assert got.Y.dtype == (np.float32 if classes is None else np.int64)


@given(
    rows=st.lists(
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3)
    ),
    labels=st.data(),
)
def test_csv_gives_back_what_was_written(rows, labels, tmp_path_factory):
    names = st.text("ab ,\"'#;é\n", min_size=1).map(str.strip).filter(len)
    texts = [labels.draw(names) for _ in rows]
    written = io.StringIO()
    csv.writer(written).writerows([["f", "g", "h", "y"], *([*row, t] for row, t in zip(rows, texts))])
    path = tmp_path_factory.getbasetemp() / "given.csv"
    path.write_text(written.getvalue(), newline="")
    if not rows:
        with pytest.raises(ValueError, match="has no rows"):
            data.load_csv(path)
        return
    got = data.load_csv(path)
    assert np.array_equal(got.X, np.array(rows, np.float32))
    assert [got.classes[y] for y in got.Y] == texts


def test_what_a_csv_file_s_quotes_hold(table):
    """A quote inside a field that has none around it is a letter."""
    got = table('y,x\n"u, ""v""\r\nw",1\n5" pipe,2\na,3\n', target="y")
    assert [got.classes[y] for y in got.Y] == ['u, "v"\r\nw', '5" pipe', "a"]


# ---- idx


@pytest.mark.parametrize("squeeze", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("code", "kind"), [(8, "u1"), (9, "i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")]
)
def test_idx(code, kind, squeeze, tmp_path):
    want = np.arange(24).reshape(2, 3, 4).astype(kind)
    head = bytes([0, 0, code, 3]) + np.array(want.shape, ">u4").tobytes()
    (tmp_path / "a").write_bytes(squeeze(head + want.tobytes()))
    got = data.load_idx(tmp_path / "a")
    assert got.dtype == want.dtype.newbyteorder("=")
    assert got.dtype.isnative
    assert np.array_equal(got, want)
    assert got.flags.owndata
    assert got.flags.writeable


# ---- what is refused


@pytest.mark.parametrize(("write", "load", "text"), [pytest.param(*row, id=name) for name, *row in BAD_FILES])
def test_wrong_file(write, load, text, tmp_path):
    path = tmp_path / "rows"
    write(path)
    with pytest.raises(ValueError, match=text) as caught:
        load(path)
    name = getattr(load, "func", load).__name__
    assert str(caught.value).startswith(f"{name}: ")
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value) or "task must be" in text


@pytest.mark.parametrize("load", [data.load_npz, data.load_csv, data.load_idx])
def test_no_file(load, tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        load(tmp_path)
    with pytest.raises(TypeError):
        load(None)


def test_a_target_must_be_a_name(table):
    with pytest.raises(TypeError, match="load_csv: target must be the name of a column, got 0"):
        table("1,2\n", target=0)


@pytest.mark.parametrize("name", ["_batches", "_csv", "_digits", "_idx", "_npz"])
def test_doctests(name):
    assert doctest.testmod(importlib.import_module(f"fastnn.data.{name}"), raise_on_error=False).failed == 0
