"""A Backend that tells observers of every request to its member."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from infer_backends._abilities import with_abilities_of
from infer_backends._backend import Backend, InferRequest, InferResponse
from infer_backends._deadline import Clock
from infer_backends._errors import InferError, PluginError
from infer_backends._events import AttemptEvent, Event
from infer_backends._tensors import ModelMetadata

if TYPE_CHECKING:
    from typing_extensions import Self


class Observed:
    """Lets its member answer, and tells how that went; for models that somebody observes.

    It can be asked whether it is ready, or to describe its model, if its member can.

    Args:
        member: Who answers.
        url: Its URL, secrets masked.
        notify: Whom to tell; never raises, never waits.
        clock: The monotonic clock.
        wall_clock: Seconds since the epoch.
    """

    def __new__(cls, member: Backend, *_: object, **__: object) -> Self:
        """One that has the optional abilities of its member, and no others."""
        return super().__new__(with_abilities_of(member, cls))

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
        started = self._clock()
        try:
            response = self._member.infer(request)
        except InferError as exc:
            self._tell(request, started, exc)
            raise
        except Exception as exc:
            # Only the type: a careless message could hold what must not be shown.
            error = PluginError(f"the backend raised {type(exc).__name__}")
            self._tell(request, started, error)
            raise
        self._tell(request, started, None)
        return response

    def close(self) -> None:
        """Close the member."""
        self._member.close()

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
