"""Ctrl-C while steps run: it waits until they are whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastnn import _core


class _OnThread(threading.local):
    """What a thread of `fit_many` is asked between steps."""

    stop: Callable[[], bool] = staticmethod(lambda: False)


on_thread = _OnThread()


class _Pressed:
    """Of the main thread, which is where Python runs handlers of signals."""

    taken = False  # by `taking_ctrl_c`
    blocks = 0  # of `whole_steps`, one within the other where a callback trains
    noted = False


def _note(number: int, frame: object) -> None:
    if not _Pressed.blocks:
        raise KeyboardInterrupt
    _Pressed.noted = True
    _core.stop_steps(True)


@contextmanager
def taking_ctrl_c() -> Iterator[None]:
    """Inside, blocks of `whole_steps` are possible; between them Ctrl-C raises, as ever.

    Only in the main thread and over Python's own handler: elsewhere it would not raise inside a step anyway.
    Around a whole fit: to set a handler and set it back takes 9 us, as much as a step of a small network.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or _Pressed.taken or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    try:
        _Pressed.taken = True
        signal.signal(signal.SIGINT, _note)
        yield
    finally:
        _Pressed.taken = False
        if signal.getsignal(signal.SIGINT) is _note:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def whole_steps() -> Iterator[Callable[[], bool]]:
    """Inside, Ctrl-C only makes the yielded function true and ends native runs of steps, the running step
    before it has changed anything; it is raised where the block ends."""
    if not _Pressed.taken or threading.current_thread() is not threading.main_thread():
        yield on_thread.stop
        return
    _Pressed.blocks += 1
    try:
        yield lambda: _Pressed.noted
    finally:
        _Pressed.blocks -= 1  # from here on Ctrl-C raises, if this was the last
        if _Pressed.noted and not _Pressed.blocks:
            _Pressed.noted = False
            _core.stop_steps(False)
            raise KeyboardInterrupt
