"""What the HTTP backend makes of servers that are broken, hostile, or gone."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infer_backends.plugin import (
    Deadline,
    DeadlineExceeded,
    InferenceFailed,
    InferError,
    InvalidInput,
    ModelNotFound,
    ModelURL,
    PermissionDenied,
    ProtocolError,
    Unavailable,
    UnsupportedOperation,
)
from infer_backends_triton._http_pool import ConnectionPool
from infer_backends_triton._http_stream import Buffer
from infer_backends_triton._settings import ConnectionSettings
from infer_backends_triton._waiting import run
from tests.triton.http_faults import (
    Answer,
    Request,
    a_request,
    default_options,
    echo,
    faulty_server,
    hang_up,
    http_answer,
    json_answer,
    opened,
    reset,
    saying,
    tensor_answer,
)

pytestmark = pytest.mark.usefixtures("connections_more")


GOOD = tensor_answer([1.0, 2.0])


def failure(answer_bytes: bytes, *, then_close: bool = False, **options: Any) -> InferError:
    """The error of a call that is answered with these bytes."""
    with faulty_server(saying(answer_bytes, then_close=then_close)) as server:
        with opened(server.url, **options) as backend:
            with pytest.raises(InferError) as caught:
                backend.infer(a_request(timeout=20))
    assert "127.0.0.1" in str(caught.value), "an error says who answered"
    return caught.value


def test_a_right_answer_is_taken() -> None:
    with faulty_server(echo) as server, opened(server.url) as backend:
        response = backend.infer(a_request([1.5, 2.5]))
    assert response.outputs["y"].tolist() == [1.5, 2.5]
    assert response.outputs["y"].flags.writeable
    assert (response.model_version, response.backend_url) == ("1", server.url)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n", "not HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "TLS"),
        (b"HTTP/1.1 abc\r\n\r\n", "status line"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "header line"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n", "header line"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000, "longer than"),
        (http_answer(headers={"Content-Length": "-1"}), "no length"),
        (http_answer(headers={"Content-Length": "1, 2"}), "two values"),
        (http_answer(headers={"Transfer-Encoding": "chunked"}), "where its body ends"),
        (
            http_answer(headers={"Transfer-Encoding": "gzip", "Content-Length": None}),
            "where its body ends",
        ),
        (http_answer(headers={"Content-Encoding": "gzip"}), "compressed"),
        (http_answer(status="101 Switching Protocols"), "101"),
        (http_answer(status="100 Continue") * 20, "interim"),
        (http_answer(b"{"), "not JSON"),
        (http_answer(b"[" * 100_000), "not JSON"),
        (http_answer(b"\xff"), "not JSON"),
        (http_answer(b"[]"), "no JSON object"),
        (http_answer(b"{}"), "no list of outputs"),
        (http_answer(b"{}", headers={"Inference-Header-Content-Length": "3"}), "should have 3"),
        (http_answer(b"{}", headers={"Inference-Header-Content-Length": "x"}), "no length"),
        (http_answer(b"{}", status="204 No Content"), "expected 200"),
        (http_answer(status="302 Found", headers={"Location": "http://x/"}), "redirect"),
        (tensor_answer([1.0], name="z"), "lacks the output 'y'"),
        (tensor_answer([1.0], name=None), "without a name"),
        (tensor_answer([1.0], datatype="INT32"), "came as INT32"),
        (tensor_answer([1.0], datatype="EVIL\n"), "an unknown datatype"),
        (tensor_answer([1.0], shape=[3]), "expected 12 bytes, got 4"),
        (tensor_answer([1.0], shape=[-1]), "negative dimension"),
        (tensor_answer([1.0], shape=[2**62, 2**62]), "expected"),
        (tensor_answer([1.0], shape=[1.0]), "no shape"),
        (tensor_answer([1.0], shape=None), "no shape"),
        (
            tensor_answer([1.0], shape=[2], parameters={"binary_data_size": 8}),
            "should have 8 bytes",
        ),
        (tensor_answer([1.0], parameters={"binary_data_size": -4}), "wrong binary_data_size"),
        (tensor_answer([], parameters={"binary_data_size": 0}, data=[]), "data beside it"),
        (tensor_answer([1.0], parameters={}), "no list in JSON"),
        (json_answer({"outputs": []}), "lacks the output 'y'"),
        (json_answer({"outputs": [{"name": "y"}]}), "datatype"),
        (
            json_answer(
                {"outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [1]}] * 2}
            ),
            "twice",
        ),
        (
            json_answer(
                {"outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": ["a"]}]}
            ),
            "no FP32",
        ),
    ],
)
def test_an_answer_that_does_not_hold_together_is_a_protocol_error(
    answer: bytes, words: str
) -> None:
    error = failure(answer)
    assert type(error) is ProtocolError
    assert words in str(error)


@pytest.mark.parametrize("cut", [5, 30, len(GOOD) - 1])
def test_a_server_that_goes_away_in_the_middle_of_its_answer_is_unavailable(cut: int) -> None:
    error = failure(GOOD[:cut], then_close=True)
    assert type(error) is Unavailable
    assert "closed the connection in the middle of" in str(error)


def test_what_is_no_http_stays_a_protocol_error_when_it_ends_early() -> None:
    assert type(failure(b"SSH-2.0-OpenSSH_9.2", then_close=True)) is ProtocolError


def test_a_server_that_goes_away_between_chunks_is_unavailable() -> None:
    head = http_answer(headers={"Transfer-Encoding": "chunked", "Content-Length": None})
    error = failure(head + b"5\r\nab", then_close=True)
    assert type(error) is Unavailable


def test_an_answer_in_chunks_is_put_together(connections_more: int) -> None:
    end = GOOD.index(b"\r\n\r\n") + 4
    length = GOOD[:end].decode().split("Inference-Header-Content-Length: ")[1].split("\r\n")[0]
    head = http_answer(
        headers={
            "Transfer-Encoding": "chunked",
            "Content-Length": None,
            "Inference-Header-Content-Length": length,
        }
    )
    chunks = b"".join(b"%x\r\n%b\r\n" % (1, bytes([byte])) for byte in GOOD[end:])
    pieces = [head, chunks[:7], chunks[7:], b"0\r\nTrailer: x\r\n\r\n"]
    with faulty_server(saying(*pieces)) as server, opened(server.url) as backend:
        for _ in range(2):
            assert backend.infer(a_request()).outputs["y"].tolist() == [1.0, 2.0]
        assert server.connections == 1 + connections_more, "the connection was kept"


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    answer = GOOD.replace(b"Content-Length", b"X-Ignored", 1)
    with faulty_server(saying(answer, then_close=True)) as server, opened(server.url) as backend:
        for _ in range(2):
            assert backend.infer(a_request()).outputs["y"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "answer",
    [
        http_answer(headers={"Content-Length": 10**15}),
        http_answer(headers={"Transfer-Encoding": "chunked", "Content-Length": None})
        + b"ffffffffff\r\n",
        http_answer(headers={"Content-Length": None}) + b"x" * 4000,
        http_answer(b"x" * 2000),
    ],
)
def test_an_answer_over_the_limit_is_refused_before_it_is_held(answer: bytes) -> None:
    error = failure(answer, max_response_bytes=1000)
    assert type(error) is ProtocolError
    assert "max_response_bytes" in str(error)


def test_an_answer_of_the_largest_size_is_taken() -> None:
    size = len(GOOD) - GOOD.index(b"\r\n\r\n") - 4
    with faulty_server(saying(GOOD)) as server:
        with opened(server.url, max_response_bytes=size) as backend:
            backend.infer(a_request())
        with (
            opened(server.url, max_response_bytes=size - 1) as backend,
            pytest.raises(ProtocolError),
        ):
            backend.infer(a_request())


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 Bad Request", InvalidInput),
        ("401 Unauthorized", PermissionDenied),
        ("403 Forbidden", PermissionDenied),
        ("404 Not Found", ModelNotFound),
        ("429 Too Many Requests", Unavailable),
        ("500 Internal Server Error", InferenceFailed),
        ("501 Not Implemented", UnsupportedOperation),
        ("502 Bad Gateway", Unavailable),
        ("503 Service Unavailable", Unavailable),
        ("504 Gateway Timeout", Unavailable),
    ],
)
def test_a_refusal_is_the_error_of_its_status(status: str, kind: type[InferError]) -> None:
    error = failure(json_answer({"error": "because of this"}, status))
    assert type(error) is kind
    assert "because of this" in str(error)


def test_a_refusal_that_is_compressed_or_framed_wrongly_still_counts() -> None:
    for headers in (
        {"Content-Encoding": "gzip"},
        {"Transfer-Encoding": "gzip, chunked", "Content-Length": None},
        {"Content-Length": "1, 2"},
    ):
        assert type(failure(http_answer(b"x", "503 No", headers))) is Unavailable


def test_a_refusal_whose_body_is_broken_or_endless_still_counts() -> None:
    for answer in (
        http_answer(b"x", "503 No", {"Content-Length": 10**12}),
        http_answer(b"x" * 100_000, "503 No", {"Content-Length": None}),
        http_answer(b"x", "503 No", {"Content-Length": 100}),
    ):
        assert type(failure(answer, then_close=True)) is Unavailable


def test_nobody_listening_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        pytest.raises(Unavailable, match="refused") as caught,
        opened(f"http://127.0.0.1:{port}/m"),
    ):
        pass
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


def test_a_name_that_does_not_resolve_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="does not resolve"), opened("http://no-such.invalid/m"):
        pass


@pytest.mark.parametrize("answer", [hang_up, reset])
def test_a_connection_that_ends_without_an_answer_is_unavailable_and_not_tried_again(
    answer: Answer,
) -> None:
    with faulty_server(answer) as server, opened(server.url) as backend:
        with pytest.raises(Unavailable):
            backend.infer(a_request())
        calls = [request for request in server.requests if request.method == "POST"]
    assert len(calls) == 1, "the model may have run: the call must not run it again"


def test_a_reset_in_the_middle_of_the_answer_is_unavailable() -> None:
    def begin_and_reset(sock: socket.socket, request: Request) -> None:
        sock.sendall(GOOD[:-3])
        reset(sock)

    with faulty_server(begin_and_reset) as server, opened(server.url) as backend:
        with pytest.raises(Unavailable, match="reset"):
            backend.infer(a_request())


def test_a_server_that_says_nothing_costs_the_deadline_and_no_more() -> None:
    with faulty_server(saying()) as server, opened(server.url) as backend:
        before = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            backend.infer(a_request(timeout=0.3))
        assert time.monotonic() - before < 10


@pytest.mark.parametrize("text", [GOOD, http_answer(b"x" * 1000, "500 No")])
def test_a_server_that_drips_its_answer_costs_the_deadline_and_no_more(text: bytes) -> None:
    stop = threading.Event()

    def drip(sock: socket.socket, request: Request) -> None:
        for byte in text:
            if stop.wait(0.05):
                return
            sock.sendall(bytes([byte]))

    with faulty_server(drip) as server, opened(server.url) as backend:
        with pytest.raises(DeadlineExceeded):
            backend.infer(a_request(timeout=0.5))
        stop.set()


@contextlib.contextmanager
def one_connection(serve: Callable[[socket.socket], object]) -> Iterator[ConnectionPool]:
    """A pool whose first connection is served by ``serve``, without an HTTP server around it."""

    def accept(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with sock, contextlib.suppress(OSError):
            serve(sock)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, args=(listener,), daemon=True)
        thread.start()
        url = ModelURL.parse(f"http://127.0.0.1:{listener.getsockname()[1]}/m")
        pool = ConnectionPool(ConnectionSettings.read(url, default_options()), None)
        try:
            yield pool
        finally:
            pool.close()
            thread.join(10)


BIG_REQUEST: list[Buffer] = [
    b"POST /v2/models/m/infer HTTP/1.1\r\n\r\n",
    memoryview(bytes(50_000_000)),
]


def test_a_server_that_does_not_read_costs_the_deadline_and_no_more() -> None:
    stop = threading.Event()
    with one_connection(lambda sock: stop.wait(20)) as pool:
        with pytest.raises(DeadlineExceeded):
            run(pool.exchange(BIG_REQUEST, Deadline.after(0.5), 1000, repeatable=False))
        stop.set()


def test_a_refusal_before_the_whole_request_was_sent_is_understood() -> None:
    def refuse(sock: socket.socket) -> None:
        sock.recv(1000)
        sock.sendall(json_answer({"error": "too large"}, "413 Content Too Large"))
        # No more is read, and the client's next piece meets a closed door.
        sock.shutdown(socket.SHUT_RD)

    with one_connection(refuse) as pool:
        try:
            response = run(pool.exchange(BIG_REQUEST, Deadline.after(20), 1000, repeatable=False))
        except Unavailable:
            # The kernel may throw the refusal away with the connection.
            return
        assert response.head.status == 413


def test_a_deadline_that_has_passed_sends_nothing() -> None:
    with faulty_server(echo) as server, opened(server.url) as backend:
        sent = len(server.requests)
        with pytest.raises(DeadlineExceeded):
            backend.infer(a_request(timeout=0))
        assert len(server.requests) == sent


def test_connecting_is_bounded_by_its_own_timeout() -> None:
    # A full backlog: the kernel drops further attempts without a word.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        filling = [socket.socket() for _ in range(4)]
        try:
            for sock in filling:
                sock.setblocking(False)
                sock.connect_ex(listener.getsockname())
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/m"
            with pytest.raises(Unavailable, match="connect_timeout"):
                with opened(url, connect_timeout=0.3):
                    pass
            with pytest.raises(DeadlineExceeded), opened(url, timeout=0.3):
                pass
        finally:
            for sock in filling:
                sock.close()


@pytest.mark.parametrize("path", ["/v2", "/v2/models/m", "/v2/models/m/config"])
def test_metadata_that_does_not_hold_together_says_whose_it_is(path: str) -> None:
    with faulty_server(echo, control={path: http_answer(b"x")}) as server:
        with pytest.raises(ProtocolError) as caught, opened(server.url):
            pass
    assert str(caught.value).count(server.url) == 1


def test_an_answer_to_another_request_is_refused() -> None:
    body = json.dumps({"id": "other", "outputs": []}).encode()
    with faulty_server(saying(http_answer(body))) as server, opened(server.url) as backend:
        with pytest.raises(ProtocolError, match="another request"):
            backend.infer(a_request(request_id="mine"))
