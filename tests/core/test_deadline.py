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
