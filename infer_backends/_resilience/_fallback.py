"""A Backend that asks its members in order of preference until one answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from infer_backends._backend import InferRequest, InferResponse
from infer_backends._errors import InferError
from infer_backends._events import FallbackEvent
from infer_backends._resilience._endpoint import Endpoint
from infer_backends._resilience._policy import FAREWELL, Policy
from infer_backends._resilience._replicas import Replicas
from infer_backends._resilience._route import Course, Route
from infer_backends._status import ModelStatus
from infer_backends._tensors import ModelMetadata


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
        self._course.budget.calls += 1
        route = Route(self._course, request)
        while (step := route.next()) is not None:
            endpoint, permit, share = step
            try:
                response = endpoint.infer(share, permit)
            except InferError as exc:
                route.failed(exc)
            else:
                if route.fell_back:
                    self._fell_back(route, endpoint.url, request)
                return route.answered(response)
        self._fell_back(route, "", request)
        raise route.failure()

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
