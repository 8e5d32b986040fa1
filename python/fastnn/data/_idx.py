"""The idx files of MNIST and of the sets that took its place."""

from __future__ import annotations

import math
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The third byte of a file -> how its numbers are stored, the highest byte first.
_KINDS = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def load_idx(path: str | PathLike[str]) -> NDArray[Any]:
    """The array of an idx file, gzip'd or not: MNIST's images (n, 28, 28) and labels (n,), both uint8.

    The format: two zero bytes, a byte for the type, one for the number of axes, the length of each axis in
    four bytes, then the numbers in C order; everything has its highest byte first. The array has the byte
    order of this machine, and is new.

    Raises OSError when the file cannot be read; ValueError for what is no idx file, and when it holds fewer
    or more bytes than its lengths say.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "labels-idx1-ubyte"
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    ...     load_idx(path)
    array([7, 2, 1], dtype=uint8)
    """
    with open(path, "rb") as file:
        content = file.read()
    if content[:2] == b"\x1f\x8b":
        import gzip
        import zlib

        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"load_idx: {path} is a damaged gzip file ({error})") from None
    axes = content[3] if len(content) >= 4 else 0
    start = 4 + 4 * axes
    if content[:2] != b"\0\0" or len(content) < start or content[2] not in _KINDS or axes == 0:
        raise ValueError(f"load_idx: {path} is no idx file; it does not begin as one does")
    kind = np.dtype(_KINDS[content[2]])
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", axes, offset=4))
    wanted, held = math.prod(shape) * kind.itemsize, len(content) - start
    if held != wanted:
        raise ValueError(
            f"load_idx: {path} must hold {wanted} bytes of numbers for shape {shape}, it holds {held}; "
            "fetch it again"
        )
    return np.frombuffer(content, kind, offset=start).reshape(shape).astype(kind.newbyteorder("="))
