"""Files that are not what they should be: one clear error each, from fastnn.load."""

import functools
import json
import os
import pickle
import re
import tempfile
from pathlib import Path

import fastnn
import numpy as np
import pytest
from fastnn import _file
from safetensors import numpy as safetensors
from small import network


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def described(path):
    """(header, description) of a file."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    return header, json.loads(header["__metadata__"]["fastnn"])


def forged(path, change, **arrays):
    """A file whose description was changed, with a checksum that fits."""
    _, description = described(path)
    found = safetensors.load_file(path)
    del description["sha256"]
    change(description)
    _file.write(path, "test", description, {**found, **arrays})
    return path.read_bytes()


def with_header(data, change):
    """A file whose header is what `change` makes of its text."""
    size = int.from_bytes(data[:8], "little")
    text = change(data[8 : 8 + size])
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


@functools.cache
def valid():
    """The bytes of a good file."""
    with tempfile.TemporaryDirectory() as folder:
        fastnn.save(f"{folder}/m", network())
        return Path(folder, "m").read_bytes()


def header_size():
    return int.from_bytes(valid()[:8], "little")


MALFORMED = {
    "empty": (lambda: b"", "no safetensors file of fastnn but something else, 0 bytes"),
    "inside the length": (lambda: valid()[:7], "no safetensors file"),
    "length only": (lambda: valid()[:8], "no safetensors file"),
    "inside the header": (lambda: valid()[:100], r"cut off: its header has \d+ bytes, 92 are there"),
    "header without its end": (lambda: valid()[: header_size() + 7], "cut off: its header"),
    "header only": (lambda: valid()[: header_size() + 8], r"cut off: its arrays need \d+ bytes, 0 are there"),
    "inside an array": (lambda: valid()[: header_size() + 50], "cut off: its arrays need"),
    "without its last byte": (lambda: valid()[:-1], "cut off: its arrays need"),
    "one byte more": (lambda: valid() + b"\0", "checksum is wrong"),
    "another bit at the end": (lambda: valid()[:-1] + bytes([valid()[-1] ^ 1]), "checksum is wrong"),
    "huge header": (lambda: (2**62).to_bytes(8, "little") + valid()[8:], "no safetensors file"),
    "header to the limit": (lambda: (10**8).to_bytes(8, "little") + valid()[8:], "cut off: its header"),
    "pickle": (lambda: pickle.dumps({"a": np.ones(3)}), "but a pickle, .* never a pickle"),
    "zip": (lambda: b"PK\3\4" + valid(), "but a zip archive"),
    "text": (lambda: b"not a model at all", "no safetensors file"),
    "no JSON": (lambda: with_header(valid(), lambda h: h[:-40]), "damaged header"),
    "not UTF-8": (lambda: with_header(valid(), lambda h: b'{"\xff' + h[2:]), "damaged header"),
    "deep": (
        lambda: with_header(valid(), lambda h: b'{"a":' + b"[" * 10**5),
        "damaged header: .*(recursion|overflow)",
    ),
    "a list": (lambda: with_header(valid(), lambda h: b"[]"), "no safetensors file"),
    "duplicate key": (
        lambda: with_header(valid(), lambda h: b'{"0.weight":{},' + h[1:]),
        "damaged header: '0.weight' occurs twice",
    ),
    "duplicate key inside": (
        lambda: with_header(valid(), lambda h: h.replace(rb"{\"sha256\"", rb"{\"format\": 1, \"sha256\"")),
        "damaged header: 'format' occurs twice",
    ),
    "NaN": (lambda: with_header(valid(), lambda h: b'{"a":NaN,' + h[1:]), "damaged header: NaN is no JSON"),
    "no description": (lambda: safetensors.save({"a": np.ones(3)}), "no description by fastnn"),
    "another's description": (lambda: safetensors.save({}, {"fastnn": "1"}), "description has no checksum"),
    "no metadata": (lambda: with_header(valid(), lambda h: b'{"__metadata__":3}'), "damaged header"),
    "another name": (lambda: valid().replace(b'"0.weight"', b'"0.wright"'), "checksum is wrong"),
    "another number": (lambda: valid().replace(b"1e-05", b"2e-05"), "checksum is wrong"),
    "another checksum": (
        lambda: re.sub(rb"[0-9a-f]{64}", b"f" * 64, valid(), count=1),
        "damaged: its checksum is wrong",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_has_one_clear_error(case, path):
    make, message = MALFORMED[case]
    data = make()
    assert data != valid()
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"^load: .*model\.safetensors .*{message}") as caught:
        fastnn.load(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_every_cut_and_every_flipped_bit_is_seen(path, rng):
    """Anywhere in the file, not only where a test thought of it."""
    places = {*range(0, 300, 3), *rng.integers(0, len(valid()), 100).tolist()}
    for at in places:
        for data in (valid()[:at], valid()[:at] + bytes([valid()[at] ^ (1 << at % 8)]) + valid()[at + 1 :]):
            path.write_bytes(data)
            with pytest.raises(ValueError, match=r"^load: "):
                fastnn.load(path)


def first_layer(description):
    return description["model"]["architecture"]["arguments"]["layers"]["$tuple"][0]


FORGED = {
    "newer": (lambda d: d.update(format=2, fastnn="9.9"), "of format 2, written by fastnn 9.9; .* update it"),
    "unknown layer": (lambda d: first_layer(d).update({"$object": "nn.Conv9d"}), "names 'nn.Conv9d'"),
    "a module": (lambda d: first_layer(d).update({"$object": "nn.module"}), "names 'nn.module'"),
    "the base": (lambda d: first_layer(d).update({"$object": "nn.Module"}), "fastnn never writes|has no"),
    "a function": (lambda d: first_layer(d).update({"$object": "init.gain"}), "names 'init.gain'"),
    "other code": (lambda d: first_layer(d).update({"$object": "os.system"}), "names 'os.system', which"),
    "dunder": (lambda d: first_layer(d).update({"$object": "nn.__builtins__"}), "names 'nn.__builtins__'"),
    "wrong arguments": (lambda d: first_layer(d)["arguments"].update(x=1), "never writes: .*unknown"),
    "refused argument": (lambda d: first_layer(d)["arguments"].update(in_features=-1), "in_features must"),
    "wrong shape": (lambda d: first_layer(d)["arguments"].update(in_features=4), r"has shape \(5, 8\)"),
    "too large": (lambda d: first_layer(d)["arguments"].update(in_features=10**12), "too few numbers"),
    "no architecture": (lambda d: d["model"].update(architecture=None), "describes no model"),
    "a number": (lambda d: d["model"].update(architecture=3), "describes no model"),
    "unknown tag": (lambda d: d["model"].update(architecture={"$eval": "1"}), "unknown \\$eval"),
    "an array it lacks": (lambda d: d["model"]["arrays"].append("9.weight"), "never writes: KeyError"),
    "an array too few": (lambda d: d["model"]["arrays"].pop(), "missing '1.running_var'"),
    "a count too many": (lambda d: d["model"]["counters"].update({"0.seed": 1}), "counts"),
    "flags of nothing": (lambda d: d["model"].update(frozen=3), "never writes"),
    "flags of others": (lambda d: d["model"].update(frozen=["a"]), "frozen names 'a'"),
    "no model": (lambda d: d.pop("model"), "never writes"),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_description_is_refused(case, path):
    """With a checksum that fits: whoever writes a file can compute one."""
    change, message = FORGED[case]
    fastnn.save(path, network())
    forged(path, change)
    with pytest.raises(ValueError, match=rf"^load: .*({message})"):
        fastnn.load(path)


def test_arrays_of_another_dtype_are_refused(path):
    fastnn.save(path, network())
    forged(path, lambda d: None, **{"0.weight": np.ones((5, 8))})
    with pytest.raises(ValueError, match=r"'0.weight' has dtype float64, must be float32"):
        fastnn.load(path)


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"load: there is no file .*nothing"):
        fastnn.load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError, match=r"load: .* is a folder; .*latest\(\)"):
        fastnn.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"load: .*pipe is no regular file"):
        fastnn.load(tmp_path / "pipe")
    with pytest.raises(ValueError, match="load: /dev/zero is no regular file"):
        fastnn.load("/dev/zero")
