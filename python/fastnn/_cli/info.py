"""`python -m fastnn info`."""

from __future__ import annotations

import argparse

from fastnn._runtime import show_config

HELP = "Print what was built and what runs here."
EXAMPLE = "example: python -m fastnn info"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing to choose."""


def run(_options: argparse.Namespace) -> None:
    show_config()
