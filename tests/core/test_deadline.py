"""One deadline for all that a call does."""

from __future__ import annotations

import threading

import pytest

from infer_backends.plugin import Deadline, DeadlineExceeded
from tests.core.fakes import ManualClock


def test_what_remains_shrinks_as_the_clock_moves() -> None:
    clock = ManualClock()
    deadline = Deadline.after(3, clock=clock)
    clock.advance(1)
    assert deadline.remaining() == 2
    assert not deadline.expired
    assert deadline.require("asking") == 2
    clock.advance(2)
    assert deadline.expired


def test_a_deadline_is_never_later_than_clocks_can_hold() -> None:
    for forever in (float("inf"), 1e300):
        assert Deadline.after(forever).require("asking") < threading.TIMEOUT_MAX


def test_requiring_time_after_the_deadline_says_what_it_was_for() -> None:
    clock = ManualClock()
    deadline = Deadline.after(1, clock=clock)
    clock.advance(1.5)
    assert deadline.remaining() == -0.5
    with pytest.raises(DeadlineExceeded, match="before connecting; give a larger timeout"):
        deadline.require("connecting")


def test_an_earlier_deadline_keeps_a_reserve_and_the_rest() -> None:
    clock = ManualClock()
    deadline = Deadline.after(4, explicit=False, clock=clock)
    earlier = deadline.less(1)
    assert earlier.remaining() == 3
    assert earlier.explicit is False
    clock.advance(3)
    assert earlier.expired
    assert not deadline.expired
    assert repr(deadline) == "<Deadline in 1.000 s>"


def test_without_an_alarm_patience_is_all_that_remains() -> None:
    clock = ManualClock()
    deadline = Deadline.after(3, clock=clock)
    clock.advance(1)
    assert deadline.patience("the answer") == 2
    assert not deadline.alarmed
    clock.advance(2)
    with pytest.raises(DeadlineExceeded, match="before the answer; give a larger timeout"):
        deadline.patience("the answer")


def test_patience_ends_when_an_alarm_is_due_and_rings_it_once() -> None:
    clock = ManualClock()
    rung: list[float] = []
    deadline = Deadline.after(4, explicit=False, clock=clock).with_alarm(
        1, lambda: rung.append(clock())
    )
    assert deadline.explicit is False
    assert (deadline.alarmed, deadline.patience("it"), deadline.require("it")) == (True, 1, 4)
    clock.advance(1.5)
    assert rung == []
    assert (deadline.patience("it"), deadline.alarmed) == (2.5, False)
    assert (deadline.patience("it"), deadline.alarmed) == (2.5, False)
    assert rung == [1001.5]


def test_an_alarm_that_is_due_is_rung_although_no_time_is_left() -> None:
    clock = ManualClock()
    rung: list[int] = []
    deadline = Deadline.after(2, clock=clock).with_alarm(1, lambda: rung.append(1))
    clock.advance(3)
    with pytest.raises(DeadlineExceeded):
        deadline.patience("it")
    assert rung == [1]


def test_an_alarm_after_the_deadline_does_not_make_a_wait_longer() -> None:
    clock = ManualClock()
    deadline = Deadline.after(2, clock=clock).with_alarm(5, lambda: None)
    assert deadline.patience("it") == 2


def test_an_earlier_deadline_shares_the_alarm() -> None:
    clock = ManualClock()
    rung: list[int] = []
    deadline = Deadline.after(4, clock=clock).with_alarm(1, lambda: rung.append(1))
    earlier = deadline.less(2)
    assert (earlier.remaining(), earlier.patience("it"), earlier.alarmed) == (2, 1, True)
    clock.advance(1)
    assert earlier.patience("it") == 1
    assert not deadline.alarmed
    assert deadline.patience("it") == 3
    assert rung == [1]


def test_each_alarm_is_rung_at_its_time() -> None:
    clock = ManualClock()
    rung: list[str] = []
    deadline = Deadline.after(9, clock=clock).with_alarm(2, lambda: rung.append("late"))
    deadline = deadline.with_alarm(1, lambda: rung.append("early"))
    clock.advance(1)
    assert deadline.patience("it") == 1
    assert rung == ["early"]
    clock.advance(1)
    assert deadline.patience("it") == 7
    assert rung == ["early", "late"]


def test_a_wait_for_an_alarm_is_never_a_wait_of_nothing() -> None:
    now = iter([0.0, 0.0, 0.5, 0.5, 1.0])  # the clock moves on while patience is worked out
    deadline = Deadline.after(4, clock=lambda: next(now)).with_alarm(1, lambda: None)
    assert deadline.patience("it") > 0


def test_many_threads_that_wait_ring_an_alarm_once() -> None:
    rung: list[int] = []
    together = threading.Barrier(8, timeout=10)
    deadline = Deadline.after(10).with_alarm(0, lambda: rung.append(1))

    def wait() -> None:
        together.wait()
        deadline.patience("it")

    threads = [threading.Thread(target=wait) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rung == [1]
