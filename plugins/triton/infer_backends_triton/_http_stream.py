"""The bytes of one connection, sent and received before a deadline."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from infer_backends.plugin import Deadline, DeadlineExceeded

Argument = TypeVar("Argument")
Result = TypeVar("Result")

Buffer = bytes | bytearray | memoryview

_PIECE = 64 * 1024
# A TLS record holds 16 KiB; more than some of them at once gains nothing.
_TLS_PIECE = 256 * 1024
# Far below what any system allows in one call (IOV_MAX).
_MAX_VIEWS = 64
# In seconds; poll's own limit is 24 days.
_LONGEST_WAIT = 3600.0
# Servers write in small pieces (Triton: 16 KiB), and waking up for each of them costs more than
# copying it. What does not come so fast, or is more than the system holds, is taken as it comes.
_LOW_WATER = 256 * 1024
_PATIENCE = 0.1


class Stream(Protocol):
    """A connected socket with deadlines; one caller at a time.

    Every method raises TimeoutError when the deadline passes, and OSError for what else ends a
    connection.
    """

    def send(self, pieces: Sequence[Buffer], deadline: Deadline) -> None:
        """Send all of these, in order; views are of bytes, and none is empty."""
        ...

    def receive(self, deadline: Deadline) -> bytes:
        """Some of what has arrived; empty at the end of the connection."""
        ...

    def receive_into(self, view: memoryview, deadline: Deadline) -> int:
        """Fill ``view``; how many bytes came, which are fewer only at the end of the connection."""
        ...

    def is_quiet(self) -> bool:
        """Whether the other side neither said something nor closed the connection."""
        ...

    def interrupt(self) -> None:
        """Make the thread that waits on this connection fail at once."""
        ...

    def close(self) -> None:
        """Close the socket. May be called more than once."""
        ...


def make_stream(sock: socket.socket) -> Stream:
    """The stream of a connected socket, which it owns from now on."""
    if isinstance(sock, ssl.SSLSocket) or not hasattr(select, "poll"):
        return _TimedStream(sock)
    return _PolledStream(sock)


class _PolledStream:
    """TCP, never blocking but in ``poll``: no system call only to set a timeout."""

    __slots__ = ("_low_water", "_readable", "_sock", "_writable")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._readable = select.poll()
        self._readable.register(sock, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(sock, select.POLLOUT)
        self._low_water = 1

    def send(self, pieces: Sequence[Buffer], deadline: Deadline) -> None:
        views = list(pieces)
        if deadline.expired:
            raise TimeoutError
        while True:
            try:
                # After a wait that was too short there is no room yet, which does no harm.
                sent = self._sock.sendmsg(views[:_MAX_VIEWS])
            except BlockingIOError:
                sent = 0
            while views and sent >= len(views[0]):
                sent -= len(views.pop(0))
            if not views:
                return
            if sent:
                views[0] = memoryview(views[0])[sent:]
            _wait(self._writable, deadline, _LONGEST_WAIT)

    def receive(self, deadline: Deadline) -> bytes:
        while True:
            if not _wait(self._readable, deadline, _LONGEST_WAIT):
                continue
            try:
                return self._sock.recv(_PIECE)
            except BlockingIOError:
                continue

    def receive_into(self, view: memoryview, deadline: Deadline) -> int:
        start, size = 0, len(view)
        low_water, longest = (_LOW_WATER, _PATIENCE) if size > _PIECE else (1, _LONGEST_WAIT)
        while start < size:
            self._wake_at(min(size - start, low_water))
            if not _wait(self._readable, deadline, longest):
                low_water, longest = 1, _LONGEST_WAIT
                continue
            try:
                got = self._sock.recv_into(view[start:])
            except BlockingIOError:
                continue
            if not got:
                break
            start += got
        self._wake_at(1)
        return start

    def is_quiet(self) -> bool:
        return not self._readable.poll(0)

    def interrupt(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._sock.close()

    def _wake_at(self, size: int) -> None:
        """Have ``poll`` wait for so many bytes, or the end; where the system can't, for any."""
        if size != self._low_water and sys.platform == "linux":
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
                self._low_water = size


class _TimedStream:
    """TLS, and systems without ``poll``: the socket's own timeouts."""

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, pieces: Sequence[Buffer], deadline: Deadline) -> None:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[self._until(deadline, self._sock.send, view[:_TLS_PIECE]) :]

    def receive(self, deadline: Deadline) -> bytes:
        return self._until(deadline, self._sock.recv, _PIECE)

    def receive_into(self, view: memoryview, deadline: Deadline) -> int:
        start, size = 0, len(view)
        while start < size:
            got = self._until(deadline, self._sock.recv_into, view[start:])
            if not got:
                break
            start += got
        return start

    def is_quiet(self) -> bool:
        try:
            self._sock.settimeout(0)
            # A TLS socket refuses flags; it is the TCP connection below that matters here.
            socket.socket.recv(self._sock, 1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def interrupt(self) -> None:
        # It may be closed already. Not the TLS socket's own shutdown: that goes on in the clear.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        self._sock.close()

    def _until(
        self, deadline: Deadline, operation: Callable[[Argument], Result], argument: Argument
    ) -> Result:
        """What an operation returns; TLS goes on with one that is tried again the same."""
        while True:
            self._sock.settimeout(_time_left(deadline))
            try:
                return operation(argument)
            except TimeoutError as exc:
                if exc.errno is not None:  # The system gave up.
                    raise


def _wait(poller: select.poll, deadline: Deadline, longest: float) -> bool:
    """Wait for the socket, for ``longest`` seconds at most; whether it is ready."""
    return bool(poller.poll(1000 * min(_time_left(deadline), longest)))


def _time_left(deadline: Deadline) -> float:
    """How long to wait now, in seconds: until the deadline, or an alarm."""
    try:
        return deadline.patience("the answer")
    except DeadlineExceeded:
        # The connection knows what to say of it.
        raise TimeoutError from None
