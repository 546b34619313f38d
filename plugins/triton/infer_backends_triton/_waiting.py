"""How code that is written once waits: by blocking its thread, or in an event loop.

All that does input and output is written as coroutines, which wait by a :class:`Waiting` that they
are given. With :data:`BLOCKING` they wait in system calls and never suspend, so that :func:`run`
is the whole of the synchronous side; an event loop has one of its own, in ``_waiting_loop.py``.
"""

from __future__ import annotations

import concurrent.futures
import select
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")

#: Seconds to wait now, before asking again; raises what ends the waiting.
Patience = Callable[[], float]

#: In seconds; the limits of poll and of timers are some days.
LONGEST_WAIT = 3600.0


class Readiness(Protocol):
    """Waits for one non-blocking socket."""

    def until(
        self,
        attempt: Callable[[], Result],
        patience: Patience,
        *,
        writing: bool = False,
        at_once: bool = True,
    ) -> Coroutine[Any, Any, Result]:
        """What an attempt returns that does not raise ``BlockingIOError``.

        Args:
            attempt: What to do when the socket is ready. It is called when it is not, too: after
                each wait that ended early, and at first.
            patience: How long to wait each time; what it raises is raised.
            writing: Whether to wait until something can be sent. What TLS wants goes first.
            at_once: Whether to try before the first wait.
        """
        ...


class Waiting(Protocol):
    """One way to wait."""

    def on(self, sock: socket.socket) -> Readiness:
        """What waits for this socket."""
        ...

    async def settled(self, future: concurrent.futures.Future[Any], patience: Patience) -> None:
        """Wait until another thread has settled ``future``, which stays as it is."""
        ...

    async def work(self, task: Callable[[], Result], patience: Patience) -> Result:
        """What a task returns that keeps a processor busy for a while.

        Args:
            task: What to do.
            patience: How long to wait for another thread each time; what it raises is raised.
        """
        ...


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """What a coroutine returns that only ever waits by blocking."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: Result = done.value
        return result
    coroutine.close()
    raise RuntimeError("this coroutine waits for an event loop")


class _Blocking:
    def on(self, sock: socket.socket) -> Readiness:
        return _Polled(sock) if hasattr(select, "poll") else _Selected(sock)

    async def settled(self, future: concurrent.futures.Future[Any], patience: Patience) -> None:
        while not future.done():
            concurrent.futures.wait((future,), min(patience(), LONGEST_WAIT))

    async def work(
        self,
        task: Callable[[], Result],
        patience: Patience,  # noqa: ARG002 - no other thread is waited for
    ) -> Result:
        return task()


#: The way of threads.
BLOCKING: Waiting = _Blocking()


class _Polled:
    """By ``poll``."""

    __slots__ = ("_readable", "_writable")

    def __init__(self, sock: socket.socket) -> None:
        self._readable = select.poll()
        self._readable.register(sock, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(sock, select.POLLOUT)

    async def until(
        self,
        attempt: Callable[[], Result],
        patience: Patience,
        *,
        writing: bool = False,
        at_once: bool = True,
    ) -> Result:
        while True:
            if at_once:
                try:
                    return attempt()
                except BlockingIOError:
                    pass
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as exc:
                    writing = isinstance(exc, ssl.SSLWantWriteError)
            poller = self._writable if writing else self._readable
            poller.poll(1000 * min(patience(), LONGEST_WAIT))
            at_once = True


class _Selected:
    """By ``select``, where there is no ``poll``."""

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def until(
        self,
        attempt: Callable[[], Result],
        patience: Patience,
        *,
        writing: bool = False,
        at_once: bool = True,
    ) -> Result:
        while True:
            if at_once:
                try:
                    return attempt()
                except BlockingIOError:
                    pass
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as exc:
                    writing = isinstance(exc, ssl.SSLWantWriteError)
            sock = [self._sock]
            reading, sending = ([], sock) if writing else (sock, [])
            # Windows reports a connection that failed as an exceptional condition.
            select.select(reading, sending, sock, min(patience(), LONGEST_WAIT))
            at_once = True
