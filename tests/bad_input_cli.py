"""What the command line says to wrong options and files: rows of test_bad_input_cli.py.

A row: an id, the arguments (FLOWERS, PRICES, IMAGES: good files; RUN, PRICE_RUN, IMAGE_RUN: folders of
trainings on them; {name}: a file of FILES), and a pattern that the one line on standard error must match.
"""

import numpy as np
from bad_input_files import X, Y, content, cut_npz, npz

NAN = X.copy()
NAN[3, 1] = np.nan

FILES = {
    "junk.npz": content("x_train"),
    "cut.npz": cut_npz,
    "keys.npz": npz(X=X),
    "vector.npz": npz(x_train=X[:, 0], y_train=Y),
    "lengths.npz": npz(x_train=X, y_train=Y[:4]),
    "nan.npz": npz(x_train=NAN, y_train=Y),
    "objects.npz": npz(x_train=X, y_train=np.array([{}] * 5)),
    "one_class.npz": npz(x_train=X, y_train=Y * 0),
    "few.npz": npz(x_train=X[:4], y_train=Y[:4]),
    "one_hot.npz": npz(x_train=X, y_train=np.eye(5, dtype=int)),
    "text.npz": npz(x_train=X, y_train=Y.astype(str)),
    "bytes.npz": npz(x_train=X, y_train=np.array([b"a", b"b", b"\xe9", b"a", b"b"])),
    "new_class.npz": npz(x_train=X, y_train=Y, x_test=X[:1], y_test=Y[:1] + 7),
    "ragged.csv": content("a,b,y\n1,2,u\n3,v\n"),
    "empty.csv": content(""),
    "header.csv": content("a,b,y\n"),
    "nan.csv": content("a,b,y\n1,2,u\n,2,v\n"),
    "one_class.csv": content("a,b,y\n" + "1,2,u\n" * 9),
    "rows.txt": content("1,2,3\n"),
    # For models trained on FLOWERS (length, weight, width, kind), PRICES (a, b, price) and IMAGES (2 x 1).
    "lacks.csv": content("length,weight,kind\n1,2,rose\n"),
    "further.csv": content("length,weight,width,height\n1,2,3,4\n"),
    "no_header.csv": content("1,2,3\n"),
    "daisy.csv": content("length,weight,width,kind\n1,2,3,daisy\n"),
    "cheap.csv": content("a,b,price\n1,2,cheap\n"),
    "wide.npz": npz(x=np.zeros((2, 4))),
    "flat.npz": npz(x=np.zeros((2, 3))),
    "flat.csv": content("1,2\n3,4\n"),
    "no_x.npz": npz(z=X),
    "no_y.npz": npz(x=np.zeros((2, 3))),
    "other_class.npz": npz(x=np.zeros((2, 2, 1)), y=np.array([0, 5])),
    "text_prices.npz": npz(x=np.zeros((2, 2)), y=np.array(["a", "b"])),
    "two_prices.npz": npz(x=np.zeros((2, 2)), y=np.zeros((2, 2))),
}

TRAIN = [
    ("no-file", ["none.csv"], "none.csv: No such file or directory"),
    ("folder", ["folder.csv"], "folder.csv: Is a directory"),
    ("suffix", ["{rows.txt}"], "DATA must be a .npz or a .csv file"),
    ("junk", ["{junk.npz}"], "is no npz file"),
    ("cut", ["{cut.npz}"], "is no npz file"),
    ("keys", ["{keys.npz}"], "has no array 'x_train'; it has X"),
    ("vector", ["{vector.npz}"], r"x_train must have shape \(rows, columns\)"),
    ("lengths", ["{lengths.npz}"], "must have the same number of rows, got 5 and 4"),
    ("nan", ["{nan.npz}"], r"x_train\[3, 1\] is nan"),
    ("objects", ["{objects.npz}"], "y_train holds Python objects"),
    ("one-class", ["{one_class.npz}"], "all rows have the class '0'; there is nothing to tell apart"),
    ("few", ["{few.npz}"], "has 4 rows; it takes 5 or more to hold a fifth of them out"),
    ("one-hot", ["{one_hot.npz}"], r"y_train must have shape \(rows,\) for classes, got \(5, 5\)"),
    ("bytes", ["{bytes.npz}"], r"bytes\.npz: y_train holds text that is not UTF-8: b'\\xe9'"),
    ("text-task", ["{text.npz}", "--task", "regression"], "y_train is text, and the task is regression"),
    ("new-class", ["{new_class.npz}"], "y_test has the class '7', which the training rows lack"),
    ("npz-target", ["{keys.npz}", "--target", "y"], "--target names a column of a CSV file"),
    ("ragged", ["{ragged.csv}"], "row 3 has 2 fields, row 1 has 3"),
    ("empty", ["{empty.csv}"], "is empty"),
    ("header", ["{header.csv}"], "has no rows"),
    ("csv-nan", ["{nan.csv}"], r"row 3, column 1 \('a'\): '' is empty"),
    ("csv-one-class", ["{one_class.csv}"], "all rows have the class 'u'"),
    (
        "target",
        ["FLOWERS", "--target", "colour"],
        "has no column 'colour'; it has length, weight, width, kind",
    ),
    ("text-feature", ["FLOWERS", "--target", "width"], r"row 2, column 4 \('kind'\): 'iris' is no number"),
    ("csv-task", ["FLOWERS", "--task", "regression"], "'iris' is no number, and the task is regression"),
    (
        "layers",
        ["FLOWERS", "--layers", "8,x"],
        "--layers: must be widths such as 256,128, or none, got '8,x'",
    ),
    ("layers-huge", ["FLOWERS", "--layers", "99999999999999"], "not enough memory: .*Unable to allocate"),
    ("layers-0", ["FLOWERS", "--layers", "8,0"], "--layers: must be widths"),
    ("optimizer", ["FLOWERS", "--optimizer", "adman"], "--optimizer: invalid choice: 'adman'.*adam"),
    ("cost", ["FLOWERS", "--cost", "l2"], "--cost: invalid choice: 'l2'"),
    ("schedule", ["FLOWERS", "--schedule", "x"], "--schedule: invalid choice: 'x'"),
    ("activation", ["FLOWERS", "--activation", "x"], "--activation: invalid choice: 'x'"),
    ("init", ["FLOWERS", "--init", "x"], "--init: invalid choice: 'x'"),
    ("device", ["FLOWERS", "--device", "tpu"], "--device: invalid choice: 'tpu'"),
    ("task", ["FLOWERS", "--task", "x"], "--task: invalid choice: 'x'"),
    ("unknown", ["FLOWERS", "--fast"], "unrecognized arguments: --fast"),
    ("abbreviated", ["FLOWERS", "--epo", "1"], "unrecognized arguments: --epo 1"),
    ("no-data", [], "the following arguments are required: DATA"),
    ("epochs", ["FLOWERS", "--epochs", "0"], "--epochs: must be a whole number of at least 1, got '0'"),
    ("batch", ["FLOWERS", "--batch-size", "1.5"], "--batch-size: must be a whole number of at least 1"),
    ("seed", ["FLOWERS", "--seed", "-1"], "--seed: must be a whole number of at least 0, got '-1'"),
    ("threads", ["FLOWERS", "--threads", "0"], "--threads: must be a whole number of at least 1"),
    ("lr-text", ["FLOWERS", "--lr", "fast"], "--lr: must be a number, got 'fast'"),
    ("lr", ["FLOWERS", "--lr", "-1"], "lr must be .* got -1"),
    ("lr-nan", ["FLOWERS", "--lr", "nan"], "lr must be .* got nan"),
    ("keep", ["FLOWERS", "--keep", "1.5"], "--keep: must be a share above 0 and at most 1, got '1.5'"),
    ("keep-nan", ["FLOWERS", "--keep", "nan"], "--keep: must be a share above 0 and at most 1, got 'nan'"),
    (
        "momentum",
        ["FLOWERS", "--momentum", "0.9"],
        "--momentum is for --optimizer momentum and rmsprop, got adam",
    ),
    ("momentum-2", ["FLOWERS", "--optimizer", "momentum", "--momentum", "2"], "momentum must be .*got 2"),
    ("decay", ["FLOWERS", "--weight-decay", "-1"], "weight_decay must be at least 0"),
    ("clip", ["FLOWERS", "--clip", "0"], "clip"),
    (
        "warmup",
        ["FLOWERS", "--warmup-steps", "99"],
        "--warmup-steps must be below the 20 updates of the run, got 99",
    ),
    (
        "cost-classes",
        ["FLOWERS", "--cost", "mse"],
        "--cost mse is for regression, and .*pass --task regression",
    ),
    (
        "cost-numbers",
        ["PRICES", "--cost", "cross-entropy"],
        "is for classification, and .*choose mse or quadratic",
    ),
    ("out-file", ["FLOWERS", "--out", "FLOWERS"], "--out .*flowers.csv is a file; name a folder"),
    ("out-below-a-file", ["FLOWERS", "--out", "FLOWERS/run"], "Not a directory"),
    (
        "out-forbidden",
        ["FLOWERS", "--out", "/proc/fastnn-run"],
        "/proc/fastnn-run: No such file or directory",
    ),
    (
        "out-in-use",
        ["FLOWERS", "--out", "RUN"],
        "is not empty; pass --resume to go on, --overwrite to begin again",
    ),
    ("both", ["FLOWERS", "--out", "RUN", "--resume", "--overwrite"], "not allowed with argument --resume"),
    (
        "resume-nothing",
        ["FLOWERS", "--out", "none", "--resume"],
        "none holds no training; it has no run.json",
    ),
    (
        "resume-options",
        ["FLOWERS", "--out", "RUN", "--resume", "--epochs", "9", "--lr", "3", "--seed", "0"],
        "goes on with the options of .*: --lr was None, now 3.0; --epochs was 1, now 9$",
    ),
    (
        "resume-data",
        ["PRICES", "--out", "RUN", "--resume"],
        "does not hold the rows that the training in .* began",
    ),
    (
        "resume-odd",
        ["FLOWERS", "--out", "ODD_LAYERS", "--resume"],
        r"run\.json is damaged \(options: layers is \[1\.5\]\)",
    ),
    (
        "resume-trainer",
        ["FLOWERS", "--out", "OTHER_MODEL", "--resume"],
        r"other_model/trainer\.safetensors does not fit this trainer: .*has shape .*the loss is MSELoss",
    ),
]

# Values of options in run.json that nobody can have given.
ODD = {
    "layers": [1.5],
    "keep": 7,
    "scale": 1,
    "seed": "x",
    "lr": [0.1],
    "init": "best",
    "target": 3,
    "batch_size": True,
}

USE = [
    ("no-folder", ["none", "FLOWERS"], "none holds no training; it has no run.json"),
    ("no-file", ["RUN", "none.csv"], "none.csv: No such file or directory"),
    ("suffix", ["RUN", "{rows.txt}"], "DATA must be a .npz or a .csv file"),
    ("junk", ["RUN", "{junk.npz}"], "is no npz file"),
    ("empty", ["RUN", "{empty.csv}"], "is empty"),
    ("ragged", ["RUN", "{ragged.csv}"], "lacks column 'length'|has no column 'kind'"),
    (
        "columns-lacking",
        ["RUN", "{lacks.csv}"],
        "lacks column 'width'; the model was trained on length, weight, width",
    ),
    ("damaged", ["DAMAGED", "FLOWERS"], r"run\.json is damaged \(JSONDecodeError"),
    ("no-options", ["NO_OPTIONS", "FLOWERS"], r"run\.json is damaged \(KeyError: 'options'\)"),
    ("odd-options", ["ODD_OPTIONS", "FLOWERS"], r"run\.json is damaged \(options lack 'cost'\)"),
    *(
        (f"odd-{name}", [f"ODD_{name.upper()}", "FLOWERS"], rf"run\.json is damaged \(options: {name} is ")
        for name in ODD
    ),
    ("odd-classes", ["ODD_CLASSES", "FLOWERS"], r"run\.json is damaged \(known: classes is 3\)"),
    ("one-class", ["ONE_CLASS", "FLOWERS"], r"run\.json is damaged \(known: outputs is 3\)"),
    (
        "other-model",
        ["OTHER_MODEL", "FLOWERS"],
        r"other_model/model\.safetensors has 1 outputs, run\.json says 3; they are of different trainings",
    ),
    ("newer", ["NEWER", "FLOWERS"], r"run\.json is of format 2; update fastnn"),
    ("one-argument", ["RUN"], "the following arguments are required: DATA"),
    ("device", ["RUN", "FLOWERS", "--device", "x"], "--device: invalid choice: 'x'"),
]

PREDICT = [
    ("further", ["RUN", "{further.csv}"], "has the further column 'height'; the model was trained on length"),
    (
        "no-header",
        ["RUN", "{no_header.csv}"],
        "has no header; the model was trained on length, weight, width",
    ),
    ("wide", ["RUN", "{wide.npz}"], "rows have 4 features, the model was trained on 3"),
    ("flat", ["IMAGE_RUN", "{flat.npz}"], "rows have 3 features, the model was trained on 2 x 1"),
    ("flat-csv", ["IMAGE_RUN", "{flat.csv}"], "rows have 2 features, the model was trained on 2 x 1"),
    ("no-x", ["RUN", "{no_x.npz}"], "has neither x nor x_test"),
    ("nan", ["PRICE_RUN", "{nan.csv}"], r"has the further column 'y'; the model was trained on a, b"),
    ("proba", ["PRICE_RUN", "PRICES", "--proba"], "--proba is for classes, and .* holds a regression"),
    ("out", ["RUN", "FLOWERS", "--out", "none/p.csv"], "error: none/p.csv: No such file or directory"),
    ("out-folder", ["RUN", "FLOWERS", "--out", "folder.csv"], "error: folder.csv: Is a directory"),
]

EVALUATE = [
    ("target", ["RUN", "{no_header.csv}"], "has no column 'kind'; it has 1, 2, 3, for it has no header"),
    ("class", ["RUN", "{daisy.csv}"], "kind has the class 'daisy', which the training rows lack"),
    ("class-npz", ["IMAGE_RUN", "{other_class.npz}"], "y has the class '5', which the training rows lack"),
    ("text", ["PRICE_RUN", "{cheap.csv}"], "'cheap' is no number, and the task is regression"),
    ("text-npz", ["PRICE_RUN", "{text_prices.npz}"], "y is text, and the task is regression"),
    ("outputs", ["PRICE_RUN", "{two_prices.npz}"], r"two_prices\.npz: y has 2 outputs, the model has 1"),
    ("no-y", ["RUN", "{no_y.npz}"], "has no array 'y'; it has x"),
    ("no-x", ["RUN", "{no_x.npz}"], "has neither x nor x_test"),
]

BAD_CALLS = [
    *((f"train-{name}", ["train", *arguments], text) for name, arguments, text in TRAIN),
    *((f"predict-{name}", ["predict", *arguments], text) for name, arguments, text in USE + PREDICT),
    *((f"evaluate-{name}", ["evaluate", *arguments], text) for name, arguments, text in USE + EVALUATE),
    ("nothing", [], "the following arguments are required: COMMAND"),
    ("command", ["learn"], "invalid choice: 'learn'"),
]
