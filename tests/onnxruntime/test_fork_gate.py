"""A fork waits until onnxruntime is at rest, and runs wait for the fork."""

from __future__ import annotations

import threading
import time

import pytest

from infer_backends_onnxruntime._fork_gate import ForkGate


def test_runs_pass_while_nobody_forks() -> None:
    gate = ForkGate()
    first, second = gate.enter(), gate.enter()
    gate.leave(first)
    gate.leave(second)
    gate.before()
    gate.after_in_parent()
    gate.leave(gate.enter())


def test_a_fork_waits_for_the_runs_inside() -> None:
    gate = ForkGate(drain=30)
    token = gate.enter()
    forking = threading.Thread(target=gate.before)
    forking.start()
    # The gate is shut before the fork waits, so this ends it and nothing else does.
    while not gate.forks:
        time.sleep(0.001)
    assert forking.is_alive()
    gate.leave(token)
    forking.join(10)
    assert not forking.is_alive()


def test_a_fork_does_not_wait_for_ever() -> None:
    gate = ForkGate(drain=0.01)
    gate.enter()
    gate.before()


@pytest.mark.parametrize("forks", [1, 3])
def test_a_run_waits_for_every_fork_under_way(forks: int) -> None:
    gate = ForkGate()
    for _ in range(forks):
        gate.before()
    entered = threading.Event()

    def run() -> None:
        token = gate.enter()
        entered.set()
        gate.leave(token)

    running = threading.Thread(target=run)
    running.start()
    for _ in range(forks):
        assert not entered.wait(0.02)
        gate.after_in_parent()
    assert entered.wait(10)
    running.join(10)


def test_a_child_starts_with_an_open_gate() -> None:
    gate = ForkGate(drain=0.01)
    inside = gate.enter()
    gate.before()
    gate.after_in_child()
    gate.leave(inside)
    gate.leave(gate.enter())
    assert not gate.inside
