"""The cases of the benchmark, declared as data: a row added to one of these files is timed on every peer."""

from __future__ import annotations

from cases import batch_norm, gemm, train_step, updates
from cases.case import Case

ALL: list[Case] = [*gemm.CASES, *batch_norm.CASES, *updates.CASES, *train_step.CASES]
BY_NAME: dict[str, Case] = {case.name: case for case in ALL}


def chosen(full: bool) -> list[Case]:
    """The cases of `--quick`, or all of them."""
    return [case for case in ALL if full or not case.full_only]
