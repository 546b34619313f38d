"""Hosts that serve the same model share its load, and none waits for one that does not answer."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress

import pytest

from infer_backends import AllBackendsFailed, DeadlineExceeded, Unavailable
from infer_backends._member_state import MemberState
from infer_backends._resilience._policy import Policy
from infer_backends._resilience._replicas import Replicas
from tests.core.fakes import ManualClock, request
from tests.core.resilience.members import NEVER, Opened, Switch, opening


class Shared:
    """One member of three replicas, or so, and perhaps another member."""

    def __init__(self, replicas: int = 3, *others: Switch, idempotent: bool = False) -> None:
        self.clock = ManualClock()
        self.random = random.Random(7)  # noqa: S311 - a repeatable one
        self.switches = [Switch(f"fake://{number}/m") for number in range(replicas)]
        self.others = others
        policy = Policy(
            clock=self.clock,
            random=self.random.random,
            probe_period=NEVER,
            idempotent=idempotent,
        )
        members: list[Switch | list[Switch]] = [self.switches, *others]
        self.all: Opened = opening(*members, policy=policy)
        for endpoint in self.all.endpoints:
            endpoint._prober.stop()

    @property
    def replicas(self) -> Replicas:
        return self.all.fallback._course.members[0]

    def chosen(self, calls: int = 3000) -> Counter[str]:
        """Who is asked, how often, when calls come one after the other."""
        found: Counter[str] = Counter()
        for _ in range(calls):
            admitted = self.replicas.admit()
            if admitted is not None:
                endpoint, permit = admitted
                found[endpoint.url] += 1
                endpoint.breaker.abandoned(permit)
        return found

    def call(self) -> str:
        return self.all.fallback.infer(request()).backend_url


def test_of_equals_each_has_its_share() -> None:
    chosen = Shared().chosen()
    assert len(chosen) == 3
    assert min(chosen.values()) > 800


def test_the_one_with_the_most_calls_in_flight_is_never_taken_of_two() -> None:
    shared = Shared()
    for _ in range(2):
        shared.all.endpoints[0].contact.openings.enter(object())
    assert shared.chosen()["fake://0/m"] == 0


def test_one_that_is_clearly_slower_gets_few_calls() -> None:
    shared = Shared()
    for endpoint, latency in zip(shared.all.endpoints, (0.5, 0.1, 0.15), strict=True):
        endpoint.latency.observe(latency)
    chosen = shared.chosen()
    assert 0 < chosen["fake://0/m"] < 150
    # 0.15 s is not clearly more than 0.1 s.
    assert chosen["fake://2/m"] > 1000


def test_one_that_was_not_measured_yet_is_not_taken_for_slow() -> None:
    shared = Shared()
    shared.all.endpoints[0].latency.observe(0.001)
    assert min(shared.chosen().values()) > 800


@pytest.mark.parametrize("state", [MemberState.DOWN, MemberState.SUSPECT, MemberState.EXCLUDED])
def test_one_that_is_ejected_gets_no_calls(state: MemberState) -> None:
    shared = Shared()
    shared.all.endpoints[1].breaker.shut(state, "told to")
    chosen = shared.chosen()
    assert chosen["fake://1/m"] == 0
    assert sum(chosen.values()) == 3000


def test_one_that_recovers_gets_one_call_at_a_time() -> None:
    shared = Shared()
    recovering = shared.all.endpoints[1]
    recovering.breaker.shut(MemberState.DOWN, "told to")
    recovering.breaker.recover("it is ready")
    given = [shared.replicas.admit() for _ in range(300)]
    assert all(given)
    assert sum(found is not None and found[0] is recovering for found in given) == 1


def test_those_that_were_tried_are_not_asked_again() -> None:
    shared = Shared()
    first, second, third = shared.all.endpoints
    for _ in range(50):
        admitted = shared.replicas.admit((first, third))
        assert admitted is not None
        assert admitted[0] is second
    assert shared.replicas.admit((first, second, third)) is None


def test_a_refused_call_goes_to_another_replica() -> None:
    shared = Shared()
    for switch in shared.switches[:2]:
        switch.backend.error = Unavailable("refused", unprocessed=True)
    assert {shared.call() for _ in range(8)} == {"fake://2/m"}
    assert shared.all.fallback.status().fallbacks == 0
    assert shared.all.fallback.status().retries > 0


def test_a_call_that_may_have_been_worked_on_does_not_go_to_another_replica() -> None:
    shared = Shared(2)
    shared.switches[0].backend.error = shared.switches[1].backend.error = Unavailable("reset")
    with pytest.raises(AllBackendsFailed) as caught:
        shared.call()
    assert sum(len(switch.backend.requests) for switch in shared.switches) == 1
    assert "reset" in str(caught.value.attempts[0].error)
    assert "not asked: ready for" in str(caught.value.attempts[1].error)


def test_unless_calls_are_declared_idempotent() -> None:
    shared = Shared(2, idempotent=True)
    shared.switches[0].backend.error = Unavailable("reset")
    assert {shared.call() for _ in range(8)} == {"fake://1/m"}


def test_it_goes_to_the_next_member_rather_than_to_another_replica() -> None:
    shared = Shared(2, Switch("fake://next/m"), idempotent=True)
    for switch in shared.switches:
        switch.backend.error = Unavailable("reset")
    assert shared.call() == "fake://next/m"
    assert sum(len(switch.backend.requests) for switch in shared.switches) == 1


def test_what_was_tried_of_other_members_does_not_count_against_a_replica() -> None:
    first = Switch("fake://first/m")
    replicas = [Switch("fake://0/m"), Switch("fake://1/m")]
    both = opening(first, replicas)
    first.backend.error = Unavailable("refused", unprocessed=True)
    for broken, whole in (replicas, replicas[::-1]):
        broken.backend.error = Unavailable("refused", unprocessed=True)
        whole.backend.error = None
        assert both.fallback.infer(request()).backend_url == whole.url


def test_without_budget_a_refused_call_is_not_sent_again() -> None:
    shared = Shared(2)
    while shared.all.fallback._course.budget.withdraw():
        pass
    retries = shared.all.fallback.status().retries
    for switch in shared.switches:
        switch.backend.error = Unavailable("refused", unprocessed=True)
    with pytest.raises(AllBackendsFailed):
        shared.call()
    assert sum(len(switch.backend.requests) for switch in shared.switches) == 1
    assert shared.all.fallback.status().retries == retries


def test_where_no_other_replica_would_be_asked_no_retry_is_counted() -> None:
    shared = Shared(2)
    shared.all.take_down(1)
    shared.switches[0].backend.error = Unavailable("refused", unprocessed=True)
    with pytest.raises(AllBackendsFailed):
        shared.call()
    assert shared.all.fallback.status().retries == 0


def test_one_that_times_out_is_left_alone_by_the_calls_after_that() -> None:
    shared = Shared(2)
    shared.switches[0].backend.error = DeadlineExceeded("slow")
    for _ in range(50):
        with suppress(AllBackendsFailed):
            shared.call()
    assert len(shared.switches[0].backend.requests) == 1
    assert shared.all.states() == ["suspect", "ready"]


def test_the_status_of_a_member_is_that_of_its_best_replica_and_shows_them_all() -> None:
    shared = Shared()
    shared.all.take_down(0)
    shared.all.endpoints[1].breaker.shut(MemberState.SUSPECT, "slow")
    for _ in range(4):
        shared.call()
    (status,) = shared.all.fallback.status().members
    assert (status.url, str(status.state), status.calls) == ("fake://0/m", "ready", 4)
    assert [str(replica.state) for replica in status.replicas] == ["down", "suspect", "ready"]
    # A suspect is probed at once.
    assert status.retry_in == 0


def test_another_model_among_replicas_is_left_out_and_the_call_goes_on() -> None:
    shared = Shared(2)
    shared.all.endpoints[0]._exclude(["input 'x' differs"])
    assert {shared.call() for _ in range(4)} == {"fake://1/m"}
    assert shared.all.fallback.status().members[0].state is MemberState.READY
