"""The cases of the benchmark, declared as data: a row added to one of these files is timed on every peer."""

from __future__ import annotations

from cases import activations, batch_norm, gemm, losses, networks, updates
from cases.case import Case

# group -> the heading of its table
GROUPS = {
    "gemm": "Products",
    "batch_norm": "Batch-norm",
    "activation": "Activations",
    "loss": "Losses and dropout",
    "update": "Updates",
    "call": "The call itself: nothing to compute",
    "step": "Training, a step of a fit",
    "many": "Many networks at once, a step of all",
    "sweep": "One training step over batch and width",
}
_DECLARED = (gemm, batch_norm, activations, losses, updates, networks)
ALL: list[Case] = sorted(
    (case for module in _DECLARED for case in module.CASES), key=lambda case: list(GROUPS).index(case.group)
)
BY_NAME: dict[str, Case] = {case.name: case for case in (*ALL, networks.FIRST_STEP)}
TRAINING = ("step", "many")  # the groups of `--only training`


def chosen(mode: str) -> list[Case]:
    """The cases of a "quick", "training" or "full" run."""
    if mode == "training":
        return [case for case in ALL if case.group in TRAINING]
    return [case for case in ALL if mode == "full" or not case.full_only]


def named(text: str) -> list[Case]:
    """The cases whose names contain the text, in whatever letters.

    >>> [case.name for case in named("gemm 8x8")]
    ['GEMM 8x8x8 (the call)']
    """
    return [case for case in ALL if text.lower() in case.name.lower()]
