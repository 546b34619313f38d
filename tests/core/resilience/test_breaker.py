"""When an endpoint is asked, and when it is left alone."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from infer_backends._member_state import MemberState
from infer_backends._resilience._breaker import Breaker, Permit, Transition
from tests.core.fakes import ManualClock
from tests.core.resilience.members import at_once

DOWN, SUSPECT, READY = MemberState.DOWN, MemberState.SUSPECT, MemberState.READY
RECOVERING, UNOPENED = MemberState.RECOVERING, MemberState.UNOPENED


class Tried:
    """A breaker, and the calls that are made through it."""

    def __init__(self, state: MemberState = READY, random: Callable[[], float] = lambda: 1) -> None:
        self.clock = ManualClock()
        self.breaker = Breaker(self.clock, random, state)

    def permit(self) -> Permit:
        permit = self.breaker.admit()
        assert permit is not None
        return permit

    def succeed(self, permit: Permit | None = None) -> Transition | None:
        return self.breaker.succeeded(permit or self.permit(), self.clock())

    def fail(self, permit: Permit | None = None, *, slow: bool = False) -> Transition | None:
        return self.breaker.failed(permit or self.permit(), self.clock(), "refused", slow=slow)

    def take_down(self) -> None:
        for _ in range(5):
            self.fail()
        assert self.breaker.state is DOWN

    def recovering(self) -> None:
        self.take_down()
        self.breaker.recover("it is ready")

    def fail_a_trial(self) -> float:
        """How long it is held after one more failed trial, in seconds."""
        self.breaker.recover("it is ready")
        self.fail()
        return self.breaker.held(probed=True)


def test_it_opens_at_the_fifth_failure_in_a_row_and_says_why() -> None:
    tried = Tried()
    assert [tried.fail() for _ in range(4)] == [None] * 4
    transition = tried.fail()
    assert transition == Transition(READY, DOWN, "5 failures in a row: refused")
    assert tried.breaker.admit() is None


def test_a_success_between_failures_begins_the_row_anew() -> None:
    tried = Tried()
    for _ in range(4):
        tried.fail()
    tried.succeed()
    for _ in range(4):
        assert tried.fail() is None
    assert tried.fail() is not None


def test_a_success_that_notes_a_new_second_begins_the_row_anew_too() -> None:
    tried = Tried()
    for _ in range(4):
        tried.fail()
    tried.clock.advance(1.5)
    tried.succeed()
    assert tried.fail() is None


@pytest.mark.parametrize(("calls", "opens"), [(19, False), (20, True)])
def test_it_opens_when_half_of_20_calls_failed_and_not_of_19(calls: int, opens: bool) -> None:
    tried = Tried()
    for number in range(calls - 1):
        tried.succeed() if number % 2 else tried.fail()
    transition = tried.fail()
    assert (transition is not None) is opens
    if transition is not None:
        assert transition.reason == "11 of 20 calls failed: refused"


def test_exactly_half_of_20_is_enough_and_less_is_not() -> None:
    tried = Tried()
    for number in range(22):
        # 10 of 22, after 9 of 21.
        assert (tried.succeed() if number % 2 == 0 or number < 4 else tried.fail()) is None
    tried = Tried()
    *_, transition = [tried.fail() if number % 2 else tried.succeed() for number in range(20)]
    assert transition is not None
    assert transition.reason == "10 of 20 calls failed: refused"


def test_calls_of_more_than_10_s_ago_do_not_count() -> None:
    tried = Tried()
    for number in range(18):
        tried.succeed() if number % 2 else tried.fail()
    tried.clock.advance(10.001)
    assert tried.fail() is None
    assert tried.succeed() is None
    assert tried.fail() is None


def test_calls_of_less_than_10_s_ago_count() -> None:
    tried = Tried()
    for number in range(19):
        tried.succeed() if number % 2 else tried.fail()
    tried.clock.advance(9.9)
    assert tried.fail() is not None


def test_a_clock_that_leaps_ahead_by_hours_forgets_the_calls_before() -> None:
    tried = Tried()
    for number in range(19):
        tried.succeed() if number % 2 else tried.fail()
    tried.clock.advance(36_000)
    assert tried.fail() is None
    assert len(tried.breaker._window) == 1
    tried.breaker.shut(DOWN, "told to")
    tried.clock.advance(36_000)
    assert tried.breaker.held(probed=False) < 0


def test_the_window_stays_small_however_long_calls_are_made() -> None:
    tried = Tried()
    for _ in range(5000):
        tried.clock.advance(0.1)
        tried.succeed()
    assert len(tried.breaker._window) <= 11


@pytest.mark.parametrize("state", [READY, RECOVERING])
def test_a_slow_failure_makes_it_suspect_at_once(state: MemberState) -> None:
    tried = Tried()
    if state is RECOVERING:
        tried.recovering()
    transition = tried.fail(slow=True)
    assert transition is not None
    assert (transition.before, transition.after) == (state, SUSPECT)
    assert tried.breaker.admit() is None
    assert tried.breaker.admit_when_nobody_else_can() is None


@pytest.mark.parametrize("state", [DOWN, SUSPECT, MemberState.EXCLUDED])
def test_nobody_is_let_in_while_it_is_not_well(state: MemberState) -> None:
    tried = Tried()
    tried.breaker.shut(state, "told to")
    tried.clock.advance(1000)
    assert tried.breaker.admit() is None


def test_it_is_held_5_s_at_first_then_twice_as_long_up_to_60_s() -> None:
    tried = Tried()
    tried.take_down()
    assert tried.breaker.held(probed=False) == 5
    assert [tried.fail_a_trial() for _ in range(6)] == [10, 20, 40, 60, 60, 60]


@pytest.mark.parametrize(("random", "held"), [(0.0, 2.5), (0.5, 3.75), (1.0, 5.0)])
def test_half_of_an_interval_is_certain_and_half_is_jitter(random: float, held: float) -> None:
    tried = Tried(random=lambda: random)
    tried.take_down()
    assert tried.breaker.held(probed=False) == held
    tried.clock.advance(held)
    assert tried.breaker.held(probed=False) == 0


def test_after_a_recovery_the_intervals_begin_anew() -> None:
    tried = Tried()
    tried.take_down()
    for _ in range(3):
        tried.fail_a_trial()
    tried.breaker.recover("it is ready")
    for _ in range(3):
        tried.succeed()
    tried.take_down()
    assert tried.breaker.held(probed=False) == 5


def test_a_probe_that_says_ready_is_believed_the_first_time_only() -> None:
    tried = Tried()
    tried.take_down()
    assert tried.breaker.held(probed=True) == 0
    assert tried.fail_a_trial() == 10


def test_trials_that_fail_for_days_do_no_harm() -> None:
    tried = Tried()
    tried.take_down()
    assert {tried.fail_a_trial() for _ in range(3000)} == {10, 20, 40, 60}


def test_while_it_recovers_one_call_at_a_time_is_let_in() -> None:
    tried = Tried()
    tried.recovering()
    permit = tried.permit()
    assert permit.trial
    assert tried.breaker.admit() is None
    tried.succeed(permit)
    assert tried.breaker.admit() is not None


def test_the_third_success_lets_everybody_in() -> None:
    tried = Tried()
    tried.recovering()
    assert [tried.succeed(), tried.succeed()] == [None, None]
    assert tried.succeed() == Transition(RECOVERING, READY, "3 calls in a row were answered")
    assert tried.permit() is tried.permit()


def test_two_successes_and_a_failure_and_it_is_down_again() -> None:
    tried = Tried()
    tried.recovering()
    tried.succeed()
    tried.succeed()
    transition = tried.fail()
    assert transition == Transition(RECOVERING, DOWN, "a trial call failed: refused")
    tried.breaker.recover("it is ready")
    assert [tried.succeed(), tried.succeed()] == [None, None]
    assert tried.succeed() is not None


def test_a_trial_that_says_nothing_lets_the_next_one_in() -> None:
    tried = Tried()
    tried.recovering()
    tried.breaker.abandoned(tried.permit())
    assert tried.breaker.admit() is not None
    assert tried.breaker.state is RECOVERING


def test_a_permit_from_before_a_transition_counts_for_nothing_after_it() -> None:
    tried = Tried()
    old = [tried.permit() for _ in range(20)]
    tried.recovering()
    for permit in old[:10]:
        assert tried.succeed(permit) is None
    for permit in old[10:]:
        assert tried.fail(permit, slow=True) is None
    assert tried.breaker.state is RECOVERING
    assert [tried.succeed(), tried.succeed()] == [None, None]
    assert tried.succeed() is not None


def test_an_old_permit_that_comes_back_does_not_end_the_trial_of_another() -> None:
    tried = Tried()
    old = tried.permit()
    tried.recovering()
    tried.permit()
    tried.fail(old)
    tried.succeed(old)
    tried.breaker.abandoned(old)
    assert tried.breaker.admit() is None


def test_while_nobody_else_can_one_that_is_down_is_asked_one_call_at_a_time() -> None:
    tried = Tried()
    tried.take_down()
    permit = tried.breaker.admit_when_nobody_else_can()
    assert permit is not None
    assert tried.breaker.admit_when_nobody_else_can() is None
    tried.fail(permit)
    again = tried.breaker.admit_when_nobody_else_can()
    assert again is not None
    assert tried.succeed(again) == Transition(DOWN, RECOVERING, "a call was answered")


def test_while_nobody_else_can_one_that_recovers_takes_more_than_one_call() -> None:
    tried = Tried()
    tried.recovering()
    for permit in [tried.breaker.admit_when_nobody_else_can() for _ in range(3)]:
        assert permit is not None
        tried.succeed(permit)
    assert tried.breaker.state is READY


def test_one_that_is_excluded_is_not_asked_though_nobody_else_can() -> None:
    tried = Tried()
    tried.breaker.shut(MemberState.EXCLUDED, "another model")
    assert tried.breaker.admit_when_nobody_else_can() is None


def test_one_that_is_not_opened_lets_everybody_in_and_is_ready_once_it_is_there() -> None:
    tried = Tried(UNOPENED)
    assert tried.permit() is tried.permit()
    assert tried.breaker.opened() == Transition(UNOPENED, READY, "it was needed")
    assert tried.breaker.opened() is None


def test_the_same_news_twice_is_no_transition() -> None:
    tried = Tried()
    assert tried.breaker.recover("it is ready") is None
    assert tried.breaker.shut(DOWN, "told to") is not None
    assert tried.breaker.shut(DOWN, "told to") is None
    assert tried.breaker.recover("it is ready") is not None
    assert tried.breaker.recover("it is ready") is None


def test_calls_and_failures_are_counted_whatever_the_state() -> None:
    tried = Tried()
    old = tried.permit()
    tried.take_down()
    tried.fail(old)
    tried.succeed(old)
    assert (tried.breaker.calls, tried.breaker.failures) == (7, 6)


def test_a_forked_child_does_not_wait_for_a_trial_of_its_parent() -> None:
    tried = Tried()
    tried.recovering()
    tried.permit()
    tried.breaker._lock.acquire()
    tried.breaker.reset_in_child()
    assert tried.breaker.admit() is not None


def test_what_many_threads_do_is_counted() -> None:
    tried = Tried()

    def calls() -> None:
        for number in range(2000):
            tried.succeed()
            if number % 10 == 0:
                tried.clock.advance(0.01)

    at_once(8, calls)
    assert tried.breaker.calls == 16_000
    assert tried.breaker.failures == 0


def test_however_many_threads_ask_only_one_trial_is_ever_out() -> None:
    tried = Tried()
    tried.recovering()
    lock = threading.Lock()
    out = most = trials = 0

    def calls() -> None:
        nonlocal out, most, trials
        for _ in range(500):
            permit = tried.breaker.admit()
            if permit is None:
                continue
            with lock:
                out += 1
                trials += 1
                most = max(most, out)
            with lock:
                out -= 1
            # It says nothing, so that it stays as it is.
            tried.breaker.abandoned(permit)

    at_once(8, calls)
    assert most == 1
    assert trials > 0
