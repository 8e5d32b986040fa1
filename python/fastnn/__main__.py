"""`python -m fastnn COMMAND`: a file of `fastnn._cli` per command (HELP, EXAMPLE, add_arguments, run)."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence

from fastnn._cli import evaluate, info, predict, train
from fastnn._cli.parser import Parser
from fastnn.cuda import CudaError
from fastnn.experiments import _cli as experiments

COMMANDS = {
    "info": info,
    "train": train,
    "predict": predict,
    "evaluate": evaluate,
    "experiments": experiments,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status.

    0: done. 1: the training diverged. 2: wrong options or files, with one line on standard error.
    130: interrupted by Ctrl-C.
    """
    parser = Parser(prog="python -m fastnn", description="Train, use and look at networks from a shell.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        added = commands.add_parser(name, help=command.HELP, description=command.HELP, epilog=command.EXAMPLE)
        command.add_arguments(added)
        added.set_defaults(run=command.run, prog=added.prog)
    options = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
        try:
            return int(options.run(options) or 0)
        except BrokenPipeError:  # the reader of a pipe has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            return _failed(options.prog, f"{place}{error.strerror or error}")
        except (ValueError, CudaError) as error:
            return _failed(options.prog, str(error))
        except MemoryError as error:
            return _failed(options.prog, f"not enough memory: {error}")
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130


def _failed(prog: str, message: str) -> int:
    print(f"{prog}: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
