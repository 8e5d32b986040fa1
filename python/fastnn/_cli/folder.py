"""The folder of a training: what `train` writes, and the other commands read."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastnn._cli.options import fault
from fastnn._cli.rows import Known
from fastnn._runtime import __version__
from fastnn.checkpoint import load, save
from fastnn.nn import Linear, Module
from fastnn.trainer import Trainer

FORMAT = 1
RUN, TRAINER, MODEL = "run.json", "trainer.safetensors", "model.safetensors"
HISTORY, PLOT = "history.json", "history.png"
FILES = RUN, TRAINER, MODEL, HISTORY, PLOT


class Folder:
    """`run.json` says how it was made; beside it the trainer, the model, the history and its plot."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def may_begin(self, overwrite: bool) -> None:
        """Raise ValueError when something is there that must not be lost."""
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"--out {self.path} is a file; name a folder")
        if not overwrite and self.path.is_dir() and any(self.path.iterdir()):
            raise ValueError(
                f"--out {self.path} is not empty; pass --resume to go on, --overwrite to begin again, "
                "or name another folder"
            )

    @contextmanager
    def begun(self, run: Mapping[str, Any], known: Known, trainer: Trainer) -> Iterator[None]:
        """Write `run.json` in place of what another run left (other files stay).

        An error inside before the trainer's first update leaves all as it was.
        """
        made = [path for path in (self.path, *self.path.parents) if not path.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        for left in self.path.glob(".before-*"):  # by a start that was killed
            shutil.rmtree(left)
        there = [self.path / name for name in FILES if (self.path / name).exists()]
        with TemporaryDirectory(prefix=".before-", dir=self.path) if there else nullcontext("") as aside:
            for path in there:
                os.replace(path, Path(aside, path.name))
            described = {"fastnn": __version__, "format": FORMAT, **run, "known": known._asdict()}
            try:
                with replaced(self.path / RUN) as new:
                    new.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
                yield
            except Exception:
                if trainer.optimizer.step_count == 0:
                    (self.path / RUN).unlink(missing_ok=True)
                    for path in there:
                        os.replace(Path(aside, path.name), path)
                    for path in made:
                        path.rmdir()
                raise

    def run(self) -> tuple[dict[str, Any], Known]:
        """What `begin` wrote."""
        path = self.path / RUN
        if not path.is_file():
            raise ValueError(f"{self.path} holds no training; it has no {RUN}")
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
            if run["format"] != FORMAT:
                raise ValueError(f"{path} is of format {run['format']}; update fastnn")
            wrong = fault(run["options"])
            known = Known(**run["known"])
            _ = run["digest"]
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({type(error).__name__}: {error})") from None
        if odd := known.odd():
            wrong = wrong or f"known: {odd} is {getattr(known, odd)!r}"
        if wrong:
            raise ValueError(f"{path} is damaged ({wrong})")
        return run, known

    def save(self, trainer: Trainer, model: Module) -> None:
        """Write all files, each whole or not at all; the plot where matplotlib is installed."""
        with undisturbed():
            trainer.save(self.path / TRAINER)
            save(self.path / MODEL, model)
            with replaced(self.path / HISTORY) as new:
                trainer.history.save(new)
            if trainer.epoch:
                try:
                    with replaced(self.path / PLOT) as new:
                        trainer.history.plot(new)
                except ImportError as error:
                    print(f"no plot was made: {error}", file=sys.stderr)

    def model(self, known: Known) -> Module:
        """The model that `save` wrote."""
        path = self.path / MODEL
        if not path.is_file():
            raise ValueError(f"{self.path} has no {MODEL} yet; finish the training with train ... --resume")
        model = load(path)
        outputs = [module.out_features for module in model.modules() if isinstance(module, Linear)][-1:]
        if outputs != [known.outputs]:
            raise ValueError(
                f"{path} has {outputs[0] if outputs else 'no'} outputs, {RUN} says {known.outputs}; "
                "they are of different trainings"
            )
        return model


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C does nothing inside: a second one shall not end the saving that the first began."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A new file of another name, which takes the name of `path` once it is written."""
    new = path.with_name(f".new-{path.name}")
    try:
        yield new
        os.replace(new, path)
    except OSError as error:
        if error.filename == str(new):
            error.filename = str(path)  # the name that the caller gave
        raise
    finally:
        new.unlink(missing_ok=True)
