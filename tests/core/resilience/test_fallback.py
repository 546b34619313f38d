"""Members are asked in order of preference until one answers."""

from __future__ import annotations

import logging
import threading
from typing import Any

import numpy as np
import pytest

from infer_backends import (
    AllBackendsFailed,
    DeadlineExceeded,
    InferenceFailed,
    InferError,
    InvalidInput,
    MetadataMismatch,
    ModelNotFound,
    PermissionDenied,
    PluginError,
    ProtocolError,
    TLSError,
    Unavailable,
)
from infer_backends._member_state import MemberState
from infer_backends._resilience._policy import Policy
from infer_backends.plugin import Array, Deadline, InferRequest
from tests.core.fakes import FakeBackend, ManualClock, double, request
from tests.core.resilience.members import BY_FAKE, OTHER, Switch, opened, opening, pair, threads


def test_the_first_member_answers_while_it_can() -> None:
    first, second = pair()
    response = opened(first, second).infer(request())
    assert response.backend_url == "fake://first/m"
    assert response.attempts == ()
    assert second.backend.requests == []


@pytest.mark.parametrize(
    "error", [Unavailable("gone"), DeadlineExceeded("slow"), ModelNotFound("no versions")]
)
def test_an_unavailable_member_is_passed_over_and_remembered(error: InferError) -> None:
    first, second = pair()
    fallback = opened(first, second)
    first.backend.error = error
    response = fallback.infer(request())
    assert response.backend_url == "fake://second/m"
    (attempt,) = response.attempts
    assert attempt.url == "fake://first/m"
    assert attempt.error is error
    assert attempt.duration >= 0


@pytest.mark.parametrize("error", [Unavailable("gone"), ModelNotFound("no versions")])
def test_a_member_that_failed_quickly_is_asked_again_at_the_next_call(error: InferError) -> None:
    first, second = pair()
    fallback = opened(first, second)
    first.backend.error = error
    fallback.infer(request())
    first.backend.error = None
    assert fallback.infer(request()).backend_url == "fake://first/m"


def test_a_member_that_breaks_the_protocol_is_passed_over() -> None:
    first, second = pair()
    fallback = opened(first, second)
    first.backend.error = ProtocolError("not HTTP at all")
    assert fallback.infer(request()).backend_url == "fake://second/m"


@pytest.mark.parametrize(
    "error", [InvalidInput("x"), PermissionDenied("x"), TLSError("x"), InferenceFailed("x")]
)
def test_an_error_that_another_member_would_not_change_is_raised(error: InferError) -> None:
    first, second = pair()
    third = Switch("fake://third/m")
    fallback = opened(first, second, third)
    first.backend.error = Unavailable("gone")
    second.backend.error = error
    with pytest.raises(type(error)) as caught:
        fallback.infer(request())
    assert [attempt.url for attempt in caught.value.attempts] == ["fake://first/m"]
    assert third.backend.requests == []


def test_a_failure_of_the_model_moves_on_where_that_was_asked_for() -> None:
    first, second = pair()
    fallback = opened(first, second, policy=Policy(on_failure=True))
    first.backend.error = InferenceFailed("a bug in the model")
    assert fallback.infer(request()).backend_url == "fake://second/m"


def test_a_foreign_exception_is_not_swallowed_and_its_member_named_without_its_text() -> None:
    first, second = pair()
    fallback = opened(first, second)
    first.backend.error = KeyError("secret")
    with pytest.raises(
        PluginError, match=f"^fake://first/m{BY_FAKE} raised KeyError; a backend"
    ) as caught:
        fallback.infer(request())
    assert isinstance(caught.value.__cause__, KeyError)
    assert second.backend.requests == []
    assert "raised KeyError" in str(fallback.status().members[0].last_error)
    first.backend.error = None
    assert fallback.infer(request()).backend_url == "fake://first/m"


def test_what_is_no_response_is_the_plugins_fault() -> None:
    class Wrong(FakeBackend):
        def infer(self, request: InferRequest) -> Any:
            return {"y": request.inputs["x"]}

    fallback = opened(Switch("fake://first/m", Wrong()), Switch("fake://second/m"))
    with pytest.raises(
        PluginError, match=f"^fake://first/m{BY_FAKE} returned dict; a backend returns an"
    ):
        fallback.infer(request())


def test_when_all_fail_the_error_shows_every_attempt() -> None:
    first, second = pair()
    fallback = opened(first, second)
    first.backend.error, second.backend.error = Unavailable("refused"), ModelNotFound("unloaded")
    with pytest.raises(AllBackendsFailed) as caught:
        fallback.infer(request())
    text = str(caught.value)
    assert "fake://first/m: Unavailable: refused (after 0.000 s)" in text
    assert "fake://second/m: ModelNotFound: unloaded" in text
    assert len(caught.value.attempts) == 2
    assert caught.value.__cause__ is second.backend.error


@pytest.mark.parametrize(("timeout", "first_share"), [(4.0, 3.0), (0.8, 0.55), (0.2, 0.1)])
def test_the_reserve_is_a_quarter_or_250_ms_or_half(timeout: float, first_share: float) -> None:
    clock = ManualClock()
    first, second = pair()
    fallback = opened(first, second, policy=Policy(clock=clock))

    def hang(request: InferRequest) -> dict[str, Array]:
        clock.advance(request.deadline.remaining())
        raise DeadlineExceeded("hung")

    first.backend.answer = hang
    response = fallback.infer(request(deadline=Deadline.after(timeout, clock=clock)))
    assert response.backend_url == "fake://second/m"
    assert response.attempts[0].duration == pytest.approx(first_share)
    left = timeout - first_share
    assert second.backend.requests[0].deadline.remaining() == pytest.approx(left)


def test_the_reserve_of_a_member_that_was_measured_is_what_it_took() -> None:
    clock = ManualClock()
    first, second = pair()
    both = opening(first, second, policy=Policy(clock=clock))
    for _ in range(50):
        both.endpoints[1].latency.observe(0.1)
    both.fallback.infer(request(deadline=Deadline.after(4, clock=clock)))
    assert first.backend.requests[0].deadline.remaining() == pytest.approx(3.9, abs=0.01)


def test_the_only_member_that_is_left_has_all_the_time() -> None:
    clock = ManualClock()
    first, second = pair()
    second.down = Unavailable("refused")
    fallback = opened(first, second, policy=Policy(clock=clock))
    fallback.infer(request(deadline=Deadline.after(4, clock=clock)))
    assert first.backend.requests[0].deadline.remaining() == 4


def test_when_the_deadline_itself_is_over_that_is_the_error() -> None:
    clock = ManualClock()
    first, second = pair()
    fallback = opened(first, second, policy=Policy(clock=clock))

    def hang(request: InferRequest) -> dict[str, Array]:
        clock.advance(100)
        raise DeadlineExceeded("hung")

    first.backend.answer = hang
    with pytest.raises(DeadlineExceeded, match="before a backend answered; fake://first/m") as err:
        fallback.infer(request(deadline=Deadline.after(4, clock=clock)))
    assert len(err.value.attempts) == 1
    assert second.backend.requests == []


def test_a_member_that_is_down_at_open_is_asked_once_a_probe_has_reached_it() -> None:
    first, second = pair()
    first.down = Unavailable("refused")
    both = opening(first, second)
    response = both.fallback.infer(request())
    assert (response.backend_url, response.attempts) == ("fake://second/m", ())
    both.probe()
    assert both.states() == ["down", "ready"]
    first.down = None
    both.probe()
    assert both.states() == ["recovering", "ready"]
    answers = [both.fallback.infer(request()).backend_url for _ in range(4)]
    assert answers == ["fake://first/m"] * 4
    assert both.states() == ["ready", "ready"]
    assert first.opened == 3


def test_five_failures_in_a_row_and_a_member_is_not_asked_any_more() -> None:
    first, second = pair()
    both = opening(first, second)
    first.backend.error = Unavailable("refused")
    attempts = [len(both.fallback.infer(request()).attempts) for _ in range(8)]
    assert attempts == [1, 1, 1, 1, 1, 0, 0, 0]
    assert both.states() == ["down", "ready"]
    assert both.fallback.status().fallbacks == 8


def test_a_member_that_timed_out_is_not_asked_any_more_at_once() -> None:
    first, second = pair()
    both = opening(first, second)
    both.endpoints[0]._prober.stop()
    first.backend.error = DeadlineExceeded("slow")
    assert len(both.fallback.infer(request()).attempts) == 1
    assert both.fallback.infer(request()).attempts == ()
    assert both.states() == ["suspect", "ready"]


def test_while_nobody_is_ready_those_that_are_down_are_asked_one_call_at_a_time() -> None:
    first, second = pair()
    both = opening(first, second)
    first.backend.error = second.backend.error = Unavailable("refused")
    for _ in range(5):
        with pytest.raises(AllBackendsFailed):
            both.fallback.infer(request())
    assert both.states() == ["down", "down"]
    with pytest.raises(AllBackendsFailed) as caught:
        both.fallback.infer(request())
    assert [str(attempt.error) for attempt in caught.value.attempts] == ["refused", "refused"]
    second.backend.error = None
    assert both.fallback.infer(request()).backend_url == "fake://second/m"
    assert both.states() == ["down", "recovering"]


def test_members_that_are_suspect_are_named_but_not_waited_for() -> None:
    first, second = pair()
    both = opening(first, second)
    for endpoint in both.endpoints:
        endpoint._prober.stop()
    first.backend.error = second.backend.error = DeadlineExceeded("slow")
    with pytest.raises(AllBackendsFailed):
        both.fallback.infer(request())
    asked = len(first.backend.requests)
    with pytest.raises(AllBackendsFailed, match="not asked: suspect for") as caught:
        both.fallback.infer(request())
    assert len(caught.value.attempts) == 2
    assert len(first.backend.requests) == asked


def test_a_member_that_is_described_is_loaded_when_it_is_needed_and_once() -> None:
    first, second = Switch("fake://first/m"), Switch("fake://second/m", lazy=True)
    both = opening(first, second)
    both.fallback.infer(request())
    assert (second.opened, both.states()) == (0, ["ready", "unopened"])
    first.backend.error = Unavailable("refused")
    assert both.fallback.infer(request()).backend_url == "fake://second/m"
    both.fallback.infer(request())
    assert (second.opened, both.states()[1]) == (1, "ready")


def test_the_first_member_that_is_there_is_opened_at_once_though_it_could_be_described() -> None:
    first, second = Switch("fake://first/m", lazy=True), Switch("fake://second/m", lazy=True)
    both = opening(first, second)
    assert (first.opened, second.opened) == (1, 0)
    assert both.states() == ["ready", "unopened"]
    down, local = Switch("fake://first/m"), Switch("fake://second/m", lazy=True)
    down.down = Unavailable("refused")
    assert opening(down, local).states() == ["down", "ready"]


def test_no_thread_runs_before_something_fails_and_none_after_closing() -> None:
    first, second = pair()
    both = opening(first, second, policy=Policy(probe_period=0.05))
    both.fallback.infer(request())
    assert threading.active_count() == 1 or not threads()
    first.backend.error = Unavailable("refused")
    for _ in range(5):
        both.fallback.infer(request())
    assert threads() == ["infer-backends-probe"]
    both.fallback.close()
    assert threads() == []


def test_when_none_can_be_opened_all_are_shown_and_nothing_stays_open() -> None:
    first, second = pair()
    first.down = second.down = Unavailable("refused")
    with pytest.raises(AllBackendsFailed) as caught:
        opened(first, second)
    assert len(caught.value.attempts) == 2


@pytest.mark.parametrize("error", [ModelNotFound("x"), PermissionDenied("x"), TLSError("x")])
def test_a_wrong_configuration_shows_at_open_and_closes_what_was_opened(error: InferError) -> None:
    first, second = pair()
    second.down = error
    with pytest.raises(type(error)):
        opened(first, second)
    assert first.backend.closed == 1


def test_members_that_are_not_the_same_model_are_refused_at_open() -> None:
    first = Switch("fake://first/m")
    second = Switch("fake://second/m", FakeBackend(metadata=OTHER))
    with pytest.raises(MetadataMismatch, match="fake://first/m and fake://second/m are not the sa"):
        opened(first, second)
    assert first.backend.closed == second.backend.closed == 1


def test_members_that_differ_may_be_allowed(caplog: pytest.LogCaptureFixture) -> None:
    first = Switch("fake://first/m")
    second = Switch("fake://second/m", FakeBackend(metadata=OTHER))
    with caplog.at_level(logging.WARNING, "infer_backends"):
        assert opened(first, second, policy=Policy(strict=False)).metadata is first.backend.metadata
    assert "not the same model" in caplog.text


def test_a_member_that_comes_back_as_another_model_is_not_asked_any_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = Switch("fake://first/m", FakeBackend(metadata=OTHER))
    second = Switch("fake://second/m")
    first.down = Unavailable("refused")
    both = opening(first, second)
    first.down = None
    with caplog.at_level(logging.WARNING, "infer_backends"):
        both.probe()
        both.probe()
        assert both.fallback.infer(request()).backend_url == "fake://second/m"
    assert caplog.text.count("fake://first/m is excluded: it is not the same model") == 1
    assert both.states() == ["excluded", "ready"]
    assert first.backend.requests == []


def test_closing_closes_the_members_that_are_open() -> None:
    first, second = pair()
    first.down = Unavailable("refused")
    both = opening(first, second)
    both.fallback.close()
    assert (first.backend.closed, second.backend.closed) == (0, 1)
    first.down = None
    both.probe()
    assert first.backend.closed == 0
    assert both.fallback.status().members[0].state is MemberState.DOWN


def test_outputs_pass_through_unchanged() -> None:
    first, second = pair()
    fallback = opened(first, second)
    first.backend.error = Unavailable("gone")
    whole = request(outputs=("y",))
    whole.request_id = "r1"
    np.testing.assert_array_equal(fallback.infer(whole).outputs["y"], double(whole)["y"])
    asked = second.backend.requests[0]
    assert (asked.outputs, asked.request_id, asked.inputs) == (("y",), "r1", whole.inputs)


def test_every_member_of_several_is_given_time_of_its_own() -> None:
    clock = ManualClock()
    switches = [Switch(f"fake://{number}/m") for number in range(3)]
    given: list[float] = []

    def hang(request: InferRequest) -> dict[str, Array]:
        given.append(request.deadline.remaining())
        clock.advance(request.deadline.remaining())
        raise DeadlineExceeded("no answer")

    for switch in switches[:2]:
        switch.backend.answer = hang
    fallback = opened(*switches, policy=Policy(clock=clock, probe_period=1e6))
    response = fallback.infer(request(deadline=Deadline.after(16, clock=clock)))
    assert given == [8, 6]
    assert response.backend_url == "fake://2/m"


def test_every_member_is_closed_though_one_of_them_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = pair()
    fallback = opened(first, second)

    def close() -> None:
        raise KeyError

    with monkeypatch.context() as patch:
        patch.setattr(first.backend, "close", close)
        with pytest.raises(PluginError, match="raised KeyError when it was closed"):
            fallback.close()
    assert second.backend.closed == 1
