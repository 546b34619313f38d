"""One deadline for all that a call does."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

from infer_backends._errors import DeadlineExceeded

Clock = Callable[[], float]

#: Clocks of sockets and locks overflow beyond some centuries; a year is forever.
LONGEST_TIMEOUT = 365 * 86400.0

#: Some waits take zero for forever, or for an error; a millisecond is soon enough for an alarm.
_SHORTEST_WAIT = 0.001


class Deadline:
    """A point on the monotonic clock by which a call has to be answered.

    Made once per public call and handed down, so that name resolution, connecting, retries,
    parts of a split batch and fallbacks share one budget.

    Attributes:
        explicit: Whether the caller asked for this deadline (a default one does not make a
            local runtime stop in the middle of its work).
    """

    __slots__ = ("_clock", "_expires", "explicit")

    # Not by keyword only: on the path of a call, that takes three times as long.
    def __init__(
        self, expires: float, explicit: bool = True, clock: Clock = time.monotonic
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

    def patience(self, doing: str) -> float:
        """How long to wait now, in seconds, before asking again: what a loop that waits calls.

        Until the deadline, or until an alarm is due, if that is sooner. An alarm that is due by
        now is rung first.

        Args:
            doing: What is waited for, as in :meth:`require`.

        Raises:
            DeadlineExceeded: No time is left.
        """
        # Not by require, but for the error: this is on the path of every call.
        remaining = self._expires - self._clock()
        return remaining if remaining > 0 else self.require(doing)

    @property
    def alarmed(self) -> bool:
        """Whether an alarm waits to be rung, so that a wait has to ask :meth:`patience` again."""
        return False

    def less(self, reserve: float) -> Deadline:
        """A deadline that ends ``reserve`` seconds before this one, with the same alarm."""
        return Deadline(self._expires - reserve, self.explicit, self._clock)

    def with_alarm(self, after: float, ring: Callable[[], None]) -> Deadline:
        """The same deadline, and something to do should a wait last too long.

        Whoever waits for a server rings the alarm, by :meth:`patience`; the deadline itself has
        no thread. So a wait that does not ask for patience rings nothing.

        Args:
            after: When the alarm is due, in seconds from now.
            ring: What to do then: called once at most, however many threads wait, by a thread
                that waits or one that looks after it. It must be quick, and must not raise.
        """
        return self._alarmed_by(_Alarm(self._clock() + after, ring))

    def _alarmed_by(self, *alarms: _Alarm, reserve: float = 0.0) -> Deadline:
        return _AlarmedDeadline(
            self._expires - reserve, explicit=self.explicit, clock=self._clock, alarms=alarms
        )

    def __repr__(self) -> str:
        return f"<Deadline in {self.remaining():.3f} s>"


class _Alarm:
    """Something to do at a time, once."""

    __slots__ = ("_lock", "_ring", "due")

    def __init__(self, due: float, ring: Callable[[], None]) -> None:
        self.due = due
        self._ring: Callable[[], None] | None = ring
        self._lock = Lock()

    @property
    def pending(self) -> bool:
        return self._ring is not None

    def ring(self) -> None:
        """Ring, unless another thread has."""
        with self._lock:
            ring, self._ring = self._ring, None
        if ring is not None:
            ring()


class _AlarmedDeadline(Deadline):
    """A deadline with alarms. A class of its own, so that those without pay nothing."""

    __slots__ = ("_alarms",)

    def __init__(
        self,
        expires: float,
        *,
        explicit: bool = True,
        clock: Clock = time.monotonic,
        alarms: tuple[_Alarm, ...] = (),
    ) -> None:
        super().__init__(expires, explicit=explicit, clock=clock)
        self._alarms = alarms

    @property
    def alarmed(self) -> bool:
        return any(alarm.pending for alarm in self._alarms)

    def patience(self, doing: str) -> float:
        now = self._clock()
        for alarm in self._alarms:
            if alarm.pending and alarm.due <= now:
                alarm.ring()
        remaining = self.require(doing)
        now = self._clock()
        waits = [alarm.due - now for alarm in self._alarms if alarm.pending]
        # An alarm that has become due meanwhile is rung by the next call: never a wait of nothing.
        return min([remaining, *(max(wait, _SHORTEST_WAIT) for wait in waits)])

    def less(self, reserve: float) -> Deadline:
        return self._alarmed_by(*self._alarms, reserve=reserve)

    def with_alarm(self, after: float, ring: Callable[[], None]) -> Deadline:
        return self._alarmed_by(*self._alarms, _Alarm(self._clock() + after, ring))
