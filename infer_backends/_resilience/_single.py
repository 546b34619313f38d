"""A Backend that asks one URL, and asks again where that can do no harm."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from copy import copy
from time import monotonic
from typing import Any

from infer_backends import _fitting
from infer_backends._backend import Backend, InferRequest, InferResponse, Member
from infer_backends._errors import (
    Attempt,
    DeadlineExceeded,
    InferError,
    ModelClosed,
    Unavailable,
)
from infer_backends._member_state import MemberState
from infer_backends._members import OnlyMember
from infer_backends._owned import OwnedStream
from infer_backends._resilience._budget import RetryBudget, pause
from infer_backends._resilience._policy import FAREWELL, Policy
from infer_backends._resilience._remembered import remembered
from infer_backends._status import MemberStatus, ModelStatus
from infer_backends._tensors import ModelMetadata
from infer_backends._ways import BLOCKING, Blocking, Responses, Way, iterate, run

#: How often a call is sent again, at most.
_RETRIES = 2


class Single:
    """One URL, with the retries that it is the one owner of.

    A call is sent again only if the server certainly did no work for it, or if calls are declared
    idempotent; after a pause with jitter, within the deadline, and within a budget of a fifth of
    the calls.

    Args:
        backend: Who is asked.
        url: Its URL, secrets masked.
        policy: Whether calls are idempotent, and the randomness.
        blocking: How a thread asks, and waits.
    """

    def __init__(
        self,
        backend: Backend,
        url: str,
        policy: Policy,
        blocking: Blocking = BLOCKING,
    ) -> None:
        self._backend = backend
        self._url = url
        self._policy = policy
        self._blocking = blocking
        self._budget = RetryBudget()
        self._closing = threading.Event()
        _SINGLES.add(self)
        self._since = monotonic()
        self._ended = 0
        self._failures = 0
        self._last_error: InferError | None = None

    @property
    def metadata(self) -> ModelMetadata:
        """The backend's own."""
        return self._backend.metadata

    def infer(self, request: InferRequest) -> InferResponse:
        """Let the backend answer.

        Raises:
            Unavailable: It is not available, nor was it when it was asked again.
            InferError: What it said.
        """
        self._budget.calls += 1
        started = monotonic()
        try:
            if request.options is None:
                return self._backend.infer(request)
            return run(_fitting.ask(self._blocking, self._backend, request))
        except (Unavailable, DeadlineExceeded) as exc:
            return run(self._again(self._blocking, request, exc, started))
        finally:
            self._ended += 1

    async def infer_async(self, request: InferRequest) -> InferResponse:
        """Let the backend answer, in the running event loop; as :meth:`infer`."""
        # Imported where there is a loop: importing the library has to stay cheap.
        from infer_backends._ways_of_loops import IN_LOOP

        self._budget.calls += 1
        started = monotonic()
        try:
            # As with threads, what the call usually is takes no step more.
            if request.options is None:
                asked: Any = self._backend
                response: InferResponse = await asked.infer_async(request)
                return response
            return await _fitting.ask(IN_LOOP, self._backend, request)
        except (Unavailable, DeadlineExceeded) as exc:
            return await self._again(IN_LOOP, request, exc, started)
        finally:
            self._ended += 1

    async def _again(
        self,
        way: Way,
        request: InferRequest,
        error: Unavailable | DeadlineExceeded,
        started: float,
    ) -> InferResponse:
        """Ask again after ``error``, as long as that is allowed; else raise it."""
        attempts: list[Attempt] = []
        while (delay := self._delay(request, error, len(attempts))) is not None:
            await way.pause(delay, self._closing)
            if self._closing.is_set():
                raise ModelClosed("the model was closed while this call was in flight") from error
            # An error that holds its frames would hold this one, and the call's arrays with it.
            attempt = Attempt(self._url, remembered(error), started, monotonic() - started)
            attempts.append(attempt)
            started = monotonic()
            try:
                response = await _fitting.ask(way, self._backend, request)
            except (Unavailable, DeadlineExceeded) as exc:
                error = exc
            except InferError as exc:
                exc.attempts = (*attempts, *exc.attempts)
                raise
            else:
                response.attempts = (*attempts, *response.attempts)
                return response
        error.attempts = (*attempts, *error.attempts)
        try:
            raise error
        finally:
            del error  # it holds this frame

    def _delay(self, request: InferRequest, error: InferError, retries: int) -> float | None:
        """Count a failure; the pause before the call is sent again, None if it is not."""
        self._note(error)
        if not isinstance(error, Unavailable) or not self._may_be_repeated(request, error):
            return None
        delay = pause(retries, self._policy.random())
        late = request.deadline.remaining() <= delay
        return None if retries == _RETRIES or late or not self._budget.withdraw() else delay

    def _may_be_repeated(self, request: InferRequest, error: Unavailable) -> bool:
        options = request.options
        if options is not None and options.sequence is not None:
            return False
        return error.unprocessed or self._policy.idempotent

    def stream(self, request: InferRequest) -> Iterator[InferResponse]:
        """The backend's responses to one request, which is never sent again."""
        return iterate(self._responses(self._blocking, request))

    def stream_async(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        """The backend's responses to one request, in the running event loop."""
        from infer_backends._ways_of_loops import IN_LOOP

        return self._responses(IN_LOOP, request)

    async def _responses(self, way: Way, request: InferRequest) -> Responses:
        self._budget.calls += 1
        try:
            async with OwnedStream(_fitting.stream(way, self._backend, request)) as responses:
                async for response in responses:
                    yield response
        except (Unavailable, DeadlineExceeded) as exc:
            self._note(exc)
            raise
        finally:
            self._ended += 1

    def pinned(self) -> Single:
        """What answers all requests of a sequence: itself, since it sends none of them again."""
        return self

    @property
    def request_options(self) -> frozenset[str]:
        """What can be asked of the backend."""
        return _fitting.options_with_own(self._backend)

    @property
    def can_stream(self) -> bool:
        """Whether the backend can."""
        return _fitting.can_stream(self._backend)

    def advice(self, ability: str) -> str:
        """Where that can be had which the backend cannot do."""
        return _fitting.advice_of(self._backend, ability)

    def _note(self, error: InferError) -> None:
        self._failures += 1
        # A copy, without the frames that the error goes through: they hold the arrays of the call.
        self._last_error = copy(error)

    def members(self) -> tuple[Member]:
        """The one that there is."""
        return (OnlyMember(self._backend, self._url),)

    def status(self) -> ModelStatus:
        """How it does. It is asked by every call, so it is always ready."""
        member = MemberStatus(
            url=self._url,
            state=MemberState.READY,
            since=monotonic() - self._since,
            calls=self._budget.calls,
            failures=self._failures,
            in_flight=self._budget.calls - self._ended,
            latency=None,
            last_error=self._last_error,
            probes=0,
            retry_in=None,
        )
        return ModelStatus((member,), fallbacks=0, retries=self._budget.retries)

    def reset_in_child(self) -> None:
        """Forget who was waiting: those threads do not exist in a forked child."""
        closed = self._closing.is_set()
        self._closing = threading.Event()
        if closed:
            self._closing.set()

    def close(self) -> None:
        """Close the backend; calls that wait to be sent again are not."""
        self._closing.set()
        try:
            self._backend.close()
        finally:
            self._policy.observers.close(FAREWELL)

    async def close_async(self) -> None:
        """Close the backend, and what belongs to the running event loop first."""
        from infer_backends._ways_of_loops import close_aside

        self._closing.set()
        try:
            await _fitting.close_async(self._backend)
        finally:
            await close_aside(self.close)


_SINGLES: weakref.WeakSet[Single] = weakref.WeakSet()


def _reset_singles() -> None:
    for single in list(_SINGLES):
        single.reset_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_singles)
