"""Which errors promise that the server did no work, so that the request may be sent again."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import grpc
import pytest

from infer_backends.plugin import (
    Deadline,
    DeadlineExceeded,
    InferError,
    ModelURL,
    Unavailable,
)
from infer_backends_triton._http_pool import ConnectionPool
from infer_backends_triton._settings import ConnectionSettings
from infer_backends_triton._status import grpc_error, http_error
from infer_backends_triton._waiting import run
from tests.conftest import Protocol
from tests.triton import grpc_fakes, http_faults
from tests.triton.endpoints import black_hole, free_port, opened_at, silent_server
from tests.triton.http_faults import faulty_server, hang_up, http_answer, json_answer, saying


def failure(url: str, **options: Any) -> InferError:
    """The error of opening ``url``."""
    with pytest.raises(InferError) as caught, opened_at(url, **options):
        pass
    return caught.value


def test_nobody_who_listens_has_done_no_work(protocol: Protocol) -> None:
    error = failure(f"{protocol}://127.0.0.1:{free_port()}/m")
    assert (type(error), error.unprocessed) == (Unavailable, True)


def test_a_host_that_has_no_address_has_done_no_work(protocol: Protocol) -> None:
    error = failure(f"{protocol}://no-such-host.invalid/m")
    assert (type(error), error.unprocessed) == (Unavailable, True)


@pytest.mark.parametrize(
    ("scheme", "hole"),
    [
        ("http", black_hole),
        ("https", black_hole),
        ("https", silent_server),
        ("grpc", black_hole),
        ("grpc", silent_server),
        ("grpcs", silent_server),
    ],
)
def test_a_server_that_lets_nobody_in_ends_with_the_connect_timeout_and_has_done_no_work(
    scheme: str, hole: Callable[[], AbstractContextManager[int]]
) -> None:
    with hole() as port:
        error = failure(f"{scheme}://127.0.0.1:{port}/m", timeout=60, connect_timeout=0.3)
    assert (type(error), error.unprocessed) == (Unavailable, True)


def test_a_deadline_that_ends_a_connecting_call_promises_it_too() -> None:
    with black_hole() as port:
        error = failure(f"http://127.0.0.1:{port}/m", timeout=0.3)
    assert (type(error), error.unprocessed) == (DeadlineExceeded, True)


@pytest.mark.parametrize("answer", [hang_up, http_faults.reset])
def test_a_connection_that_breaks_after_the_request_promises_nothing(
    answer: http_faults.Answer,
) -> None:
    with faulty_server(answer) as server, http_faults.opened(server.url) as backend:
        with pytest.raises(Unavailable) as caught:
            backend.infer(http_faults.a_request())
    assert not caught.value.unprocessed


def test_a_grpc_server_that_vanishes_in_a_call_promises_nothing() -> None:
    entered, left = threading.Event(), threading.Event()

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        entered.set()
        left.wait(20)

    errors: list[InferError] = []
    with grpc_fakes.fake_server(answer) as server:
        with grpc_fakes.opened(server.url) as backend:

            def call() -> None:
                try:
                    backend.infer(grpc_fakes.a_request())
                except InferError as exc:
                    errors.append(exc)

            thread = threading.Thread(target=call)
            thread.start()
            assert entered.wait(10)
            server.stop()
            thread.join(10)
            left.set()
    assert [(type(error), error.unprocessed) for error in errors] == [(Unavailable, False)]


def test_a_request_of_which_a_piece_was_sent_before_is_never_said_to_be_unprocessed() -> None:
    """The kept connection breaks within the request, and then nobody listens any more."""
    request: list[Any] = [b"POST / HTTP/1.1\r\ncontent-length: 50000000\r\n\r\n", bytes(50_000_000)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/m"

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(1000)
                sock.sendall(json_answer({}))
                # The beginning of the second request, and no more of it.
                sock.recv(1000)
                listener.close()

        thread = threading.Thread(target=serve)
        thread.start()
        settings = ConnectionSettings.read(ModelURL.parse(url), http_faults.default_options())
        pool = ConnectionPool(settings, None)
        try:
            get: list[Any] = [b"GET / HTTP/1.1\r\n\r\n"]
            run(pool.exchange(get, Deadline.after(10), 1000, repeatable=True))
            with pytest.raises(Unavailable) as caught:
                run(pool.exchange(request, Deadline.after(10), 1000, repeatable=False))
        finally:
            pool.close()
            thread.join(10)
    assert "cannot connect" in str(caught.value)
    assert not caught.value.unprocessed


@pytest.mark.parametrize(
    ("status", "message", "unprocessed"),
    [
        (429, "", True),
        (503, "", True),
        (503, "Exceeds maximum queue size", True),
        (400, "Server is stopping, scheduler for model has stopped", True),
        (502, "", False),
        (504, "", False),
        (500, "", False),
        (408, "", False),
        (400, "Request was cancelled", False),
        (500, "Failed to process the request(s): Exceeds maximum queue size", False),
    ],
)
def test_what_an_http_status_promises(status: int, message: str, unprocessed: bool) -> None:
    assert http_error(status, message, url="u").unprocessed is unprocessed


@pytest.mark.parametrize(
    ("code", "details", "unprocessed"),
    [
        ("RESOURCE_EXHAUSTED", "too many requests", True),
        ("RESOURCE_EXHAUSTED", "received metadata size exceeds hard limit", False),
        ("RESOURCE_EXHAUSTED", "CLIENT: Received message larger than max (9 vs. 4)", False),
        ("UNAVAILABLE", "Exceeds maximum queue size", True),
        ("UNAVAILABLE", "[request id: 1] Server is stopping, scheduler for m has stopped", True),
        ("UNAVAILABLE", "Socket closed", False),
        ("UNAVAILABLE", "the model sleeps", False),
        ("CANCELLED", "", False),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", False),
        ("INTERNAL", "boom", False),
    ],
)
def test_what_a_grpc_status_promises(code: str, details: str, unprocessed: bool) -> None:
    assert grpc_error(code, details, url="u").unprocessed is unprocessed


def test_a_busy_server_is_told_from_a_proxy_that_lost_its_server() -> None:
    lost = b"upstream connect error or disconnect/reset before headers. reset reason: termination"
    for body, unprocessed in ((b"busy", True), (b"", True), (lost, False)):
        answer = saying(http_answer(body, "503 Service Unavailable"))
        with faulty_server(answer) as server, http_faults.opened(server.url) as backend:
            with pytest.raises(Unavailable) as caught:
                backend.infer(http_faults.a_request())
        assert caught.value.unprocessed is unprocessed


def test_a_busy_grpc_server_says_so() -> None:
    busy = grpc_fakes.refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "come back later")
    with grpc_fakes.fake_server(busy) as server, grpc_fakes.opened(server.url) as backend:
        with pytest.raises(Unavailable) as caught:
            backend.infer(grpc_fakes.a_request())
    assert caught.value.unprocessed
