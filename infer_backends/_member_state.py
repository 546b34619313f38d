"""The states of a member: one endpoint that serves a model, as calls have seen it."""

from __future__ import annotations

from enum import Enum


class MemberState(str, Enum):
    """How one member of an open model is doing."""

    #: Loaded when it is first needed, and it was not needed yet.
    UNOPENED = "unopened"
    #: It answers.
    READY = "ready"
    #: It timed out, or failed slowly: not asked until a probe has an answer.
    SUSPECT = "suspect"
    #: It failed again and again, or was never reached: not asked until a probe has an answer.
    DOWN = "down"
    #: A probe had an answer: real calls go to it one at a time until some have succeeded.
    RECOVERING = "recovering"
    #: It serves another model: not asked any more.
    EXCLUDED = "excluded"

    def __str__(self) -> str:
        return self.value
