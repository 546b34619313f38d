"""When one endpoint is asked, and when it is left alone. Told what happened; does nothing itself.

A circuit breaker (M. Nygard, *Release It!*) with one more state: an endpoint that kept a caller
waiting is *suspect* at once, so that a server that hangs costs one bounded wait and not five.
Nothing is locked while a call runs: a call takes a permit before, and hands it back with its
outcome; a permit from before a transition counts for nothing after it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from infer_backends._deadline import Clock
from infer_backends._member_state import MemberState

#: Availability failures in a row that open the breaker.
FAILURES_IN_A_ROW = 5
#: Half of so many calls, or more, within so many seconds open it too.
WINDOW_CALLS, WINDOW_SECONDS = 20, 10
#: Real calls that have to succeed, one at a time, before all calls are let in again.
TRIALS = 3
#: How long it stays open at first, and at most, in seconds.
FIRST_INTERVAL, LONGEST_INTERVAL = 5.0, 60.0
#: So often doubled, the first interval is longer than the longest; powers have no end, floats do.
_DOUBLINGS = 4


@dataclass(slots=True, eq=False)
class Permit:
    """Leave to ask the endpoint once.

    Attributes:
        generation: The number of transitions before it was given.
        trial: Whether it is one of the calls that show whether the endpoint has recovered.
    """

    generation: int
    trial: bool = False


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state, and why."""

    before: MemberState
    after: MemberState
    reason: str


class Breaker:
    """The state of one endpoint.

    Args:
        clock: The monotonic clock.
        random: Numbers from 0 to 1, for jitter.
        state: Where to begin.

    Attributes:
        state: The state now.
        since: When it began, on the clock.
        calls: How many calls were made.
        failures: How many of them found the endpoint unavailable.
        free: The leave that everybody gets, without a lock; None while not everybody does.
        news: The transitions that nobody was told of yet, oldest first; who tells takes them out.
    """

    def __init__(
        self,
        clock: Clock,
        random: Callable[[], float],
        state: MemberState = MemberState.READY,
    ) -> None:
        self._clock = clock
        self._random = random
        self.state = state
        self.since = clock()
        self.calls = 0
        self.failures = 0
        self.news: deque[Transition] = deque()
        self._generation = 0
        self.free: Permit | None = None
        self._trial: Permit | None = None
        self._level = 0
        self._held_until = self.since
        self._in_a_row = 0
        self._trials = 0
        # Calls and failures when each of the last seconds began.
        self._window = deque([(self.since, 0, 0)])
        self._next_second = self.since + 1.0
        self.reset_in_child()
        self._allow()

    def reset_in_child(self) -> None:
        """Forget the threads that were at it: they do not exist in a forked child."""
        self._lock = threading.Lock()
        self._trial = None

    def admit(self) -> Permit | None:
        """Leave to ask the endpoint, or None."""
        # One read, no lock: this is on the path of every call.
        return self.free or (self._try() if self.state is MemberState.RECOVERING else None)

    def admit_when_nobody_else_can(self) -> Permit | None:
        """Leave to ask an endpoint that others would be preferred to.

        One that is recovering takes more than one call then; one that is down, one at a time. One
        that is suspect would only make the caller wait.
        """
        with self._lock:
            if self.state is MemberState.RECOVERING:
                return Permit(self._generation)
            if self.state is MemberState.DOWN and self._trial is None:
                self._trial = Permit(self._generation, trial=True)
                return self._trial
        return self.free

    def _try(self) -> Permit | None:
        with self._lock:
            if self.state is not MemberState.RECOVERING or self._trial is not None:
                return self.free
            self._trial = Permit(self._generation, trial=True)
            return self._trial

    def succeeded(self, permit: Permit, now: float) -> Transition | None:
        """The endpoint answered: with outputs, or with an error of the call's own.

        Args:
            permit: The call's.
            now: The time, on the clock.
        """
        if permit is self.free and now < self._next_second:
            # Ready, and no transition since: nothing to lock for. Most calls end here.
            self.calls += 1
            if self._in_a_row:
                self._in_a_row = 0
            return None
        with self._lock:
            self._turn(now)
            self.calls += 1
            self._give_back(permit)
            if permit.generation != self._generation:
                return None
            if self.free is not None:
                self._in_a_row = 0
                return None
            if self.state is MemberState.DOWN:
                return self._to(MemberState.RECOVERING, "a call was answered")
            self._trials += 1
            if self._trials < TRIALS:
                return None
            self._level = 0
            return self._to(MemberState.READY, f"{TRIALS} calls in a row were answered")

    def failed(self, permit: Permit, now: float, reason: str, *, slow: bool) -> Transition | None:
        """The endpoint was not available to a call.

        Args:
            permit: The call's.
            now: The time, on the clock.
            reason: Why, for who reads the log.
            slow: Whether it kept the caller waiting.
        """
        with self._lock:
            self._turn(now)
            self.calls += 1
            self.failures += 1
            self._give_back(permit)
            if permit.generation != self._generation or self.state is MemberState.DOWN:
                return None
            after = MemberState.SUSPECT if slow else MemberState.DOWN
            if self.state is MemberState.RECOVERING:
                self._level = min(self._level + 1, _DOUBLINGS)
                return self._to(after, f"a trial call failed: {reason}")
            if slow:
                return self._to(after, reason)
            self._in_a_row += 1
            if self._in_a_row >= FAILURES_IN_A_ROW:
                return self._to(after, f"{self._in_a_row} failures in a row: {reason}")
            calls, failures = self._lately(now)
            if calls >= WINDOW_CALLS and 2 * failures >= calls:
                return self._to(after, f"{failures} of {calls} calls failed: {reason}")
            return None

    def abandoned(self, permit: Permit) -> None:
        """A call ended in a way that says nothing of the endpoint."""
        with self._lock:
            self._give_back(permit)

    def held(self, *, probed: bool) -> float:
        """Seconds until the endpoint may be tried again; zero or less when it may be now.

        Args:
            probed: Whether a probe says that it is ready, which is reason enough the first time;
                not when it said so before, and calls failed all the same.
        """
        if probed and self._level == 0:
            return 0.0
        return self._held_until - self._clock()

    def recover(self, reason: str) -> Transition | None:
        """A probe succeeded: real calls are let in, one at a time."""
        with self._lock:
            if self.state in {MemberState.READY, MemberState.RECOVERING}:
                return None
            return self._to(MemberState.RECOVERING, reason)

    def opened(self) -> Transition | None:
        """A member that was loaded only now, because it was needed, is there."""
        with self._lock:
            if self.state is not MemberState.UNOPENED:
                return None
            return self._to(MemberState.READY, "it was needed")

    def shut(self, state: MemberState, reason: str) -> Transition | None:
        """Ask the endpoint no more, for a reason that no call has shown."""
        with self._lock:
            return self._to(state, reason) if self.state is not state else None

    def _give_back(self, permit: Permit) -> None:
        if self._trial is permit:
            self._trial = None

    def _to(self, state: MemberState, reason: str) -> Transition:
        transition = Transition(self.state, state, reason)
        self.news.append(transition)
        self.state = state
        self.since = self._clock()
        self._generation += 1
        self._trial = None
        self._trials = 0
        self._in_a_row = 0
        self._window.clear()
        self._window.append((self.since, self.calls, self.failures))
        self._next_second = self.since + 1.0
        if state in {MemberState.DOWN, MemberState.SUSPECT}:
            interval = min(FIRST_INTERVAL * 2**self._level, LONGEST_INTERVAL)
            # Equal jitter (M. Brooker, "Exponential Backoff And Jitter"): half of it is certain.
            self._held_until = self.since + interval * (1 + self._random()) / 2
        self._allow()
        return transition

    def _allow(self) -> None:
        everybody = self.state in {MemberState.READY, MemberState.UNOPENED}
        self.free = Permit(self._generation) if everybody else None

    def _turn(self, now: float) -> None:
        """Note the counters, if a second has begun, for :meth:`_lately`."""
        if now < self._next_second:
            return
        window = self._window
        while window and window[0][0] <= now - WINDOW_SECONDS:
            window.popleft()
        window.append((now, self.calls, self.failures))
        self._next_second = now + 1.0

    def _lately(self, now: float) -> tuple[int, int]:
        """Calls and failures of the last seconds, to the second."""
        horizon = now - WINDOW_SECONDS
        calls, failures = next(
            ((calls, failures) for second, calls, failures in self._window if second > horizon),
            (self.calls, self.failures),
        )
        return self.calls - calls, self.failures - failures
