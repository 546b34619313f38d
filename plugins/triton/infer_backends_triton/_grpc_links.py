"""The channel to one gRPC server that threads share, and those before it that calls still use.

A channel is made when a call needs it, and again after a failure that a fresh connection could
mend: so every call makes a real attempt instead of being told of an earlier one, names are resolved
anew, and a peer that vanished without a word does not stay the only one asked.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from infer_backends_triton._grpc_endpoint import SERVICE, Endpoint
from infer_backends_triton._grpc_failures import require_descriptors
from infer_backends_triton._grpc_fork import ForkGate
from infer_backends_triton._grpc_runtime import grpc

# Of the parent, in a child: gRPC's threads are not here, and what takes such a channel or a call
# down would wait for them.
_of_the_parent: list[object] = []


def keep_of_the_parent(foreign: object) -> None:
    """Have a channel or a call of the parent process never taken down here."""
    _of_the_parent.append(foreign)


@dataclass(slots=True, eq=False)
class Link:
    """One channel, and as long a list as there are calls that are using it.

    Threads may change the length of a list without a lock. A call adds itself before it looks
    whether the link is retired, and who retires a link looks for calls after that: so one of the
    two sees the other.
    """

    channel: grpc.Channel
    generation: int
    calls: list[None] = field(default_factory=list)
    retired: bool = False
    methods: dict[str, grpc.UnaryUnaryMultiCallable[bytes, bytes]] = field(default_factory=dict)
    streams: dict[str, grpc.UnaryStreamMultiCallable[bytes, bytes]] = field(default_factory=dict)

    def method(self, name: str) -> grpc.UnaryUnaryMultiCallable[bytes, bytes]:
        found = self.methods.get(name)
        if found is None:
            # Without serializers bytes pass through: messages are made, and read, elsewhere.
            found = self.methods[name] = self.channel.unary_unary(SERVICE + name, None, None)
        return found

    def stream(self, name: str) -> grpc.UnaryStreamMultiCallable[bytes, bytes]:
        found = self.streams.get(name)
        if found is None:
            # On the wire this is no other than one request of a stream in both directions, and
            # its end; but it needs no thread to send it.
            found = self.streams[name] = self.channel.unary_stream(SERVICE + name, None, None)
        return found


class Links:
    """Gives each call a channel.

    Args:
        endpoint: Where they lead.
        gate: What holds calls back while the process forks.

    Attributes:
        closed: Whether there are no more of them.
    """

    def __init__(self, endpoint: Endpoint, gate: ForkGate) -> None:
        self.closed = False
        self._endpoint = endpoint
        self._gate = gate
        self._lock_generation = gate.generation
        # Reentrant: a stream that nobody refers to any more is ended wherever that is found.
        self._lock = threading.RLock()
        self._all: set[Link] = set()
        self._current: Link | None = None

    @property
    def all(self) -> frozenset[Link]:
        """Those that are open."""
        return frozenset(self._all)

    def take(self) -> Link:
        """The channel to use, which :meth:`put_back` wants back.

        Raises:
            ModelClosed: There are no more of them.
        """
        link = self._current
        if link is not None:
            link.calls.append(None)
            if not link.retired and link.generation == self._gate.generation:
                return link
            self.put_back(link)
        return self._take_locked()

    def put_back(self, link: Link) -> None:
        """The end of a call."""
        link.calls.pop()
        if link.retired:
            self._let_go(link)

    def retire(self, link: Link) -> None:
        """Have the next call make a channel; this one is closed when it is unused."""
        with self._current_lock():
            link.retired = True
            if self._current is link:
                self._current = None

    def close(self) -> None:
        """Disconnect, and cancel the calls in flight."""
        with self._current_lock():
            self.closed = True
            links, self._all, self._current = self._all, set(), None
        for link in links:
            self._disconnect(link)

    def _take_locked(self) -> Link:
        with self._current_lock():
            if self.closed:
                raise self._endpoint.failures.of_closing()
            generation = self._gate.generation
            link = self._current
            if link is None or link.generation != generation:
                link = self._current = Link(self._open(), generation)
                foreign = [known for known in self._all if known.generation != generation]
                _of_the_parent.extend(foreign)
                self._all.difference_update(foreign)
                self._all.add(link)
            link.calls.append(None)
        return link

    def _let_go(self, link: Link) -> None:
        """Close a retired channel that no call is using any more."""
        with self._current_lock():
            unused = not link.calls and link in self._all
            if unused:
                self._all.discard(link)
        if unused:
            self._disconnect(link)

    def _current_lock(self) -> threading.RLock:
        if self._lock_generation != self._gate.generation:
            # Another thread may have held the lock when this process was forked.
            self._lock_generation, self._lock = self._gate.generation, threading.RLock()
        return self._lock

    def _open(self) -> grpc.Channel:
        endpoint = self._endpoint
        require_descriptors(endpoint.settings)
        if endpoint.credentials is None:
            channel = grpc.insecure_channel(endpoint.target, endpoint.options)
        else:
            channel = grpc.secure_channel(endpoint.target, endpoint.credentials, endpoint.options)
        self._gate.watch(channel)
        return channel

    def _disconnect(self, link: Link) -> None:
        if link.generation == self._gate.generation:
            self._gate.forget(link.channel)
            link.channel.close()
        else:
            keep_of_the_parent(link)
