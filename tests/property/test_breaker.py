"""A breaker does what a simple model of it does, whatever calls, probes and time bring."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from infer_backends._member_state import MemberState
from infer_backends._resilience._breaker import Breaker, Permit
from tests.core.fakes import ManualClock

DOWN, SUSPECT, READY = MemberState.DOWN, MemberState.SUSPECT, MemberState.READY
RECOVERING, EXCLUDED = MemberState.RECOVERING, MemberState.EXCLUDED


class Breaking(RuleBasedStateMachine):
    """The breaker beside what is expected of it, written down call by call."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.breaker = Breaker(self.clock, lambda: 1.0)
        self.state = READY
        self.era = 0
        self.in_flight: list[tuple[Permit, int]] = []
        self.trial: Permit | None = None
        self.row: list[bool] = []
        self.recent: list[tuple[float, bool]] = []
        self.level = 0
        self.calls = self.failures = 0

    def _to(self, state: MemberState) -> None:
        self.state = state
        self.era += 1
        self.trial = None
        self.row = []
        self.recent = []

    @rule(seconds=st.sampled_from([0.001, 0.3, 1.0, 4.0, 10.0, 7200.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def a_call_begins(self) -> None:
        permit = self.breaker.admit()
        if self.state is READY:
            assert permit is not None
        elif self.state is RECOVERING and self.trial is None:
            assert permit is not None
            self.trial = permit
        else:
            assert permit is None
            return
        self.in_flight.append((permit, self.era))

    @rule()
    def a_call_begins_though_others_would_be_preferred(self) -> None:
        permit = self.breaker.admit_when_nobody_else_can()
        if self.state in {READY, RECOVERING}:
            assert permit is not None
        elif self.state is DOWN and self.trial is None:
            assert permit is not None
            self.trial = permit
        else:
            assert permit is None
            return
        self.in_flight.append((permit, self.era))

    def _end(self, which: int) -> tuple[Permit, bool]:
        permit, era = self.in_flight.pop(which % len(self.in_flight))
        if self.trial is permit:
            self.trial = None
        return permit, era == self.era

    @precondition(lambda self: self.in_flight)
    @rule(which=st.integers(0, 99))
    def a_call_succeeds(self, which: int) -> None:
        permit, counts = self._end(which)
        transition = self.breaker.succeeded(permit, self.clock())
        self.calls += 1
        before = self.state
        if counts:
            self.row.append(True)
            self.recent.append((self.clock(), True))
            if self.state is DOWN:
                self._to(RECOVERING)
            elif self.state is RECOVERING and len(self.row) == 3:
                self.level = 0
                self._to(READY)
        assert (transition is not None) == (before is not self.state)

    @precondition(lambda self: self.in_flight)
    @rule(which=st.integers(0, 99), slow=st.booleans())
    def a_call_fails(self, which: int, slow: bool) -> None:
        permit, counts = self._end(which)
        transition = self.breaker.failed(permit, self.clock(), "refused", slow=slow)
        self.calls += 1
        self.failures += 1
        before = self.state
        if counts and self.state is not DOWN:
            self.row.append(False)
            self.recent.append((self.clock(), False))
            if self.state is RECOVERING:
                self.level += 1
                self._to(SUSPECT if slow else DOWN)
            elif slow:
                self._to(SUSPECT)
            elif self.row[-5:] == [False] * 5:
                self._to(DOWN)
            elif transition is not None:
                # The window is kept to the second: it holds what is in it for certain.
                assert self._failing(9.0 - 1e-6) or self._failing(10.0)
                self._to(DOWN)
            else:
                assert not (self._failing(9.0 - 1e-6) and self._failing(10.0))
        assert (transition is not None) == (before is not self.state)

    def _failing(self, seconds: float) -> bool:
        lately = [good for when, good in self.recent if when > self.clock() - seconds]
        return len(lately) >= 20 and 2 * lately.count(False) >= len(lately)

    @precondition(lambda self: self.in_flight)
    @rule(which=st.integers(0, 99))
    def a_call_ends_and_says_nothing(self, which: int) -> None:
        permit, _ = self._end(which)
        self.breaker.abandoned(permit)

    @rule()
    def a_probe_succeeds(self) -> None:
        transition = self.breaker.recover("it is ready")
        assert (transition is not None) == (self.state in {DOWN, SUSPECT, EXCLUDED})
        if transition is not None:
            self._to(RECOVERING)

    @rule()
    def it_turns_out_to_be_another_model(self) -> None:
        transition = self.breaker.shut(EXCLUDED, "another model")
        assert (transition is not None) == (self.state is not EXCLUDED)
        if transition is not None:
            self._to(EXCLUDED)

    @invariant()
    def it_is_as_expected(self) -> None:
        assert self.breaker.state is self.state
        assert (self.breaker.calls, self.breaker.failures) == (self.calls, self.failures)
        if self.state in {DOWN, SUSPECT}:
            assert self.breaker.held(probed=False) <= min(5 * 2**self.level, 60)
        if self.level == 0:
            assert self.breaker.held(probed=True) == 0


TestBreaking = Breaking.TestCase
TestBreaking.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
