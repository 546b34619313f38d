"""Members are asked in order of preference until one answers."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from infer_backends import (
    AllBackendsFailed,
    DataType,
    DeadlineExceeded,
    InferenceFailed,
    InferError,
    InvalidInput,
    MetadataMismatch,
    ModelClosed,
    ModelNotFound,
    PermissionDenied,
    TensorSpec,
    TLSError,
    Unavailable,
)
from infer_backends._resilience._fallback import Fallback, Member, open_fallback
from infer_backends.plugin import Array, Backend, Deadline, InferRequest
from tests.core.fakes import FakeBackend, ManualClock, double, metadata, request

OTHER = metadata([TensorSpec("x", DataType.INT32, (-1, 3))])


class Switch:
    """A member whose server can be down."""

    def __init__(self, url: str, backend: FakeBackend | None = None) -> None:
        self.backend = backend or FakeBackend(url=url)
        self.down: InferError | None = None
        self.opened = 0
        self.before_open: Callable[[], None] = lambda: None
        self.member = Member(url, self.open)

    def open(self, deadline: Deadline) -> Backend:
        self.opened += 1
        self.before_open()
        if self.down is not None:
            raise self.down
        return self.backend


def pair() -> tuple[Switch, Switch]:
    return Switch("fake://first/m"), Switch("fake://second/m")


def opened(*switches: Switch, strict: bool = True, timeout: float = 10) -> Fallback:
    members = [switch.member for switch in switches]
    return open_fallback(members, Deadline.after(timeout), strict=strict)


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
    first.backend.error = None
    assert fallback.infer(request()).backend_url == "fake://first/m"


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


def test_a_foreign_exception_is_not_swallowed() -> None:
    first, second = pair()
    fallback = opened(first, second)
    first.backend.error = KeyError("bug")
    with pytest.raises(KeyError):
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


def test_the_first_attempt_leaves_a_reserve_for_the_second() -> None:
    clock = ManualClock()
    first, second = pair()
    fallback = opened(first, second)

    def hang(request: InferRequest) -> dict[str, Array]:
        clock.advance(request.deadline.remaining())
        raise DeadlineExceeded("hung")

    first.backend.answer = hang
    response = fallback.infer(request(deadline=Deadline.after(4, clock=clock)))
    assert response.backend_url == "fake://second/m"
    assert first.backend.requests[0].deadline.remaining() == 0
    assert second.backend.requests[0].deadline.remaining() == 1


@pytest.mark.parametrize(("timeout", "first_share"), [(4.0, 3.0), (0.8, 0.55), (0.2, 0.1)])
def test_the_reserve_is_a_quarter_or_250_ms_or_half(timeout: float, first_share: float) -> None:
    clock = ManualClock()
    first, second = pair()
    opened(first, second).infer(request(deadline=Deadline.after(timeout, clock=clock)))
    assert first.backend.requests[0].deadline.remaining() == pytest.approx(first_share)


def test_when_the_deadline_itself_is_over_that_is_the_error() -> None:
    clock = ManualClock()
    first, second = pair()
    fallback = opened(first, second)

    def hang(request: InferRequest) -> dict[str, Array]:
        clock.advance(100)
        raise DeadlineExceeded("hung")

    first.backend.answer = hang
    with pytest.raises(DeadlineExceeded, match="before a backend answered; fake://first/m") as err:
        fallback.infer(request(deadline=Deadline.after(4, clock=clock)))
    assert len(err.value.attempts) == 1
    assert second.backend.requests == []


def test_a_member_that_is_down_at_open_is_opened_by_a_later_call() -> None:
    first, second = pair()
    first.down = Unavailable("refused")
    fallback = opened(first, second)
    response = fallback.infer(request())
    assert response.backend_url == "fake://second/m"
    assert response.attempts[0].error is first.down
    first.down = None
    assert fallback.infer(request()).backend_url == "fake://first/m"
    assert fallback.infer(request()).backend_url == "fake://first/m"
    assert first.opened == 3


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
        assert opened(first, second, strict=False).metadata is first.backend.metadata
    assert "not the same model" in caplog.text


def test_a_member_that_comes_back_as_another_model_is_not_asked_any_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = Switch("fake://first/m", FakeBackend(metadata=OTHER))
    second = Switch("fake://second/m")
    first.down = Unavailable("refused")
    fallback = opened(first, second)
    first.down = None
    with caplog.at_level(logging.WARNING, "infer_backends"):
        response = fallback.infer(request())
        assert response.backend_url == "fake://second/m"
        assert isinstance(response.attempts[0].error, MetadataMismatch)
        assert fallback.infer(request()).attempts == ()
    assert caplog.text.count("is not asked any more") == 1
    assert first.backend.requests == []


def test_many_callers_open_a_member_once() -> None:
    first, second = pair()
    first.down = Unavailable("refused")
    fallback = opened(first, second)
    begun, go = threading.Event(), threading.Event()
    inner = first.open

    def slow_open(deadline: Deadline) -> Backend:
        begun.set()
        assert go.wait(10)
        return inner(deadline)

    first.down = None
    first.member._opener = slow_open
    answers: list[str] = []
    callers = [
        threading.Thread(target=lambda: answers.append(fallback.infer(request()).backend_url))
        for _ in range(8)
    ]
    for caller in callers:
        caller.start()
    assert begun.wait(10)
    go.set()
    for caller in callers:
        caller.join(10)
    assert answers == ["fake://first/m"] * 8
    assert first.opened == 2


def test_waiting_for_another_caller_to_open_a_member_ends_at_the_deadline() -> None:
    first, _ = pair()
    first.member._lock.acquire()
    with pytest.raises(DeadlineExceeded, match="while fake://first/m was being opened"):
        first.member.open(Deadline.after(0.01))


def test_closing_closes_the_members_that_are_open() -> None:
    first, second = pair()
    first.down = Unavailable("refused")
    fallback = opened(first, second)
    fallback.close()
    assert (first.backend.closed, second.backend.closed) == (0, 1)
    first.down = None
    with pytest.raises(ModelClosed):
        fallback.infer(request())
    assert first.backend.closed == 1


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
    members = [switch.member for switch in switches]
    deadline = Deadline.after(16, clock=clock)
    fallback = open_fallback(members, deadline, clock=clock)
    response = fallback.infer(request(deadline=deadline))
    assert given == [12, 3]
    assert response.backend_url == "fake://2/m"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forking is the point
def test_a_forked_child_reaches_a_member_that_the_parent_was_opening() -> None:
    first, second = pair()
    first.down = Unavailable("refused")
    fallback = opened(first, second)
    first.down = None
    inside, leave = threading.Event(), threading.Event()
    parent = os.getpid()

    def slowly_in_the_parent() -> None:
        if os.getpid() == parent:
            inside.set()
            assert leave.wait(10)

    first.before_open = slowly_in_the_parent
    caller = threading.Thread(target=fallback.infer, args=(request(),))
    caller.start()
    assert inside.wait(10)

    def answering(results: Any) -> None:
        results.put(fallback.infer(request(deadline=Deadline.after(5))).backend_url)

    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=answering, args=(results,))
    child.start()
    leave.set()
    assert results.get(timeout=10) == "fake://first/m"
    child.join(10)
    caller.join(10)


def test_every_member_is_closed_though_one_of_them_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = pair()
    fallback = opened(first, second)

    def close() -> None:
        raise KeyError

    monkeypatch.setattr(first.backend, "close", close)
    with pytest.raises(KeyError):
        fallback.close()
    assert second.backend.closed == 1
