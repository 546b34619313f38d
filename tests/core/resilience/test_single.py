"""One URL is asked again only where that can do no harm."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
import pytest

from infer_backends import DeadlineExceeded, InferenceFailed, InferError, ModelClosed, Unavailable
from infer_backends._resilience._policy import Policy
from infer_backends._resilience._single import Single
from infer_backends._ways import Blocking
from infer_backends.plugin import Array, Deadline, InferRequest, InferResponse
from tests.core.fakes import FakeBackend, double, request

REFUSED = "refused"


class Failing(FakeBackend):
    """Raises what it is told to, one after the other, and answers then."""

    def __init__(self, *errors: InferError) -> None:
        super().__init__()
        self.errors = list(errors)

    def infer(self, request: InferRequest) -> InferResponse:
        response = super().infer(request)
        if self.errors:
            raise self.errors.pop(0)
        return response


def refused(number: int = 1) -> list[InferError]:
    return [Unavailable(REFUSED, unprocessed=True) for _ in range(number)]


class Pausing(Blocking):
    """Pauses by a function."""

    def __init__(self, wait: Callable[[threading.Event, float], object]) -> None:
        self._wait = wait

    async def pause(self, seconds: float, ended: threading.Event) -> None:
        self._wait(ended, seconds)


class Tried:
    """One URL, whose pauses are noted and not waited for."""

    def __init__(self, *errors: InferError, idempotent: bool = False) -> None:
        self.backend = Failing(*errors)
        self.pauses: list[float] = []
        policy = Policy(random=lambda: 1.0, idempotent=idempotent)
        self.single = Single(self.backend, "fake://h/m", policy, Pausing(self.wait))

    def wait(self, closing: threading.Event, seconds: float) -> None:
        self.pauses.append(seconds)

    @property
    def asked(self) -> int:
        return len(self.backend.requests)


def test_a_request_that_was_not_worked_on_is_sent_again_after_a_pause() -> None:
    tried = Tried(*refused())
    response = tried.single.infer(request())
    assert [(a.url, str(a.error)) for a in response.attempts] == [("fake://h/m", REFUSED)]
    assert tried.pauses == [0.05]


def test_it_is_sent_again_twice_and_no_more() -> None:
    tried = Tried(*refused(9))
    with pytest.raises(Unavailable) as caught:
        tried.single.infer(request())
    assert tried.asked == 3
    assert tried.pauses == [0.05, 0.1]
    assert len(caught.value.attempts) == 2
    assert caught.value not in [attempt.error for attempt in caught.value.attempts]


def test_a_request_that_may_have_been_worked_on_is_not_sent_again() -> None:
    tried = Tried(Unavailable("reset"))
    with pytest.raises(Unavailable) as caught:
        tried.single.infer(request())
    assert tried.asked == 1
    assert caught.value.attempts == ()


def test_unless_calls_are_declared_idempotent() -> None:
    tried = Tried(Unavailable("reset"), idempotent=True)
    assert len(tried.single.infer(request()).attempts) == 1


@pytest.mark.parametrize("error", [DeadlineExceeded("slow"), InferenceFailed("a bug")])
def test_another_error_is_raised_as_it_is(error: InferError) -> None:
    tried = Tried(error, idempotent=True)
    with pytest.raises(type(error)):
        tried.single.infer(request())
    assert tried.asked == 1


def test_the_error_of_a_second_attempt_shows_the_first() -> None:
    tried = Tried(*refused(), InferenceFailed("a bug"))
    with pytest.raises(InferenceFailed) as caught:
        tried.single.infer(request())
    assert [str(attempt.error) for attempt in caught.value.attempts] == [REFUSED]


def test_there_is_no_second_attempt_past_the_deadline() -> None:
    tried = Tried(*refused(9))
    with pytest.raises(Unavailable):
        tried.single.infer(request(deadline=Deadline.after(0.04)))
    assert tried.asked == 1
    assert tried.pauses == []


def test_retries_are_a_fifth_of_the_calls_once_what_was_saved_is_spent() -> None:
    tried = Tried(*refused(1000))
    for _ in range(100):
        with pytest.raises(Unavailable):
            tried.single.infer(request())
    assert tried.single.status().retries == pytest.approx(10 + 100 * 0.2, abs=1)


def test_closing_ends_the_pause_and_the_call_is_not_sent_again() -> None:
    backend = Failing(*refused(9))
    waiting = threading.Event()

    def wait(closing: threading.Event, seconds: float) -> None:
        waiting.set()
        assert closing.wait(10)

    single = Single(backend, "fake://h/m", Policy(), Pausing(wait))
    raised: list[BaseException] = []

    def call() -> None:
        try:
            single.infer(request())
        except InferError as exc:
            raised.append(exc)

    caller = threading.Thread(target=call)
    caller.start()
    assert waiting.wait(10)
    single.close()
    caller.join(10)
    assert [type(error) for error in raised] == [ModelClosed]
    assert len(backend.requests) == 1
    single.close()
    assert backend.closed == 2


def test_its_status_counts_what_it_did_not_answer() -> None:
    tried = Tried(*refused(), DeadlineExceeded("slow"))
    with pytest.raises(DeadlineExceeded):
        tried.single.infer(request())
    tried.single.infer(request())
    (member,) = tried.single.status().members
    assert (member.calls, member.failures, str(member.last_error)) == (2, 2, "slow")
    assert tried.single.status().retries == 1


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("errors", [1, 9])
def test_what_was_sent_is_free_once_the_call_is_over_though_it_failed(errors: int) -> None:
    tried = Tried(*refused(errors))
    array: Array = np.ones((2, 3), np.float32)
    gone = weakref.ref(array)
    asked = InferRequest({"x": array}, None, Deadline.after(10))
    with suppress(Unavailable):
        tried.single.infer(asked)
    tried.backend.requests.clear()
    del array, asked
    assert gone() is None


def test_a_forked_child_may_close_it_though_a_thread_of_its_parent_was_waiting() -> None:
    single = Single(FakeBackend(double), "fake://h/m", Policy())
    with single._closing._cond:  # type: ignore[attr-defined]  # the lock that matters
        single.reset_in_child()
        single.close()
    single.reset_in_child()
    assert single._closing.is_set()
