"""A Backend that answers in event loops by threads, for runtimes that have no other way."""

from __future__ import annotations

import asyncio
import concurrent.futures
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
from infer_backends._ways_of_loops import in_own_thread

if TYPE_CHECKING:
    from typing_extensions import Self

Result = TypeVar("Result")

_LOST = object()


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
        begun = self._threads.begin(function, *args)
        waiting = asyncio.wrap_future(begun)
        try:
            await asyncio.wait((waiting,), timeout=deadline.remaining())
            if not waiting.done():
                if begun.cancel():
                    raise DeadlineExceeded(
                        "the deadline passed before a thread was free: make fewer calls at a "
                        "time, or give a larger timeout",
                        unprocessed=True,
                    )
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

    def close(self) -> None:
        """Close the member; calls that wait for a thread are not begun."""
        self._threads.close()
        self._member.close()

    async def close_async(self) -> None:
        """Close the member, in a thread: it may wait for what it does."""
        await in_own_thread(self.close)


def _ignore(begun: concurrent.futures.Future[Any], waiting: asyncio.Future[Any]) -> None:
    """Nobody asks any more for what is not done by now, nor complains of how it failed."""
    # At once: by way of the loop, it would be begun if a thread became free just now.
    begun.cancel()
    if not waiting.cancel() and not waiting.cancelled():
        waiting.exception()


class _Streams:
    _member: SupportsStreaming
    _in_thread: Callable[..., Any]

    async def stream_async(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        """The member's responses, each waited for by a thread."""
        responses: Iterator[InferResponse] = self._member.stream(request)
        try:
            while True:
                response = await self._in_thread(request.deadline, next, responses, _LOST)
                if response is _LOST:
                    return
                yield response
        finally:
            close = getattr(responses, "close", None)
            if close is not None:
                await in_own_thread(close)


_OWN: Abilities = ((SupportsStreaming, _Streams),)
