"""`python -m fastnn evaluate DIR DATA`."""

from __future__ import annotations

import argparse

from fastnn._cli.build import trainer_of
from fastnn._cli.folder import Folder
from fastnn._cli.parser import add_machine
from fastnn._cli.rows import rows_to_evaluate
from fastnn._runtime import set_num_threads

HELP = "Print loss and metrics of a trained network on the rows of a file."
EXAMPLE = """\
DATA: an .npz file with x and y, or else x_test and y_test, or a .csv file with the columns of the training.
A regression is measured in the units of its target.

example: python -m fastnn evaluate run new.csv"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="what train --out wrote")
    parser.add_argument("data", metavar="DATA", help=".npz or .csv file")
    add_machine(parser)


def run(given: argparse.Namespace) -> None:
    if given.threads:
        set_num_threads(given.threads)
    folder = Folder(given.folder)
    settings, known = folder.run()
    trainer = trainer_of(folder.model(known), settings["options"], known, given.device)
    X, Y = rows_to_evaluate(given.data, known)
    scores = trainer.evaluate(X, Y)
    print(f"rows {len(X)}")
    for name, value in scores.items():
        print(f"{name} {value:.6g}")
