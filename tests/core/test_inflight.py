"""Closing waits for the calls in flight."""

from __future__ import annotations

import threading

import pytest

from infer_backends import ModelClosed
from infer_backends._inflight import InFlight


def test_closing_an_idle_gate_returns_at_once_and_lets_nobody_in() -> None:
    gate = InFlight()
    gate.leave(gate.enter())
    assert gate.close(10)
    assert gate.close(10)
    with pytest.raises(ModelClosed, match="open it again"):
        gate.enter()
    assert gate.close(0)


def test_closing_waits_for_those_inside() -> None:
    gate, inside, leave = InFlight(), threading.Event(), threading.Event()

    def call() -> None:
        token = gate.enter()
        inside.set()
        assert leave.wait(10)
        gate.leave(token)

    caller = threading.Thread(target=call)
    caller.start()
    assert inside.wait(10)
    assert not gate.close(0)
    closer = threading.Thread(target=lambda: results.append(gate.close(10)))
    results: list[bool] = []
    closer.start()
    leave.set()
    closer.join(10)
    caller.join(10)
    assert results == [True]


def test_closing_may_wait_for_longer_than_a_clock_can_hold() -> None:
    gate, inside, leave = InFlight(), threading.Event(), threading.Event()

    def call() -> None:
        token = gate.enter()
        inside.set()
        assert leave.wait(10)
        gate.leave(token)

    caller = threading.Thread(target=call)
    caller.start()
    assert inside.wait(10)
    threading.Timer(0.05, leave.set).start()
    assert gate.close(1e300)
    caller.join(10)


def test_a_forked_child_forgets_the_threads_of_its_parent() -> None:
    gate = InFlight()
    inside = gate.enter()
    gate.reset_in_child()
    assert gate.close(0)
    # The thread that forked comes to the end of its call in the child, too.
    gate.leave(inside)
    assert gate.close(0)
