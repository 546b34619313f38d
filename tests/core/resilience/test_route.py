"""What becomes of a call that several members may answer."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import numpy as np
import pytest

from infer_backends import (
    AllBackendsFailed,
    DeadlineExceeded,
    InferenceFailed,
    InferError,
    InvalidInput,
    MetadataMismatch,
    ProtocolError,
    Unavailable,
    UnsupportedOperation,
)
from infer_backends._events import FallbackEvent
from infer_backends._member_state import MemberState
from infer_backends._observers import Observers
from infer_backends._resilience._policy import Policy
from infer_backends.plugin import Array, Deadline, InferRequest
from tests.core.fakes import ManualClock, request
from tests.core.resilience.members import NEVER, Switch, at_once, opening, pair


class Watching(Observers):
    """Keeps what observers would be told."""

    def __init__(self) -> None:
        super().__init__(())
        self.events: list[object] = []

    def __bool__(self) -> bool:
        return True

    def notify(self, event: object) -> None:
        self.events.append(event)

    def fallbacks(self) -> list[tuple[str, list[str]]]:
        return [
            (event.url, [attempt.url for attempt in event.attempts])
            for event in self.events
            if isinstance(event, FallbackEvent)
        ]


def test_a_call_that_the_first_member_did_not_answer_is_an_event() -> None:
    watching = Watching()
    first, second = pair()
    both = opening(first, second, policy=Policy(probe_period=NEVER, observers=watching))
    both.fallback.infer(request())
    assert watching.fallbacks() == []
    first.backend.error = Unavailable("refused")
    both.fallback.infer(request())
    second.backend.error = Unavailable("refused")
    with pytest.raises(AllBackendsFailed):
        both.fallback.infer(request())
    assert watching.fallbacks() == [
        ("fake://second/m", ["fake://first/m"]),
        ("", ["fake://first/m", "fake://second/m"]),
    ]
    assert both.fallback.status().fallbacks == 1


def test_a_runtime_that_a_fork_made_useless_is_left_alone_and_the_next_member_answers() -> None:
    first, second = pair()
    both = opening(first, second)
    first.backend.error = UnsupportedOperation("not in a forked process", unprocessed=True)
    for _ in range(5):
        response = both.fallback.infer(request())
        assert response.backend_url == "fake://second/m"
        assert isinstance(response.attempts[0].error, UnsupportedOperation)
    assert both.states() == ["down", "ready"]


def test_what_a_member_cannot_do_for_this_call_is_said_and_the_next_one_is_not_asked() -> None:
    first, second = pair()
    both = opening(first, second)
    first.backend.error = UnsupportedOperation("no half floats in JSON")
    with pytest.raises(UnsupportedOperation, match="no half floats"):
        both.fallback.infer(request())
    assert second.backend.requests == []
    assert both.states() == ["ready", "ready"]


def test_a_member_that_is_not_asked_is_shown_with_the_reason_and_what_it_last_said() -> None:
    clock = ManualClock()
    first, second = pair()
    both = opening(first, second, policy=Policy(clock=clock, probe_period=NEVER))
    for endpoint in both.endpoints:
        endpoint._prober.stop()
    first.backend.error = DeadlineExceeded("no answer for 3 s")
    both.fallback.infer(request())
    clock.advance(2)
    second.backend.error = Unavailable("refused")
    with pytest.raises(AllBackendsFailed) as caught:
        both.fallback.infer(request())
    asked, not_asked = caught.value.attempts
    assert str(asked.error) == "refused"
    assert str(not_asked.error) == (
        "not asked: suspect for 2.0 s (DeadlineExceeded: no answer for 3 s)"
    )


@pytest.mark.parametrize("error", [ProtocolError("garbage"), MetadataMismatch("another")])
def test_when_nobody_answers_what_is_not_about_availability_is_the_error(
    error: InferError,
) -> None:
    first, second = pair()
    both = opening(first, second)
    first.backend.error, second.backend.error = error, Unavailable("refused")
    with pytest.raises(type(error), match="no backend answered; fake://first/m: ") as caught:
        both.fallback.infer(request())
    assert len(caught.value.attempts) == 2
    assert caught.value.__cause__ is error


def test_a_failure_of_every_model_is_that_error_where_it_moves_on() -> None:
    first, second = pair()
    both = opening(first, second, policy=Policy(on_failure=True, probe_period=NEVER))
    first.backend.error = second.backend.error = InferenceFailed("a bug")
    with pytest.raises(InferenceFailed, match="no backend answered"):
        both.fallback.infer(request())


def test_the_error_that_ends_a_call_keeps_the_attempts_before_it() -> None:
    first, second = pair()
    both = opening(first, second)
    first.backend.error, second.backend.error = Unavailable("refused"), InvalidInput("too large")
    with pytest.raises(InvalidInput) as caught:
        both.fallback.infer(request())
    assert [str(attempt.error) for attempt in caught.value.attempts] == ["refused"]


def test_while_members_come_and_go_every_call_is_answered_once_or_raises_one_error() -> None:
    first, second = pair()
    both = opening(first, second, policy=Policy(probe_period=NEVER))
    outcomes: list[str] = []
    count = 150

    def calls() -> None:
        for number in range(count):
            first.backend.error = Unavailable("refused") if number % 3 else None
            if number % 10 == 0:
                both.endpoints[0].breaker.recover("it is ready")
            outcomes.append(both.fallback.infer(request()).backend_url)

    at_once(8, calls)
    assert len(outcomes) == 8 * count
    assert set(outcomes) == {"fake://first/m", "fake://second/m"}
    status = both.fallback.status()
    answered = sum(member.calls - member.failures for member in status.members)
    assert answered == 8 * count
    assert [member.in_flight for member in status.members] == [0, 0]


def test_the_fallback_begins_to_load_when_half_of_an_attempt_is_over() -> None:
    clock = ManualClock()
    first, second = Switch("fake://first/m"), Switch("fake://second/m", lazy=True)
    both = opening(first, second, policy=Policy(clock=clock, probe_period=NEVER))
    loading: list[bool] = []

    def wait(request: InferRequest) -> dict[str, Array]:
        for _ in range(2):
            clock.advance(request.deadline.remaining() * 0.5 - 0.001)
            request.deadline.patience("an answer is there")
            loading.append(both.endpoints[1].contact._loading is not None)
            clock.advance(0.002)
        raise Unavailable("reset")

    first.backend.answer = wait
    answered = both.fallback.infer(request(deadline=Deadline.after(4, clock=clock)))
    assert loading == [False, True]
    assert answered.backend_url == "fake://second/m"
    assert second.opened == 1


def test_what_comes_later_is_looked_at_again_after_a_while() -> None:
    clock = ManualClock()
    first, second = pair()
    both = opening(first, second, policy=Policy(clock=clock, probe_period=NEVER))
    (later, _) = both.fallback._course.later
    deadline = Deadline.after(4, clock=clock)
    assert later.share(deadline, clock()) is not None
    both.endpoints[1].breaker.shut(MemberState.DOWN, "told to")
    clock.advance(0.2)
    assert later.share(deadline, clock()) is None


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("answered", [True, False])
def test_what_was_sent_is_free_once_the_call_is_over(answered: bool) -> None:
    first, second = pair()
    both = opening(first, second)

    def refuse(request: InferRequest) -> dict[str, Array]:
        try:
            raise OSError("refused")
        except OSError as exc:
            raise Unavailable("refused") from exc

    first.backend.answer = refuse
    if not answered:
        second.backend.answer = refuse
    array: Array = np.ones((2, 3), np.float32)
    gone = weakref.ref(array)
    asked = InferRequest({"x": array}, None, Deadline.after(10))
    del array
    response = error = None
    try:
        response = both.fallback.infer(asked)
    except AllBackendsFailed as exc:
        error = exc.with_traceback(None)
    del asked
    first.backend.requests.clear()
    second.backend.requests.clear()
    assert (response is not None) is answered
    assert (error is None) is answered
    assert gone() is None


def test_threads_that_call_while_the_only_members_recover_are_all_served() -> None:
    first, second = pair()
    both = opening(first, second)
    for endpoint in both.endpoints:
        endpoint.breaker.shut(MemberState.DOWN, "told to")
        endpoint.breaker.recover("it is ready")
    gate = threading.Barrier(2)

    def slowly(request: InferRequest) -> dict[str, Array]:
        gate.wait(10)
        return {"y": np.zeros((2, 3), np.float32)}

    first.backend.answer = second.backend.answer = slowly
    answers: list[str] = []
    at_once(4, lambda: answers.append(both.fallback.infer(request()).backend_url))
    assert len(answers) == 4
