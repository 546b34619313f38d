"""One URL of a model learns from its calls, its probes, and what its answers look like."""

from __future__ import annotations

import gc
import logging
import re
import threading

import numpy as np
import pytest

from infer_backends import (
    AllBackendsFailed,
    DeadlineExceeded,
    InferError,
    InvalidInput,
    MetadataMismatch,
    ModelClosed,
    ModelNotFound,
    PermissionDenied,
    ProtocolError,
    Unavailable,
)
from infer_backends._member_state import MemberState
from infer_backends._resilience import _prober
from infer_backends._resilience._policy import Policy
from infer_backends.plugin import Array, Deadline, InferRequest
from tests.core.fakes import ManualClock, double, request
from tests.core.resilience.members import (
    BY_FAKE,
    FIXED,
    NEVER,
    OTHER,
    Described,
    Opened,
    Switch,
    at_once,
    opening,
    pair,
    threads,
    until,
)


class Doubted:
    """Two members, the first of which says what it is; probed by the test."""

    def __init__(self, *, strict: bool = True) -> None:
        self.clock = ManualClock()
        self.backend = Described("fake://first/m")
        self.first = Switch("fake://first/m", self.backend)
        self.second = Switch("fake://second/m")
        policy = Policy(clock=self.clock, random=lambda: 1.0, probe_period=NEVER, strict=strict)
        self.both = opening(self.first, self.second, policy=policy)

    def call(self) -> str:
        self.clock.advance(0.001)
        return self.both.fallback.infer(request()).backend_url

    def recover(self) -> None:
        self.clock.advance(100)
        self.both.probe()


def stop(both: Opened) -> None:
    """Let no prober come in between."""
    for endpoint in both.endpoints:
        endpoint._prober.stop()


def wide(request: InferRequest) -> dict[str, Array]:
    return {"y": np.ones((2, 4), np.float32)}


@pytest.mark.parametrize("error", [InvalidInput("no such input"), ProtocolError("not a response")])
def test_one_that_has_become_another_model_is_excluded_and_the_next_answers_the_same_call(
    error: InferError, caplog: pytest.LogCaptureFixture
) -> None:
    doubted = Doubted()
    doubted.backend.error = error
    doubted.backend.now = OTHER
    with caplog.at_level(logging.WARNING, "infer_backends"):
        assert doubted.call() == "fake://second/m"
        assert doubted.call() == "fake://second/m"
    assert doubted.both.states() == ["excluded", "ready"]
    assert caplog.text.count("fake://first/m is excluded: it is not the same model: input 'x'") == 1
    assert len(caplog.records) == 1
    assert len(doubted.backend.requests) == 1


def test_when_the_others_are_down_one_that_is_excluded_is_not_what_the_call_failed_for() -> None:
    doubted = Doubted()
    doubted.backend.error, doubted.backend.now = InvalidInput("no such input"), OTHER
    doubted.call()
    doubted.second.backend.error = Unavailable("refused")
    with pytest.raises(AllBackendsFailed, match="not asked: excluded") as caught:
        doubted.call()
    assert len(caught.value.attempts) == 2


def test_the_attempt_says_that_it_is_another_model() -> None:
    doubted = Doubted()
    doubted.backend.error = InvalidInput("no such input")
    doubted.backend.now = OTHER
    (attempt,) = doubted.both.fallback.infer(request()).attempts
    assert isinstance(attempt.error, MetadataMismatch)
    assert "fake://first/m is not asked any more: it is not the same model" in str(attempt.error)
    assert isinstance(attempt.error.__cause__, InvalidInput)


def test_outputs_that_are_unlike_the_models_are_not_its_answer_if_it_is_another_model() -> None:
    doubted = Doubted()
    doubted.backend.answer = wide
    doubted.backend.now = OTHER
    assert doubted.call() == "fake://second/m"
    assert doubted.both.states() == ["excluded", "ready"]


def test_outputs_that_are_unlike_are_an_answer_if_it_says_it_is_the_same_model() -> None:
    doubted = Doubted()
    doubted.backend.answer = wide
    assert [doubted.call() for _ in range(3)] == ["fake://first/m"] * 3
    assert doubted.backend.described == 1
    assert doubted.both.states() == ["ready", "ready"]


def test_bad_input_for_the_same_model_is_the_callers_and_moves_nothing_on() -> None:
    doubted = Doubted()
    doubted.backend.error = InvalidInput("too large")
    with pytest.raises(InvalidInput, match="too large") as caught:
        doubted.call()
    assert caught.value.attempts == ()
    assert doubted.second.backend.requests == []
    assert doubted.both.endpoints[0].status().failures == 0


@pytest.mark.parametrize(
    "unknown", [DeadlineExceeded("slow"), PermissionDenied("not you"), KeyError("bug")]
)
def test_where_it_cannot_be_told_what_it_is_the_error_of_the_call_stands(
    unknown: BaseException,
) -> None:
    doubted = Doubted()
    doubted.backend.error = InvalidInput("too large")
    doubted.backend.now = unknown
    with pytest.raises(InvalidInput, match="too large"):
        doubted.call()
    assert doubted.both.states() == ["ready", "ready"]


@pytest.mark.parametrize("gone", [ModelNotFound("unloaded"), Unavailable("refused")])
def test_one_that_is_gone_when_it_is_doubted_has_failed(gone: InferError) -> None:
    doubted = Doubted()
    doubted.backend.error = InvalidInput("unknown model")
    doubted.backend.now = gone
    assert doubted.call() == "fake://second/m"
    assert doubted.both.endpoints[0].status().failures == 1


def test_a_trial_whose_doubt_goes_wrong_does_not_stay_out_for_ever() -> None:
    doubted = Doubted()
    doubted.both.take_down()
    doubted.recover()
    doubted.backend.error = InvalidInput("too large")
    doubted.backend.now = KeyError("bug")
    with pytest.raises(InvalidInput):
        doubted.call()
    doubted.backend.now = KeyboardInterrupt()
    doubted.clock.advance(1)
    with pytest.raises(KeyboardInterrupt):
        doubted.call()
    doubted.backend.error = None
    assert doubted.call() == "fake://first/m"


def test_all_calls_that_doubt_at_the_same_moment_ask_once() -> None:
    doubted = Doubted()
    gate = threading.Barrier(8)

    def answer(request: InferRequest) -> dict[str, Array]:
        gate.wait(10)
        raise InvalidInput("no such input")

    doubted.backend.answer = answer
    doubted.backend.now = OTHER
    answers: list[str] = []
    at_once(8, lambda: answers.append(doubted.both.fallback.infer(request()).backend_url))
    assert answers == ["fake://second/m"] * 8
    assert doubted.backend.described == 1


def test_one_that_was_excluded_comes_back_when_it_is_the_same_model_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    doubted = Doubted()
    doubted.backend.error = InvalidInput("no such input")
    doubted.backend.now = OTHER
    doubted.call()
    doubted.recover()
    assert doubted.both.states()[0] == "excluded"
    doubted.backend.error = None
    doubted.backend.now = doubted.backend.metadata
    with caplog.at_level(logging.INFO, "infer_backends"):
        doubted.recover()
        assert [doubted.call() for _ in range(4)] == ["fake://first/m"] * 4
    assert doubted.both.states()[0] == "ready"
    assert [(r.levelname, r.getMessage().split(":")[2]) for r in caplog.records[1:]] == [
        ("WARNING", " it is ready; a few calls will show"),
        ("WARNING", " 3 calls in a row were answered"),
    ]


def test_one_that_changed_compatibly_is_opened_again_and_the_old_one_closed_when_empty() -> None:
    doubted = Doubted()
    inside, leave = threading.Event(), threading.Event()

    def answer(request: InferRequest) -> dict[str, Array]:
        inside.set()
        assert leave.wait(10)
        return double(request)

    doubted.backend.answer = answer
    urls: list[str] = []
    caller = threading.Thread(
        target=lambda: urls.append(doubted.both.fallback.infer(request()).backend_url)
    )
    caller.start()
    assert inside.wait(10)
    doubted.both.take_down()
    doubted.backend.now = FIXED
    doubted.first.backend = again = Described("fake://first/m")
    again.metadata = FIXED
    doubted.recover()
    assert doubted.both.states()[0] == "recovering"
    doubted.call()
    assert len(again.requests) == 1
    assert doubted.both.endpoints[0]._probe() is not None
    assert doubted.backend.closed == 0
    leave.set()
    caller.join(10)
    assert urls == ["fake://first/m"]
    assert doubted.both.endpoints[0]._probe() is None
    assert doubted.backend.closed == 1


def test_where_members_may_differ_one_whose_model_changed_is_opened_again() -> None:
    doubted = Doubted(strict=False)
    doubted.both.take_down()
    doubted.backend.now = OTHER
    doubted.recover()
    assert doubted.both.states()[0] == "recovering"
    assert doubted.first.opened == 2


def test_where_members_may_differ_nothing_is_doubted() -> None:
    doubted = Doubted(strict=False)
    doubted.backend.answer = wide
    doubted.backend.now = OTHER
    assert doubted.call() == "fake://first/m"
    assert doubted.backend.described == 0


def test_a_probe_asks_whether_it_is_ready_and_real_calls_decide() -> None:
    doubted = Doubted()
    doubted.both.take_down()
    doubted.backend.is_ready = False
    doubted.recover()
    assert doubted.both.states()[0] == "down"
    doubted.backend.is_ready = True
    doubted.recover()
    assert doubted.both.states()[0] == "recovering"
    doubted.backend.error = Unavailable("refused")
    assert doubted.call() == "fake://second/m"
    assert doubted.both.states()[0] == "down"
    # It said that it was ready before, and was not: held for longer now.
    doubted.both.probe()
    assert doubted.both.states()[0] == "down"
    doubted.clock.advance(10)
    doubted.both.probe()
    assert doubted.both.states()[0] == "recovering"


def test_a_plugin_that_raises_what_it_should_not_when_it_is_probed_is_probed_again() -> None:
    doubted = Doubted()
    doubted.both.take_down()
    doubted.backend.now = KeyError("secret")
    doubted.recover()
    status = doubted.both.endpoints[0].status()
    assert re.fullmatch(
        f"fake://first/m{BY_FAKE} raised KeyError when it was probed", str(status.last_error)
    )
    assert status.probes == 1
    doubted.backend.now = doubted.backend.metadata
    doubted.recover()
    assert doubted.both.states()[0] == "recovering"


def test_a_failure_that_took_long_makes_it_suspect() -> None:
    clock = ManualClock()
    first, second = pair()
    both = opening(first, second, policy=Policy(clock=clock, probe_period=NEVER))
    stop(both)

    def slowly(request: InferRequest) -> dict[str, Array]:
        clock.advance(0.25)
        raise Unavailable("connecting took too long")

    first.backend.answer = slowly
    both.fallback.infer(request())
    assert both.states() == ["suspect", "ready"]


def test_a_call_that_comes_with_no_time_left_says_nothing_of_it() -> None:
    clock = ManualClock()
    first, second = pair()
    both = opening(first, second, policy=Policy(clock=clock, probe_period=NEVER))
    first.backend.error = DeadlineExceeded("the deadline passed before connecting")
    with pytest.raises(DeadlineExceeded):
        both.fallback.infer(request(deadline=Deadline.after(0, clock=clock)))
    assert both.states() == ["ready", "ready"]


def test_one_that_is_being_loaded_is_waited_for_by_each_call_as_long_as_it_likes() -> None:
    first, second = Switch("fake://first/m"), Switch("fake://second/m", lazy=True)
    both = opening(first, second)
    first.backend.error = Unavailable("refused")
    leave = threading.Event()

    def before_open(deadline: Deadline) -> None:
        assert leave.wait(10)

    second.before_open = before_open
    with pytest.raises(DeadlineExceeded, match="being loaded, which goes on"):
        both.fallback.infer(request(deadline=Deadline.after(0.3)))
    assert both.states()[1] == "unopened"
    release = threading.Timer(0.05, leave.set)
    release.start()
    assert both.fallback.infer(request()).backend_url == "fake://second/m"
    release.join()
    assert second.opened == 1


def test_loading_is_no_part_of_what_an_answer_takes() -> None:
    clock = ManualClock()
    first, second = Switch("fake://first/m"), Switch("fake://second/m", lazy=True)
    both = opening(first, second, policy=Policy(clock=clock, probe_period=NEVER))
    second.before_open = lambda deadline: clock.advance(30)
    first.backend.error = Unavailable("refused")
    both.fallback.infer(request(deadline=Deadline.after(60, clock=clock)))
    assert both.endpoints[1].status().latency == 0


def test_one_that_was_described_as_the_same_and_is_not_is_excluded() -> None:
    first, second = Switch("fake://first/m"), Switch("fake://second/m", lazy=True)
    both = opening(first, second)
    second.backend.metadata = OTHER
    first.backend.error = Unavailable("refused")
    with pytest.raises(MetadataMismatch, match="no backend answered"):
        both.fallback.infer(request())
    assert both.states()[1] == "excluded"


def test_a_model_that_is_closed_says_nothing_of_the_member() -> None:
    first, second = pair()
    both = opening(first, second)
    first.backend.error = ModelClosed("closed")
    with pytest.raises(ModelClosed):
        both.fallback.infer(request())
    assert both.endpoints[0].breaker.calls == 0


def test_the_next_probe_is_shown_while_there_is_to_be_one() -> None:
    doubted = Doubted()
    endpoint = doubted.both.endpoints[0]
    assert endpoint.status().retry_in is None
    doubted.both.take_down()
    assert endpoint.status().retry_in == NEVER
    doubted.recover()
    assert endpoint.status().retry_in is None


def test_a_prober_that_is_not_there_is_called_for_by_the_next_call() -> None:
    first, second = pair()
    both = opening(first, second)
    both.endpoints[0].breaker.shut(MemberState.DOWN, "refused")
    assert not both.endpoints[0]._prober.running
    both.fallback.infer(request())
    assert both.endpoints[0]._prober.running


def test_a_suspect_that_is_well_again_is_found_at_once() -> None:
    first, second = Switch("fake://first/m", Described("fake://first/m")), Switch("fake://b/m")
    both = opening(first, second, policy=Policy(probe_period=30))
    first.backend.error = DeadlineExceeded("slow")
    both.fallback.infer(request())
    first.backend.error = None
    until(lambda: both.states()[0] == "recovering")


def test_closing_is_possible_in_every_state_and_more_than_once() -> None:
    for state in MemberState:
        first, second = pair()
        both = opening(first, second)
        both.endpoints[0]._announce(both.endpoints[0].breaker.shut(state, "told to"))
        both.fallback.close()
        both.fallback.close()
        assert first.backend.closed >= 1
        assert not both.endpoints[0]._prober.running


def test_a_model_that_is_collected_without_being_closed_leaves_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_prober, "_LOOK_AGAIN", 0.001)
    first, second = pair()
    both = Opened(first, second, policy=Policy(probe_period=NEVER), timeout=10)
    first.backend.error = Unavailable("refused")
    for _ in range(5):
        both.fallback.infer(request())
    assert threads() == ["infer-backends-probe"]
    del both
    gc.collect()
    until(lambda: not threads())


def test_transitions_are_told_in_the_order_in_which_they_happened(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = pair()
    both = opening(first, second)
    breaker, announce = both.endpoints[0].breaker, both.endpoints[0]._announce
    with caplog.at_level(logging.INFO, "infer_backends"):
        down = breaker.shut(MemberState.DOWN, "refused")
        recovering = breaker.recover("it is ready")
        # Another thread was faster.
        announce(recovering)
        announce(down)
    assert [r.getMessage() for r in caplog.records] == [
        "fake://first/m is down: refused",
        "fake://first/m is recovering: it is ready",
    ]
