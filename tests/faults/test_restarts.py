"""The server is restarted again and again on the same ports, under load: no call is lost."""

from __future__ import annotations

import pytest

from tests.conftest import Protocol
from tests.faults.calls import Load
from tests.faults.conftest import OpenPair
from tests.faults.servers import Server

RESTARTS = 20


def test_restarts_of_both_kinds_cost_no_call(
    server: Server, open_pair: OpenPair, protocol: Protocol, local_url: str
) -> None:
    url = server.url(protocol)
    model = open_pair(url)
    with Load(model, wait=0.01) as load:
        load.wait_for(url)
        for end in (server.kill, server.stop, server.kill):
            end()
            load.wait_for(local_url)
            server.start()
            load.wait_for(url)
    load.check()


@pytest.mark.timeout(300)
def test_twenty_restarts_cost_no_call_over_either_protocol(
    server: Server, open_pair: OpenPair, local_url: str
) -> None:
    by_http, by_grpc = open_pair(server.url("http")), open_pair(server.url("grpc"))
    with Load(by_http, 4) as one, Load(by_grpc, 4) as other:
        for _ in range(RESTARTS):
            one.wait_for(server.url("http"))
            other.wait_for(server.url("grpc"))
            server.kill()
            one.wait_for(local_url)
            other.wait_for(local_url)
            server.start()
        one.wait_for(server.url("http"))
        other.wait_for(server.url("grpc"))
    for load in (one, other):
        load.check()
