"""The connections of one open model: kept alive, shared by threads, made anew after a fork."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Sequence

from infer_backends.plugin import Deadline, InferError, ModelClosed, Unavailable
from infer_backends_triton._http_connection import Connection, HTTPResponse, Landing
from infer_backends_triton._http_dial import dial, make_tls_context
from infer_backends_triton._http_stream import Buffer
from infer_backends_triton._settings import ConnectionSettings

# A load balancer may forget a silent connection without a word; then a request would wait in vain.
_MAX_IDLE_SECONDS = 30.0
_MAX_IDLE_CONNECTIONS = 32
# A request may be under way for so long while the server closes the connection as it announced.
_IDLE_MARGIN = 1.0


class ConnectionPool:
    """Sends requests on connections that it keeps, one call per connection at a time.

    Raises:
        InvalidURL: A TLS file is not what its option says.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self._context = make_tls_context(settings)
        self._closed = False
        self._known = False
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._lock = threading.Lock()
        _pools.add(self)

    def exchange(
        self,
        request: Sequence[Buffer],
        deadline: Deadline,
        max_body: int,
        *,
        repeatable: bool,
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
            InferError: What went wrong; see :meth:`Connection.exchange`.
        """
        sent_before = False
        connection = self._take_idle()
        if connection is not None:
            try:
                return self._exchange(connection, request, deadline, max_body, landing)
            except Unavailable:
                # An incomplete request is not acted on.
                safe = repeatable or not connection.request_sent
                if connection.answering or not safe:
                    raise
                sent_before = True
        try:
            connection = self._connect(deadline)
        except InferError as error:
            # What the server made of the piece that it got is its own affair.
            error.unprocessed = error.unprocessed and not sent_before
            raise
        return self._exchange(connection, request, deadline, max_body, landing)

    def close(self) -> None:
        """Close all connections; calls in flight fail. May be called more than once."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for connection in self._busy:
                # The thread that uses it closes it; another one can't, safely.
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

    def _exchange(
        self,
        connection: Connection,
        request: Sequence[Buffer],
        deadline: Deadline,
        max_body: int,
        landing: Landing | None,
    ) -> HTTPResponse:
        kept = False
        try:
            response = connection.exchange(request, deadline, max_body, landing)
            kept = self._put_back(connection)
            return response
        except InferError as exc:
            if self._closed:
                raise self._closed_error() from exc
            raise
        finally:
            if not kept:
                with self._lock:
                    self._busy.discard(connection)
                connection.close()

    def _take_idle(self) -> Connection | None:
        """A connection that can be used again, the one used last; None if there is none."""
        while True:
            with self._lock:
                if self._closed:
                    raise self._closed_error()
                if not self._idle:
                    return None
                connection = self._idle.pop()
                self._busy.add(connection)
            if not _is_too_old(connection) and not connection.is_stale():
                return connection
            with self._lock:
                self._busy.discard(connection)
            connection.close()

    def _connect(self, deadline: Deadline) -> Connection:
        sock = dial(self._settings, self._context, deadline, known=self._known)
        self._known = True
        connection = Connection(sock, self._settings.url)
        with self._lock:
            if not self._closed:
                self._busy.add(connection)
                return connection
        connection.close()
        raise self._closed_error()

    def _put_back(self, connection: Connection) -> bool:
        """Keep the connection for the next call, if that is possible."""
        connection.idle_since = time.monotonic()
        with self._lock:
            fits = len(self._idle) < _MAX_IDLE_CONNECTIONS
            if self._closed or not connection.reusable or not fits:
                return False
            self._busy.discard(connection)
            self._idle.append(connection)
            return True

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
