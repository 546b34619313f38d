"""Every request to an observed member is an event."""

from __future__ import annotations

import numpy as np
import pytest

from infer_backends._observed import Observed
from infer_backends.plugin import (
    Array,
    AttemptEvent,
    Backend,
    Deadline,
    Event,
    InferRequest,
    PluginError,
    SupportsDescription,
    SupportsReadiness,
    Unavailable,
)
from tests.core.fakes import FakeBackend, ManualClock, double, metadata, request
from tests.core.test_batching import Both, Describing, Ready


def observed(member: FakeBackend, seen: list[Event], clock: ManualClock) -> Observed:
    return Observed(member, "fake://h/m", seen.append, clock=clock, wall_clock=lambda: 5e8)


def test_an_answer_is_an_event_with_who_gave_it_and_how_long_it_took() -> None:
    clock = ManualClock()
    seen: list[Event] = []

    def answer(asked: InferRequest) -> dict[str, Array]:
        clock.advance(0.25)
        return double(asked)

    member = FakeBackend(answer)
    asked = request(np.zeros((1, 3)))
    asked.request_id = "r1"
    response = observed(member, seen, clock).infer(asked)
    assert response.backend_url == "fake://h/m"
    assert seen == [AttemptEvent("fake", 5e8, "fake://h/m", 0.25, None, "r1")]
    assert member.requests == [asked]


def test_a_failure_is_an_event_and_raised_all_the_same() -> None:
    seen: list[Event] = []
    member = FakeBackend()
    member.error = Unavailable("refused")
    with pytest.raises(Unavailable, match="refused"):
        observed(member, seen, ManualClock()).infer(request(np.zeros((1, 3))))
    (event,) = seen
    assert isinstance(event, AttemptEvent)
    assert event.error is member.error


def test_what_is_no_error_of_the_library_is_told_by_its_type_alone() -> None:
    seen: list[Event] = []
    member = FakeBackend()
    member.error = KeyError("hunter2")
    with pytest.raises(KeyError):
        observed(member, seen, ManualClock()).infer(request(np.zeros((1, 3))))
    (event,) = seen
    assert isinstance(event, AttemptEvent)
    assert isinstance(event.error, PluginError)
    assert str(event.error) == "the backend raised KeyError"


@pytest.mark.parametrize("kind", [FakeBackend, Ready, Describing, Both])
def test_what_a_member_can_do_besides_is_handed_through_and_nothing_else(
    kind: type[FakeBackend],
) -> None:
    member = kind(metadata=metadata(max_batch_size=2))
    watched: object = observed(member, [], ManualClock())
    assert isinstance(watched, Observed)
    assert isinstance(watched, Backend)
    assert watched.metadata is member.metadata
    assert isinstance(watched, SupportsReadiness) == isinstance(member, SupportsReadiness)
    assert isinstance(watched, SupportsDescription) == isinstance(member, SupportsDescription)
    if isinstance(watched, SupportsReadiness):
        assert [watched.ready(Deadline.after(seconds)) for seconds in (60, 0)] == [True, False]
    watched.close()
    assert member.closed == 1
