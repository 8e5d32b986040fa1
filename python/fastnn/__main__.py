"""`python -m fastnn info`: what was built, and what runs here; `experiments`: claims, tried."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fastnn import show_config
from fastnn.experiments import _cli as experiments


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command of the command line; wrong arguments exit with status 2 and the usage."""
    parser = argparse.ArgumentParser(prog="python -m fastnn", description="fastnn on the command line")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="print what was built and what runs here").set_defaults(run=show_config)
    tried = commands.add_parser("experiments", help=experiments.HELP)
    experiments.add_arguments(tried)
    tried.set_defaults(run=experiments.run)
    given = parser.parse_args(arguments)
    if given.command == "experiments":
        sys.exit(given.run(given))
    given.run()


if __name__ == "__main__":
    main()
