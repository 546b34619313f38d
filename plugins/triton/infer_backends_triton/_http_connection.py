"""One connection to a server: send a request, receive its answer, all before a deadline."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

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
from infer_backends_triton._http_stream import Buffer, Stream
from infer_backends_triton._http_wire import (
    ChunkedBody,
    ResponseHead,
    TooLarge,
    find_head_end,
    parse_head,
    too_large,
)
from infer_backends_triton._waiting import Waiting

_MAX_INTERIM_ANSWERS = 8
# A refusal's body is only shown, and is cut there anyway.
_MAX_ERROR_BODY = 64 * 1024
_NOTHING = memoryview(b"")


@dataclass(slots=True)
class HTTPResponse:
    """A complete answer.

    Attributes:
        head: Its head.
        body: Its body; nothing where it was received to somewhere else.
        landed: Whether it was received to where a :class:`Landing` said.
    """

    head: ResponseHead
    body: memoryview
    landed: bool = False


class Landing(Protocol):
    """Says where the body of an answer goes, so that it need not be held and copied."""

    def prefix_length(self, head: ResponseHead) -> int | None:
        """How many bytes of the body say where the rest goes; None to have the body whole.

        Args:
            head: The head of an answer that is 200; its ``length`` is that of the body.
        """
        ...

    def place(self, prefix: bytes, length: int) -> Sequence[memoryview]:
        """Where the rest goes: views of bytes, ``length`` long together, none of them empty."""
        ...

    def recall(self, answer: bytes) -> ResponseHead | None:
        """Take a whole answer in at once, if it begins as an earlier one did; None otherwise.

        Args:
            answer: What was received first: head and body, or only a part of them.

        Returns:
            The head of that earlier answer, which is this one's.
        """
        ...

    def remember(self, answer: bytes, head: ResponseHead) -> None:
        """Take note of how an answer begins that was received to where it goes.

        Args:
            answer: What was received first, as for :meth:`recall`.
            head: Its head.
        """
        ...


class Connection:
    """A connected socket that carries one request after another.

    Not safe for threads: one caller at a time has it. After any error it must be closed.

    Attributes:
        is_quiet: Asks whether the server has neither closed it nor said something unasked.
        reusable: Whether another request may be sent on it.
        answering: Whether a part of the answer to the latest request has arrived.
        idle_since: When it last became idle, on the monotonic clock.
        idle_timeout: How long it may be idle before the server closes it, in seconds, where the
            server says so.
    """

    __slots__ = (
        "_received",
        "_stream",
        "_url",
        "answering",
        "idle_since",
        "idle_timeout",
        "is_quiet",
        "request_sent",
        "reusable",
    )

    def __init__(self, sock: socket.socket, url: str, waiting: Waiting) -> None:
        self._stream = Stream(sock, waiting)
        self.is_quiet = self._stream.is_quiet
        self._url = url
        self._received = bytearray()
        self.reusable = True
        self.answering = False
        self.request_sent = False
        self.idle_since = time.monotonic()
        self.idle_timeout: int | None = None

    async def exchange(
        self,
        request: Sequence[Buffer],
        deadline: Deadline,
        max_body: int,
        landing: Landing | None = None,
    ) -> HTTPResponse:
        """Send one request and receive its answer.

        Args:
            request: The pieces of head and body, in order: bytes, none of them empty.
            deadline: By when the answer has to be here.
            max_body: The largest body taken, in bytes.
            landing: Where the body goes; None to have it whole.

        Raises:
            Unavailable: The connection was reset, or closed before the answer was complete.
            DeadlineExceeded: The deadline passed.
            TLSError: TLS broke down.
            ProtocolError: The answer is not HTTP, contradicts itself, or is too large.
        """
        self.reusable = self.answering = self.request_sent = False
        try:
            try:
                sending = self._stream.send(request, deadline)
                if sending is not None:
                    await sending
                self.request_sent = True
            except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                # A server that refuses a large request answers first, and closes then; one that
                # misses a client certificate says so only now.
                if not await self._receive_more(deadline):
                    raise
                return await self._receive(deadline, max_body, landing)
            piece = await self._stream.receive(deadline)
            head = None if landing is None else landing.recall(piece)
            if head is not None:
                # All that a small answer takes that is like the one before it.
                self._finish(head)
                return HTTPResponse(head, _NOTHING, landed=True)
            if not self._take_in(piece):
                raise self._no_head()
            response = await self._receive(deadline, max_body, landing)
            if landing is not None and response.landed:
                landing.remember(piece, response.head)
            return response
        except (ProtocolError, OSError) as exc:
            error = self._error(exc, deadline)
            if error is exc:
                raise
            raise error from exc

    def interrupt(self) -> None:
        """Make the one who waits on this connection fail at once."""
        self._stream.interrupt()

    def close(self) -> None:
        """Close the socket. May be called more than once."""
        self.reusable = False
        self._stream.close()

    async def _receive(
        self, deadline: Deadline, max_body: int, landing: Landing | None
    ) -> HTTPResponse:
        for _ in range(_MAX_INTERIM_ANSWERS):
            while (end := find_head_end(self._received)) < 0:
                if not self._take_in(await self._stream.receive(deadline)):
                    raise self._no_head()
            head = parse_head(self._take_received(end))
            if head.status >= 200:
                break
            if head.status == 101:
                raise ProtocolError("the answer is 101, a change of protocol")
        else:
            raise ProtocolError("there are interim answers without end")
        if head.status == 200:
            if landing is not None and await self._land(landing, head, deadline, max_body):
                return HTTPResponse(head, _NOTHING, landed=True)
            return HTTPResponse(head, await self._receive_body(head, deadline, max_body))
        try:
            return HTTPResponse(head, await self._receive_body(head, deadline, _MAX_ERROR_BODY))
        except (ProtocolError, Unavailable, ConnectionError):
            # The status says what happened, with or without the explanation.
            self.reusable = False
            return HTTPResponse(head, memoryview(b""))

    def _no_head(self) -> InferError:
        """Why there is no head of an answer at the end of the connection."""
        if not self._received:
            return Unavailable(f"{self._url} closed the connection without an answer")
        if self._received.startswith(b"HTTP/"[: len(self._received)]):
            return self._cut_short("head")
        return ProtocolError("the answer is not HTTP")

    async def _land(
        self, landing: Landing, head: ResponseHead, deadline: Deadline, max_body: int
    ) -> bool:
        """Receive the body to where it goes, if that can be said; False with nothing done."""
        if head.chunked or head.length is None or head.coding:
            return False
        prefix_length = landing.prefix_length(head)
        if prefix_length is None:
            return False
        if head.length > max_body:
            raise TooLarge(too_large(max_body))
        if len(self._received) >= prefix_length:
            prefix = self._take_received(prefix_length)
        else:
            prefix = bytes(await self._receive_exactly(prefix_length, deadline, max_body))
        for view in landing.place(prefix, head.length - prefix_length):
            rest = self._fill_from_received(view)
            if rest:
                await self._fill(rest, deadline)
        self._finish(head)
        return True

    async def _receive_body(
        self, head: ResponseHead, deadline: Deadline, max_body: int
    ) -> memoryview:
        surplus = False
        if head.chunked:
            chunks = ChunkedBody(max_body)
            chunks.feed(self._take_received())
            while not chunks.complete:
                if not await self._receive_more(deadline):
                    raise self._cut_short("body")
                chunks.feed(self._take_received())
            body, surplus = memoryview(chunks.body), chunks.surplus
        elif head.length is not None:
            body = await self._receive_exactly(head.length, deadline, max_body)
        else:
            while len(self._received) <= max_body and await self._receive_more(deadline):
                pass
            if len(self._received) > max_body:
                raise TooLarge(too_large(max_body))
            body, self._received = memoryview(self._received), bytearray()
        self._finish(head, surplus=surplus)
        return body

    def _finish(self, head: ResponseHead, *, surplus: bool = False) -> None:
        """After the answer: whether another request may be sent."""
        self.idle_timeout = head.idle_timeout
        # What was not asked for must not become the next answer; and some servers (uvicorn) close
        # the connection after an error of their own, without announcing it.
        quiet = not surplus and not self._received
        self.reusable = head.keep_alive and quiet and self.request_sent and head.status < 500

    async def _receive_exactly(self, length: int, deadline: Deadline, max_body: int) -> memoryview:
        if length > max_body:
            raise TooLarge(too_large(max_body))
        try:
            # Unlike bytearray, this takes no memory before something arrives.
            body = np.empty(length, np.uint8).data
        except MemoryError as exc:
            raise TooLarge(f"there is no memory for an answer of {length} bytes") from exc
        rest = self._fill_from_received(body)
        if rest:
            await self._fill(rest, deadline)
        return body

    def _fill_from_received(self, view: memoryview) -> memoryview:
        """Fill ``view`` with what was received already; the rest of it."""
        start = min(len(view), len(self._received))
        if start:
            view[:start] = self._received[:start]
            del self._received[:start]
        return view[start:]

    async def _fill(self, view: memoryview, deadline: Deadline) -> None:
        """Fill ``view`` with what comes."""
        if await self._stream.receive_into(view, deadline) < len(view):
            raise self._cut_short("body")

    async def _receive_more(self, deadline: Deadline) -> bool:
        """Take in what comes; False at the end of the connection."""
        return self._take_in(await self._stream.receive(deadline))

    def _take_in(self, piece: bytes) -> bool:
        """Take in what has arrived; False if that is nothing: the end of the connection."""
        if not piece:
            return False
        self.answering = True
        self._received += piece
        return True

    def _take_received(self, length: int | None = None) -> bytes:
        """The first ``length`` bytes of what was received; None for all of it."""
        taken = bytes(self._received[:length])
        del self._received[:length]
        return taken

    def _cut_short(self, part: str) -> Unavailable:
        # The system closes the connections of a killed server politely: this is no lie about
        # lengths, but a server that went away.
        return Unavailable(f"{self._url} closed the connection in the middle of the {part} it sent")

    def _too_late(self) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"{self._url} did not answer before the deadline: give a larger timeout, or look "
            "whether the server hangs"
        )

    def _error(self, exc: ProtocolError | OSError, deadline: Deadline) -> InferError:
        if isinstance(exc, ProtocolError):
            return ProtocolError(f"{self._url}: {exc}")
        if isinstance(exc, TimeoutError):
            return self._too_late()
        if isinstance(exc, InferError):
            return exc
        if isinstance(exc, ssl.SSLError) and not is_end_of_tls(exc):
            return TLSError(f"TLS with {self._url} broke down: {tls_reason(exc)}")
        if deadline.expired:
            return self._too_late()
        when = "in the middle of its answer" if self.answering else "before an answer"
        return Unavailable(f"the connection to {self._url} was reset {when}")
