"""Calls of one gRPC server, for threads; what goes wrong is said in our own errors."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from infer_backends.plugin import (
    Deadline,
    DeadlineExceeded,
    InferError,
    UnsupportedOperation,
)
from infer_backends_triton._grpc_alarms import Alarms, Watch
from infer_backends_triton._grpc_ending import end_stream
from infer_backends_triton._grpc_endpoint import LONGEST_CALL, Endpoint
from infer_backends_triton._grpc_failures import MENDED_BY_RECONNECTING
from infer_backends_triton._grpc_fork import GATE, ForkGate
from infer_backends_triton._grpc_links import Link, Links, keep_of_the_parent
from infer_backends_triton._grpc_runtime import grpc
from infer_backends_triton._settings import ConnectionSettings
from infer_backends_triton._unsent import BEFORE_SENDING, mark_unsent


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
        self._links = Links(self.endpoint, gate)
        self._alarms = Alarms()
        self._alarms_generation = gate.generation

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
        link = watch = None
        try:
            try:
                link = self._links.take()
                remaining = deadline.require(self._asking)
                watch = self._watch(deadline)
            except InferError as exc:
                mark_unsent(exc)
                raise
            try:
                return link.method(method)(
                    message,
                    timeout=min(remaining, LONGEST_CALL),
                    metadata=metadata,
                    compression=compression,
                )
            except (grpc.RpcError, ValueError) as exc:
                error, cause = self._read(exc, headers, link)
            # Not raised where the foreign exception is being handled: it would be the context.
            raise error from cause
        finally:
            if watch is not None:
                self._alarms.end(watch)
            if link is not None:
                self._links.put_back(link)
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
                link = self._links.take()
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
                self._links.put_back(link)
        finally:
            self._gate.leave(generation)

    def _next(
        self,
        call: Iterator[bytes],
        deadline: Deadline,
        headers: Mapping[str, str] | None,
        link: Link,
    ) -> bytes | None:
        """The next answer of a stream; None at its end."""
        try:
            watch = self._watch(deadline)
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
                keep_of_the_parent(call)

    def _read(
        self, exc: BaseException, headers: Mapping[str, str] | None, link: Link
    ) -> tuple[InferError, BaseException | None]:
        """What the failure of a call on ``link`` stands for, and what to chain to it."""
        if not isinstance(exc, grpc.RpcError):
            # A ValueError: what grpc raises for a channel that was closed in the meantime.
            # Nothing was sent.
            closed = self._failures.of_closing()
            closed.unprocessed = True
            return closed, exc
        error, cause = self._failures.read(exc, headers or {}, closed=self._links.closed)
        if isinstance(error, MENDED_BY_RECONNECTING):
            self._links.retire(link)
        return error, cause

    def close(self) -> None:
        """Cancel the calls in flight, and disconnect."""
        # Before the alarms end: no call begins that would start them again.
        self._links.close()
        self._alarms.close()

    def _watch(self, deadline: Deadline) -> Watch | None:
        """What rings the alarms of a deadline, if it has any, until it is told to end."""
        if not deadline.alarmed:
            return None
        if self._alarms_generation != self._gate.generation:
            # Another thread may have held its lock when this process was forked.
            self._alarms_generation, self._alarms = self._gate.generation, Alarms()
        return self._alarms.begin(deadline)
