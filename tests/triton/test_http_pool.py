"""Connections are kept, shared by threads, replaced when stale, and made anew after a fork."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from infer_backends.plugin import (
    DeadlineExceeded,
    InferenceFailed,
    InferError,
    InvalidInput,
    ModelClosed,
    Unavailable,
)
from infer_backends_triton import _http_pool
from tests.triton.http_faults import (
    Request,
    a_request,
    echo,
    faulty_server,
    http_answer,
    opened,
    saying,
    tensor_answer,
)


def test_one_connection_carries_call_after_call() -> None:
    with faulty_server(echo) as server, opened(server.url) as backend:
        for _ in range(5):
            backend.infer(a_request())
        assert server.connections == 1


def test_a_connection_that_the_server_closed_meanwhile_is_replaced_unnoticed() -> None:
    with faulty_server(echo) as server, opened(server.url) as backend:
        for _ in range(3):
            server.drop_connections()
            assert backend.infer(a_request()).outputs["y"].tolist() == [1.0, 2.0]


def test_a_connection_that_was_idle_for_long_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_http_pool, "_MAX_IDLE_SECONDS", -1.0)
    with faulty_server(echo) as server, opened(server.url) as backend:
        before = server.connections
        backend.infer(a_request())
        backend.infer(a_request())
        assert server.connections == before + 2


def test_a_connection_is_replaced_before_the_server_closes_it_as_announced() -> None:
    for announced, more in (("timeout=1, max=9", 1), ("Timeout=60", 0), ("timeout=x", 0)):
        line = f"\r\nKeep-Alive: {announced}\r\n".encode()
        answer = tensor_answer([1.0]).replace(b"\r\n", line, 1)
        with faulty_server(saying(answer)) as server, opened(server.url) as backend:
            backend.infer(a_request())
            backend.infer(a_request())
            assert server.connections == 1 + more


def test_a_connection_that_the_server_wants_closed_is_not_kept() -> None:
    answer = tensor_answer([1.0]).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    with faulty_server(saying(answer)) as server, opened(server.url) as backend:
        backend.infer(a_request())
        backend.infer(a_request())
        assert server.connections == 2


def test_a_connection_is_not_kept_after_a_servers_own_error() -> None:
    def fail_and_close(sock: socket.socket, request: Request) -> None:
        sock.sendall(http_answer(status="500 Internal Server Error"))
        server.answer = echo

    with faulty_server(fail_and_close) as server, opened(server.url) as backend:
        with pytest.raises(InferenceFailed):
            backend.infer(a_request())
        backend.infer(a_request())
        assert server.connections == 2


def test_a_connection_is_kept_after_a_refusal() -> None:
    with faulty_server(saying(http_answer(status="400 No"))) as server:
        with opened(server.url) as backend:
            for _ in range(2):
                with pytest.raises(InvalidInput):
                    backend.infer(a_request())
        assert server.connections == 1


def test_a_failed_call_leaves_no_answer_for_the_next_one() -> None:
    late = threading.Event()

    def answer_late(sock: socket.socket, request: Request) -> None:
        late.wait(10)
        echo(sock, request)

    with faulty_server(answer_late) as server, opened(server.url) as backend:
        with pytest.raises(DeadlineExceeded):
            backend.infer(a_request([1.0], timeout=0.2))
        late.set()
        assert backend.infer(a_request([2.0])).outputs["y"].tolist() == [2.0]


def test_an_unasked_second_answer_is_not_taken_for_the_next_one() -> None:
    answers = iter(tensor_answer([value]) for value in (1.0, 2.0, 3.0, 4.0))

    def twice(sock: socket.socket, request: Request) -> None:
        sock.sendall(next(answers) + next(answers))

    with faulty_server(twice) as server, opened(server.url) as backend:
        assert backend.infer(a_request()).outputs["y"].tolist() == [1.0]
        assert backend.infer(a_request()).outputs["y"].tolist() == [3.0]


def test_threads_share_a_backend_and_each_gets_its_own_answer() -> None:
    with faulty_server(echo) as server, opened(server.url) as backend:

        def call(number: int) -> bool:
            array = np.full(number % 50 + 1, number, np.float32)
            return bool((backend.infer(a_request(array)).outputs["y"] == array).all())

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(call, range(200)))
        assert server.connections <= 9


def test_closing_ends_calls_in_flight_and_refuses_later_ones() -> None:
    arrived = threading.Event()

    def arrive(sock: socket.socket, request: Request) -> None:
        arrived.set()

    with faulty_server(arrive) as server, opened(server.url) as backend:
        with ThreadPoolExecutor(1) as threads:
            call = threads.submit(backend.infer, a_request(timeout=60))
            assert arrived.wait(10)
            backend.close()
            with pytest.raises(ModelClosed):
                call.result(10)
        backend.close()
        with pytest.raises(ModelClosed):
            backend.infer(a_request())
        with pytest.raises(ModelClosed):
            backend.ready(a_request().deadline)


def test_readiness_is_false_for_a_server_that_is_gone() -> None:
    with faulty_server(echo) as server, opened(server.url) as backend:
        assert backend.ready(a_request().deadline) is True
        server.close()
        assert backend.ready(a_request().deadline) is False
        with pytest.raises(Unavailable):
            backend.infer(a_request())


def test_an_opening_that_fails_leaves_no_connection() -> None:
    broken = http_answer(status="500 No")
    with faulty_server(control={"/v2/models/m": broken}) as server:
        with pytest.raises(InferError), opened(server.url):
            pass
        assert all(thread_ended(thread) for thread in server.threads[1:])


def thread_ended(thread: threading.Thread) -> bool:
    """Whether a connection's thread saw its end, given time to."""
    thread.join(10)
    return not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_of_fork_makes_connections_of_its_own_and_spoils_none() -> None:
    with faulty_server(echo) as server, opened(server.url) as backend:
        backend.infer(a_request())
        before = server.connections
        child = os.fork()
        if child == 0:
            code = 1
            try:
                answers = [backend.infer(a_request([n])).outputs["y"][0] for n in (7, 8)]
                code = 0 if answers == [7, 8] else 2
                backend.close()
            finally:
                os._exit(code)
        for number in range(20):
            assert backend.infer(a_request([number])).outputs["y"].tolist() == [number]
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert backend.infer(a_request([9])).outputs["y"].tolist() == [9]
        assert server.connections == before + 1, "the child opened one; the parent none"


def test_opening_over_http_loads_neither_grpc_nor_gevent() -> None:
    script = "import sys, infer_backends_triton._http; print(*sys.modules)"
    output = subprocess.check_output([sys.executable, "-c", script], text=True)
    modules = {name.partition(".")[0] for name in output.split()}
    assert not modules & {"grpc", "gevent", "tritonclient", "aiohttp", "onnxruntime"}
