"""Whether a fake is there, and how long it takes: by a clock that is passed in."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from infer_backends.plugin import Deadline, InferError, Unavailable
from infer_backends.testing._clock import ManualClock
from infer_backends.testing._fake_outcomes import Hang, Slow, check_seconds, error_of

Clock = Callable[[], float]

#: How soon to look again at a clock that cannot say that it has moved, in seconds.
_LOOK_AGAIN = 0.01


class Health:
    """Up, down, slow or hanging; and the waits that come of it, which any change ends.

    Args:
        who: Whose health it is, for errors.
        clock: The clock by which it changes.
    """

    def __init__(self, who: str, clock: Clock) -> None:
        self._who = who
        self._clock = clock
        self._down_until = -math.inf
        self._error: InferError | type[InferError] | None = None
        self._delay = 0.0
        self._hanging = False
        self._ups = 0
        self.reset_in_child()

    def reset_in_child(self) -> None:
        """Forget the threads that wait: they do not exist in a forked child."""
        if isinstance(self._clock, ManualClock):
            self._clock.reset_in_child()
            self.news = self._clock.news
        else:
            self.news = threading.Condition()

    def set_down(self, seconds: float | None, error: InferError | type[InferError] | None) -> None:
        """Be down for so many seconds; None for good."""
        if seconds is not None:
            check_seconds(seconds)
        with self.news:
            until = math.inf if seconds is None else self._clock() + seconds
            self._down_until = max(self._down_until, until)
            self._error = error
            self.news.notify_all()

    def set_slow(self, seconds: float) -> None:
        """Take so many seconds for every answer."""
        check_seconds(seconds)
        with self.news:
            self._delay = float(seconds)
            self.news.notify_all()

    def set_hanging(self) -> None:
        """Answer nothing."""
        with self.news:
            self._hanging = True
            self.news.notify_all()

    def set_up(self) -> None:
        """Be there, and fast: whoever waits is answered now."""
        with self.news:
            self._down_until = -math.inf
            self._error = None
            self._delay = 0.0
            self._hanging = False
            self._ups += 1
            self.news.notify_all()

    @property
    def state(self) -> str:
        """In a word."""
        if self._clock() < self._down_until:
            return "down"
        if self._hanging:
            return "hanging"
        return "slow" if self._delay else "up"

    def require_there(self, *, begun: bool = False) -> None:
        """Raise what somebody meets who calls while it is down.

        Args:
            begun: Whether the call had reached it before.
        """
        if self._clock() < self._down_until:
            if self._error is not None:
                raise error_of(self._error, self._who)
            self.fail(begun=begun)

    def fail(self, *, begun: bool = False) -> NoReturn:
        """Raise what somebody meets who calls while nobody is there.

        Args:
            begun: Whether the call had reached it before.
        """
        raise Unavailable(f"{self._who} is down, as its test wants it", unprocessed=not begun)

    def wait(
        self,
        deadline: Deadline,
        require_open: Callable[[], None],
        outcome: object = None,
        *,
        answering: bool = True,
    ) -> None:
        """Wait for as long as an answer takes.

        Args:
            deadline: The call's.
            require_open: Raises why there is nothing to wait for any more; asked after each change.
            outcome: What the script says of this call.
            answering: Whether it is an answer that is waited for, which may be slow.

        Raises:
            DeadlineExceeded: It takes longer than the call may.
            Unavailable: It went down meanwhile.
        """
        with self.news:
            self._wait(deadline, require_open, outcome, answering)

    def _wait(
        self, deadline: Deadline, require_open: Callable[[], None], outcome: Any, answering: bool
    ) -> None:
        began, ups = self._clock(), self._ups
        while True:
            require_open()
            self.require_there(begun=True)
            fresh = ups == self._ups
            own = outcome.seconds if isinstance(outcome, Slow) and fresh else 0.0
            delay = max(own, self._delay if answering else 0.0)
            hangs = self._hanging or (isinstance(outcome, Hang) and fresh)
            left = math.inf if hangs else began + delay - self._clock()
            if left <= 0:
                return
            patience = deadline.patience(f"{self._who} answered")
            self.news.wait(min(patience, self._soon(left), threading.TIMEOUT_MAX))

    def _soon(self, left: float) -> float:
        """How long to wait until the clock may have moved by so much."""
        if isinstance(self._clock, ManualClock):
            return math.inf
        return left if self._clock is time.monotonic else min(left, _LOOK_AGAIN)
