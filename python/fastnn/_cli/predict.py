"""`python -m fastnn predict DIR DATA`."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from fastnn._cli.build import trainer_of
from fastnn._cli.folder import Folder, replaced
from fastnn._cli.parser import add_machine
from fastnn._cli.rows import rows_to_predict
from fastnn._runtime import set_num_threads

HELP = "Predict the target of the rows of a file, as CSV."
EXAMPLE = """\
DATA: an .npz file with x, or else x_test, or a .csv file with the features of the training.

example: python -m fastnn predict run new.csv > predictions.csv"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="what train --out wrote")
    parser.add_argument("data", metavar="DATA", help=".npz or .csv file")
    parser.add_argument("--proba", action="store_true", help="the probability of each class")
    parser.add_argument("--out", metavar="FILE", help="where to write (default: standard output)")
    add_machine(parser)


def run(given: argparse.Namespace) -> None:
    if given.threads:
        set_num_threads(given.threads)
    folder = Folder(given.folder)
    settings, known = folder.run()
    if given.proba and known.classes is None:
        raise ValueError(f"--proba is for classes, and {given.folder} holds a regression")
    trainer = trainer_of(folder.model(known), settings["options"], known, given.device)
    X = rows_to_predict(given.data, known)
    title = known.target if known.features and known.target else "prediction"
    lines: Iterable[Iterable[str]]
    if given.proba:
        titles = known.classes or []
        lines = (map("{:.9g}".format, row) for row in trainer.predict_proba(X))
    elif known.classes is not None:
        classes, titles = known.classes, [title]
        lines = ([classes[i]] for i in trainer.predict_class(X))
    else:
        titles = [title] if known.outputs == 1 else [f"{title}_{i + 1}" for i in range(known.outputs)]
        lines = (map("{:.9g}".format, row) for row in trainer.predict(X))
    if given.out is None:
        _write(sys.stdout, titles, lines)
        sys.stdout.flush()
        return
    with replaced(Path(given.out)) as new, open(new, "w", encoding="utf-8", newline="") as file:
        _write(file, titles, lines)


def _write(file: TextIO, titles: list[str], lines: Iterable[Iterable[str]]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(titles)
    writer.writerows(lines)
