"""Calls of gRPC in event loops, where its own asyncio interface makes them.

As with threads, a channel is made when a call needs it, and anew after a failure that a fresh
connection could mend. A channel belongs to the loop that made it.

gRPC waits for all loops of a process in one thread of its own, which a child of fork does not
have; so a child that was forked while there were such channels is refused at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from infer_backends.plugin import Deadline, DeadlineExceeded, InferError, UnsupportedOperation
from infer_backends_triton._grpc_ending import LONGEST, LULL
from infer_backends_triton._grpc_endpoint import LONGEST_CALL, SERVICE, Endpoint
from infer_backends_triton._grpc_failures import MENDED_BY_RECONNECTING, require_descriptors
from infer_backends_triton._grpc_fork import GATE
from infer_backends_triton._grpc_runtime import grpc
from infer_backends_triton._unsent import BEFORE_SENDING, mark_unsent

_channels: weakref.WeakSet[Any] = weakref.WeakSet()
# In a child: what would hang if it were taken down.
_of_the_parent: list[Any] = []


class LoopChannel:
    """Calls of one server in the running event loop.

    Args:
        endpoint: Where to connect, and how.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._asking = f"asking {endpoint.settings.url}"
        self._loop = asyncio.get_running_loop()
        self._channel: Any = None
        self._methods: dict[str, Any] = {}
        self._calls: set[Any] = set()
        self._closed = False

    async def call(
        self,
        method: str,
        message: bytes,
        deadline: Deadline,
        headers: Mapping[str, str] | None = None,
        compression: Any = None,
    ) -> bytes:
        """The serialised answer of one method of the service.

        Cancelling the task cancels the call at the server.

        Args:
            method: Its name, as ``ModelInfer``.
            message: The serialised request.
            deadline: When the answer has to be there.
            headers: Headers of this call alone.
            compression: How the request is compressed on the way.

        Raises:
            InferError: Whatever went wrong.
        """
        metadata = self._endpoint.metadata(headers)
        generation = GATE.enter()
        try:
            try:
                remaining = min(deadline.require(self._asking), LONGEST_CALL)
                made = self._method(method)
            except InferError as exc:
                mark_unsent(exc)
                raise
            channel = self._channel
            call = made(message, timeout=remaining, metadata=metadata, compression=compression)
            self._calls.add(call)
            alarm = _Alarm(self._loop, deadline) if deadline.alarmed else None
            try:
                answer: bytes = await call
                return answer
            except (asyncio.CancelledError, grpc.RpcError) as exc:
                error, cause = self._read(exc, call, headers, channel)
            finally:
                self._calls.discard(call)
                if alarm is not None:
                    alarm.cancel()
            # Not raised where the foreign exception is being handled: it would be the context.
            raise error from cause
        finally:
            GATE.leave(generation)

    async def stream(
        self,
        method: str,
        message: bytes,
        deadline: Deadline,
        headers: Mapping[str, str] | None = None,
        compression: Any = None,
    ) -> AsyncGenerator[bytes, None]:
        """The serialised answers to one request, each as soon as it is there.

        Closing the iterator, or cancelling the task that waits for it, cancels the request.

        Args:
            method: The name of a method with a stream of answers, as ``ModelStreamInfer``.
            message: The serialised request.
            deadline: When the last answer has to be there.
            headers: Headers of this call alone.
            compression: How the request is compressed on the way.

        Raises:
            InferError: Whatever went wrong.
        """
        metadata = self._endpoint.metadata(headers)
        generation = GATE.enter()
        try:
            with BEFORE_SENDING:
                remaining = min(deadline.require(self._asking), LONGEST_CALL)
                # On the wire this is one request of a stream in both directions, and its end.
                made = self._method(method, "unary_stream")
            channel = self._channel
            call = made(message, timeout=remaining, metadata=metadata, compression=compression)
            self._calls.add(call)
            reading: asyncio.Future[Any] | None = None
            try:
                while True:
                    reading = asyncio.ensure_future(call.read())
                    answer = await self._wait(_read_of(reading), call, deadline, headers, channel)
                    reading = None
                    if not isinstance(answer, bytes):  # It is grpc.aio.EOF.
                        return
                    yield answer
            finally:
                try:
                    if generation == GATE.generation:
                        if self._is_running():
                            await _end_stream(call, reading)
                        else:
                            _abandon(call, reading)
                finally:
                    self._calls.discard(call)
        finally:
            GATE.leave(generation)

    def _is_running(self) -> bool:
        """Whether this is done by the loop, and not by who collects what it left when it ended."""
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def close(self) -> None:
        """Cancel the calls in flight, and disconnect; in any thread, and after the loop's end."""
        self._closed = True
        # A loop that is closed has no calls.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._let_go)

    async def close_here(self) -> None:
        """Do the same, and be done with it."""
        self._closed = True
        channel = self._channel
        self._let_go()
        if channel is not None:
            await channel.close()

    async def _wait(
        self,
        answer: Any,
        call: Any,
        deadline: Deadline,
        headers: Mapping[str, str] | None,
        channel: Any,
    ) -> Any:
        """One answer of a stream on ``channel``."""
        alarm = _Alarm(self._loop, deadline) if deadline.alarmed else None
        try:
            return await answer
        except (asyncio.CancelledError, grpc.RpcError) as exc:
            error, cause = self._read(exc, call, headers, channel)
        finally:
            if alarm is not None:
                alarm.cancel()
        # Not raised where the foreign exception is being handled: it would be the context.
        raise error from cause

    def _read(
        self,
        exc: asyncio.CancelledError | grpc.RpcError,
        call: Any,
        headers: Mapping[str, str] | None,
        channel: Any,
    ) -> tuple[InferError, BaseException | None]:
        """What the failure of a call on ``channel`` stands for, and what to chain to it.

        Raises:
            CancelledError: The task was cancelled, by its owner.
        """
        if isinstance(exc, asyncio.CancelledError):
            if self._closed and call not in self._calls:
                return self._endpoint.failures.of_closing(), None
            raise exc
        error, cause = self._endpoint.failures.read(exc, headers or {}, closed=self._closed)
        if isinstance(error, MENDED_BY_RECONNECTING) and channel is self._channel:
            # Calls that are using it keep it; it goes with the last of them.
            self._forget_channel()
        return error, cause

    def _method(self, name: str, kind: str = "unary_unary") -> Any:
        if self._closed:
            raise self._endpoint.failures.of_closing()
        if self._channel is None:
            self._channel = self._open()
        found = self._methods.get(name)
        if found is None:
            # Without serializers bytes pass through: messages are made, and read, elsewhere.
            make = getattr(self._channel, kind)
            found = self._methods[name] = make(SERVICE + name, None, None)
        return found

    def _forget_channel(self) -> None:
        self._channel = None
        self._methods = {}

    def _open(self) -> Any:
        if _of_the_parent:
            raise UnsupportedOperation(
                "gRPC was in use in an event loop when this process was forked, and would hang "
                "here: close the model before the fork, start processes by 'spawn', or use http://",
                unprocessed=True,
            )
        endpoint = self._endpoint
        require_descriptors(endpoint.settings)
        if endpoint.credentials is None:
            channel = grpc.aio.insecure_channel(endpoint.target, endpoint.options)
        else:
            channel = grpc.aio.secure_channel(
                endpoint.target, endpoint.credentials, endpoint.options
            )
        _channels.add(channel)
        return channel

    def _let_go(self) -> None:
        calls, self._calls = self._calls, set()
        for call in calls:
            call.cancel()
        # What is not referred to any more is closed.
        self._forget_channel()


async def _read_of(reading: asyncio.Future[Any]) -> Any:
    """What is read; whoever is cancelled here leaves it alone.

    gRPC cancels a call together with the task that reads, which may be while the server sends.
    """
    await asyncio.wait((reading,))
    return reading.result()


def _abandon(call: Any, reading: asyncio.Future[Any] | None) -> None:
    """End a stream whose loop has ended: nobody can wait for it any more."""
    with contextlib.suppress(RuntimeError):
        call.cancel()
        if reading is not None:
            reading.cancel()


async def _end_stream(call: Any, reading: asyncio.Future[Any] | None) -> None:
    """End a stream that its reader has left; see ``_grpc_ending.py``.

    Args:
        call: What gRPC returned for it.
        reading: What reads from it already, if something does.
    """
    loop = asyncio.get_running_loop()
    limit = loop.time() + LONGEST
    try:
        while loop.time() < limit and not call.done():
            if reading is None:
                reading = asyncio.ensure_future(call.read())
            done, _ = await asyncio.wait({reading}, timeout=LULL)
            if not done or reading.cancelled() or reading.exception() is not None:
                break
            if not isinstance(reading.result(), bytes):
                break
            reading = None
    except GeneratorExit:
        # The loop has ended before this did.
        _abandon(call, reading)
        reading = None
        raise
    finally:
        with contextlib.suppress(RuntimeError):
            call.cancel()
        if reading is not None:
            await asyncio.gather(reading, return_exceptions=True)


class _Alarm:
    """Rings the alarms of a deadline while a call waits inside gRPC."""

    __slots__ = ("_deadline", "_handle", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, deadline: Deadline) -> None:
        self._loop = loop
        self._deadline = deadline
        self._handle: asyncio.TimerHandle | None = None
        self._ask()

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def _ask(self) -> None:
        # The end of the deadline is gRPC's own affair.
        with contextlib.suppress(DeadlineExceeded):
            left = self._deadline.patience("the answer")
            if self._deadline.alarmed:
                self._handle = self._loop.call_later(left, self._ask)


def _begin_in_child() -> None:
    _of_the_parent.extend(_channels)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)
