"""Ending in order when told to: Ctrl-C, SIGTERM, and a terminal that goes away."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within the block, the first signal to end raises KeyboardInterrupt; further ones wait.

    So that servers and files are cleaned up, and cleaned up to the end, however impatient the
    person at the terminal is. A signal that was ignored before, as under ``nohup``, stays so.
    """
    interrupted = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        # A shell's background jobs ignore Ctrl-C, but a signal sent to one is meant for it.
        if handler is not signal.SIG_IGN or number == signal.SIGINT:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
