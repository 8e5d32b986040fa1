"""What the loaders of `fastnn.data` say to a wrong file: rows of test_loading.py.

A row: an id, a function that writes the file, how it is loaded, and a pattern of the error's text.
"""

import gzip
import zipfile
from functools import partial

import numpy as np
from fastnn import data

X, Y = np.arange(10.0).reshape(5, 2), np.arange(5)
NAN = X.copy()
NAN[3, 1] = np.nan
LARGE = X.copy()
LARGE[2, 0] = 1e39
HEADER = "a,b,y\n"


def npz(**arrays):
    def write(path):
        with open(path, "wb") as file:
            np.savez(file, **arrays)

    return write


def npy(path):
    with open(path, "wb") as file:
        np.save(file, X)


def content(text):
    return lambda path: path.write_bytes(text if isinstance(text, bytes) else text.encode())


def cut_npz(path):
    npz(x_train=X, y_train=Y)(path)
    path.write_bytes(path.read_bytes()[:-30])


def flipped_npz(path):
    npz(x_train=X, y_train=Y)(path)
    text = bytearray(path.read_bytes())
    text[150] ^= 0xFF
    path.write_bytes(text)


def junk_in_npz(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x_train", "junk")
        file.writestr("y_train.npy", "junk")


NPZ = [
    ("junk", content("x_train"), "is no npz file"),
    ("empty", content(""), "is no npz file"),
    ("npy", npy, "is no npz file"),
    ("cut", cut_npz, "is no npz file"),
    ("flipped", flipped_npz, "is damaged"),
    ("junk-inside", junk_in_npz, "x_train is no array|is damaged"),
    ("no-y", npz(x_train=X), "has no array 'y_train'; it has x_train"),
    ("no-x", npz(y_train=Y), "has no array 'x_train'; it has y_train"),
    ("other-names", npz(X=X, Y=Y), "has no array 'x_train'; it has X, Y"),
    ("half-a-test", npz(x_train=X, y_train=Y, x_test=X), "has no array 'y_test'"),
    ("objects", npz(x_train=X, y_train=np.array([{}] * 5)), "y_train holds Python objects, .* run code"),
    ("text-x", npz(x_train=X.astype(str), y_train=Y), "x_train must hold real numbers, got dtype <U"),
    ("complex-x", npz(x_train=X + 0j, y_train=Y), "x_train must hold real numbers, got dtype complex"),
    (
        "dates-y",
        npz(x_train=X, y_train=Y.astype("M8[s]")),
        r"y_train must hold numbers or text, got .*datetime",
    ),
    ("vector-x", npz(x_train=X[:, 0], y_train=Y), r"x_train must have shape \(rows, columns\).*got \(5,\)"),
    ("no-rows", npz(x_train=X[:0], y_train=Y[:0]), r"x_train must have shape .*got \(0, 2\)"),
    ("no-columns", npz(x_train=X[:, :0], y_train=Y), r"x_train must have shape .*got \(5, 0\)"),
    ("lengths", npz(x_train=X, y_train=Y[:4]), "must have the same number of rows, got 5 and 4"),
    ("cube-y", npz(x_train=X, y_train=Y.reshape(5, 1, 1)), r"y_train must have shape .*got \(5, 1, 1\)"),
    ("nan-x", npz(x_train=NAN, y_train=Y), r"x_train\[3, 1\] is nan; leave such rows out"),
    ("large-x", npz(x_train=LARGE, y_train=Y), r"x_train\[2, 0\] is 1e\+39"),
    ("nan-y", npz(x_train=X, y_train=NAN[:, 1]), r"y_train\[3\] is nan"),
    (
        "test-columns",
        npz(x_train=X, y_train=Y, x_test=X[:, :1], y_test=Y),
        r"rows of x_test must have the shape of those of x_train, \(2,\), got \(1,\)",
    ),
    (
        "test-kind",
        npz(x_train=X, y_train=Y, x_test=X, y_test=Y.astype(str)),
        "y_test is <U.* and y_train int64; make them one kind",
    ),
]

CSV = [
    ("empty", "", {}, "is empty"),
    ("blank", "\n\n", {}, "is empty"),
    ("header-only", HEADER, {}, "has no rows"),
    ("one-column", "1\n2\n", {}, "has one column; it needs a feature, a comma and a target"),
    ("semicolons", "a;b;y\n1;2;3\n", {}, "has one column"),
    ("ragged-short", HEADER + "1,2,3\n4,5\n", {}, "row 3 has 2 fields, row 1 has 3"),
    ("ragged-long", HEADER + "1,2,3\n\n4,5,6,7\n", {}, "row 4 has 4 fields, row 1 has 3"),
    ("all-longer", HEADER + "1,2,3,4\n5,6,7,8\n", {}, "row 2 has 4 fields, row 1 has 3"),
    ("text", HEADER + "1,2,3\n4,red,6\n", {}, r"row 3, column 2 \('b'\): 'red' is no number"),
    ("missing", HEADER + "1,2,3\n,5,6\n", {}, r"row 3, column 1 \('a'\): '' is empty; .*fill missing"),
    ("missing-target", HEADER + "1,2,u\n4,5, \n", {}, r"row 3, column 3 \('y'\): ' ' is empty; fill it"),
    ("nan", "1,2,3\n4,nan,6\n", {}, "row 2, column 2: 'nan' is no number that float32 holds"),
    ("infinity", HEADER + "1,-inf,3\n", {}, "row 2, column 2 .*'-inf' is no number that float32 holds"),
    ("large", HEADER + "1,1e39,3\n", {}, "'1e39' is no number that float32 holds"),
    (
        "large-target",
        HEADER + "1,2,1e39\n2,3,0.5\n",
        {},
        "row 2, .*'1e39' is no number float32",
    ),
    ("nan-target", HEADER + "1,2,0.5\n2,3,nan\n", {}, "row 3, .*'nan' is no number float32"),
    ("underscore", HEADER + "1,1_0,3\n", {}, "'1_0' is no number"),
    ("mixed", HEADER + "1,2,0.5\n4,5,NA\n", {}, r"row 3, column 3 \('y'\): 'NA' is no number, other rows"),
    (
        "regression",
        HEADER + "1,2,u\n",
        {"task": "regression"},
        "'u' is no number, and the task is",
    ),
    ("target", HEADER + "1,2,3\n", {"target": "z"}, "has no column 'z'; it has a, b, y"),
    ("target-number", "1,2,3\n", {"target": "4"}, "has no column '4'; it has 1, 2, 3, for it has no header"),
    ("repeated", "a,a,y\n1,2,3\n", {}, "two columns are called 'a'; rename one"),
    ("nameless", ",a,y\n0,2,3\n", {}, "column 1 has no name; name it, or leave out"),
    ("latin-1", "a,b,y\n1,2,\xe9\n".encode("latin-1"), {}, "is no text in UTF-8"),
    ("binary", b"\x00\xff\xfe\x01", {}, "is no text in UTF-8"),
    (
        "quote-open",
        HEADER + '1,2,"u\n3,4,v\n5,6,u\n',
        {},
        r"""row 2, column 3 \('y'\): '"u' begins a field in""",
    ),
    (
        "quote-open-row",
        HEADER + '1,2,u\n\n3,4,"v',
        {},
        r"""row 4, column 3 \('y'\): '"v' begins a field in""",
    ),
    (
        "quote-open-number",
        HEADER + '1,"2,u\n3,4,v\n',
        {},
        r"""row 2, column 2 \('b'\): '"2,u' begins a field""",
    ),
    (
        "quote-inside",
        HEADER + '1,2,"5" pipe"\n3,4,v\n',
        {},
        r"""row 2, column 3 \('y'\): '"5" pipe"' begins a""",
    ),
    ("quote-after-lines", '"a\nb",c,y\n1,"2",u\n3,4,"v" \n', {}, "row 4, column 3 .*'\"v\" ' begins"),
    ("quote-in-header", 'a,"b,y\n1,2,3\n', {}, """row 1, column 2: '"b,y' begins a field"""),
    ("quote-in-row-1", '1,"2,3\n1,2,3\n', {}, """row 1, column 2: '"2,3' begins a field"""),
    ("quote-too-many", HEADER + '1,2,3,"4\n', {}, """row 2, column 4: '"4' begins a field"""),
    ("quote-large", HEADER + '1,2,"u\n' + "3,4,v\n" * 30_000, {}, """row 2, column 3 .*'"u' begins"""),
    ("task", HEADER + "1,2,3\n", {"task": "clustering"}, 'task must be "classification" or "regression"'),
]

HEAD = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3])
IDX = [
    ("empty", b"", "is no idx file"),
    ("text", b"label,pixel\n", "is no idx file"),
    ("type", b"\0\0\x0a\1\0\0\0\1\0", "is no idx file"),
    ("no-axes", b"\0\0\x08\0\0\0\0\1\0", "is no idx file"),
    ("head-cut", HEAD[:9], "is no idx file"),
    ("cut", HEAD + bytes(5), r"must hold 6 bytes of numbers for shape \(2, 3\), it holds 5; fetch it again"),
    ("long", HEAD + bytes(7), "must hold 6 bytes .*it holds 7"),
    ("huge", b"\0\0\x0e\3" + b"\xff" * 12, "it holds 0"),
    ("gzip-cut", gzip.compress(HEAD + bytes(6))[:-9], "is a damaged gzip file"),
    ("gzip-flipped", gzip.compress(HEAD + bytes(6))[:-8] + bytes(8), "is a damaged gzip file"),
]

BAD_FILES = [
    *((f"npz-{name}", write, data.load_npz, text) for name, write, text in NPZ),
    *((f"csv-{name}", content(t), partial(data.load_csv, **options), text) for name, t, options, text in CSV),
    *((f"idx-{name}", content(file), data.load_idx, text) for name, file, text in IDX),
]
