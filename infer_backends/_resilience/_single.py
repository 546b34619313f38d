"""A Backend that asks one URL, and asks again where that can do no harm."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from copy import copy
from time import monotonic

from infer_backends._backend import Backend, InferRequest, InferResponse, Member
from infer_backends._deadline import Deadline
from infer_backends._errors import (
    Attempt,
    DeadlineExceeded,
    InferError,
    ModelClosed,
    Unavailable,
)
from infer_backends._member_state import MemberState
from infer_backends._members import OnlyMember
from infer_backends._resilience._budget import RetryBudget, pause
from infer_backends._resilience._policy import FAREWELL, Policy
from infer_backends._resilience._remembered import remembered
from infer_backends._status import MemberStatus, ModelStatus
from infer_backends._tensors import ModelMetadata

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
        wait: Waits for so many seconds, or less if the event is set.
    """

    def __init__(
        self,
        backend: Backend,
        url: str,
        policy: Policy,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        self._backend = backend
        self._url = url
        self._policy = policy
        self._wait = wait
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
            return self._backend.infer(request)
        except Unavailable as exc:
            return self._again(request, exc, started)
        except DeadlineExceeded as exc:
            self._note(exc)
            raise
        finally:
            self._ended += 1

    def _again(self, request: InferRequest, error: Unavailable, started: float) -> InferResponse:
        """Ask again after ``error``, as long as that is allowed; else raise it."""
        attempts: list[Attempt] = []
        while self._pause(request.deadline, error, len(attempts)):
            # An error that holds its frames would hold this one, and the call's arrays with it.
            attempt = Attempt(self._url, remembered(error), started, monotonic() - started)
            attempts.append(attempt)
            started = monotonic()
            try:
                response = self._backend.infer(request)
            except Unavailable as exc:
                error = exc
            except InferError as exc:
                if isinstance(exc, DeadlineExceeded):
                    self._note(exc)
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

    def _pause(self, deadline: Deadline, error: Unavailable, retries: int) -> bool:
        """Count a failure; wait, if the call is to be sent again, and say whether it is."""
        self._note(error)
        if retries == _RETRIES or not (error.unprocessed or self._policy.idempotent):
            return False
        delay = pause(retries, self._policy.random())
        if deadline.remaining() <= delay or not self._budget.withdraw():
            return False
        self._wait(self._closing, delay)
        if self._closing.is_set():
            raise ModelClosed("the model was closed while this call was in flight") from error
        return True

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


_SINGLES: weakref.WeakSet[Single] = weakref.WeakSet()


def _reset_singles() -> None:
    for single in list(_SINGLES):
        single.reset_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_singles)
