"""A Backend that stays with one endpoint of a fallback: for sequences, whose state is there."""

from __future__ import annotations

from collections.abc import Callable

from infer_backends._backend import InferRequest, InferResponse
from infer_backends._errors import (
    InferError,
    MetadataMismatch,
    ModelNotFound,
    Unavailable,
    UnsupportedOperation,
)
from infer_backends._member_state import MemberState
from infer_backends._resilience._endpoint import Endpoint
from infer_backends._resilience._route import Course, Route
from infer_backends._tensors import ModelMetadata
from infer_backends._ways import BLOCKING, Way, run

#: One that raises these did not begin.
_DID_NOT_BEGIN = (UnsupportedOperation, ModelNotFound, MetadataMismatch)


class Pinned:
    """Lets the endpoint answer that answered first.

    The first request goes to the next member where the one before certainly did no work for it; no
    later one goes anywhere else, and none is sent again.

    Args:
        metadata: What the members agree on.
        course: What the calls of the model have in common.
        fell_back: Told when it is not the first member that is found.
    """

    def __init__(
        self,
        metadata: ModelMetadata,
        course: Course,
        fell_back: Callable[[Route, str, InferRequest], object],
    ) -> None:
        self.metadata = metadata
        self._course = course
        self._fell_back = fell_back
        self._endpoint: Endpoint | None = None

    def infer(self, request: InferRequest) -> InferResponse:
        """Let it answer.

        Raises:
            Unavailable: It is not asked any more.
            InferError: What it said.
        """
        return run(self._answer(BLOCKING, request))

    async def infer_async(self, request: InferRequest) -> InferResponse:
        """Let it answer, in the running event loop."""
        from infer_backends._ways_of_loops import IN_LOOP

        return await self._answer(IN_LOOP, request)

    async def _answer(self, way: Way, request: InferRequest) -> InferResponse:
        self._course.budget.calls += 1
        endpoint = self._endpoint
        if endpoint is None:
            return await self._begin(way, request)
        permit = endpoint.admit()
        if permit is None and endpoint.breaker.state is MemberState.RECOVERING:
            # Others may be asked instead, but not by this sequence.
            permit = endpoint.breaker.admit_when_nobody_else_can()
        if permit is None:
            raise Unavailable(
                f"{endpoint.url}, where this sequence is, is {endpoint.breaker.state}: begin a new "
                "sequence, which another member may take",
                unprocessed=True,
            )
        return await endpoint.answer(way, request, permit)

    async def _begin(self, way: Way, request: InferRequest) -> InferResponse:
        route = Route(self._course, request)
        while (step := route.next(whole=True)) is not None:
            endpoint, permit, share = step
            try:
                response = await endpoint.answer(way, share, permit)
            except InferError as exc:
                if not exc.unprocessed and not isinstance(exc, _DID_NOT_BEGIN):
                    self._endpoint = endpoint
                    exc.attempts = (*route.attempts, *exc.attempts)
                    raise
                route.failed(exc, UnsupportedOperation)
            else:
                self._endpoint = endpoint
                if route.fell_back:
                    self._fell_back(route, endpoint.url, request)
                return route.answered(response)
        self._fell_back(route, "", request)
        raise route.failure()

    @property
    def request_options(self) -> frozenset[str]:
        """What is asked of the endpoint, which says what it can do when it is found."""
        return frozenset({"sequence"})

    def close(self) -> None:
        """Nothing is its own."""
