"""The connection that calls over gRPC share, and when a new one is made."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from infer_backends.plugin import ModelClosed, Unavailable
from infer_backends_triton._grpc_backend import GrpcBackend
from tests.triton.grpc_fakes import a_request, echo, fake_server, opened


def connections(backend: GrpcBackend) -> int:
    """How many channels there are, none of which any call is using."""
    links = backend._connection._links.all
    assert not any(link.calls for link in links)
    return len(links)


class Meeting:
    """Answers calls when so many of them have come."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(1)
        self.peers: set[str] = set()
        self.down = False

    def answer(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.peers.add(context.peer())
        if self.down:
            context.abort(grpc.StatusCode.UNAVAILABLE, "down")
        self.barrier.wait(20)
        return echo(request, context)

    def call(self, backend: GrpcBackend, calls: int) -> None:
        """Make so many calls at one time."""
        self.barrier = threading.Barrier(calls)
        with ThreadPoolExecutor(calls) as pool:
            for response in pool.map(backend.infer, [a_request() for _ in range(calls)]):
                assert response.outputs["y"].tolist() == [1, 2]


def test_calls_one_after_the_other_share_one_connection() -> None:
    meeting = Meeting()
    with fake_server(meeting.answer) as server, opened(server.url) as backend:
        for _ in range(5):
            meeting.call(backend, 1)
        assert len(meeting.peers) == connections(backend) == 1


def test_calls_at_one_time_share_one_connection() -> None:
    meeting = Meeting()
    with fake_server(meeting.answer) as server, opened(server.url) as backend:
        for calls in (2, 8, 3):
            meeting.call(backend, calls)
        assert len(meeting.peers) == connections(backend) == 1


def test_after_a_failure_that_a_connection_could_mend_it_is_made_anew() -> None:
    meeting = Meeting()
    with fake_server(meeting.answer) as server, opened(server.url) as backend:
        meeting.call(backend, 3)
        old = set(meeting.peers)
        meeting.down = True
        with pytest.raises(Unavailable):
            backend.infer(a_request())
        assert connections(backend) == 0
        meeting.down = False
        meeting.peers.clear()
        meeting.call(backend, 3)
        assert connections(backend) == 1
        assert not meeting.peers & old


def test_a_call_in_flight_keeps_a_connection_that_another_calls_failure_ended() -> None:
    meeting, inside, leave = Meeting(), threading.Event(), threading.Event()

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        if request.id == "slow":
            inside.set()
            assert leave.wait(20)
        return meeting.answer(request, context)

    with (
        fake_server(answer) as server,
        opened(server.url) as backend,
        ThreadPoolExecutor(1) as pool,
    ):
        slow = pool.submit(backend.infer, a_request(request_id="slow"))
        assert inside.wait(20)
        meeting.down = True
        with pytest.raises(Unavailable):
            backend.infer(a_request())
        meeting.down = False
        assert [len(link.calls) for link in backend._connection._links.all] == [1]
        leave.set()
        assert slow.result(20).outputs["y"].tolist() == [1, 2]
        assert connections(backend) == 0


def test_closing_ends_it() -> None:
    meeting = Meeting()
    with fake_server(meeting.answer) as server, opened(server.url) as backend:
        meeting.call(backend, 3)
        backend.close()
        assert connections(backend) == 0
        with pytest.raises(ModelClosed):
            backend.infer(a_request())
