"""A Backend that asks its members in order of preference until one answers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from infer_backends._backend import InferRequest, InferResponse
from infer_backends._errors import InferError, UnsupportedOperation
from infer_backends._events import FallbackEvent
from infer_backends._owned import OwnedStream
from infer_backends._request_options import REQUEST_OPTIONS
from infer_backends._resilience._endpoint import Endpoint
from infer_backends._resilience._policy import FAREWELL, Policy
from infer_backends._resilience._replicas import Replicas
from infer_backends._resilience._route import Course, Route
from infer_backends._status import ModelStatus
from infer_backends._tensors import ModelMetadata
from infer_backends._ways import BLOCKING, Responses, Way, iterate, run

if TYPE_CHECKING:
    from infer_backends._resilience._pinned import Pinned


class Fallback:
    """Members in order of preference; each is one endpoint or several replicas.

    Made by :func:`~infer_backends._resilience._opening.open_members`.

    Args:
        members: The members.
        metadata: What they agree on.
        policy: What they share.
    """

    def __init__(
        self, members: Sequence[Replicas], metadata: ModelMetadata, policy: Policy
    ) -> None:
        self._metadata = metadata
        self._policy = policy
        self._course = Course(members, policy)
        self._fallbacks = 0

    @property
    def metadata(self) -> ModelMetadata:
        """The metadata of the first member that was reached."""
        return self._metadata

    def infer(self, request: InferRequest) -> InferResponse:
        """Answer by the first member that can.

        Raises:
            AllBackendsFailed: Every member was unavailable.
            InferError: What a member said that asking another one would not change.
        """
        return run(self._answer(BLOCKING, request))

    async def infer_async(self, request: InferRequest) -> InferResponse:
        """Answer by the first member that can, in the running event loop."""
        # Imported where there is a loop: importing the library has to stay cheap.
        from infer_backends._ways_of_loops import IN_LOOP

        return await self._answer(IN_LOOP, request)

    async def _answer(self, way: Way, request: InferRequest) -> InferResponse:
        self._course.budget.calls += 1
        route = Route(self._course, request)
        while (step := route.next()) is not None:
            endpoint, permit, share = step
            try:
                response = await endpoint.answer(way, share, permit)
            except InferError as exc:
                route.failed(exc)
            else:
                if route.fell_back:
                    self._fell_back(route, endpoint.url, request)
                return route.answered(response)
        self._fell_back(route, "", request)
        raise route.failure()

    def stream(self, request: InferRequest) -> Iterator[InferResponse]:
        """The responses of the first member that sends one; after that, nobody else is asked."""
        return iterate(self._responses(BLOCKING, request))

    def stream_async(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        """The responses of the first member that sends one, in the running event loop."""
        from infer_backends._ways_of_loops import IN_LOOP

        return self._responses(IN_LOOP, request)

    async def _responses(self, way: Way, request: InferRequest) -> Responses:
        self._course.budget.calls += 1
        route = Route(self._course, request)
        while (step := route.next(whole=True)) is not None:
            endpoint, permit, share = step
            begun = False
            try:
                async with OwnedStream(endpoint.responses(way, share, permit)) as responses:
                    async for response in responses:
                        if not begun and route.fell_back:
                            self._fell_back(route, endpoint.url, request)
                        begun = True
                        yield route.answered(response)
            except InferError as exc:
                if begun:
                    exc.attempts = (*route.attempts, *exc.attempts)
                    raise
                route.failed(exc, UnsupportedOperation)
            else:
                return
        self._fell_back(route, "", request)
        raise route.failure()

    def pinned(self) -> Pinned:
        """What answers all requests of a sequence: one endpoint, found by the first of them."""
        from infer_backends._resilience._pinned import Pinned

        return Pinned(self._metadata, self._course, self._fell_back)

    @property
    def request_options(self) -> frozenset[str]:
        """What one of the members can do, or may be able to."""
        known = [endpoint.request_options for endpoint in self.members()]
        return frozenset().union(*(REQUEST_OPTIONS if one is None else one for one in known))

    @property
    def can_stream(self) -> bool:
        """Whether one of the members can, or may be able to."""
        return any(endpoint.can_stream for endpoint in self.members())

    def advice(self, ability: str) -> str:
        """Where that can be had which no member can do."""
        return next(filter(None, (member.advice(ability) for member in self.members())), "")

    def _fell_back(self, route: Route, url: str, request: InferRequest) -> None:
        """Count a call that the first member did not answer, and tell of it."""
        self._fallbacks += bool(url)
        if self._policy.observers:
            self._policy.observers.notify(
                FallbackEvent(
                    model=self._metadata.name,
                    time=time.time(),
                    url=url,
                    attempts=route.attempts,
                    request_id=request.request_id,
                )
            )

    def members(self) -> tuple[Endpoint, ...]:
        """All endpoints, in order of preference."""
        return tuple(endpoint for member in self._course.members for endpoint in member.endpoints)

    def status(self) -> ModelStatus:
        """How the members do."""
        return ModelStatus(
            members=tuple(member.status() for member in self._course.members),
            fallbacks=self._fallbacks,
            retries=self._course.budget.retries,
        )

    def close(self) -> None:
        """Close every member."""
        with ExitStack() as closing:
            closing.callback(self._policy.observers.close, FAREWELL)
            for endpoint in self.members():
                endpoint.end_probing()
                closing.callback(endpoint.close)

    async def close_async(self) -> None:
        """Close every member, and what belongs to the running event loop first."""
        from infer_backends._ways_of_loops import close_aside

        try:
            for endpoint in self.members():
                endpoint.end_probing()
                await endpoint.close_here()
        finally:
            await close_aside(self.close)
