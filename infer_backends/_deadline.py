"""One deadline for all that a call does."""

from __future__ import annotations

import time
from collections.abc import Callable

from infer_backends._errors import DeadlineExceeded

Clock = Callable[[], float]

#: Clocks of sockets and locks overflow beyond some centuries; a year is forever.
LONGEST_TIMEOUT = 365 * 86400.0


class Deadline:
    """A point on the monotonic clock by which a call has to be answered.

    Made once per public call and handed down, so that name resolution, connecting, retries,
    parts of a split batch and fallbacks share one budget.

    Attributes:
        explicit: Whether the caller asked for this deadline (a default one does not make a
            local runtime stop in the middle of its work).
    """

    __slots__ = ("_clock", "_expires", "explicit")

    def __init__(
        self, expires: float, *, explicit: bool = True, clock: Clock = time.monotonic
    ) -> None:
        self._expires = expires
        self._clock = clock
        self.explicit = explicit

    @classmethod
    def after(
        cls, seconds: float, *, explicit: bool = True, clock: Clock = time.monotonic
    ) -> Deadline:
        """A deadline ``seconds`` from now, or a year from now if that is sooner."""
        return cls(clock() + min(seconds, LONGEST_TIMEOUT), explicit=explicit, clock=clock)

    def remaining(self) -> float:
        """Seconds left; zero or negative once the deadline has passed."""
        return self._expires - self._clock()

    @property
    def expired(self) -> bool:
        """Whether no time is left."""
        return self.remaining() <= 0

    def require(self, doing: str) -> float:
        """Seconds left, which are more than zero.

        Args:
            doing: What the time is needed for, as in "connecting to the server"; for the error.

        Raises:
            DeadlineExceeded: No time is left.
        """
        remaining = self._expires - self._clock()
        if remaining <= 0:
            raise DeadlineExceeded(f"the deadline passed before {doing}; give a larger timeout")
        return remaining

    def less(self, reserve: float) -> Deadline:
        """A deadline that ends ``reserve`` seconds before this one."""
        return Deadline(self._expires - reserve, explicit=self.explicit, clock=self._clock)

    def __repr__(self) -> str:
        return f"<Deadline in {self.remaining():.3f} s>"
