"""A connection to one gRPC server: makes calls, and says what went wrong in our own errors.

A channel is made when the first call needs it, and again after a failure that a fresh connection
could mend: so every call makes a real attempt instead of being told of an earlier one, names are
resolved anew, and a peer that vanished without a word does not stay the only one asked.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from infer_backends.plugin import (
    Deadline,
    DeadlineExceeded,
    InferError,
    InvalidInput,
    InvalidURL,
    UnsupportedOperation,
)
from infer_backends_triton._grpc_alarms import Alarms
from infer_backends_triton._grpc_ending import end_stream
from infer_backends_triton._grpc_failures import (
    MENDED_BY_RECONNECTING,
    Failures,
    receive_limit,
    require_descriptors,
)
from infer_backends_triton._grpc_fork import GATE, ForkGate
from infer_backends_triton._grpc_headers import GrpcMetadata, to_grpc_metadata
from infer_backends_triton._grpc_runtime import grpc
from infer_backends_triton._grpc_tls import channel_credentials
from infer_backends_triton._settings import ConnectionSettings
from infer_backends_triton._unsent import BEFORE_SENDING

#: What the methods of the service are called by.
SERVICE = "/inference.GRPCInferenceService/"
_INT32_MAX = 2**31 - 1
# A status message travels in the trailers, and a model's own traceback may be long.
_MAX_TRAILERS = 1024 * 1024
#: In seconds: gRPC counts in nanoseconds from 1970, in 64 bits.
LONGEST_CALL = 10 * 365 * 86400.0

# Channels of the parent, in a child: gRPC's threads are not here, and what takes such a channel
# down would wait for them.
_of_the_parent: list[object] = []


class Endpoint:
    """What channels to one server need, and calls on them.

    Args:
        settings: Where to connect, and how.

    Attributes:
        settings: As given.
        target: gRPC's name of the server.
        options: How a channel has to behave.
        credentials: For TLS; None without.
        failures: What reads the failures of calls.

    Raises:
        InvalidURL: A header or a TLS file is wrong.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self.settings = settings
        self.target = f"dns:///{settings.address}"
        self.options = channel_options(settings)
        self.credentials = channel_credentials(settings)
        self.failures = Failures(settings)
        self._metadata = to_grpc_metadata(settings.headers, InvalidURL)

    def metadata(self, headers: Mapping[str, str] | None) -> GrpcMetadata:
        """The metadata of a call that has these headers of its own."""
        if not headers:
            return self._metadata
        with BEFORE_SENDING:
            return self._metadata + to_grpc_metadata(headers, InvalidInput)


@dataclass(slots=True, eq=False)
class _Link:
    """One channel, and how many calls are using it."""

    channel: grpc.Channel
    generation: int
    calls: int = 0
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


class GrpcConnection:
    """Calls of one server, by any number of threads.

    Args:
        settings: Where to connect, and how.
        gate: What holds calls back while the process forks.

    Attributes:
        endpoint: What calls in event loops need, too.

    Raises:
        InvalidURL: A header or a TLS file is wrong. Nothing is sent yet.
    """

    def __init__(self, settings: ConnectionSettings, *, gate: ForkGate = GATE) -> None:
        self._settings = settings
        self.endpoint = Endpoint(settings)
        self._failures = self.endpoint.failures
        self._asking = f"asking {settings.url}"
        self._gate = gate
        # Reentrant: a stream that nobody refers to any more is ended wherever that is found.
        self._lock = threading.RLock()
        self._lock_generation = gate.generation
        self._alarms = Alarms()
        self._links: set[_Link] = set()
        self._current: _Link | None = None
        self._closed = False

    @property
    def url(self) -> str:
        """Where it leads, as errors show it."""
        return self._settings.url

    def call(
        self,
        method: str,
        message: bytes,
        deadline: Deadline,
        headers: Mapping[str, str] | None = None,
        compression: grpc.Compression | None = None,
    ) -> bytes:
        """The serialised answer of one method of the service.

        Args:
            method: Its name, as ``ModelInfer``.
            message: The serialised request.
            deadline: When the answer has to be there.
            headers: Headers of this call alone.
            compression: How the request is compressed on the way.

        Raises:
            InferError: Whatever went wrong.
        """
        metadata = self.endpoint.metadata(headers)
        generation = self._gate.enter()
        try:
            with BEFORE_SENDING:
                link = self._take()
            try:
                with BEFORE_SENDING:
                    remaining = deadline.require(self._asking)
                    watch = self._alarms.begin(deadline) if deadline.alarmed else None
                try:
                    return link.method(method)(
                        message,
                        timeout=min(remaining, LONGEST_CALL),
                        metadata=metadata,
                        compression=compression,
                    )
                except (grpc.RpcError, ValueError) as exc:
                    error, cause = self._read(exc, headers, link)
                finally:
                    if watch is not None:
                        self._alarms.end(watch)
                # Not raised where the foreign exception is being handled: it would be the context.
                raise error from cause
            finally:
                self._put_back(link)
        finally:
            self._gate.leave(generation)

    def stream(
        self,
        method: str,
        message: bytes,
        deadline: Deadline,
        headers: Mapping[str, str] | None = None,
        compression: grpc.Compression | None = None,
    ) -> Generator[bytes, None, None]:
        """The serialised answers to one request, each as soon as it is there.

        Nothing is sent before the first is asked for. Closing the iterator cancels the request.

        Args:
            method: The name of a method with a stream of answers, as ``ModelStreamInfer``.
            message: The serialised request.
            deadline: When the last answer has to be there.
            headers: Headers of this call alone.
            compression: How the request is compressed on the way.

        Raises:
            InferError: Whatever went wrong.
        """
        metadata = self.endpoint.metadata(headers)
        generation = self._gate.enter()
        try:
            with BEFORE_SENDING:
                link = self._take()
            try:
                with BEFORE_SENDING:
                    remaining = min(deadline.require(self._asking), LONGEST_CALL)
                    try:
                        call = link.stream(method)(
                            message, timeout=remaining, metadata=metadata, compression=compression
                        )
                    except ValueError as exc:
                        raise self._failures.of_closing() from exc
                with self._ending(call, generation):
                    while True:
                        self._require_own(generation)
                        answer = self._next(iter(call), deadline, headers, link)
                        if answer is None:
                            return
                        yield answer
            finally:
                self._put_back(link)
        finally:
            self._gate.leave(generation)

    def _next(
        self,
        call: Iterator[bytes],
        deadline: Deadline,
        headers: Mapping[str, str] | None,
        link: _Link,
    ) -> bytes | None:
        """The next answer of a stream; None at its end."""
        try:
            watch = self._alarms.begin(deadline) if deadline.alarmed else None
        except DeadlineExceeded as exc:
            # The request was sent.
            exc.unprocessed = False
            raise
        try:
            return next(call, None)
        except grpc.RpcError as exc:
            error, cause = self._read(exc, headers, link)
        finally:
            if watch is not None:
                self._alarms.end(watch)
        raise error from cause

    def _require_own(self, generation: int) -> None:
        if generation != self._gate.generation:
            raise UnsupportedOperation(
                "the stream was begun before this process was forked, and belongs to its parent: "
                "begin another here"
            )

    @contextmanager
    def _ending(self, call: Any, generation: int) -> Iterator[None]:
        """End a stream at the end of the block, should it not have ended."""
        try:
            yield
        finally:
            if generation == self._gate.generation:
                end_stream(call)
            else:
                _of_the_parent.append(call)

    def _read(
        self, exc: BaseException, headers: Mapping[str, str] | None, link: _Link
    ) -> tuple[InferError, BaseException | None]:
        """What the failure of a call on ``link`` stands for, and what to chain to it."""
        if not isinstance(exc, grpc.RpcError):
            # A ValueError: what grpc raises for a channel that was closed in the meantime.
            # Nothing was sent.
            closed = self._failures.of_closing()
            closed.unprocessed = True
            return closed, exc
        error, cause = self._failures.read(exc, headers or {}, closed=self._closed)
        if isinstance(error, MENDED_BY_RECONNECTING):
            self._retire(link)
        return error, cause

    def close(self) -> None:
        """Cancel the calls in flight, and disconnect."""
        with self._current_lock():
            self._closed = True
            links, self._links, self._current = self._links, set(), None
        self._alarms.close()
        for link in links:
            self._disconnect(link)

    def _take(self) -> _Link:
        """The channel to use, which :meth:`_put_back` wants back."""
        with self._current_lock():
            if self._closed:
                raise self._failures.of_closing()
            generation = self._gate.generation
            link = self._current
            if link is None or link.generation != generation:
                link = self._current = _Link(self._open(), generation)
                _of_the_parent.extend(self._foreign())
                self._links = {known for known in self._links if known.generation == generation}
                self._links.add(link)
            link.calls += 1
        return link

    def _put_back(self, link: _Link) -> None:
        with self._current_lock():
            link.calls -= 1
            unused = link.retired and link.calls == 0 and link in self._links
            if unused:
                self._links.discard(link)
        if unused:
            self._disconnect(link)

    def _current_lock(self) -> threading.RLock:
        if self._lock_generation != self._gate.generation:
            # Another thread may have held the lock when this process was forked.
            self._lock_generation, self._lock = self._gate.generation, threading.RLock()
            self._alarms = Alarms()
        return self._lock

    def _foreign(self) -> list[_Link]:
        return [link for link in self._links if link.generation != self._gate.generation]

    def _open(self) -> grpc.Channel:
        require_descriptors(self._settings)
        endpoint = self.endpoint
        if endpoint.credentials is None:
            channel = grpc.insecure_channel(endpoint.target, endpoint.options)
        else:
            channel = grpc.secure_channel(endpoint.target, endpoint.credentials, endpoint.options)
        self._gate.watch(channel)
        return channel

    def _retire(self, link: _Link) -> None:
        """Have the next call make a channel of its own; this one is closed when it is unused."""
        with self._current_lock():
            link.retired = True
            if self._current is link:
                self._current = None

    def _disconnect(self, link: _Link) -> None:
        if link.generation == self._gate.generation:
            self._gate.forget(link.channel)
            link.channel.close()
        else:
            _of_the_parent.append(link)


def channel_options(settings: ConnectionSettings) -> list[tuple[str, int]]:
    """How gRPC has to behave: bounded, straight to the host that the URL names."""
    connect_ms = min(round(settings.connect_timeout * 1000), _INT32_MAX)
    return [
        ("grpc.enable_retries", 1),
        ("grpc.service_config_disable_resolution", 1),
        # Proxy variables of the environment are not used.
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # Also the time that one attempt to connect may take, handshakes included.
        ("grpc.min_reconnect_backoff_ms", connect_ms),
        ("grpc.dns_ares_query_timeout", connect_ms),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", receive_limit(settings)),
        ("grpc.max_metadata_size", _MAX_TRAILERS),
        ("grpc.absolute_max_metadata_size", _MAX_TRAILERS),
    ]
