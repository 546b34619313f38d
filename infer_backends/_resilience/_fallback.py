"""A Backend that asks its members in order of preference until one answers."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack

from infer_backends._backend import Backend, InferRequest, InferResponse
from infer_backends._deadline import Clock, Deadline
from infer_backends._errors import (
    AllBackendsFailed,
    Attempt,
    DeadlineExceeded,
    InferError,
    MetadataMismatch,
    ModelClosed,
    ModelNotFound,
    Unavailable,
)
from infer_backends._resilience._parity import differences
from infer_backends._tensors import ModelMetadata

logger = logging.getLogger("infer_backends")

#: What makes the next member be asked. ``ModelNotFound`` only where the model was there before:
#: a stopping Triton says that it has no available versions, and so does one whose model was
#: unloaded.
_AVAILABILITY = (Unavailable, DeadlineExceeded, ModelNotFound)


class Member:
    """One URL of a fallback, opened when it can be.

    Args:
        url: The URL, secrets masked.
        opener: Opens it by a deadline.
    """

    def __init__(self, url: str, opener: Callable[[Deadline], Backend]) -> None:
        self.url = url
        self.backend: Backend | None = None
        self.excluded = False
        self._opener = opener
        self.reset_in_child()
        _MEMBERS.add(self)

    def reset_in_child(self) -> None:
        """Forget the thread that was opening: it does not exist in a forked child."""
        self._lock = threading.Lock()

    def open(self, deadline: Deadline) -> Backend:
        """The backend, opened now if it was not; several callers open it once.

        Raises:
            InferError: It cannot be opened.
        """
        if self.backend is not None:
            return self.backend
        if not self._lock.acquire(timeout=max(0.0, deadline.remaining())):
            raise DeadlineExceeded(f"the deadline passed while {self.url} was being opened")
        try:
            if self.backend is None:
                self.backend = self._opener(deadline)
            return self.backend
        finally:
            self._lock.release()


_MEMBERS: weakref.WeakSet[Member] = weakref.WeakSet()


def _reset_members() -> None:
    for member in list(_MEMBERS):
        member.reset_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_members)


class Fallback:
    """Members in order of preference; made by :func:`open_fallback`."""

    def __init__(
        self, members: list[Member], metadata: ModelMetadata, *, strict: bool, clock: Clock
    ) -> None:
        self._members = members
        self._metadata = metadata
        self._strict = strict
        self._clock = clock
        self._closed = False

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
        deadline = request.deadline
        members = [member for member in self._members if not member.excluded]
        attempts: list[Attempt] = []
        for member in members:
            last = member is members[-1]
            started = self._clock()
            try:
                response = self._attempt(
                    member, request, deadline if last else deadline.less(_reserve(deadline))
                )
            except _AVAILABILITY as exc:
                attempts.append(Attempt(member.url, exc, started, self._clock() - started))
                if deadline.expired:
                    break
            except _Excluded as exc:
                attempts.append(Attempt(member.url, exc.reason, started, self._clock() - started))
            except InferError as exc:
                exc.attempts = (*attempts, *exc.attempts)
                raise
            else:
                response.attempts = (*attempts, *response.attempts)
                return response
        raise failure(attempts)

    def close(self) -> None:
        """Close every member."""
        self._closed = True
        with ExitStack() as closing:
            for member in reversed(self._members):
                if member.backend is not None:
                    closing.callback(member.backend.close)

    def _attempt(self, member: Member, request: InferRequest, deadline: Deadline) -> InferResponse:
        backend = member.backend
        if backend is None:
            backend = self._first_contact(member, deadline)
        return backend.infer(
            InferRequest(
                request.inputs,
                request.outputs,
                deadline,
                request.request_id,
                request.parameters,
                request.headers,
            )
        )

    def _first_contact(self, member: Member, deadline: Deadline) -> Backend:
        """Open a member that could not be reached before, and see whether it is the same model."""
        backend = member.open(deadline)
        if self._closed:
            backend.close()
            raise ModelClosed("the model is closed: open it again")
        found = differences(self._metadata, backend.metadata)
        if found and self._strict:
            if not member.excluded:
                member.excluded = True
                logger.warning("%s is not asked any more: %s", member.url, _differs(found))
            raise _Excluded(MetadataMismatch(_differs(found)))
        return backend


class _Excluded(Exception):
    """A member turned out to be another model."""

    def __init__(self, reason: MetadataMismatch) -> None:
        super().__init__()
        self.reason = reason


def open_fallback(
    members: list[Member],
    deadline: Deadline,
    *,
    strict: bool = True,
    clock: Clock = time.monotonic,
) -> Fallback:
    """Open every member that can be reached now; the others are tried again at every call.

    Args:
        members: In order of preference.
        deadline: By when at least one has to be open.
        strict: Whether members that differ are an error, not a warning.
        clock: The monotonic clock.

    Raises:
        AllBackendsFailed: None can be reached.
        MetadataMismatch: Two of them are not the same model.
        InferError: What another member would not change: a wrong URL, credentials, no such model.
    """
    attempts: list[Attempt] = []
    try:
        for member in members:
            started = clock()
            last = member is members[-1]
            try:
                member.open(deadline if last else deadline.less(_reserve(deadline)))
            except (Unavailable, DeadlineExceeded) as exc:
                attempts.append(Attempt(member.url, exc, started, clock() - started))
                logger.warning("%s cannot be reached yet: %s", member.url, exc)
            except InferError as exc:
                exc.attempts = (*attempts, *exc.attempts)
                raise
        return Fallback(members, _agreed(members, attempts, strict), strict=strict, clock=clock)
    except BaseException:
        for member in members:
            if member.backend is not None:
                member.backend.close()
        raise


def _agreed(members: list[Member], attempts: list[Attempt], strict: bool) -> ModelMetadata:
    """The metadata that the members which were reached agree on."""
    reached = [(member, member.backend) for member in members if member.backend is not None]
    if not reached:
        raise failure(attempts)
    first, reference = reached[0]
    for member, backend in reached[1:]:
        found = differences(reference.metadata, backend.metadata)
        if found:
            text = f"{first.url} and {member.url} are not the same model: {'; '.join(found)}"
            if strict:
                raise MetadataMismatch(f"{text}. Serve the same model, or open with parity=warn")
            logger.warning("%s", text)
    return reference.metadata


def failure(attempts: list[Attempt]) -> InferError:
    """The one error of a call that no member answered."""
    tried = "; ".join(
        f"{a.url}: {type(a.error).__name__}: {a.error} (after {a.duration:.3f} s)" for a in attempts
    )
    last = attempts[-1].error
    error: InferError
    if isinstance(last, DeadlineExceeded):
        error = DeadlineExceeded(f"the deadline passed before a backend answered; {tried}")
    else:
        error = AllBackendsFailed(f"no backend answered; {tried}")
    error.attempts = tuple(attempts)
    error.__cause__ = last
    return error


def _differs(found: list[str]) -> str:
    return f"it is not the same model: {'; '.join(found)}. Serve the same model, or set parity=warn"


def _reserve(deadline: Deadline) -> float:
    """What the next member needs: a quarter of the time, and 250 ms if that is not most of it.

    Of the time that is left now, so that each member of several has some of its own.
    """
    total = deadline.remaining()
    return min(max(total / 4, 0.25), total / 2)
