"""Stop calls at their deadline: one thread for all calls of a model, started by the first."""

from __future__ import annotations

import math
import threading
import time
from typing import Protocol

_LONGEST_WAIT = 3600.0  # seconds; a lock refuses to wait for centuries


class RunOptions(Protocol):
    """The one thing that is used of onnxruntime's ``RunOptions``."""

    terminate: bool


class Watch:
    """One call that is watched.

    Attributes:
        expires: When to stop it, in seconds on the monotonic clock.
        options: What its run was started with.
        fired: Whether it was told to stop.
    """

    __slots__ = ("expires", "fired", "options")

    def __init__(self, expires: float, options: RunOptions) -> None:
        self.expires = expires
        self.options = options
        self.fired = False


class Watchdog:
    """Sets ``terminate`` on the run options of calls that are past their time.

    onnxruntime looks at it between operators. The thread is a daemon, holds nothing but this
    object, and ends with :meth:`close`. After a fork, make a new one.
    """

    def __init__(self) -> None:
        # Reentrant: the collector may close an abandoned model while this thread holds it.
        self._changed = threading.Condition(threading.RLock())
        self._watches: set[Watch] = set()
        self._wakes = math.inf
        self._thread: threading.Thread | None = None
        self._closed = False

    def begin(self, seconds: float, options: RunOptions) -> Watch:
        """Stop the run that uses ``options`` unless :meth:`end` comes within ``seconds``."""
        watch = Watch(time.monotonic() + seconds, options)
        with self._changed:
            if self._closed:
                options.terminate = True
            elif self._thread is None:
                self._thread = self._started()
            elif watch.expires < self._wakes:
                self._changed.notify()
            self._watches.add(watch)
        return watch

    def end(self, watch: Watch) -> None:
        """Leave a run alone from now on."""
        with self._changed:
            self._watches.discard(watch)

    def close(self) -> None:
        """Stop the calls being watched, and the thread. May be called more than once."""
        with self._changed:
            self._closed = True
            for watch in self._watches:
                watch.options.terminate = True
            self._changed.notify()

    def _started(self) -> threading.Thread | None:
        thread = threading.Thread(
            target=self._loop, name="infer-backends-onnxruntime-deadlines", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            # The system has none left: the run goes on, and the next call tries again. A late
            # answer is better than none.
            return None
        return thread

    def _loop(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                for watch in self._watches:
                    if watch.expires <= now and not watch.fired:
                        watch.fired = watch.options.terminate = True
                self._wakes = min(
                    (watch.expires for watch in self._watches if not watch.fired),
                    default=math.inf,
                )
                self._changed.wait(min(self._wakes - now, _LONGEST_WAIT))
