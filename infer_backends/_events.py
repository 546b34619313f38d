"""What observers are told of: frozen values, one class for each kind of event."""

from __future__ import annotations

from dataclasses import dataclass

from infer_backends._errors import Attempt, InferError
from infer_backends._member_state import MemberState


@dataclass(frozen=True, slots=True)
class AttemptEvent:
    """One request to one member is over: a whole call, or one of several attempts.

    Attributes:
        model: The model's name.
        time: When it was over, in seconds since the epoch.
        url: The member's URL, secrets masked.
        duration: How long it took, in seconds.
        error: Why there is no answer; None if there is.
        request_id: The call's.
    """

    model: str
    time: float
    url: str
    duration: float
    error: InferError | None
    request_id: str


@dataclass(frozen=True, slots=True)
class TransitionEvent:
    """A member went from one state to another.

    Attributes:
        model: The model's name.
        time: When, in seconds since the epoch.
        url: The member's URL, secrets masked.
        before: The state before.
        after: The state now.
        reason: Why.
    """

    model: str
    time: float
    url: str
    before: MemberState
    after: MemberState
    reason: str


@dataclass(frozen=True, slots=True)
class FallbackEvent:
    """A call was answered by another member than the first, or by nobody.

    Attributes:
        model: The model's name.
        time: When, in seconds since the epoch.
        url: Who answered, secrets masked; empty for nobody.
        attempts: What was tried before, oldest first.
        request_id: The call's.
    """

    model: str
    time: float
    url: str
    attempts: tuple[Attempt, ...]
    request_id: str


@dataclass(frozen=True, slots=True)
class ProbeEvent:
    """A member that was not ready was probed.

    Attributes:
        model: The model's name.
        time: When, in seconds since the epoch.
        url: The member's URL, secrets masked.
        ready: Whether it would answer now.
        duration: How long the probe took, in seconds.
        error: Why it would not; None if it would.
    """

    model: str
    time: float
    url: str
    ready: bool
    duration: float
    error: InferError | None


Event = AttemptEvent | TransitionEvent | FallbackEvent | ProbeEvent
