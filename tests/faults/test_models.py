"""The server stays, its model does not: it is unloaded, loaded again, replaced by another."""

from __future__ import annotations

import logging

import pytest

import infer_backends as ib
from infer_backends import MemberState
from tests.conftest import Protocol
from tests.faults.calls import Load
from tests.faults.conftest import OpenPair
from tests.faults.servers import Server, wait_until


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


@pytest.mark.parametrize("unloaded", [True, False], ids=["unloaded first", "in place"])
def test_a_model_that_is_replaced_by_another_one_is_not_asked_until_it_is_put_right(
    server: Server,
    open_pair: OpenPair,
    protocol: Protocol,
    local_url: str,
    unloaded: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = server.url(protocol)
    model = open_pair(url)

    def state() -> MemberState:
        return model.status().members[0].state

    with caplog.at_level(logging.WARNING, "infer_backends"), Load(model, 4) as load:
        load.wait_for(url)
        if unloaded:
            server.unload()
            load.wait_for(local_url)
        server.write("[ -1, -1 ]")
        server.load()
        wait_until(lambda: state() is MemberState.EXCLUDED)
        load.wait_for(local_url)
        begun = len(load.calls)
        load.wait_for(local_url, among=begun)
        assert not any(one.attempts for one in load.calls[begun + 4 :])
        assert state() is MemberState.EXCLUDED
        server.write()
        server.load()
        load.wait_for(url)
    load.check()
    warnings = [record.getMessage() for record in caplog.records if "exclude" in record.message]
    assert len(warnings) == 1
    assert "'x' is FP32[-1] and FP32[-1, -1]" in warnings[0]
