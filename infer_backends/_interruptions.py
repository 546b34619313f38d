"""Which exceptions end code from outside, and are no fault of the code that they pass through."""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType
from typing import Any

#: Whose exceptions beside ``Exception`` end a task, a greenlet or a test.
_OF_OTHERS = frozenset({"asyncio", "trio", "gevent", "greenlet", "eventlet", "_pytest"})


def from_outside(exc: BaseException) -> bool:
    """Whether an exception came from outside of the code that was called, to end it.

    Ctrl-C does, what cancels a task or a greenlet does, and ``SystemExit`` does if the handler of a
    signal raised it: a service that is told to stop has to stop, whatever it is in the middle of.
    """
    if isinstance(exc, Exception):
        return False
    if isinstance(exc, KeyboardInterrupt):
        return True
    if type(exc).__module__.partition(".")[0] in _OF_OTHERS:
        return True
    return isinstance(exc, SystemExit) and not _codes(exc).isdisjoint(_handlers())


def _codes(exc: BaseException) -> set[CodeType]:
    codes, traceback = set(), exc.__traceback__
    while traceback is not None:
        codes.add(traceback.tb_frame.f_code)
        traceback = traceback.tb_next
    return codes


def _handlers() -> Iterator[CodeType]:
    # Imported where it is used: importing the library has to stay cheap.
    import signal

    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        if callable(handler):
            handler = getattr(handler, "func", handler)  # of functools.partial
            method = getattr(handler, "__func__", handler)
            code = getattr(method, "__code__", None) or getattr(
                vars(type(handler)).get("__call__"), "__code__", None
            )
            if code is not None:
                yield code
