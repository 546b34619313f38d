"""Observers are told what happens, and no call waits for one."""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from infer_backends import (
    AttemptEvent,
    FallbackEvent,
    MemberState,
    PluginError,
    ProbeEvent,
    TransitionEvent,
    _observers,
    register_observer,
)
from infer_backends._observer_plugins import Observer, ObserverPlugins
from infer_backends._observers import Observers, open_observers
from infer_backends.plugin import Event

PATIENCE = 10.0


def event(number: int) -> Event:
    return AttemptEvent("m", float(number), "http://h/m", 0.25, None, str(number))


def watching(*functions: Callable[[Event], object], capacity: int = 1000) -> Observers:
    named = [Observer(f"observer {i}", function) for i, function in enumerate(functions)]
    return Observers(named, capacity=capacity)


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "infer-backends-observer"]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Any:
    assert threads() == []
    yield
    for thread in threads():
        thread.join(PATIENCE)
    assert threads() == []


@pytest.fixture(autouse=True)
def nobody_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_observers, "INSTALLED", ObserverPlugins(list, {}))


class Stuck:
    """An observer that does not come back until it is let go."""

    def __init__(self) -> None:
        self.inside, self.go = threading.Event(), threading.Event()
        self.seen: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.inside.set()
        assert self.go.wait(PATIENCE)
        self.seen.append(event)


def test_every_observer_is_told_every_event_in_order() -> None:
    first: list[Event] = []
    second: list[Event] = []
    observers = watching(first.append, second.append)
    told = [
        event(1),
        TransitionEvent("m", 2.0, "http://h/m", MemberState.READY, MemberState.DOWN, "refused"),
        FallbackEvent("m", 3.0, "onnx:m.onnx", (), ""),
        ProbeEvent("m", 4.0, "http://h/m", ready=True, duration=0.5, error=None),
    ]
    for each in told:
        observers.notify(each)
    observers.close(PATIENCE)
    assert first == second == told
    assert observers.dropped == 0


def test_there_is_no_thread_before_the_first_event_nor_after_close() -> None:
    observers = watching(lambda _: None, lambda _: None)
    assert bool(observers)
    assert threads() == []
    observers.notify(event(1))
    assert len(threads()) == 2
    assert all(thread.daemon for thread in threads())
    observers.close(PATIENCE)
    assert threads() == []
    observers.notify(event(2))
    assert threads() == []
    assert observers.dropped == 2
    observers.close(PATIENCE)


def test_nobody_to_tell_is_nothing_to_do() -> None:
    observers = watching()
    assert not observers
    observers.notify(event(1))
    observers.close(PATIENCE)
    assert observers.dropped == 0


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_an_observer_that_raises_is_reported_once_and_told_all_the_same(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Event] = []

    def raising(event: Event) -> None:
        seen.append(event)
        raise kind("hunter2")

    observers = watching(raising)
    for number in range(3):
        observers.notify(event(number))
    observers.close(PATIENCE)
    assert len(seen) == 3
    (record,) = caplog.records
    assert (record.levelno, record.name) == (logging.WARNING, "infer_backends")
    assert f"observer 0 raised {kind.__name__}" in record.message
    assert "hunter2" not in caplog.text


def test_events_beyond_the_capacity_are_dropped_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    slow = Stuck()
    quick: list[Event] = []
    told = threading.Semaphore(0)

    def keeping_up(happened: Event) -> None:
        quick.append(happened)
        told.release()

    observers = watching(slow, keeping_up, capacity=3)
    observers.notify(event(0))
    assert slow.inside.wait(PATIENCE)
    for number in range(1, 6):
        assert told.acquire(timeout=PATIENCE)
        observers.notify(event(number))
    assert observers.dropped == 2
    slow.go.set()
    observers.close(PATIENCE)
    assert slow.seen == [event(number) for number in range(4)]
    assert len(quick) == 6
    assert "observer 0 was too slow: it was not told of 2 events" in caplog.text


def test_closing_leaves_an_observer_that_hangs_to_itself() -> None:
    hanging = Stuck()
    observers = watching(hanging)
    for number in range(3):
        observers.notify(event(number))
    assert hanging.inside.wait(PATIENCE)
    observers.close(0)
    (thread,) = threads()
    assert thread.daemon
    hanging.go.set()
    thread.join(PATIENCE)
    # It ends when it comes back, and is not told the rest.
    assert hanging.seen == [event(0)]
    assert observers.dropped == 2


def test_an_observer_may_close_the_model_that_it_observes() -> None:
    closed = threading.Event()

    def closing(_: Event) -> None:
        observers.close(PATIENCE)
        closed.set()

    observers = watching(closing)
    observers.notify(event(1))
    assert closed.wait(PATIENCE)


def test_a_thread_that_cannot_be_started_drops_events(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    observers = watching(lambda _: None)
    observers.notify(event(1))
    observers.close(PATIENCE)
    assert observers.dropped == 1


def test_the_threads_of_observers_that_nobody_closed_end() -> None:
    observers = watching(lambda _: None)
    observers.notify(event(1))
    (thread,) = threads()
    del observers
    gc.collect()
    thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_tells_what_happens_there_and_nothing_of_its_parent() -> None:
    stuck = Stuck()
    seen: list[Event] = []
    parent = os.getpid()

    def observing(happened: Event) -> None:
        if os.getpid() == parent:
            stuck(happened)
        seen.append(happened)

    observers = watching(observing)
    for number in range(3):
        observers.notify(event(number))
    assert stuck.inside.wait(PATIENCE)
    (listener,) = observers._listeners
    with listener._lock:
        child = os.fork()
        if child == 0:
            try:
                # As if another thread had held the lock, which this child does not have.
                observers.notify(event(7))
                observers.close(PATIENCE)
                os._exit(0 if seen == [event(7)] and observers.dropped == 0 else 1)
            finally:
                os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    stuck.go.set()
    observers.close(PATIENCE)
    assert seen == [event(number) for number in range(3)]


def test_a_registered_function_observes_what_is_opened_while_it_is_registered() -> None:
    seen: list[Event] = []
    with register_observer(seen.append) as registration:
        observers = open_observers()
        observers.notify(event(1))
        observers.close(PATIENCE)
        assert seen == [event(1)]
        later = open_observers()
        registration.unregister()
        registration.unregister()
        later.notify(event(2))
        later.close(PATIENCE)
    assert seen == [event(1)]
    assert not open_observers()


def test_only_a_function_can_observe() -> None:
    with pytest.raises(PluginError, match="pass a function of an event"):
        register_observer("print")  # type: ignore[arg-type]
