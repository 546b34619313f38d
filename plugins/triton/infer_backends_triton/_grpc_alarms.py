"""Rings the alarms of deadlines while calls wait inside gRPC, where none of our code looks at them.

gRPC's own way of waiting for a while, a future, starts a thread for every call; this is one thread
for all calls of a connection, which sleeps until the first alarm is due.
"""

from __future__ import annotations

import math
import threading
import time
from contextlib import suppress

from infer_backends.plugin import Deadline, DeadlineExceeded

_LONGEST_WAIT = 3600.0  # seconds; a lock refuses to wait for centuries
_WAITING = "the answer"


class Watch:
    """One call that waits.

    Attributes:
        deadline: The call's.
        due: When to look at it next, in seconds on the monotonic clock.
        ended: Whether the call waits no more.
    """

    __slots__ = ("deadline", "due", "ended")

    def __init__(self, deadline: Deadline, due: float) -> None:
        self.deadline = deadline
        self.due = due
        self.ended = False


class Alarms:
    """Asks the deadlines of calls for patience when their alarms are due, which rings them.

    The thread is a daemon, holds nothing but this object, and ends when it finds no call waiting,
    and with :meth:`close`. After a fork, make a new one.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._watches: set[Watch] = set()
        self._wakes = math.inf
        self._thread: threading.Thread | None = None
        self._closed = False

    def begin(self, deadline: Deadline) -> Watch:
        """Ring what becomes due before :meth:`end`; what is due already is rung at once.

        Raises:
            DeadlineExceeded: No time is left.
        """
        watch = Watch(deadline, time.monotonic() + deadline.patience(_WAITING))
        with self._changed:
            self._watches.add(watch)
            if self._thread is None or not self._thread.is_alive():
                self._start()
            elif watch.due < self._wakes:
                self._changed.notify()
        return watch

    def end(self, watch: Watch) -> None:
        """Leave a call alone from now on."""
        watch.ended = True
        with self._changed:
            self._watches.discard(watch)

    def close(self) -> None:
        """End the thread. May be called more than once."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _start(self) -> None:
        thread = threading.Thread(
            target=self._loop, name="infer-backends-triton-alarms", daemon=True
        )
        # Where the system has no thread left, the call goes on, and nobody is alarmed.
        with suppress(RuntimeError):
            thread.start()
            self._thread = thread

    def _loop(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                due = [watch for watch in self._watches if watch.due <= now]
                self._watches.difference_update(due)
                if not due:
                    if self._closed or not self._watches:
                        self._thread = None
                        return
                    self._wakes = min(watch.due for watch in self._watches)
                    self._changed.wait(min(self._wakes - now, _LONGEST_WAIT))
            # Not under the lock: who is alarmed may have locks of its own.
            for watch in due:
                self._look_at(watch)

    def _look_at(self, watch: Watch) -> None:
        with suppress(DeadlineExceeded):
            if not watch.ended:
                watch.due = time.monotonic() + watch.deadline.patience(_WAITING)
                with self._changed:
                    if watch.deadline.alarmed and not watch.ended:
                        self._watches.add(watch)
