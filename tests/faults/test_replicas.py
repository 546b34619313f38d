"""Hosts that share the load of one model fail one by one: each call is answered by another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

import infer_backends as ib
from infer_backends import MemberState
from tests.conftest import Protocol
from tests.faults.calls import Call, Load, call, check
from tests.faults.conftest import OpenPair
from tests.faults.proxy import Fault, FaultProxy, fault_proxy
from tests.faults.servers import Deaf, Server, wait_until


class Hosts:
    """Two ways to one server, each with troubles of its own."""

    def __init__(self, protocol: Protocol, first: FaultProxy, second: FaultProxy) -> None:
        self.first, self.second = first, second
        self.urls = [
            f"{protocol}://127.0.0.1:{proxy.port}/m?shared_memory=off" for proxy in (first, second)
        ]
        #: Both of them in one URL.
        self.url = f"{self.urls[0]}&host=127.0.0.1:{second.port}"


@pytest.fixture
def hosts(server: Server, protocol: Protocol) -> Iterator[Hosts]:
    port = server.port(protocol)
    with fault_proxy(port) as first, fault_proxy(port) as second:
        yield Hosts(protocol, first, second)


@pytest.fixture
def open_hosts(nothing_left: None) -> Iterator[Callable[..., ib.Model]]:
    """Opens a URL with replicas and nothing behind them; closed at the end."""
    opened: list[ib.Model] = []

    def open_it(url: str) -> ib.Model:
        opened.append(ib.open_model(url, probe_period=0.2))
        return opened[-1]

    yield open_it
    for model in opened:
        model.close()


def states(model: ib.Model) -> list[MemberState]:
    return [replica.state for replica in model.status().members[0].replicas]


def answers(calls: list[Call]) -> Counter[str]:
    """How many calls each host answered."""
    return Counter(one.url for one in calls)


def test_both_share_the_load(hosts: Hosts, open_hosts: Callable[..., ib.Model]) -> None:
    model = open_hosts(hosts.url)
    with Load(model, 4) as load:
        wait_until(lambda: len(load.calls) >= 200)
    load.check()
    counts = answers(load.calls)
    assert set(counts) == set(hosts.urls)
    assert min(counts.values()) >= len(load.calls) / 5


def test_a_host_that_dies_costs_no_more_than_the_calls_inside_it_and_is_used_again(
    hosts: Hosts, open_hosts: Callable[..., ib.Model]
) -> None:
    model = open_hosts(hosts.url)
    with Load(model, 4) as load:
        wait_until(lambda: set(answers(load.calls)) == set(hosts.urls))
        hosts.second.refuse()
        wait_until(lambda: states(model) == [MemberState.READY, MemberState.DOWN])
        load.wait_for(hosts.urls[0])
        hosts.second.restore()
        wait_until(lambda: states(model) == [MemberState.READY, MemberState.READY])
        wait_until(lambda: hosts.urls[1] in answers(load.calls[-10:]))
    lost = [one for one in load.calls if one.error is not None]
    # Those that were inside when it went may have been worked on: they are not sent twice.
    assert all(isinstance(one.error, ib.Unavailable) for one in lost)
    assert len(lost) <= 4
    check([one for one in load.calls if one.error is None], within=20)


def test_in_front_of_a_fallback_a_host_that_dies_costs_no_call_at_all(
    hosts: Hosts, open_pair: OpenPair, local_url: str
) -> None:
    model = open_pair(hosts.url)
    with Load(model, 4) as load:
        wait_until(lambda: set(answers(load.calls)) == set(hosts.urls))
        hosts.second.refuse()
        load.wait_for(hosts.urls[0])
        hosts.first.refuse()
        load.wait_for(local_url)
        hosts.first.restore()
        load.wait_for(hosts.urls[0])
        hosts.second.restore()
        wait_until(lambda: hosts.urls[1] in answers(load.calls[-10:]))
    load.check()


def test_a_host_that_hangs_is_left_alone_after_one_wait(hosts: Hosts, open_pair: OpenPair) -> None:
    model = open_pair(hosts.url)
    assert {call(model).url for _ in range(20)} == set(hosts.urls)
    hosts.second.set(Fault("response", "hang"))
    calls = [call(model, timeout=1) for _ in range(30)]
    check(calls, within=1)
    assert sum(bool(one.attempts) for one in calls) == 1
    assert answers(calls)[hosts.urls[0]] >= 29
    hosts.second.restore()
    wait_until(lambda: call(model).url == hosts.urls[1])


def test_a_slow_host_does_not_set_the_pace(
    hosts: Hosts, open_hosts: Callable[..., ib.Model]
) -> None:
    model = open_hosts(hosts.url)
    # Some hundred bytes: each answer of this host takes half a second or more.
    hosts.second.set(Fault("response", pause=0.002))
    with Load(model, 4, pace=0.001) as load:
        wait_until(lambda: len(load.calls) >= 400)
    load.check()
    counts = answers(load.calls)
    assert counts[hosts.urls[1]] <= len(load.calls) / 10


def test_a_host_that_is_dead_at_open_keeps_nobody_waiting_and_joins_in_later(
    hosts: Hosts, open_hosts: Callable[..., ib.Model]
) -> None:
    hosts.first.refuse()
    model = open_hosts(hosts.url)
    assert states(model) == [MemberState.DOWN, MemberState.READY]
    check([call(model) for _ in range(10)], within=10)
    hosts.first.restore()
    wait_until(lambda: call(model).url == hosts.urls[0])


def test_a_host_that_answers_no_syn_at_open_leaves_the_others_to_answer(
    hosts: Hosts, open_hosts: Callable[..., ib.Model]
) -> None:
    with Deaf() as deaf:
        model = open_hosts(f"{hosts.urls[0]}&host=127.0.0.1:{deaf.port}&connect_timeout=0.5")
        check([call(model, timeout=5) for _ in range(10)], within=5)
        assert states(model) == [MemberState.READY, MemberState.DOWN]
        model.close()
