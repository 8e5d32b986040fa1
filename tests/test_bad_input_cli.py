"""Wrong options and files on the command line: one line on standard error, status 2, nothing changed."""

import hashlib
import json
import re
import shutil

import numpy as np
import pytest
from bad_input_cli import BAD_CALLS, FILES, ODD
from small_files import call, csv_text, done, flowers, leave_out_plots, prices


def without_cost(run):
    del run["options"]["cost"]
    return json.dumps(run)


def with_odd(name):
    return lambda run: json.dumps({**run, "options": {**run["options"], name: ODD[name]}})


DAMAGED = {  # what is written to run.json
    "DAMAGED": lambda _: '{"format": 1,',
    "NEWER": lambda _: json.dumps({"format": 2}),
    "NO_OPTIONS": lambda run: json.dumps({"format": 1, "known": run["known"]}),
    "ODD_OPTIONS": without_cost,
    "ODD_CLASSES": lambda run: json.dumps({**run, "known": {**run["known"], "classes": 3}}),
    "ONE_CLASS": lambda run: json.dumps({**run, "known": {**run["known"], "classes": ["iris"]}}),
    **{f"ODD_{name.upper()}": with_odd(name) for name in ODD},
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """The names of bad_input_cli.py -> paths."""
    folder = tmp_path_factory.mktemp("cli")
    runs = ("RUN", "PRICE_RUN", "IMAGE_RUN", "OTHER_MODEL", *DAMAGED)
    names = {name: folder / name.lower() for name in runs}
    names |= {
        "FLOWERS": folder / "flowers.csv",
        "PRICES": folder / "prices.csv",
        "IMAGES": folder / "images.npz",
    }
    names["FLOWERS"].write_text(csv_text(["length", "weight", "width", "kind"], *flowers()))
    X, y = prices()
    names["PRICES"].write_text(csv_text(["a", "b", "price"], X, y))
    np.savez(names["IMAGES"], x_train=X.reshape(-1, 2, 1), y_train=(y > y.mean()).astype(int))
    with pytest.MonkeyPatch.context() as patch:
        leave_out_plots(patch)
        for data, run in (("FLOWERS", "RUN"), ("PRICES", "PRICE_RUN"), ("IMAGES", "IMAGE_RUN")):
            done("train", names[data], "--epochs", "1", "--out", names[run])
    for run, damage in DAMAGED.items():
        shutil.copytree(names["RUN"], names[run])
        path = names[run] / "run.json"
        path.write_text(damage(json.loads(path.read_text())))
    shutil.copytree(names["RUN"], names["OTHER_MODEL"])
    for name in ("model.safetensors", "trainer.safetensors"):
        shutil.copy(names["PRICE_RUN"] / name, names["OTHER_MODEL"])
    for name, write in FILES.items():
        names["{" + name + "}"] = folder / f"bad-{name}"
        write(folder / f"bad-{name}")
    (folder / "folder.csv").mkdir()
    return folder, names


def contents(folder):
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize(("arguments", "text"), [pytest.param(*row, id=name) for name, *row in BAD_CALLS])
def test_one_line_and_status_2(arguments, text, places, monkeypatch):
    folder, names = places
    monkeypatch.chdir(folder)
    pattern = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    given = [re.sub(f"^({pattern})", lambda match: str(names[match[1]]), argument) for argument in arguments]
    before = contents(folder)
    status, out, err = call(*given)
    assert (status, out) == (2, "")
    assert re.fullmatch(r"python -m fastnn[a-z ]*: error: [^\n]+\n", err), err
    assert re.search(text, err.rstrip("\n")), err
    assert contents(folder) == before


def test_cuda_without_a_gpu(places):
    """There is no CUDA in this build: the library's word, on one line."""
    import fastnn

    if getattr(getattr(fastnn, "cuda", None), "is_available", bool)():
        pytest.skip("there is a GPU here")
    folder, names = places
    status, _, err = call("train", names["FLOWERS"], "--device", "cuda", "--out", folder / "gpu")
    assert status == 2
    assert re.fullmatch(r"python -m fastnn train: error: [^\n]*(cuda|CUDA)[^\n]*\n", err)
    assert not (folder / "gpu").exists()
