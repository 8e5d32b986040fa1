"""One file of arrays and a description: a safetensors file, written whole or not at all.

The description is JSON in the file's metadata; docs/saving.md shows the format. Nothing in a file is run.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from fastnn._arrays import Array

FORMAT = 1
_BLANK = b"0" * 64  # what stands for the checksum while it is taken
_PLACE = rb"{\"sha256\": \""  # how a description begins inside the header; the checksum follows
_TEMPORARY = re.compile(r"\.fastnn-[0-9a-f]{16}\.tmp")
_LONGEST_HEADER = 100_000_000  # safetensors' own limit
_NUMBERS = "?bhilqBHILQefd"  # dtype characters that both NumPy and the format have


def checked_path(path: str | os.PathLike[str], where: str) -> Path:
    """The path itself, where it is one."""
    if not isinstance(path, (str, os.PathLike)) or isinstance(os.fspath(path), bytes):
        raise TypeError(f"{where}: path must be a str or a pathlib.Path, got {type(path).__name__}")
    return Path(path)


# ---- writing


def write(
    path: str | os.PathLike[str], where: str, description: Mapping[str, Any], arrays: Mapping[str, Array]
) -> None:
    """Write the file so that at every moment `path` holds all of the old file or all of the new one.

    Into a temporary file beside it, to the disk, then renamed over it. An error (a full disk) leaves the old
    file and no other. The file that a killed process left unfinished is removed by the next `write` into the
    same folder.
    """
    import hashlib

    from safetensors import numpy as safetensors

    target = Path(os.path.realpath(checked_path(path, where)))  # the file behind a link, not the link
    if target.is_dir():
        raise IsADirectoryError(f"{where}: {path} is a folder; give the name of a file in it")
    if target.exists() and not target.is_file():  # /dev/null, say
        raise ValueError(f"{where}: {path} is no regular file; give the name of a new one")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{where}: there is no folder {target.parent}; make it first")
    text = json.dumps({"sha256": _BLANK.decode(), "format": FORMAT, **description}, allow_nan=False)
    data = memoryview(
        safetensors.save({name: _dense(name, array) for name, array in arrays.items()}, {"fastnn": text})
    )
    start, end = _digest_place(data)
    digest = hashlib.sha256(data).hexdigest().encode()
    sweep(target.parent)
    try:
        with _temporary(target.parent) as (descriptor, temporary):
            for part in (data[:start], digest, data[end:]):
                _write_all(descriptor, part)
            if target.exists():
                os.fchmod(descriptor, stat.S_IMODE(target.stat().st_mode))  # who may read it stays as it is
            os.fsync(descriptor)
            os.replace(temporary, target)
    except OSError as error:
        raise OSError(error.errno, f"{where}: {error.strerror}; {path} is as it was") from error
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sweep(folder: Path) -> None:
    """Remove unfinished files that killed processes left in a folder.

    A writer holds a lock on its own, which ends with the process: what is locked is still being written.
    """
    with suppress(OSError):
        for name in os.listdir(folder):
            if _TEMPORARY.fullmatch(name):
                with suppress(OSError), open(folder / name, "rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(folder / name)


@contextmanager
def _temporary(folder: Path) -> Iterator[tuple[int, Path]]:
    """A new locked file in the folder, removed at the end where it still has its name."""
    while True:
        path = folder / f".fastnn-{os.urandom(8).hex()}.tmp"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with suppress(OSError):  # a file system without locks: then nobody can sweep there either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists():  # else another process swept it before it was locked
            break
        os.close(descriptor)
    try:
        yield descriptor, path
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)
        os.close(descriptor)


def _write_all(descriptor: int, part: bytes | memoryview) -> None:
    rest = memoryview(part)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _dense(name: str, array: Array) -> Array:
    """The array as C-contiguous native memory: safetensors writes what lies there, whatever the strides."""
    if array.dtype.char not in _NUMBERS:
        raise TypeError(f"{name}: arrays of dtype {array.dtype} cannot be saved; convert it to numbers")
    # Not ascontiguousarray, which makes a vector of a single value.
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")


def _digest_place(data: bytes | memoryview) -> tuple[int, int]:
    """Where the 64 digits of the checksum stand: the description is the first thing in the header."""
    start = bytes(data[:200]).find(_PLACE) + len(_PLACE)
    return start, start + len(_BLANK)


# ---- reading


def read(path: str | os.PathLike[str], where: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """The description and the arrays of a file; ValueError when a byte of it is not as it was written."""
    file = checked_path(path, where)
    if not file.exists():
        raise FileNotFoundError(f"{where}: there is no file {path}")
    if file.is_dir():
        raise IsADirectoryError(
            f"{where}: {path} is a folder; give a file in it (the newest: "
            "callbacks.Checkpoint(folder).latest())"
        )
    if not stat.S_ISREG(file.stat().st_mode):
        raise ValueError(f"{where}: {path} is no regular file")
    data = file.read_bytes()
    try:
        return _parsed(data)
    except ValueError as error:
        raise ValueError(f"{where}: {path} {error}") from None


def _parsed(data: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """What `read` returns; ValueErrors continue "the file ..."."""
    import hashlib

    import safetensors

    description = _description(data)
    if description.get("format") != FORMAT:
        raise ValueError(
            f"is of format {description.get('format')!r}, written by fastnn {description.get('fastnn')}; "
            f"this fastnn reads format {FORMAT}: update it"
        )
    start, end = _digest_place(data)
    whole = memoryview(data)
    digest = hashlib.sha256(whole[:start])
    digest.update(_BLANK)
    digest.update(whole[end:])
    if digest.hexdigest() != description["sha256"] or description["sha256"].encode() != data[start:end]:
        raise ValueError("is damaged: its checksum is wrong; take an older copy")
    try:
        parts = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise ValueError(f"is no valid safetensors file: {error}") from error
    return description, {name: _array(name, part) for name, part in parts}


def _description(data: bytes) -> dict[str, Any]:
    kind = "a pickle" if data[:1] == b"\x80" else "a zip archive" if data[:2] == b"PK" else "something else"
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > _LONGEST_HEADER or data[8:9] != b"{":
        raise ValueError(
            f"is no safetensors file of fastnn but {kind}, {len(data)} bytes long; fastnn loads what "
            "fastnn.save, Trainer.save and callbacks.Checkpoint write, and never a pickle"
        )
    if size > len(data) - 8:
        raise ValueError(f"is cut off: its header has {size} bytes, {len(data) - 8} are there")
    try:
        header = json.loads(data[8 : 8 + size], object_pairs_hook=_unique, parse_constant=_no_constant)
        text = header["__metadata__"]["fastnn"]
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except KeyError:
        raise ValueError(
            "has no description by fastnn; for arrays of other programs use safetensors.numpy.load_file and "
            "Module.load_state_dict"
        ) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"has a damaged header: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("sha256"), str):
        raise ValueError("has a damaged header: its description has no checksum")
    with suppress(KeyError, IndexError, TypeError):  # safetensors says what is wrong with its entries
        needed = max(
            (header[name]["data_offsets"][1] for name in header.keys() - {"__metadata__"}), default=0
        )
        if needed > len(data) - 8 - size:
            raise ValueError(f"is cut off: its arrays need {needed} bytes, {len(data) - 8 - size} are there")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"{', '.join(map(repr, twice))} occurs twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DTYPES = {
    "BOOL": "?", "I8": "i1", "U8": "u1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "U32": "<u4",
    "I64": "<i8", "U64": "<u8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip


def _array(name: str, part: Mapping[str, Any]) -> Array:
    if part["dtype"] not in _DTYPES:
        raise ValueError(f"holds {name!r} of dtype {part['dtype']}, which fastnn does not write")
    values: Array = np.frombuffer(part["data"], dtype=_DTYPES[part["dtype"]])
    return values.reshape(tuple(part["shape"]))
