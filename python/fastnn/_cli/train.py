"""`python -m fastnn train DATA`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from typing import Any

from fastnn._cli.build import build_trainer, finished, trainer_of
from fastnn._cli.folder import TRAINER, Folder
from fastnn._cli.options import OPTIONS
from fastnn._cli.parser import add_machine
from fastnn._cli.rows import Rows, training_rows
from fastnn._runtime import set_num_threads
from fastnn.callbacks import Callback
from fastnn.optim import NonFiniteGradientError
from fastnn.preprocessing import StandardScaler
from fastnn.trainer import Trainer

HELP = "Train a network on the rows of a file."
EXAMPLE = """\
DATA: an .npz file with x_train, y_train and perhaps x_test, y_test, or a .csv file. Without test rows a fifth
is held out. Whole numbers and text in the target mean classes, other numbers regression.

example: python -m fastnn train digits.npz --layers 256,128 --batch-norm --schedule cosine --out run"""

SECONDS = 10.0  # at least this long from one save of a running training to the next


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = f"{parser.prog} DATA [options]"
    parser.add_argument("data", metavar="DATA", help=".npz or .csv file")
    for name, default, told in OPTIONS:
        told = dict(told)
        flag = told.pop("flag", f"--{name.replace('_', '-')}")
        if "choices" in told:
            told.update(choices=tuple(told["choices"]), metavar="NAME")
            told["help"] = "; ".join(filter(None, [", ".join(told["choices"]), told.get("help")]))
        if default is not None and not isinstance(default, bool):
            shown = ",".join(map(str, default)) if isinstance(default, list) else default
            told["help"] = f"{told.get('help', '')} (default: {shown})".strip()
        # Not given: absent, so that --resume can tell.
        parser.add_argument(flag, dest=name, default=argparse.SUPPRESS, **told)
    add_machine(parser)
    parser.add_argument("--out", default="fastnn-run", metavar="DIR", help="default: fastnn-run")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with the training in DIR")
    again.add_argument("--overwrite", action="store_true", help="begin again in a DIR that is not empty")


def run(given: argparse.Namespace) -> int:
    if given.threads:
        set_num_threads(given.threads)
    folder = Folder(given.out)
    if given.resume:
        before, known = folder.run()
        options = _same(given, before["options"])
    else:
        folder.may_begin(given.overwrite)
        options = {name: getattr(given, name, default) for name, default, _ in OPTIONS}
    rows = training_rows(given.data, options["target"], options["task"], options["seed"])
    trainer = build_trainer(options, rows.known, rows.X, given.device)
    digest = rows.digest()
    if not given.resume:
        with folder.begun({"options": options, "digest": digest}, rows.known, trainer):
            return _fit(trainer, rows, options, folder, given.device)
    if before["digest"] != digest or known != rows.known:
        raise ValueError(f"{given.data} does not hold the rows that the training in {given.out} began with")
    if (folder.path / TRAINER).is_file():
        trainer.load(folder.path / TRAINER)
    return _fit(trainer, rows, options, folder, given.device)


def _same(given: argparse.Namespace, before: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the run to go on with; ValueError where others are given."""
    other = [
        f"--{name.replace('_', '-')} was {before[name]}, now {getattr(given, name)}"
        for name, _, _ in OPTIONS
        if getattr(given, name, before[name]) != before[name]
    ]
    if other:
        raise ValueError(f"--resume goes on with the options of {given.out}: {'; '.join(other)}")
    return dict(before)


class _Save(Callback):
    """Saves the trainer after an epoch, but not more often than every SECONDS: what `kill` leaves."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._last = time.monotonic()

    def on_epoch_end(self, trainer: Trainer, logs: Mapping[str, float]) -> None:
        if time.monotonic() - self._last >= SECONDS:
            trainer.save(self._folder.path / TRAINER)
            self._last = time.monotonic()


def _fit(trainer: Trainer, rows: Rows, options: Mapping[str, Any], folder: Folder, device: str) -> int:
    """Train to the end or to Ctrl-C, save, and say what came out."""
    Y, Y_test, scaler = rows.Y, rows.Y_test, None
    if rows.known.classes is None and options["scale"]:
        scaler = StandardScaler().fit(Y)
        Y, Y_test = scaler.transform(Y), scaler.transform(Y_test)
    classes = f", {len(rows.known.classes)} classes" if rows.known.classes else ""
    counts = f"{len(rows.X)} training rows, {len(rows.X_test)} held out, {rows.X[0].size} features"
    print(f"{counts}{classes}", flush=True)
    status, stopped = 0, ""
    try:
        if trainer.epoch < options["epochs"]:
            trainer.fit(
                rows.X,
                Y,
                batch_size=options["batch_size"],
                epochs=options["epochs"] - trainer.epoch,
                validation=(rows.X_test, Y_test),
                callbacks=[_Save(folder)],
            )
    except KeyboardInterrupt:
        status, stopped = 130, "interrupted; --resume goes on from here"
    except NonFiniteGradientError as error:
        if trainer.optimizer.step_count == 0:
            raise ValueError(f"the first step cannot be: {error}") from None
        status, stopped = 1, f"diverged: {error}; try a smaller --lr, --warmup-steps or --clip 1"
    model = finished(trainer.model, scaler)
    folder.save(trainer, model)
    if stopped:
        done = f"{trainer.epoch} of {options['epochs']} epochs, {trainer.optimizer.step_count} updates"
        print(f"{stopped} (saved in {folder.path}: {done})", file=sys.stderr)
        return status
    found = trainer_of(model, options, rows.known, device).evaluate(rows.X_test, rows.Y_test)
    print(", ".join(f"{name} {value:.4g}" for name, value in found.items()), "on the rows held out")
    print(f"saved in {folder.path}")
    return status
