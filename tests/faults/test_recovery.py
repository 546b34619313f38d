"""A server that failed is left alone, found again in the background, and asked again."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable

import pytest

import infer_backends as ib
from infer_backends import MemberState
from tests.conftest import Protocol
from tests.faults.calls import MARGIN, Load, call, check
from tests.faults.conftest import OpenPair
from tests.faults.proxy import Fault, FaultProxy
from tests.faults.servers import Background, Server, wait_until

HANG = Fault("response", "hang")
#: The longest that a probe of a server takes, in seconds.
PROBE = 2.0


def state(model: ib.Model) -> MemberState:
    """The state of the first member."""
    return model.status().members[0].state


def ready(model: ib.Model) -> bool:
    """Whether the first member is asked again, after a few calls that show that it answers."""
    call(model)
    return state(model) is MemberState.READY


def test_after_one_time_out_calls_are_answered_without_asking_the_server(
    proxy: FaultProxy, url: str, open_pair: OpenPair, local_url: str
) -> None:
    model = open_pair(url)
    assert call(model).url == url
    proxy.set(HANG)
    first = call(model, timeout=0.8)
    later = [call(model, timeout=0.8) for _ in range(20)]
    check([first, *later], within=0.8)
    assert isinstance(first.attempts[0].error, ib.DeadlineExceeded)
    assert {(one.url, one.attempts) for one in later} == {(local_url, ())}
    assert state(model) is MemberState.SUSPECT
    proxy.restore()
    wait_until(lambda: ready(model))
    assert call(model).url == url


def test_a_server_that_hangs_under_load_costs_each_thread_one_wait(
    proxy: FaultProxy, url: str, open_pair: OpenPair, local_url: str
) -> None:
    model = open_pair(url)
    with Load(model, timeout=2) as load:
        load.wait_for(url)
        proxy.set(HANG)
        load.wait_for(local_url, 100)
        proxy.restore()
        load.wait_for(url)
    load.check()
    assert 1 <= sum(bool(one.attempts) for one in load.calls) <= 8 + 3


def test_a_closed_port_is_tried_five_times_and_then_left_alone(
    proxy: FaultProxy, url: str, open_pair: OpenPair, local_url: str
) -> None:
    model = open_pair(url, probe_period=60)
    assert call(model).url == url
    proxy.refuse()
    calls = [call(model) for _ in range(20)]
    check(calls, within=20)
    assert [len(one.attempts) for one in calls] == [1] * 5 + [0] * 15
    assert {one.url for one in calls} == {local_url}
    assert state(model) is MemberState.DOWN


def test_a_server_that_was_down_at_open_is_asked_when_it_appears(
    server: Server, open_pair: OpenPair, protocol: Protocol, local_url: str
) -> None:
    server.kill()
    model = open_pair(server.url(protocol))
    assert state(model) is MemberState.DOWN
    with Load(model, 4) as load:
        load.wait_for(local_url)
        server.start()
        load.wait_for(server.url(protocol))
    load.check()
    assert not any(one.attempts for one in load.calls)


def test_each_change_of_state_is_one_warning_that_tells_why(
    proxy: FaultProxy, url: str, open_pair: OpenPair, caplog: pytest.LogCaptureFixture
) -> None:
    # Loaded at open: on a busy machine, a quarter of a second is little for that.
    model = open_pair(url, preload=True)
    with caplog.at_level(logging.WARNING, "infer_backends"), Load(model, timeout=1) as load:
        load.wait_for(url)
        proxy.set(HANG)
        wait_until(lambda: state(model) is MemberState.SUSPECT)
        proxy.restore()
        load.wait_for(url)
        wait_until(lambda: state(model) is MemberState.READY)
    changes = [record.getMessage() for record in caplog.records]
    states = [text.removeprefix(f"{url} is ").partition(":")[0] for text in changes]
    assert states == ["suspect", "recovering", "ready"]
    assert "DeadlineExceeded" in changes[0]
    load.check()


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (Server.kill, "refused|could not be reached"),
        (Server.unload, "no available versions"),
        (Server.hang, "did not say in time|gave no answer|could not be reached"),
    ],
    ids=["killed", "unloaded", "hung"],
)
def test_the_status_says_what_probes_found_wrong(
    server: Server,
    open_pair: OpenPair,
    protocol: Protocol,
    trouble: Callable[[Server], None],
    reason: str,
) -> None:
    model = open_pair(server.url(protocol))
    assert call(model).right
    trouble(server)
    while state(model) is MemberState.READY:
        assert call(model, timeout=1).right
    wait_until(lambda: model.status().members[0].probes >= 2)
    assert re.search(reason, str(model.status().members[0].last_error))


def test_there_is_no_thread_before_a_failure_one_while_it_lasts_and_none_after(
    proxy: FaultProxy, url: str, open_pair: OpenPair
) -> None:
    before = threading.active_count()
    # A member that is still to be loaded has gRPC's calls watched by a thread, all of them by one.
    model = open_pair(url, preload=True)
    for _ in range(3):
        assert call(model).url == url
    assert threading.active_count() == before
    proxy.refuse()
    while state(model) is MemberState.READY:
        assert call(model).right
    assert threading.active_count() == before + 1
    for _ in range(20):
        assert call(model).right
    assert threading.active_count() == before + 1
    proxy.restore()
    wait_until(lambda: ready(model))
    wait_until(lambda: threading.active_count() == before)
    proxy.refuse()
    while state(model) is MemberState.READY:
        assert call(model).right
    model.close()
    assert threading.active_count() == before


def test_closing_waits_no_longer_than_a_probe_takes(
    proxy: FaultProxy, url: str, open_pair: OpenPair
) -> None:
    model = open_pair(url, connect_timeout=30)
    assert call(model).url == url
    proxy.vanish()
    assert call(model, timeout=0.8).right
    with Background(model.close) as closing:
        wait_until(lambda: closing.done, within=PROBE + MARGIN)


def test_a_server_that_fails_again_at_once_costs_no_call(
    server: Server, open_pair: OpenPair, protocol: Protocol, local_url: str
) -> None:
    model = open_pair(server.url(protocol))
    with Load(model) as load:
        load.wait_for(server.url(protocol))
        server.unload()
        load.wait_for(local_url)
        server.load()
        wait_until(lambda: state(model) is not MemberState.DOWN)
        server.unload()
        load.wait_for(local_url)
    load.check()
