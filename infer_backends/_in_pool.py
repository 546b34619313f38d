"""A Backend that answers in event loops by threads, for runtimes that have no other way."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from infer_backends._abilities import Abilities, with_abilities_of
from infer_backends._backend import (
    Backend,
    InferRequest,
    InferResponse,
    SupportsStreaming,
)
from infer_backends._deadline import Deadline
from infer_backends._errors import DeadlineExceeded, ModelClosed
from infer_backends._tensors import ModelMetadata
from infer_backends._threads import Threads
from infer_backends._ways_of_loops import close_aside

if TYPE_CHECKING:
    from typing_extensions import Self

Result = TypeVar("Result")


class InPool:
    """Lets its member answer in a pool of threads, so that event loops can wait for it.

    There are no more threads than asyncio's own pool has. Calls that find none free wait for their
    turn, and end there at their deadline, or when they are cancelled. One that has begun cannot be
    stopped: what it answers is dropped.

    Args:
        member: Who answers.
    """

    def __new__(cls, member: Backend) -> Self:
        """One that has the optional abilities of its member, too."""
        return super().__new__(with_abilities_of(member, cls, _OWN))

    def __init__(self, member: Backend) -> None:
        self._member = member
        self._threads = Threads("async")

    @property
    def metadata(self) -> ModelMetadata:
        """The member's own."""
        return self._member.metadata

    def infer(self, request: InferRequest) -> InferResponse:
        """Let the member answer in this thread."""
        return self._member.infer(request)

    async def infer_async(self, request: InferRequest) -> InferResponse:
        """Let the member answer in another thread."""
        return await self._in_thread(request.deadline, self._member.infer, request)

    async def _in_thread(
        self, deadline: Deadline, function: Callable[..., Result], *args: Any
    ) -> Result:
        deadline.require("the call began")
        begun: concurrent.futures.Future[Result] = self._threads.begin(_called, function, *args)
        waiting = asyncio.wrap_future(begun)
        try:
            await asyncio.wait((waiting,), timeout=deadline.remaining())
            if not waiting.done():
                if begun.cancel():
                    raise _queued()
                if deadline.explicit:
                    raise DeadlineExceeded(
                        "the deadline passed before there was an answer: give a larger timeout"
                    )
                await asyncio.wait((waiting,))
            if waiting.cancelled():
                raise ModelClosed("the model was closed while this call waited for a thread")
            return waiting.result()
        finally:
            _ignore(begun, waiting)
            # An error holds its frames, and this one would hold the error.
            del begun, waiting

    def close(self) -> None:
        """Close the member; calls that wait for a thread are not begun."""
        self._threads.close()
        self._member.close()

    async def close_async(self) -> None:
        """Close the member, in a thread: it may wait for what it does."""
        await close_aside(self.close)


def _ignore(begun: concurrent.futures.Future[Any], waiting: asyncio.Future[Any]) -> None:
    """Nobody asks any more for what is not done by now, nor complains of how it failed."""
    # At once: by way of the loop, it would be begun if a thread became free just now.
    begun.cancel()
    if not waiting.cancel() and not waiting.cancelled():
        waiting.exception()


def _called(function: Callable[..., Result], *args: Any) -> Result:
    try:
        return function(*args)
    except StopIteration:
        # No future takes it.
        raise RuntimeError("StopIteration") from None


def _queued() -> DeadlineExceeded:
    error = DeadlineExceeded(
        "the deadline passed before a thread was free: make fewer calls at a time, or give a "
        "larger timeout",
        unprocessed=True,
    )
    error.queued_here = True
    return error


class _Streams:
    _member: SupportsStreaming
    _in_thread: Callable[..., Any]

    async def stream_async(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        """The member's responses, each waited for by a thread."""
        pulled = _Pulled(self._member.stream(request))
        try:
            while True:
                response = await self._in_thread(request.deadline, pulled.next)
                if response is None:
                    return
                yield response
        finally:
            if pulled.busy:
                # A thread is still in it, which nobody waits for any more.
                threading.Thread(target=pulled.close, name="infer-backends-aside").start()
            else:
                await close_aside(pulled.close)


class _Pulled:
    """An iterator of responses that threads take turns at."""

    def __init__(self, responses: Iterator[InferResponse]) -> None:
        self._responses = responses
        self._turn = threading.Lock()

    @property
    def busy(self) -> bool:
        """Whether a thread is in it."""
        return self._turn.locked()

    def next(self) -> InferResponse | None:
        """The next response; None after the last."""
        with self._turn:
            return next(self._responses, None)

    def close(self) -> None:
        """Close it, when nobody is in it any more."""
        close = getattr(self._responses, "close", None)
        if close is not None:
            # What it raises would stand in the place of what ended the stream.
            with self._turn, contextlib.suppress(Exception):
                close()


_OWN: Abilities = ((SupportsStreaming, _Streams),)
