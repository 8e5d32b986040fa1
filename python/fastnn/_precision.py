"""The precision of the products of Linear layers: float32, or bfloat16 where a trainer asks for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fastnn._core import linear_backward_bf16, linear_bf16

__all__ = ["checked_precision", "linear_backward_bf16", "linear_bf16", "on_thread", "products_in"]

PRECISIONS = ("float32", "bfloat16", "tf32")


class _OnThread(threading.local):
    """What layers that run one after another on this thread do."""

    bfloat16 = False


on_thread = _OnThread()


def checked_precision(precision: str, device: str) -> str:
    """`precision`, or a ValueError that names what there is."""
    if device == "cpu":
        check_on_host(precision)
    if not isinstance(precision, str) or precision not in PRECISIONS:
        kinds = '"float32" or "bfloat16"' if device == "cpu" else '"float32", "bfloat16" or "tf32"'
        raise ValueError(f"Trainer: precision must be {kinds}, got {precision!r}")
    return precision


def check_on_host(precision: str) -> None:
    """Raise for what only a device multiplies."""
    if precision == "tf32":
        raise ValueError('Trainer: precision "tf32" exists on CUDA only; pass "float32" or "bfloat16"')


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Inside, Linear layers multiply in this precision; a backward does what its forward did."""
    if precision == "tf32":
        raise ValueError(
            'Trainer: precision "tf32" is one of native programs, layers called one by one do not know it; '
            'pass "float32" or "bfloat16"'
        )
    before = on_thread.bfloat16
    on_thread.bfloat16 = precision == "bfloat16"
    try:
        yield
    finally:
        on_thread.bfloat16 = before
