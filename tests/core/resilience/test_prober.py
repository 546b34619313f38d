"""A thread probes while something has to be probed, and there is no other."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from infer_backends._resilience import _prober
from infer_backends._resilience._prober import Prober
from tests.core.resilience.members import NEVER, at_once, threads, until


class Owner:
    """Takes steps that a test scripts: seconds until the next one, or None for the last."""

    def __init__(self, *delays: float | None) -> None:
        self.delays = list(delays)
        self.steps = 0
        self.names: set[str] = set()
        self.during: Callable[[], None] = lambda: None
        self.prober = Prober(self.step, "infer-backends-probe")

    def step(self) -> float | None:
        self.steps += 1
        self.names.add(str(threading.get_ident()))
        self.during()
        return self.delays.pop(0) if self.delays else None


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test waits for comes of what it does, not of the thread's looking again."""
    monkeypatch.setattr(_prober, "_LOOK_AGAIN", NEVER)


@pytest.fixture
def owners() -> Iterator[list[Owner]]:
    made: list[Owner] = []
    yield made
    for owner in made:
        owner.prober.stop()


def test_it_takes_steps_until_there_is_none_to_take_and_ends() -> None:
    owner = Owner(0.0, 0.001, None)
    owner.prober.wake(0.0)
    until(lambda: not owner.prober.running)
    assert owner.steps == 3
    until(lambda: not threads())


def test_it_can_be_woken_again() -> None:
    owner = Owner()
    for steps in (1, 2, 3):
        owner.prober.wake(0.0)
        until(lambda: not owner.prober.running)
        assert owner.steps == steps


def test_however_many_wake_it_there_is_one_thread(owners: list[Owner]) -> None:
    owner = Owner()
    owners.append(owner)
    inside, leave = threading.Event(), threading.Event()

    def during() -> None:
        inside.set()
        assert leave.wait(10)

    owner.during = during
    at_once(16, lambda: owner.prober.wake(0.0))
    assert inside.wait(10)
    assert threads() == ["infer-backends-probe"]
    leave.set()
    until(lambda: not owner.prober.running)
    # Those who woke it while it was at it may have been right: once more, and not once for each.
    assert owner.steps <= 2


def test_a_wake_during_the_last_step_is_not_lost() -> None:
    owner = Owner(None, None)
    inside, leave = threading.Event(), threading.Event()

    def during() -> None:
        if owner.steps == 1:
            inside.set()
            assert leave.wait(10)

    owner.during = during
    owner.prober.wake(0.0)
    assert inside.wait(10)
    owner.prober.wake(0.0)
    leave.set()
    until(lambda: owner.steps == 2)
    until(lambda: not owner.prober.running)


def test_a_wake_that_is_sooner_does_not_wait_for_what_was_due_later(owners: list[Owner]) -> None:
    owner = Owner()
    owners.append(owner)
    owner.prober.wake(NEVER)
    condition = owner.prober._news._cond  # type: ignore[attr-defined]  # where it waits
    until(lambda: condition._waiters)
    owner.prober.wake(0.0)
    until(lambda: owner.steps == 1)


def test_a_step_says_itself_when_the_next_one_is_due(owners: list[Owner]) -> None:
    owner = Owner(NEVER)
    owners.append(owner)
    owner.during = lambda: owner.prober.wake(0.0)
    owner.prober.wake(0.0)
    until(lambda: owner.steps == 1)
    assert owner.prober._woken is None


def test_stopping_ends_it_while_it_waits_and_nothing_wakes_it_then() -> None:
    owner = Owner()
    owner.prober.wake(NEVER)
    owner.prober.stop()
    owner.prober.stop()
    assert not owner.prober.running
    owner.prober.wake(0.0)
    assert not owner.prober.running
    assert owner.steps == 0


def test_a_step_may_stop_it() -> None:
    owner = Owner(0.0, 0.0)
    owner.during = owner.prober.stop
    owner.prober.wake(0.0)
    until(lambda: not owner.prober.running)
    assert owner.steps == 1


def test_stopping_does_not_wait_for_ever_for_a_step() -> None:
    owner = Owner()
    inside, leave = threading.Event(), threading.Event()

    def during() -> None:
        inside.set()
        assert leave.wait(10)

    owner.during = during
    owner.prober.wake(0.0)
    assert inside.wait(10)
    owner.prober.stop(0.001)
    assert threads()
    leave.set()
    until(lambda: not threads())


def test_a_step_that_raises_ends_the_thread_and_it_can_be_woken_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    owner = Owner()

    def during() -> None:
        raise KeyError("secret")

    owner.during = during
    with caplog.at_level(logging.WARNING, "infer_backends"):
        owner.prober.wake(0.0)
        until(lambda: not owner.prober.running)
    assert "infer-backends-probe raised KeyError" in caplog.text
    assert "secret" not in caplog.text
    owner.during = lambda: None
    owner.prober.wake(0.0)
    until(lambda: owner.steps == 2)


def test_where_no_thread_can_be_had_the_caller_does_not_suffer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    owner = Owner()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        owner.prober.wake(0.0)
    assert not owner.prober.running
    owner.prober.wake(0.0)
    until(lambda: owner.steps == 1)


def test_an_owner_that_is_collected_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_prober, "_LOOK_AGAIN", 0.001)
    owner = Owner()
    owner.prober.wake(NEVER)
    assert threads()
    del owner
    gc.collect()
    until(lambda: not threads())


def test_a_forked_child_begins_with_no_thread(owners: list[Owner]) -> None:
    owner = Owner()
    owners.append(owner)
    owner.prober.wake(NEVER)
    news, thread = owner.prober._news, owner.prober._thread
    with owner.prober._lock:  # as a thread of the parent may have held it
        owner.prober.reset_in_child()
        assert not owner.prober.running
    owner.prober.wake(0.0)
    until(lambda: owner.steps == 1)
    # What only a test sees: here the parent's thread goes on.
    assert thread is not None
    owner.prober.stop()
    news.set()
    thread.join(10)
