"""Checkpoint: a file of the trainer after each epoch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from fastnn import _file
from fastnn._arrays import check_int
from fastnn.callbacks.callback import Callback, Trainer


class Checkpoint(Callback):
    """Saves the trainer after every `every`-th epoch, and keeps the last `keep` files.

    Parameters
    ----------
    path : a folder, made when the fit begins; its files are "epoch-000012.safetensors" (`Trainer.save`)
    every : epochs from one file to the next, at least 1
    keep : how many files stay, at least 1; None keeps all

    `latest()` is the newest file, or None: with it a program that was killed goes on where it was, whatever
    moment that was (examples/stop_and_resume.py). A fit begins by removing what a killed process left
    unfinished. A folder that holds files of later epochs than the trainer has done belongs to another run:
    ValueError, before the first step. Keras's `ModelCheckpoint` saves model and optimizer, but not how far
    the training is; PyTorch has nothing of the kind.

    >>> import tempfile
    >>> import numpy as np, fastnn
    >>> from fastnn import callbacks, losses, nn, optim
    >>> def trainer():
    ...     model = nn.Sequential(nn.Linear(2, 1), seed=0)
    ...     return fastnn.Trainer(model, losses.MSELoss(), optim.Adam(model.parameters()))
    >>> X = np.random.default_rng(0).normal(size=(64, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint = callbacks.Checkpoint(folder, every=2)
    ...     history = trainer().fit(X, X[:, :1], batch_size=16, epochs=5, callbacks=[checkpoint])
    ...     other = trainer()
    ...     other.load(checkpoint.latest())
    >>> other.epoch
    4
    """

    _NAME = re.compile(r"epoch-(\d{6,})\.safetensors")

    def __init__(self, path: str | os.PathLike[str], every: int = 1, keep: int | None = 3) -> None:
        self.path = _file.checked_path(path, "Checkpoint")
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"Checkpoint: path must be a folder, {path} is a file")
        self.every = check_int(every, "Checkpoint: every", 1)
        self.keep = None if keep is None else check_int(keep, "Checkpoint: keep", 1)

    def _files(self) -> list[tuple[int, Path]]:
        """(epoch, file), oldest first."""
        names = os.listdir(self.path) if self.path.is_dir() else []
        found = ((self._NAME.fullmatch(name), name) for name in names)
        return sorted((int(match[1]), self.path / name) for match, name in found if match)

    def latest(self) -> Path | None:
        """The file of the latest epoch; None when there is none."""
        files = self._files()
        return files[-1][1] if files else None

    def on_fit_begin(self, trainer: Trainer) -> None:
        later = [file.name for epoch, file in self._files() if epoch > trainer.epoch]
        if later:
            raise ValueError(
                f"Checkpoint: {self.path} holds {later[-1]} of another run, this trainer has done "
                f"{trainer.epoch} epochs; call trainer.load(checkpoint.latest()), or choose another folder"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        _file.sweep(self.path)

    def on_epoch_end(self, trainer: Trainer, logs: Mapping[str, float]) -> None:
        if trainer.epoch % self.every == 0:
            trainer.save(self.path / f"epoch-{trainer.epoch:06d}.safetensors")
            if self.keep is not None:
                for _, file in self._files()[: -self.keep]:
                    with suppress(FileNotFoundError):
                        file.unlink()
