"""Whatever hangs, a call ends by its deadline, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import infer_backends as ib
from tests.conftest import Protocol
from tests.faults.calls import MARGIN, Load, call, check
from tests.faults.conftest import OpenPair
from tests.faults.proxy import Fault, FaultProxy
from tests.faults.servers import Background, Server, wait_until

TIMEOUT = 0.8
Hang = Callable[[Server, FaultProxy], object]

HANGS = (
    pytest.param(lambda server, proxy: server.hang(), id="stopped process"),
    pytest.param(lambda server, proxy: proxy.vanish(), id="vanished host"),
    pytest.param(lambda server, proxy: proxy.set(Fault("request", "hang")), id="request lost"),
    pytest.param(lambda server, proxy: proxy.set(Fault("response", "hang")), id="response lost"),
    pytest.param(
        lambda server, proxy: proxy.set(Fault("response", "hang", after=20)), id="response cut"
    ),
    pytest.param(lambda server, proxy: proxy.set(Fault("request", pause=0.1)), id="slow request"),
    pytest.param(lambda server, proxy: proxy.set(Fault("response", pause=0.1)), id="slow response"),
)


@pytest.mark.parametrize("hang", HANGS)
def test_a_call_ends_by_its_deadline_and_leaves_no_connection(
    server: Server, proxy: FaultProxy, url: str, hang: Hang
) -> None:
    with ib.open_model(url) as model:
        assert call(model).right
        hang(server, proxy)
        with Load(model, 4, timeout=TIMEOUT) as load:
            wait_until(lambda: len(load.calls) >= 4)
        for one in load.calls:
            assert isinstance(one.error, ib.DeadlineExceeded)
            assert one.duration < TIMEOUT + MARGIN
        # A host that vanished can't see that we have closed our side.
        if proxy.serving:
            wait_until(lambda: proxy.open == 0)
        proxy.restore()
        server.resume()
        assert call(model).right


@pytest.mark.parametrize("hang", HANGS)
def test_the_second_member_answers_before_the_deadline(
    server: Server,
    proxy: FaultProxy,
    url: str,
    open_pair: OpenPair,
    local_url: str,
    hang: Hang,
) -> None:
    model = open_pair(url)
    assert call(model).url == url
    hang(server, proxy)
    one = call(model, timeout=TIMEOUT)
    check([one], within=TIMEOUT)
    assert one.url == local_url
    assert isinstance(one.attempts[0].error, ib.DeadlineExceeded)


def test_a_model_that_takes_too_long_leaves_the_local_one_to_answer(
    server: Server, open_pair: OpenPair, protocol: Protocol, local_url: str
) -> None:
    model = open_pair(server.url(protocol))
    one = call(model, timeout=TIMEOUT, wait=TIMEOUT * 2)
    check([one], within=TIMEOUT)
    assert one.url == local_url


@pytest.mark.parametrize("size", [3, 500_000])
def test_closing_cancels_calls_that_a_hung_server_holds(
    server: Server, protocol: Protocol, size: int
) -> None:
    with ib.open_model(server.url(protocol)) as model:
        assert call(model, size=size).right
        server.hang()
        with Load(model, 4, timeout=60, size=size) as load:
            wait_until(lambda: load.inside == 4)
            with Background(lambda: model.close(timeout=0.1)) as closing:
                wait_until(lambda: closing.done, within=0.1 + MARGIN)
            wait_until(lambda: len(load.calls) >= 8)
    for one in load.calls:
        assert isinstance(one.error, ib.ModelClosed)
        assert one.duration < 0.1 + MARGIN


def test_closing_waits_for_calls_in_flight(server: Server, protocol: Protocol) -> None:
    with ib.open_model(server.url(protocol)) as model:
        with Load(model, 2, wait=0.3) as load:
            wait_until(lambda: load.inside == 2)
            model.close()
    answered = [one for one in load.calls if one.error is None]
    assert len(answered) >= 2
    assert all(one.right for one in answered)
    assert all(isinstance(one.error, ib.ModelClosed) for one in load.calls if one.error)
