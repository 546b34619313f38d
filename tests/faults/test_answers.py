"""What comes back is no answer: cut short, of other lengths, of another protocol, or a refusal."""

from __future__ import annotations

import re
from typing import Any, Literal

import grpc
import pytest

import infer_backends as ib
from tests.conftest import Protocol
from tests.faults.calls import Call, call, check
from tests.faults.conftest import OpenPair
from tests.faults.proxy import Fault, FaultProxy, fault_proxy
from tests.faults.servers import Server, wait_until
from tests.triton import grpc_fakes, http_faults

GARBAGE = (
    pytest.param("close", b"SSH-2.0-OpenSSH_9.2p1\r\n", id="ssh"),
    pytest.param(
        "close",
        b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<html>Please log in</html>",
        id="portal",
    ),
    pytest.param("close", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="tls"),
    pytest.param("hang", b"\x00" * 100, id="zeros"),
    pytest.param("hang", b"\xff" * 100_000, id="ones"),
)


def not_taken_for_an_answer(one: Call, local_url: str, timeout: float) -> None:
    check([one], within=timeout)
    assert one.url == local_url
    assert isinstance(
        one.attempts[0].error, ib.ProtocolError | ib.Unavailable | ib.DeadlineExceeded
    )


@pytest.mark.parametrize(("then", "garbage"), GARBAGE)
def test_an_answer_of_another_protocol_is_not_taken_for_one(
    proxy: FaultProxy,
    url: str,
    open_pair: OpenPair,
    local_url: str,
    garbage: bytes,
    then: Literal["close", "hang"],
) -> None:
    model = open_pair(url)
    assert call(model).url == url
    proxy.set(Fault("response", then, instead=garbage))
    not_taken_for_an_answer(call(model, timeout=1), local_url, 1)
    proxy.restore()
    wait_until(lambda: call(model).url == url)


@pytest.mark.parametrize("length", [0, 7, 10**3, 10**12, 10**30])
def test_an_http_answer_of_another_length_is_not_taken_for_one(
    server: Server, open_pair: OpenPair, local_url: str, length: int
) -> None:
    def edit(piece: bytes) -> bytes:
        return re.sub(rb"(?i)(?<=\r\ncontent-length: )[0-9]+", b"%d" % length, piece)

    with fault_proxy(server.port("http")) as proxy:
        url = f"http://127.0.0.1:{proxy.port}/m"
        model = open_pair(url)
        assert call(model).url == url
        proxy.set(Fault("response", edit=edit))
        not_taken_for_an_answer(call(model, timeout=1), local_url, 1)
        proxy.restore()
        wait_until(lambda: call(model).url == url)


@pytest.mark.parametrize("after", [1, 30, 60])
def test_an_answer_that_turns_into_something_else_is_not_taken_for_one(
    proxy: FaultProxy, url: str, open_pair: OpenPair, local_url: str, after: int
) -> None:
    model = open_pair(url)
    assert call(model).url == url
    proxy.set(Fault("response", "hang", after=after, instead=b"\xa5" * 10_000))
    not_taken_for_an_answer(call(model, timeout=1), local_url, 1)
    proxy.restore()
    wait_until(lambda: call(model).url == url)


def test_a_triton_that_says_that_it_is_unavailable_costs_no_call(
    server: Server, open_pair: OpenPair, protocol: Protocol, local_url: str
) -> None:
    url = server.url(protocol)
    model = open_pair(url)
    calls = [call(model, busy=True) for _ in range(20)]
    check(calls, within=10)
    assert {one.url for one in calls} == {local_url}
    assert [len(one.attempts) for one in calls] == [1] * 5 + [0] * 15
    assert all(isinstance(one.attempts[0].error, ib.Unavailable) for one in calls[:5])
    wait_until(lambda: call(model).url == url)


@pytest.mark.parametrize("status", ["429 Busy", "502 Bad", "503 Unavailable", "504 Late"])
@pytest.mark.parametrize("then_close", [False, True])
def test_a_server_that_is_too_busy_over_http_costs_no_call(
    open_pair: OpenPair, local_url: str, status: str, then_close: bool
) -> None:
    with http_faults.faulty_server(http_faults.echo) as fake:
        model = open_pair(fake.url)
        assert call(model).url == fake.url
        busy = http_faults.json_answer({"error": "busy"}, status)
        fake.answer = http_faults.saying(busy, then_close=then_close)
        one = call(model)
        check([one], within=10)
        assert one.url == local_url
        assert isinstance(one.attempts[0].error, ib.Unavailable)
        fake.answer = http_faults.echo
        wait_until(lambda: call(model).url == fake.url)


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_a_server_that_is_too_busy_over_grpc_costs_no_call(
    open_pair: OpenPair, local_url: str, code: grpc.StatusCode
) -> None:
    answers: list[grpc_fakes.Answer] = [grpc_fakes.echo]

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        return answers[-1](request, context)

    with grpc_fakes.fake_server(answer) as fake:
        model = open_pair(fake.url)
        assert call(model).url == fake.url
        answers.append(grpc_fakes.refuse(code, "busy"))
        one = call(model)
        check([one], within=10)
        assert one.url == local_url
        assert isinstance(one.attempts[0].error, ib.Unavailable)
        answers.append(grpc_fakes.echo)
        wait_until(lambda: call(model).url == fake.url)
