"""A Backend that tells observers of every request to its member."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from infer_backends._abilities import Abilities, with_abilities_of
from infer_backends._backend import (
    Backend,
    InferRequest,
    InferResponse,
    SupportsAsync,
    SupportsAsyncStreaming,
    SupportsStreaming,
)
from infer_backends._deadline import Clock
from infer_backends._errors import InferError, PluginError
from infer_backends._events import AttemptEvent, Event
from infer_backends._owned import OwnedStream
from infer_backends._tensors import ModelMetadata

if TYPE_CHECKING:
    from typing_extensions import Self


class Observed:
    """Lets its member answer, and tells how that went; for models that somebody observes.

    It has the optional abilities of its member; a stream is one attempt, until its last response.

    Args:
        member: Who answers.
        url: Its URL, secrets masked.
        notify: Whom to tell; never raises, never waits.
        clock: The monotonic clock.
        wall_clock: Seconds since the epoch.
    """

    def __new__(cls, member: Backend, *_: object, **__: object) -> Self:
        """One that has the optional abilities of its member, and no others."""
        return super().__new__(with_abilities_of(member, cls, _OWN))

    def __init__(
        self,
        member: Backend,
        url: str,
        notify: Callable[[Event], None],
        *,
        clock: Clock = time.monotonic,
        wall_clock: Clock = time.time,
    ) -> None:
        self._member = member
        self._url = url
        self._notify = notify
        self._clock = clock
        self._wall_clock = wall_clock

    @property
    def metadata(self) -> ModelMetadata:
        """The member's own."""
        return self._member.metadata

    def infer(self, request: InferRequest) -> InferResponse:
        """Let the member answer.

        Raises:
            InferError: What the member said.
        """
        with self._told(request):
            return self._member.infer(request)

    def close(self) -> None:
        """Close the member."""
        self._member.close()

    @contextmanager
    def _told(self, request: InferRequest) -> Iterator[None]:
        """Tell how that goes which is done meanwhile."""
        started = self._clock()
        try:
            yield
        except InferError as exc:
            self._tell(request, started, exc)
            raise
        except Exception as exc:
            # Only the type: a careless message could hold what must not be shown.
            error = PluginError(f"the backend raised {type(exc).__name__}")
            self._tell(request, started, error)
            raise
        except GeneratorExit:
            # Whoever read a stream has had enough of it.
            self._tell(request, started, None)
            raise
        self._tell(request, started, None)

    def _tell(self, request: InferRequest, started: float, error: InferError | None) -> None:
        self._notify(
            AttemptEvent(
                self.metadata.name,
                self._wall_clock(),
                self._url,
                self._clock() - started,
                error,
                request.request_id,
            )
        )


class _Observing:
    _member: Any
    _told: Callable[[InferRequest], AbstractContextManager[None]]


class _Async(_Observing):
    async def infer_async(self, request: InferRequest) -> InferResponse:
        """Let the member answer, in the running event loop."""
        with self._told(request):
            response: InferResponse = await self._member.infer_async(request)
            return response

    async def close_async(self) -> None:
        """Close the member."""
        await self._member.close_async()


class _Streaming(_Observing):
    def stream(self, request: InferRequest) -> Iterator[InferResponse]:
        """The member's responses."""
        with self._told(request):
            yield from self._member.stream(request)


class _AsyncStreaming(_Observing):
    async def stream_async(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        """The member's responses, in the running event loop."""
        with self._told(request):
            async with OwnedStream(self._member.stream_async(request)) as responses:
                async for response in responses:
                    yield response


_OWN: Abilities = (
    (SupportsAsync, _Async),
    (SupportsStreaming, _Streaming),
    (SupportsAsyncStreaming, _AsyncStreaming),
)
