"""Observers are told what happens to open models, from end to end."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

import infer_backends as ib
from infer_backends.plugin import Backend, Deadline, Event, ModelURL, OpenOptions, Unavailable
from tests.core.fakes import FakeBackend

X = np.ones((2, 3), np.float32)


class Hosts:
    """Backends by host; those in ``down`` cannot be opened, and are not ready."""

    def __init__(self) -> None:
        self.down: set[str] = set()
        self.backends: dict[str, Probed] = {}

    def open(self, url: ModelURL, options: OpenOptions) -> Backend:
        host = url.host or ""
        if host in self.down:
            raise Unavailable("refused")
        self.backends[host] = Probed(self, host, str(url))
        return self.backends[host]


class Probed(FakeBackend):
    def __init__(self, hosts: Hosts, host: str, url: str) -> None:
        super().__init__(url=url)
        self._hosts, self._host = hosts, host

    def ready(self, deadline: Deadline) -> bool:
        return self._host not in self._hosts.down


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    found = Hosts()
    with ib.register_backend("fake", found.open):
        yield found


def test_every_kind_of_event_of_an_outage_is_told(hosts: Hosts) -> None:
    told: list[Event] = []
    recovering = threading.Event()

    def observe(event: Event) -> None:
        told.append(event)
        if isinstance(event, ib.TransitionEvent) and event.after is ib.MemberState.RECOVERING:
            recovering.set()

    with (
        ib.register_observer(observe),
        ib.open_model("fake://a/m fake://b/m", probe_period=0.05) as model,
    ):
        model.infer({"x": X}, request_id="one")
        hosts.down.add("a")
        hosts.backends["a"].error = Unavailable("refused")
        for _ in range(6):
            model(X)
        hosts.down.clear()
        assert recovering.wait(10)
        for _ in range(3):
            model(X)
    attempts = [event for event in told if isinstance(event, ib.AttemptEvent)]
    first = attempts[0]
    assert (first.request_id, first.url, first.error) == ("one", "fake://a/m", None)
    assert sum(event.error is not None for event in attempts) == 5
    states = [(e.before.value, e.after.value) for e in told if isinstance(e, ib.TransitionEvent)]
    assert states == [("ready", "down"), ("down", "recovering"), ("recovering", "ready")]
    fallbacks = [event for event in told if isinstance(event, ib.FallbackEvent)]
    assert [len(event.attempts) for event in fallbacks] == [1, 1, 1, 1, 1, 0]
    assert {event.url for event in fallbacks} == {"fake://b/m"}


def test_an_observer_that_raises_or_hangs_hurts_no_call(hosts: Hosts) -> None:
    hang = threading.Event()

    def hangs(event: Event) -> None:
        hang.wait(30)

    def raises(event: Event) -> None:
        raise ZeroDivisionError

    with ib.register_observer(hangs), ib.register_observer(raises):
        model = ib.open_model("fake://a/m")
        for _ in range(3000):
            model(X)
        model.close()
    hang.set()
    assert len(hosts.backends["a"].requests) == 3000


def test_a_model_that_nobody_observes_has_no_thread(hosts: Hosts) -> None:
    before = threading.active_count()
    with ib.open_model("fake://a/m fake://b/m") as model:
        model(X)
        assert threading.active_count() == before


def test_a_model_that_cannot_be_opened_leaves_no_observer_behind(hosts: Hosts) -> None:
    hosts.down.update("ab")
    before = threading.active_count()
    with ib.register_observer(lambda event: None), pytest.raises(ib.AllBackendsFailed):
        ib.open_model("fake://a/m fake://b/m", timeout=2)
    assert threading.active_count() == before
