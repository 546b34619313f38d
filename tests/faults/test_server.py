"""The server is killed, hangs, is stopped and started again: calls go on."""

from __future__ import annotations

from tests.conftest import Protocol
from tests.faults.calls import Load, call, check
from tests.faults.conftest import OpenPair
from tests.faults.servers import Background, Server, wait_until


def test_the_server_answers_while_it_can(
    server: Server, open_pair: OpenPair, protocol: Protocol
) -> None:
    model = open_pair(server.url(protocol))
    answer = call(model)
    assert (answer.url, answer.right, answer.attempts) == (server.url(protocol), True, ())


def test_a_kill_in_the_middle_of_calls_costs_none_and_traffic_goes_back(
    server: Server, open_pair: OpenPair, protocol: Protocol, local_url: str
) -> None:
    model = open_pair(server.url(protocol))
    with Load(model, wait=0.05) as load:
        load.wait_for(server.url(protocol))
        server.kill()
        load.wait_for(local_url)
        server.start()
        load.wait_for(server.url(protocol))
    load.check()


def test_a_kill_in_the_middle_of_large_calls_costs_none(
    server: Server, open_pair: OpenPair, protocol: Protocol, local_url: str
) -> None:
    model = open_pair(server.url(protocol))
    with Load(model, 4, size=500_000) as load:
        load.wait_for(server.url(protocol), 8)
        server.kill()
        load.wait_for(local_url, 8)
        server.start()
        load.wait_for(server.url(protocol), 8)
    load.check()


def test_a_stop_costs_no_call_though_a_stopping_server_says_that_it_has_no_such_model(
    server: Server, open_pair: OpenPair, protocol: Protocol, local_url: str
) -> None:
    model = open_pair(server.url(protocol))
    with Load(model) as load:
        load.wait_for(server.url(protocol))
        with Background(server.stop) as stopping:
            wait_until(lambda: stopping.done)
        load.wait_for(local_url)
        server.start()
        load.wait_for(server.url(protocol))
    load.check()


def test_a_hung_server_costs_one_bounded_wait(
    server: Server, open_pair: OpenPair, protocol: Protocol, local_url: str
) -> None:
    model = open_pair(server.url(protocol))
    assert call(model).url == server.url(protocol)
    server.hang()
    first = call(model, timeout=2)
    assert first.url == local_url
    check([first], within=2)
    server.resume()
    wait_until(lambda: call(model, timeout=5).url == server.url(protocol))
