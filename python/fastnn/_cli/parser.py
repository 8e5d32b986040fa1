"""The command line's parser, and the kinds of values that options take."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """argparse's, with errors on one line and epilogs as they are written."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; {self.prog} --help lists the options\n")


def whole(least: int) -> Callable[[str], int]:
    """Whole numbers of at least `least`."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, got {text!r}")
        return number

    return read


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None


def share(text: str) -> float:
    value = number(text)
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError(f"must be a share above 0 and at most 1, got {text!r}")
    return value


def widths(text: str) -> list[int]:
    """Widths of hidden layers: "256,128"; "none" has no hidden layer."""
    try:
        found = [] if text == "none" else [int(part) for part in text.split(",")]
    except ValueError:
        found = [0]
    if any(width < 1 for width in found):
        raise argparse.ArgumentTypeError(f"must be widths such as 256,128, or none, got {text!r}")
    return found


def add_machine(parser: argparse.ArgumentParser) -> None:
    """--threads and --device, which every command that computes takes."""
    parser.add_argument("--threads", type=whole(1), metavar="N", help="threads (default: all usable cores)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
