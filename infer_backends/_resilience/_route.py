"""The way of one call through the members of a model. No input or output of its own.

Whoever drives it asks whom :meth:`Route.next` names, and tells how that went; so the sync and the
async fallback share every decision.
"""

from __future__ import annotations

from collections.abc import Sequence

from infer_backends._backend import InferRequest, InferResponse
from infer_backends._errors import (
    AllBackendsFailed,
    Attempt,
    DeadlineExceeded,
    InferenceFailed,
    InferError,
    MetadataMismatch,
    ModelNotFound,
    Unavailable,
)
from infer_backends._resilience._breaker import Permit
from infer_backends._resilience._budget import RetryBudget
from infer_backends._resilience._endpoint import Endpoint
from infer_backends._resilience._later import Later
from infer_backends._resilience._outage import is_outage
from infer_backends._resilience._policy import Policy
from infer_backends._resilience._remembered import remembered
from infer_backends._resilience._replicas import Replicas

Step = tuple[Endpoint, Permit, InferRequest]


class Course:
    """What all the calls of one model have in common.

    Args:
        members: The members of the model, in order of preference.
        policy: What moves a call on.

    Attributes:
        members: As given.
        policy: As given.
        clock: The monotonic clock.
        budget: How many retries there may be.
        later: For each member, those after it.
    """

    __slots__ = ("budget", "clock", "later", "members", "policy")

    def __init__(self, members: Sequence[Replicas], policy: Policy) -> None:
        self.members = tuple(members)
        self.policy = policy
        self.clock = policy.clock
        self.budget = RetryBudget()
        self.later = tuple(
            Later(self._after(position), policy.clock) for position in range(len(members))
        )

    def _after(self, position: int) -> tuple[Replicas, ...]:
        """The members that would be asked after one of them; it may be one of its own replicas."""
        after = self.members[position + 1 :]
        last = self.members[-1]
        return after or ((last,) if self.policy.idempotent and len(last.endpoints) > 1 else ())


class Route:
    """Whom one call asks, one after the other, and what becomes of it.

    Args:
        course: What the calls of the model have in common.
        request: The call.
    """

    __slots__ = ("_attempts", "_course", "_endpoint", "_position", "_request", "_started", "_tried")

    def __init__(self, course: Course, request: InferRequest) -> None:
        self._course = course
        self._request = request
        self._position = 0
        self._attempts: tuple[Attempt, ...] = ()
        self._tried: tuple[Endpoint, ...] = ()
        self._endpoint: Endpoint | None = None

    def next(self, *, whole: bool = False) -> Step | None:
        """The endpoint to ask, with leave to, and what to ask it; None if nobody is left.

        Args:
            whole: Whether it may use all of the time, as what has no end to be waited for needs.
        """
        course, request = self._course, self._request
        members, tried = course.members, self._tried
        if tried and request.deadline.expired:
            return None
        while (position := self._position) < len(members):
            found = members[position].admit(tried)
            if found is None:
                self._position += 1
                continue
            endpoint, permit = found
            self._endpoint = endpoint
            self._started = now = course.clock()
            share = None if whole else course.later[position].share(request.deadline, now)
            if share is not None:
                request = InferRequest(
                    request.inputs,
                    request.outputs,
                    share,
                    request.request_id,
                    request.parameters,
                    request.headers,
                    request.options,
                )
            return endpoint, permit, request
        for member in members:
            if any(endpoint in tried for endpoint in member.endpoints):
                # Another of its replicas would be a retry, which was decided against.
                continue
            found = member.admit_when_nobody_else_can()
            if found is not None:
                self._endpoint = found[0]
                self._started = course.clock()
                return *found, request
        return None

    def failed(self, error: InferError, *also: type[InferError]) -> None:
        """The endpoint raised; decide whether another one is asked.

        Args:
            error: What it raised.
            also: What moves this call on, besides what moves all calls on.

        Raises:
            InferError: ``error`` itself, if another endpoint would not change it.
        """
        endpoint = self._endpoint
        if endpoint is None or not (isinstance(error, also) or self._moves_on(error)):
            error.attempts = (*self._attempts, *error.attempts)
            try:
                raise error
            finally:
                # It holds its frames, and this one would hold it, and the call's arrays with it.
                del error
        duration = self._course.clock() - self._started
        attempt = Attempt(endpoint.url, remembered(error), self._started, duration)
        self._attempts = (*self._attempts, attempt)
        self._tried = (*self._tried, endpoint)
        if not self._stays(error):
            self._position += 1

    def _moves_on(self, error: InferError) -> bool:
        if is_outage(error) or isinstance(error, MetadataMismatch):
            return True
        return self._course.policy.on_failure and isinstance(error, InferenceFailed)

    def _stays(self, error: InferError) -> bool:
        """Whether another replica of the same member may be asked: that is a retry."""
        if self._position >= len(self._course.members):
            return False
        last = self._position == len(self._course.members) - 1
        if isinstance(error, MetadataMismatch) or error.unprocessed:
            pass
        elif not (last and self._course.policy.idempotent):
            return False
        replicas = self._course.members[self._position]
        return replicas.available_besides(self._tried) and self._course.budget.withdraw()

    def answered(self, response: InferResponse) -> InferResponse:
        """The response, with what was tried before it."""
        if self._attempts:
            response.attempts = (*self._attempts, *response.attempts)
        return response

    @property
    def fell_back(self) -> bool:
        """Whether it is not the first member that was asked last."""
        return self._position > 0 and self._endpoint not in self._course.members[0].endpoints

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """What failed, oldest first."""
        return self._attempts

    def failure(self) -> InferError:
        """The one error of a call that nobody answered."""
        attempts = list(self._attempts)
        expired = self._request.deadline.expired
        if not (attempts and expired):
            now = self._course.clock()
            attempts += [
                Attempt(endpoint.url, _not_asked(endpoint), now, 0.0)
                for member in self._course.members
                for endpoint in member.endpoints
                if endpoint not in self._tried
            ]
        return failure(attempts, expired=expired)


def _not_asked(endpoint: Endpoint) -> InferError:
    status = endpoint.status()
    reason = f"not asked: {status.state} for {status.since:.1f} s"
    last = status.last_error
    text = f"{reason} ({type(last).__name__}: {last})" if last is not None else reason
    error = Unavailable(text)
    error.__cause__ = last
    return error


_AVAILABILITY = (Unavailable, DeadlineExceeded, ModelNotFound)


def failure(attempts: Sequence[Attempt], *, expired: bool) -> InferError:
    """The one error of a call that nobody answered.

    Args:
        attempts: All that was tried, oldest first.
        expired: Whether the deadline of the call has passed.

    Returns:
        ``DeadlineExceeded`` if that is why there were no more attempts; ``AllBackendsFailed`` if
        nobody was available; else the error that is not about availability.
    """
    tried = "; ".join(
        f"{a.url}: {type(a.error).__name__}: {a.error} (after {a.duration:.3f} s)" for a in attempts
    )
    last = attempts[-1].error
    error: InferError
    decisive = [a.error for a in attempts if not isinstance(a.error, _AVAILABILITY)]
    if isinstance(last, DeadlineExceeded) and expired:
        error = DeadlineExceeded(f"the deadline passed before a backend answered; {tried}")
    elif decisive:
        error = type(decisive[-1])(f"no backend answered; {tried}")
        last = decisive[-1]
    else:
        error = AllBackendsFailed(f"no backend answered; {tried}")
    error.attempts = tuple(attempts)
    error.__cause__ = last
    return error
