"""Training data: rows from files, the digits that ship with fastnn, and the order in which rows form batches.

`load_npz`, `load_csv` and `load_idx` read files whole and check what they read: a missing value raises, with
its row and column. Nothing they read is run as code.

The order of the rows is a pure function of (seed, epoch), so a run can be repeated or resumed at any epoch,
and an own loop over `batches` sees exactly the batches of `Trainer.fit`.
"""

from __future__ import annotations

from fastnn.data._batches import batches, steps_per_epoch
from fastnn.data._batches import epoch_rows as epoch_rows
from fastnn.data._batches import take as take
from fastnn.data._csv import Table, load_csv
from fastnn.data._digits import digits
from fastnn.data._idx import load_idx
from fastnn.data._npz import load_npz

__all__ = ["Table", "batches", "digits", "load_csv", "load_idx", "load_npz", "steps_per_epoch"]
