"""A clock that moves when a test says so."""

from __future__ import annotations

import threading


class ManualClock:
    """A clock for fakes that only moves when it is told to, so that no test has to wait.

    What a :class:`FakeModel` does for so many seconds, it does by its clock; the deadline of a call
    is kept by the real one. Several fakes may share a clock.

    Args:
        now: What it shows at first, in seconds.

    Example:
        >>> clock = ManualClock()
        >>> clock.advance(2.0)
        >>> clock()
        2.0
    """

    def __init__(self, now: float = 0.0) -> None:
        self._now = now
        self.reset_in_child()

    def reset_in_child(self) -> None:
        """Forget who held the lock: that thread does not exist in a forked child."""
        #: Told when it moves.
        self.news = threading.Condition()

    def __call__(self) -> float:
        """The seconds that it shows."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move it forward, and wake the fakes that wait for it."""
        with self.news:
            self._now += seconds
            self.news.notify_all()
