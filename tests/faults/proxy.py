"""A TCP proxy on loopback that does to connections what networks and broken servers do.

It knows bytes only, so it serves HTTP and gRPC alike. One thread does all of it.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

HOST = "127.0.0.1"
Direction = Literal["request", "response"]

_PIECE = 64 * 1024
_ENOUGH = 1024 * 1024  # bytes waiting to be sent, beyond which no more are taken in
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Fault:
    """What happens to the bytes of one direction.

    Attributes:
        direction: ``request``: what the client sends; ``response``: what it receives.
        then: What happens after the bytes that pass: ``hang`` (the rest is swallowed, the
            connection stays), ``close`` (it ends, as when a program exits), ``reset`` (it is
            torn down); None: nothing.
        after: How many bytes pass first, counted on each connection from when the fault is set.
        instead: What the other side receives in place of the rest, before that happens.
        pause: Seconds between one byte and the next.
        edit: Changes each piece as it is received.
    """

    direction: Direction
    then: Literal["hang", "close", "reset"] | None = None
    after: int = 0
    instead: bytes = b""
    pause: float = 0.0
    edit: Callable[[bytes], bytes] = bytes


@dataclass(eq=False)
class _Pipe:
    """One direction of one connection."""

    direction: Direction
    source: socket.socket
    sink: socket.socket
    waiting: bytearray = field(default_factory=bytearray)
    passed: int = 0
    ended: bool = False
    swallowing: bool = False
    ending: Literal["close", "reset"] | None = None
    not_before: float = 0.0


@dataclass(eq=False)
class _Connection:
    """A client, and the server that it is connected with."""

    client: socket.socket
    server: socket.socket
    pipes: tuple[_Pipe, _Pipe]

    def end(self, how: Literal["close", "reset"]) -> None:
        for sock in (self.client, self.server):
            with contextlib.suppress(OSError):
                if how == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                else:
                    # Closed with bytes unread, it would be a reset.
                    sock.shutdown(socket.SHUT_WR)
                    while sock.recv(_PIECE):
                        pass
            sock.close()


class FaultProxy:
    """Forwards connections to a port of this machine, until a fault is set.

    Args:
        target: The port of the server.

    Attributes:
        port: Where it listens, on 127.0.0.1; the same from beginning to end.
        accepted: How many connections were accepted.
    """

    def __init__(self, target: int) -> None:
        self.accepted = 0
        self._target = target
        self._fault: Fault | None = None
        self._still = False
        self._closed = False
        self._connections: list[_Connection] = []
        self._fillers: list[socket.socket] = []
        self._lock = threading.Lock()
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._wake, False)
        self._listener: socket.socket | None = self._bind(0)
        self.port: int = self._listener.getsockname()[1]
        self._listener.listen(128)
        # Holds the port while nothing listens.
        self._holder = self._bind(self.port)
        self._thread = threading.Thread(target=self._run, name="fault proxy", daemon=True)
        self._thread.start()

    @property
    def open(self) -> int:
        """How many connections clients hold open."""
        with self._lock:
            return sum(not connection.pipes[0].ended for connection in self._connections)

    @property
    def serving(self) -> bool:
        """Whether it looks at its connections at all; not as a host that vanished."""
        return not self._still

    def set(self, fault: Fault | None) -> None:
        """From now on this happens, on connections that are open and on new ones."""
        with self._changing():
            self._fault = fault
            for connection in self._connections:
                for pipe in connection.pipes:
                    pipe.passed = 0

    def drop(self, how: Literal["close", "reset"] = "reset") -> None:
        """End the connections that are open; new ones are accepted."""
        with self._changing():
            self._end_all(how)

    def refuse(self) -> None:
        """End the connections, and close the port."""
        with self._changing():
            self._end_all("reset")
            if self._listener is not None:
                # Without it, the port stays open for as long as the thread waits on it.
                self._listener.shutdown(socket.SHUT_RDWR)
                self._listener.close()
            self._listener = None

    def vanish(self) -> None:
        """Be as a host without power: what is sent is lost, and no SYN is answered."""
        with self._changing():
            self._still = True
            assert self._listener is not None
            # A queue of connections that is full: the system drops what comes on top.
            self._listener.listen(0)
            for _ in range(3):
                filler = socket.socket()
                filler.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    filler.connect((HOST, self.port))
                self._fillers.append(filler)

    def restore(self) -> None:
        """Be a good proxy again; connections on which bytes were lost are ended."""
        with self._changing():
            if self._still or any(
                pipe.swallowing for connection in self._connections for pipe in connection.pipes
            ):
                self._end_all("reset")
            self._fault, self._still = None, False
            for filler in self._fillers:
                filler.close()
            self._fillers.clear()
            if self._listener is None:
                self._listener = self._bind(self.port)
            self._listener.listen(128)

    def close(self) -> None:
        """End everything."""
        with self._changing():
            self._closed = True
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._end_all("reset")
        for sock in (self._listener, self._holder, *self._fillers):
            if sock is not None:
                sock.close()
        os.close(self._wake)
        os.close(self._waker)

    def _bind(self, port: int) -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((HOST, port))
        sock.setblocking(False)
        return sock

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Change what the thread looks at, and have it look again."""
        with self._lock:
            yield
            os.write(self._waker, b"!")

    def _end_all(self, how: Literal["close", "reset"]) -> None:
        while self._connections:
            self._connections.pop().end(how)

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._closed:
                    return
                poll, timeout = self._interest()
            events = dict(poll.poll(timeout))
            with self._lock:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake, 4096)
                if not self._still:
                    self._serve(events)

    def _interest(self) -> tuple[select.poll, float | None]:
        """What to wait for, and for how many milliseconds."""
        masks: dict[int, int] = {self._wake: select.POLLIN}
        timeout: float | None = None
        now = time.monotonic()
        if not self._still:
            if self._listener is not None:
                masks[self._listener.fileno()] = select.POLLIN
            for connection in self._connections:
                for pipe in connection.pipes:
                    source, sink = pipe.source.fileno(), pipe.sink.fileno()
                    if not pipe.ended and len(pipe.waiting) < _ENOUGH:
                        masks[source] = masks.get(source, 0) | select.POLLIN
                    if pipe.waiting and pipe.not_before > now:
                        wait = (pipe.not_before - now) * 1000 + 1
                        timeout = wait if timeout is None else min(timeout, wait)
                    elif pipe.waiting:
                        masks[sink] = masks.get(sink, 0) | select.POLLOUT
        poll = select.poll()
        for descriptor, mask in masks.items():
            poll.register(descriptor, mask)
        return poll, timeout

    def _serve(self, events: dict[int, int]) -> None:
        if self._listener is not None and events.get(self._listener.fileno(), 0):
            self._accept(self._listener)
        for connection in list(self._connections):
            try:
                for pipe in connection.pipes:
                    if events.get(pipe.source.fileno(), 0) and not pipe.ended:
                        self._take_in(pipe)
                    self._give_out(pipe)
            except OSError:
                self._end(connection, "reset")
                continue
            endings = [pipe.ending for pipe in connection.pipes if pipe.ending]
            if endings and not any(pipe.waiting for pipe in connection.pipes if pipe.ending):
                self._end(connection, endings[0])
            elif all(pipe.ended and not pipe.waiting for pipe in connection.pipes):
                self._end(connection, "close")

    def _end(self, connection: _Connection, how: Literal["close", "reset"]) -> None:
        self._connections.remove(connection)
        connection.end(how)

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        self.accepted += 1
        try:
            server = socket.create_connection((HOST, self._target), timeout=10)
        except OSError:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            client.close()
            return
        for sock in (client, server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pipes = _Pipe("request", client, server), _Pipe("response", server, client)
        self._connections.append(_Connection(client, server, pipes))

    def _take_in(self, pipe: _Pipe) -> None:
        try:
            piece = pipe.source.recv(_PIECE)
        except BlockingIOError:
            return
        if not piece:
            pipe.ended = True
            if not pipe.waiting:
                pipe.sink.shutdown(socket.SHUT_WR)
            return
        fault = self._fault
        if pipe.swallowing or pipe.ending:
            return
        if fault is None or fault.direction != pipe.direction:
            pipe.waiting += piece
            return
        piece = fault.edit(piece)
        if fault.then is not None:
            left = fault.after - pipe.passed
            if len(piece) > left:
                piece = piece[:left] + fault.instead
                pipe.swallowing = fault.then == "hang"
                pipe.ending = None if fault.then == "hang" else fault.then
        pipe.passed += len(piece)
        pipe.waiting += piece

    def _give_out(self, pipe: _Pipe) -> None:
        now = time.monotonic()
        if not pipe.waiting or pipe.not_before > now:
            return
        fault = self._fault
        slow = fault is not None and fault.direction == pipe.direction and fault.pause > 0
        with contextlib.suppress(BlockingIOError):
            sent = pipe.sink.send(pipe.waiting[:1] if slow else pipe.waiting)
            del pipe.waiting[:sent]
            if slow and fault is not None:
                pipe.not_before = now + fault.pause
        if pipe.ended and not pipe.waiting:
            pipe.sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def fault_proxy(target: int) -> Iterator[FaultProxy]:
    """A proxy in front of a port, closed at the end."""
    proxy = FaultProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
