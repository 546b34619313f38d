"""The server stays, its model does not: it is unloaded, loaded again, replaced by another."""

from __future__ import annotations

import pytest

import infer_backends as ib
from tests.conftest import Protocol
from tests.faults.calls import Load
from tests.faults.conftest import OpenPair
from tests.faults.servers import Server


def test_a_model_that_is_unloaded_costs_no_call_and_traffic_goes_back_when_it_is_loaded(
    server: Server, open_pair: OpenPair, protocol: Protocol, local_url: str
) -> None:
    model = open_pair(server.url(protocol))
    with Load(model, 4) as load:
        load.wait_for(server.url(protocol))
        server.unload()
        load.wait_for(local_url)
        server.load()
        load.wait_for(server.url(protocol))
    load.check()
    failed = next(one for one in load.calls if one.attempts)
    assert isinstance(failed.attempts[0].error, ib.ModelNotFound)


def test_a_model_that_is_loaded_anew_costs_no_call(
    server: Server, open_pair: OpenPair, protocol: Protocol
) -> None:
    model = open_pair(server.url(protocol))
    with Load(model, 4) as load:
        load.wait_for(server.url(protocol))
        for version in ("1", "2"):
            server.write(comment=version)
            server.load()
            load.wait_for(server.url(protocol), among=len(load.calls))
    load.check()


def test_another_model_on_the_server_is_noticed_at_open(
    server: Server, open_pair: OpenPair, protocol: Protocol
) -> None:
    server.write("[ -1, -1 ]")
    server.load()
    with pytest.raises(ib.MetadataMismatch, match=r"'x' is FP32\[-1, -1\] and FP32\[-1\]"):
        open_pair(server.url(protocol))
