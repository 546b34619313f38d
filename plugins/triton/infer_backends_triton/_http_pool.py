"""The connections of one open model: kept alive, made anew after a fork.

Threads share one pool; every event loop has a pool of its own.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
import weakref
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from infer_backends.plugin import Deadline, DeadlineExceeded, InferError, ModelClosed, Unavailable
from infer_backends_triton._http_connection import Connection, HTTPResponse, Landing
from infer_backends_triton._http_dial import dial
from infer_backends_triton._http_stream import Buffer
from infer_backends_triton._settings import ConnectionSettings
from infer_backends_triton._unsent import mark_unsent
from infer_backends_triton._waiting import BLOCKING, Patience, Waiting

# A load balancer may forget a silent connection without a word; then a request would wait in vain.
_MAX_IDLE_SECONDS = 30.0
_MAX_IDLE_CONNECTIONS = 32
# A request may be under way for so long while the server closes the connection as it announced.
_IDLE_MARGIN = 1.0


class Bound(Protocol):
    """Holds calls back while too many are under way."""

    async def take(self, patience: Patience) -> None:
        """Wait for one's turn; what ``patience`` raises is raised."""
        ...

    def give(self) -> None:
        """End one's turn."""
        ...


class ConnectionPool:
    """Sends requests on connections that it keeps, one call per connection at a time.

    Args:
        settings: Whom to connect to.
        context: What TLS needs; None for plain connections.
        waiting: How to wait.
        bound: What holds calls back; None to have a connection for each.
        max_idle: How many connections are kept that no call is using.

    Attributes:
        waiting: As given.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        context: ssl.SSLContext | None,
        waiting: Waiting = BLOCKING,
        *,
        bound: Bound | None = None,
        max_idle: int = _MAX_IDLE_CONNECTIONS,
    ) -> None:
        self.waiting = waiting
        self._settings = settings
        self._asking = f"asking {settings.url}"
        self._context = context
        self._bound = bound
        self._max_idle = max_idle
        self._closed = False
        self._known = False
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._lock = threading.Lock()
        _pools.add(self)

    async def exchange(
        self,
        request: Sequence[Buffer],
        deadline: Deadline,
        max_body: int,
        *,
        repeatable: bool = False,
        landing: Landing | None = None,
    ) -> HTTPResponse:
        """Send one request and receive its answer.

        A connection that the server has closed meanwhile is replaced by a new one, once, if the
        server cannot have acted on the request.

        Args:
            request: The pieces of head and body, in order; none of them empty.
            deadline: By when the answer has to be here.
            max_body: The largest body taken, in bytes.
            repeatable: Whether the request may be sent twice without harm.
            landing: Where the body of an answer that is 200 goes; None to have it whole.

        Raises:
            ModelClosed: The pool was closed before the call, or during it.
            DeadlineExceeded: The deadline passed; also while waiting for a connection.
            InferError: What went wrong; see :meth:`Connection.exchange`.
        """
        bound = self._bound
        if bound is not None:
            await bound.take(partial(self._patience, deadline))
        try:
            connection = self._take_idle(deadline)
            kept = connection is not None
            while True:
                if connection is None:
                    connection, kept = await self._connect(deadline, again=kept), False
                try:
                    response = await connection.exchange(request, deadline, max_body, landing)
                except BaseException as exc:
                    self._drop(connection)
                    if self._closed and isinstance(exc, InferError):
                        raise self._closed_error() from exc
                    # An incomplete request is not acted on.
                    safe = repeatable or not connection.request_sent
                    again = kept and safe and not connection.answering
                    if not again or not isinstance(exc, Unavailable):
                        raise
                    connection = None
                else:
                    self._put_back(connection)
                    return response
        finally:
            if bound is not None:
                bound.give()

    def close(self) -> None:
        """Close all connections; calls in flight fail. May be called more than once."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for connection in self._busy:
                # The one who uses it closes it; another thread can't, safely.
                connection.interrupt()
        for connection in idle:
            connection.close()

    def forget(self) -> None:
        """Drop the connections of the parent process, which goes on using them."""
        # Another thread may have held the lock at the fork; it is not there to release it.
        self._lock = threading.Lock()
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._idle, self._busy = [], set()

    def _take_idle(self, deadline: Deadline) -> Connection | None:
        """A connection that can be used again, the one used last; None if there is none."""
        try:
            deadline.require(self._asking)
            while True:
                with self._lock:
                    if self._closed:
                        raise self._closed_error()
                    if not self._idle:
                        return None
                    connection = self._idle.pop()
                    self._busy.add(connection)
                if not _is_too_old(connection) and connection.is_quiet():
                    return connection
                self._drop(connection)
        except InferError as exc:
            mark_unsent(exc)
            raise

    async def _connect(self, deadline: Deadline, *, again: bool) -> Connection:
        """A new connection; ``again`` after an old one that took a piece of the request."""
        try:
            return await self._dial(deadline)
        except InferError as exc:
            mark_unsent(exc)
            if again:
                # What the server made of that piece is its own affair.
                exc.unprocessed = False
            raise

    async def _dial(self, deadline: Deadline) -> Connection:
        waiting = self.waiting
        sock = await dial(self._settings, self._context, deadline, waiting, known=self._known)
        self._known = True
        connection = Connection(sock, self._settings.url, waiting)
        with self._lock:
            if not self._closed:
                self._busy.add(connection)
                return connection
        connection.close()
        raise self._closed_error()

    def _put_back(self, connection: Connection) -> None:
        """Keep the connection for the next call, if that is possible."""
        connection.idle_since = time.monotonic()
        with self._lock:
            fits = len(self._idle) < self._max_idle
            if fits and connection.reusable and not self._closed:
                self._busy.discard(connection)
                self._idle.append(connection)
                return
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        with self._lock:
            self._busy.discard(connection)
        connection.close()

    def _patience(self, deadline: Deadline) -> float:
        try:
            return deadline.patience("a connection was free")
        except DeadlineExceeded:
            error = DeadlineExceeded(
                f"the deadline passed while others used all connections to {self._settings.url}: "
                "make fewer calls at a time, or give a larger timeout",
                unprocessed=True,
            )
            error.queued_here = True
            raise error from None

    def _closed_error(self) -> ModelClosed:
        return ModelClosed(f"{self._settings.url} was closed: open the model again")


def _is_too_old(connection: Connection) -> bool:
    longest = _MAX_IDLE_SECONDS
    if connection.idle_timeout is not None:
        longest = min(longest, connection.idle_timeout - _IDLE_MARGIN)
    return time.monotonic() - connection.idle_since > longest


_pools: weakref.WeakSet[ConnectionPool] = weakref.WeakSet()


def _forget_all() -> None:
    for pool in tuple(_pools):
        pool.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
