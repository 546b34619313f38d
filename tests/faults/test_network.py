"""Connections fail in every way that networks have: each call is answered, by the right numbers."""

from __future__ import annotations

from typing import Literal

import pytest

import infer_backends as ib
from tests.conftest import Protocol
from tests.faults.calls import Call, Load, call, check
from tests.faults.conftest import OpenPair
from tests.faults.proxy import Direction, Fault, FaultProxy
from tests.faults.servers import Deaf, wait_until

#: Numbers in a large call: megabytes, so that faults hit it between the first and the last byte.
LARGE = 500_000
DIRECTIONS: tuple[Direction, ...] = ("request", "response")


def answered_by_the_local_model(one: Call, local_url: str, timeout: float) -> None:
    check([one], within=timeout)
    assert one.url == local_url
    assert isinstance(one.attempts[0].error, ib.Unavailable | ib.DeadlineExceeded)


def test_a_closed_port_costs_no_call_and_traffic_goes_back_when_it_opens(
    proxy: FaultProxy, url: str, open_pair: OpenPair, local_url: str
) -> None:
    model = open_pair(url)
    with Load(model, 4) as load:
        load.wait_for(url)
        proxy.refuse()
        load.wait_for(local_url)
        proxy.restore()
        load.wait_for(url)
    load.check()
    refused = next(one for one in load.calls if one.attempts)
    assert isinstance(refused.attempts[0].error, ib.Unavailable)


def test_connections_that_are_reset_cost_no_call(
    proxy: FaultProxy, url: str, open_pair: OpenPair
) -> None:
    model = open_pair(url)
    with Load(model, 4) as load:
        load.wait_for(url)
        for _ in range(5):
            proxy.drop("reset")
            load.wait_for(url, among=len(load.calls))
            proxy.drop("close")
            load.wait_for(url, among=len(load.calls))
    load.check()


def test_a_host_that_vanishes_costs_each_call_less_than_its_deadline(
    proxy: FaultProxy, url: str, open_pair: OpenPair, local_url: str
) -> None:
    model = open_pair(url, connect_timeout=0.5)
    assert call(model).url == url
    proxy.vanish()
    answered_by_the_local_model(call(model, timeout=1), local_url, 1)
    proxy.restore()
    wait_until(lambda: call(model, timeout=5).url == url)


def test_a_host_that_answers_no_syn_at_open_leaves_the_local_model_to_answer(
    open_pair: OpenPair, protocol: Protocol, local_url: str
) -> None:
    with Deaf() as deaf:
        model = open_pair(f"{protocol}://127.0.0.1:{deaf.port}/m", connect_timeout=0.5)
        check([one := call(model, timeout=5)], within=5)
        assert one.url == local_url


def test_a_name_that_does_not_resolve_leaves_the_local_model_to_answer(
    open_pair: OpenPair, protocol: Protocol, local_url: str
) -> None:
    model = open_pair(f"{protocol}://nowhere.invalid/m")
    check([one := call(model, timeout=10)], within=10)
    assert one.url == local_url


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("after", [0, 1, 20, 40])
def test_a_connection_that_ends_in_the_middle_of_a_small_message_costs_no_call(
    proxy: FaultProxy,
    url: str,
    open_pair: OpenPair,
    how: Literal["close", "reset"],
    direction: Direction,
    after: int,
    local_url: str,
) -> None:
    model = open_pair(url)
    assert call(model).url == url
    proxy.set(Fault(direction, how, after))
    answered_by_the_local_model(call(model, timeout=10), local_url, 10)
    proxy.restore()
    wait_until(lambda: call(model).url == url)


@pytest.mark.parametrize("how", ["close", "reset", "hang"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_connection_that_fails_in_the_middle_of_a_large_message_costs_no_call(
    proxy: FaultProxy,
    url: str,
    open_pair: OpenPair,
    how: Literal["close", "reset", "hang"],
    direction: Direction,
    local_url: str,
) -> None:
    model = open_pair(url)
    assert call(model, size=LARGE).url == url
    proxy.set(Fault(direction, how, 1_000_000))
    answered_by_the_local_model(call(model, timeout=2, size=LARGE), local_url, 2)
    proxy.restore()
    wait_until(lambda: call(model, size=LARGE).url == url)


def test_an_answer_that_comes_byte_by_byte_is_an_answer(
    proxy: FaultProxy, url: str, open_pair: OpenPair
) -> None:
    model = open_pair(url)
    proxy.set(Fault("response", pause=0.001))
    one = call(model, timeout=20)
    check([one], within=20)
    assert (one.url, one.attempts) == (url, ())


def test_a_request_that_arrives_byte_by_byte_is_answered(
    proxy: FaultProxy, url: str, open_pair: OpenPair
) -> None:
    # By either: Triton takes the pieces of an HTTP request's first line for a path it hasn't got.
    model = open_pair(url)
    proxy.set(Fault("request", pause=0.001))
    check([call(model, timeout=20)], within=20)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_bytes_that_come_too_slowly_are_not_waited_for(
    proxy: FaultProxy, url: str, open_pair: OpenPair, direction: Direction, local_url: str
) -> None:
    model = open_pair(url)
    proxy.set(Fault(direction, pause=0.1))
    answered_by_the_local_model(call(model, timeout=1), local_url, 1)
