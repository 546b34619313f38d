"""A model opens as soon as it can answer, and finds the rest of its members later."""

from __future__ import annotations

import pickle

import pytest

import infer_backends
from infer_backends import (
    AllBackendsFailed,
    DeadlineExceeded,
    MetadataMismatch,
    PluginError,
    Unavailable,
)
from infer_backends._resilience._opening import _PATIENCE
from infer_backends._resilience._policy import Policy
from infer_backends.plugin import Backend, Deadline, ModelURL, OpenOptions
from tests.core.fakes import FakeBackend, ManualClock, request
from tests.core.resilience.members import NEVER, OTHER, Opened, Switch, opening


class Slow(Switch):
    """Its server takes connections, and says nothing."""

    def __init__(self, url: str, clock: ManualClock) -> None:
        super().__init__(url)

        def hang(deadline: Deadline) -> None:
            clock.advance(deadline.remaining())
            raise DeadlineExceeded("no answer")

        self.before_open = hang


def timed(clock: ManualClock, *switches: Switch, timeout: float = 60) -> Opened:
    policy = Policy(clock=clock, probe_period=NEVER)
    return opening(*switches, policy=policy, timeout=timeout)


@pytest.mark.parametrize("hung", [0, 1, 2])
def test_one_that_hangs_does_not_hold_up_the_others_wherever_it_stands(hung: int) -> None:
    clock = ManualClock()
    switches = [Switch(f"fake://{number}/m") for number in range(3)]
    switches[hung] = Slow(f"fake://{hung}/m", clock)
    began = clock()
    both = timed(clock, *switches)
    assert clock() - began <= _PATIENCE
    assert both.states()[hung] == "down"
    assert both.states().count("ready") == 2


def test_when_all_before_it_hang_the_last_one_has_what_is_left() -> None:
    clock = ManualClock()
    last = Switch("fake://2/m")
    timed(clock, Slow("fake://0/m", clock), Slow("fake://1/m", clock), last)
    assert last.given == [pytest.approx(60 - 2 * _PATIENCE)]


def test_when_there_is_little_time_each_has_a_part_of_it() -> None:
    clock = ManualClock()
    last = Switch("fake://1/m")
    timed(clock, Slow("fake://0/m", clock), last, timeout=2)
    assert last.given == [pytest.approx(0.5)]


def test_one_that_is_to_be_loaded_at_open_is_given_the_time_that_it_takes() -> None:
    clock = ManualClock()
    second = Switch("fake://second/m", lazy=True)
    second.preload = True
    second.before_open = lambda deadline: clock.advance(20)
    both = timed(clock, Switch("fake://first/m"), second)
    assert both.states() == ["ready", "ready"]
    assert second.given == [60]


def test_one_that_can_be_described_is_opened_at_once_if_nobody_before_it_is_open() -> None:
    first, second = Switch("fake://first/m", lazy=True), Switch("fake://second/m", lazy=True)
    both = opening(first, second)
    assert both.states() == ["ready", "unopened"]
    assert (first.opened, second.opened) == (1, 0)


def test_when_all_hang_the_error_shows_them_all_and_all_are_closed() -> None:
    clock = ManualClock()
    with pytest.raises(AllBackendsFailed) as caught:
        timed(clock, Slow("fake://0/m", clock), Slow("fake://1/m", clock))
    assert [attempt.url for attempt in caught.value.attempts] == ["fake://0/m", "fake://1/m"]


def test_all_are_closed_though_closing_one_of_them_fails() -> None:
    backends = [FakeBackend(), FakeBackend(), FakeBackend(metadata=OTHER)]

    def close() -> None:
        raise KeyError

    backends[0].close = close  # type: ignore[method-assign]  # what no plugin should do
    switches = [Switch(f"fake://{n}/m", backend) for n, backend in enumerate(backends)]
    with pytest.raises((PluginError, MetadataMismatch)):
        opening(*switches)
    assert [backend.closed for backend in backends[1:]] == [1, 1]


def test_the_same_url_twice_is_two_members() -> None:
    first, second = Switch("fake://same/m"), Switch("fake://same/m")
    first.down = Unavailable("refused")
    both = opening(first, second)
    assert both.states() == ["down", "ready"]
    assert both.fallback.infer(request()).backend_url == "fake://same/m"


def test_a_model_of_several_urls_pickles_and_opens_again() -> None:
    def open_fake(url: ModelURL, options: OpenOptions) -> Backend:
        if url.host == "down":
            raise Unavailable("refused")
        return FakeBackend(url=str(url))

    with infer_backends.register_backend("fake", open_fake):
        options = "probe_period=60"
        with infer_backends.open_model(f"fake://down/m?{options} fake://b/m?{options}") as model:
            with pickle.loads(pickle.dumps(model)) as again:
                result = again.infer({"x": [[1, 2, 3]]})
                assert result.backend_url == str(model.infer({"x": [[1, 2, 3]]}).backend_url)
                assert [str(member.state) for member in again.status().members] == [
                    "down",
                    "ready",
                ]
