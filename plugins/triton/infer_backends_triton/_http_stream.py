"""The bytes of one connection, sent and received before a deadline."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import sys
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any

from infer_backends.plugin import Deadline
from infer_backends_triton._waiting import Waiting

Buffer = bytes | bytearray | memoryview

_PIECE = 64 * 1024
# A TLS record holds 16 KiB; more than some of them at once gains nothing.
_TLS_PIECE = 256 * 1024
# Far below what any system allows in one call (IOV_MAX).
_MAX_VIEWS = 64
# Servers write in small pieces (Triton: 16 KiB), and waking up for each of them costs more than
# copying it. What does not come so fast, or is more than the system holds, is taken as it comes.
_LOW_WATER = 256 * 1024
_PATIENCE = 0.1
# The connection knows what to say of a deadline.
_WAITING = "the answer"


class Stream:
    """A connected socket with deadlines; one caller at a time.

    Every method raises DeadlineExceeded when the deadline passes, and OSError for what else ends
    a connection.

    Args:
        sock: The socket, which belongs to the stream from now on.
        waiting: How to wait.

    Attributes:
        tls: Whether the bytes are encrypted.
    """

    __slots__ = ("_gathers", "_low_water", "_poller", "_ready", "_sock", "_take_some", "tls")

    def __init__(self, sock: socket.socket, waiting: Waiting) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._ready = waiting.on(sock)
        self.tls = isinstance(sock, ssl.SSLSocket)
        self._gathers = not self.tls and hasattr(sock, "sendmsg")
        self._low_water = 1
        self._take_some = partial(sock.recv, _PIECE)
        self._poller = None
        if hasattr(select, "poll"):
            self._poller = select.poll()
            self._poller.register(sock, select.POLLIN)

    # These two give the coroutine that waits: one of their own would be one more for every wait.

    def send(
        self, pieces: Sequence[Buffer], deadline: Deadline
    ) -> Coroutine[Any, Any, None] | None:
        """Send all of these, in order; views are of bytes, and none is empty.

        Returns:
            What has to be awaited; None where the system has taken all of it, as it does what is
            small.
        """
        sending: _Gathering | _Sending
        if self._gathers:
            try:
                sent = self._sock.sendmsg(pieces[:_MAX_VIEWS])
            except BlockingIOError:
                sent = 0
            if sent == sum(map(len, pieces)):
                return None
            sending = _Gathering(self._sock, pieces, sent)
        else:
            sending = _Sending(self._sock, pieces)
        return self._ready.until(sending, partial(deadline.patience, _WAITING), writing=True)

    def receive(self, deadline: Deadline) -> Coroutine[Any, Any, bytes]:
        """Some of what has arrived; empty at the end of the connection."""
        # What TLS has decrypted already shows at no socket.
        return self._ready.until(
            self._take_some, partial(deadline.patience, _WAITING), at_once=self.tls
        )

    async def receive_into(self, view: memoryview, deadline: Deadline) -> int:
        """Fill ``view``; how many bytes came, which are fewer only at the end of the connection."""
        filling = _Filling(self, view, deadline)
        got = await self._ready.until(filling, filling.patience, at_once=self.tls)
        self.wake_at(1)
        return got

    def is_quiet(self) -> bool:
        """Whether the other side neither said something nor closed the connection."""
        if self._poller is not None:
            # A look that finds nothing raises nothing, and so takes a third of the time.
            return not self._poller.poll(0)
        try:
            # A TLS socket refuses flags; it is the TCP connection below that matters here.
            socket.socket.recv(self._sock, 1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def interrupt(self) -> None:
        """Make the one who waits on this connection fail at once."""
        # It may be closed already. Not the TLS socket's own shutdown: that goes on in the clear.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket. May be called more than once."""
        self._sock.close()

    def take_into(self, view: memoryview) -> int:
        """Take what has arrived."""
        return self._sock.recv_into(view)

    def wake_at(self, size: int) -> bool:
        """Be woken up for so many bytes, or the end; False where the system can't, for any."""
        if size != self._low_water and sys.platform == "linux" and not self.tls:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
                self._low_water = size
        return size == self._low_water


class _Gathering:
    """Sends many pieces at once."""

    __slots__ = ("_sock", "_views")

    def __init__(self, sock: socket.socket, pieces: Sequence[Buffer], sent: int) -> None:
        self._sock = sock
        self._views = list(pieces)
        self._leave_out(sent)

    def __call__(self) -> None:
        self._leave_out(self._sock.sendmsg(self._views[:_MAX_VIEWS]))
        if self._views:
            raise BlockingIOError

    def _leave_out(self, sent: int) -> None:
        views = self._views
        while views and sent >= len(views[0]):
            sent -= len(views.pop(0))
        if sent:
            views[0] = memoryview(views[0])[sent:]


class _Sending:
    """Sends one piece after the other, as TLS does."""

    __slots__ = ("_sock", "_views")

    def __init__(self, sock: socket.socket, pieces: Sequence[Buffer]) -> None:
        self._sock = sock
        self._views = [memoryview(piece) for piece in pieces]

    def __call__(self) -> None:
        while self._views:
            # TLS goes on with a piece that is tried again the same.
            rest = self._views[0][self._sock.send(self._views[0][:_TLS_PIECE]) :]
            if rest:
                self._views[0] = rest
            else:
                del self._views[0]


class _Filling:
    """Receives into a view until it is full, with few wake-ups if much is to come."""

    __slots__ = ("_deadline", "_low_water", "_start", "_stream", "_view")

    def __init__(self, stream: Stream, view: memoryview, deadline: Deadline) -> None:
        self._stream = stream
        self._view = view
        self._deadline = deadline
        self._start = 0
        self._low_water = _LOW_WATER if len(view) > _PIECE else 1
        self._expect()

    def __call__(self) -> int:
        while True:
            expected = self._expect()
            try:
                got = self._stream.take_into(self._view[self._start :])
            except BlockingIOError:
                self._low_water = 1
                self._expect()
                raise
            self._start += got
            if not got or self._start == len(self._view):
                return self._start
            if self._stream.tls:
                # There may be more that no socket shows.
                continue
            if got < expected:
                self._low_water = 1
            self._expect()
            raise BlockingIOError

    def patience(self) -> float:
        left = self._deadline.patience(_WAITING)
        return left if self._low_water == 1 else min(left, _PATIENCE)

    def _expect(self) -> int:
        """Have the system wait for so many bytes."""
        size = min(len(self._view) - self._start, self._low_water)
        return size if self._stream.wake_at(size) else 1
