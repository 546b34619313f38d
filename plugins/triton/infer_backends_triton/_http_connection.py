"""One connection to a server: send a request, receive its answer, all before a deadline."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infer_backends.plugin import (
    Deadline,
    DeadlineExceeded,
    InferError,
    ProtocolError,
    TLSError,
    Unavailable,
)
from infer_backends_triton._http_dial import is_end_of_tls, tls_reason
from infer_backends_triton._http_wire import (
    ChunkedBody,
    ResponseHead,
    TooLarge,
    find_head_end,
    parse_head,
    too_large,
)

Buffer = bytes | bytearray | memoryview

_PIECE = 256 * 1024
# Far below what any system allows in one call (IOV_MAX).
_MAX_VIEWS = 64
_MAX_INTERIM_ANSWERS = 8
# A refusal's body is only shown, and is cut there anyway.
_MAX_ERROR_BODY = 64 * 1024


@dataclass(slots=True)
class HTTPResponse:
    """A complete answer: its head, and its body."""

    head: ResponseHead
    body: memoryview


class Connection:
    """A connected socket that carries one request after another.

    Not safe for threads: one caller at a time has it. After any error it must be closed.

    Attributes:
        reusable: Whether another request may be sent on it.
        answering: Whether a part of the answer to the latest request has arrived.
        idle_since: When it last became idle, on the monotonic clock.
        idle_timeout: How long it may be idle before the server closes it, in seconds, where the
            server says so.
    """

    __slots__ = (
        "_received",
        "_sock",
        "_url",
        "answering",
        "idle_since",
        "idle_timeout",
        "request_sent",
        "reusable",
    )

    def __init__(self, sock: socket.socket, url: str) -> None:
        self._sock = sock
        self._url = url
        self._received = bytearray()
        self.reusable = True
        self.answering = False
        self.request_sent = False
        self.idle_since = time.monotonic()
        self.idle_timeout: int | None = None

    def exchange(
        self, request: Sequence[Buffer], deadline: Deadline, max_body: int
    ) -> HTTPResponse:
        """Send one request and receive its answer.

        Args:
            request: The pieces of head and body, in order; none of them empty.
            deadline: By when the answer has to be here.
            max_body: The largest body taken, in bytes.

        Raises:
            Unavailable: The connection was reset, or closed before the answer was complete.
            DeadlineExceeded: The deadline passed.
            TLSError: TLS broke down.
            ProtocolError: The answer is not HTTP, contradicts itself, or is too large.
        """
        self.reusable = self.answering = self.request_sent = False
        try:
            try:
                self._send(request, deadline)
                self.request_sent = True
            except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                # A server that refuses a large request answers first, and closes then; one that
                # misses a client certificate says so only now.
                if not self._receive_more(deadline):
                    raise
            return self._receive(deadline, max_body)
        except ProtocolError as exc:
            raise ProtocolError(f"{self._url}: {exc}") from exc
        except OSError as exc:
            if isinstance(exc, InferError):
                raise
            raise self._error(exc, deadline) from exc

    def is_stale(self) -> bool:
        """Whether the server closed this idle connection, or said something unasked."""
        try:
            self._sock.settimeout(0)
            # A TLS socket refuses flags; it is the TCP connection below that matters here.
            socket.socket.recv(self._sock, 1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def interrupt(self) -> None:
        """Make the thread that waits on this connection fail at once."""
        # It may be closed already. Not the TLS socket's own shutdown: that goes on in the clear.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket. May be called more than once."""
        self.reusable = False
        self._sock.close()

    def _send(self, request: Sequence[Buffer], deadline: Deadline) -> None:
        views = [memoryview(piece).cast("B") for piece in request]
        # A TLS socket has no sendmsg: each record is made from one buffer.
        gather = not isinstance(self._sock, ssl.SSLSocket) and hasattr(self._sock, "sendmsg")
        while views:
            self._sock.settimeout(deadline.require(f"the request to {self._url} was sent"))
            if gather:
                sent = self._sock.sendmsg(views[:_MAX_VIEWS])
            else:
                sent = self._sock.send(views[0][:_PIECE])
            while views and sent >= len(views[0]):
                sent -= len(views.pop(0))
            if sent:
                views[0] = views[0][sent:]

    def _receive(self, deadline: Deadline, max_body: int) -> HTTPResponse:
        for _ in range(_MAX_INTERIM_ANSWERS):
            head = self._receive_head(deadline)
            if head.status >= 200:
                break
            if head.status == 101:
                raise ProtocolError("the answer is 101, a change of protocol")
        else:
            raise ProtocolError("there are interim answers without end")
        self.idle_timeout = head.idle_timeout
        if head.status == 200:
            return HTTPResponse(head, self._receive_body(head, deadline, max_body))
        try:
            return HTTPResponse(head, self._receive_body(head, deadline, _MAX_ERROR_BODY))
        except (ProtocolError, Unavailable, ConnectionError):
            # The status says what happened, with or without the explanation.
            self.reusable = False
            return HTTPResponse(head, memoryview(b""))

    def _receive_head(self, deadline: Deadline) -> ResponseHead:
        while (end := find_head_end(self._received)) < 0:
            if self._receive_more(deadline):
                continue
            if self._received and not self._received.startswith(b"HTTP/"[: len(self._received)]):
                raise ProtocolError("the answer is not HTTP")
            if self._received:
                raise self._cut_short("head")
            raise Unavailable(f"{self._url} closed the connection without an answer")
        head = parse_head(bytes(self._received[:end]))
        del self._received[:end]
        return head

    def _receive_body(self, head: ResponseHead, deadline: Deadline, max_body: int) -> memoryview:
        surplus = False
        if head.chunked:
            chunks = ChunkedBody(max_body)
            chunks.feed(self._take_received())
            while not chunks.complete:
                if not self._receive_more(deadline):
                    raise self._cut_short("body")
                chunks.feed(self._take_received())
            body, surplus = memoryview(chunks.body), chunks.surplus
        elif head.length is not None:
            body = self._receive_exactly(head.length, deadline, max_body)
            surplus = bool(self._received)
        else:
            while len(self._received) <= max_body and self._receive_more(deadline):
                pass
            if len(self._received) > max_body:
                raise TooLarge(too_large(max_body))
            body = memoryview(self._take_received())
        # What was not asked for must not become the next answer; and some servers (uvicorn) close
        # the connection after an error of their own, without announcing it.
        self.reusable = head.keep_alive and not surplus and self.request_sent and head.status < 500
        return body

    def _receive_exactly(self, length: int, deadline: Deadline, max_body: int) -> memoryview:
        if length > max_body:
            raise TooLarge(too_large(max_body))
        try:
            # Unlike bytearray, this takes no memory before something arrives.
            body = np.empty(length, np.uint8).data
        except MemoryError as exc:
            raise TooLarge(f"there is no memory for an answer of {length} bytes") from exc
        start = min(length, len(self._received))
        body[:start] = self._received[:start]
        del self._received[:start]
        while start < length:
            self._sock.settimeout(self._time_left(deadline))
            got = self._sock.recv_into(body[start:])
            if not got:
                raise self._cut_short("body")
            start += got
        return body

    def _receive_more(self, deadline: Deadline) -> bool:
        """Take in what has arrived; False at the end of the connection."""
        self._sock.settimeout(self._time_left(deadline))
        piece = self._sock.recv(_PIECE)
        self.answering = self.answering or bool(piece)
        self._received += piece
        return bool(piece)

    def _take_received(self) -> bytearray:
        received, self._received = self._received, bytearray()
        return received

    def _time_left(self, deadline: Deadline) -> float:
        left = deadline.remaining()
        if left <= 0:
            raise self._too_late()
        return left

    def _cut_short(self, part: str) -> Unavailable:
        # The system closes the connections of a killed server politely: this is no lie about
        # lengths, but a server that went away.
        return Unavailable(f"{self._url} closed the connection in the middle of the {part} it sent")

    def _too_late(self) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"{self._url} did not answer before the deadline: give a larger timeout, or look "
            "whether the server hangs"
        )

    def _error(self, exc: OSError, deadline: Deadline) -> InferError:
        if isinstance(exc, TimeoutError):
            return self._too_late()
        if isinstance(exc, ssl.SSLError) and not is_end_of_tls(exc):
            return TLSError(f"TLS with {self._url} broke down: {tls_reason(exc)}")
        if deadline.expired:
            return self._too_late()
        when = "in the middle of its answer" if self.answering else "before an answer"
        return Unavailable(f"the connection to {self._url} was reset {when}")
