"""Bodies that are compressed on the way, both ways, and answers that are not what they say."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import pytest

from infer_backends.plugin import (
    Deadline,
    DeadlineExceeded,
    InferRequest,
    InferResponse,
    InvalidInput,
    ProtocolError,
    RequestOptions,
    SequenceStep,
    Unavailable,
    UnsupportedOperation,
)
from infer_backends_triton import _http_client
from infer_backends_triton._http import HTTPBackend
from infer_backends_triton._http_coding import compress_body, decompress
from infer_backends_triton._http_wire import TooLarge
from infer_backends_triton._waiting_loop import IN_LOOP
from tests.triton.http_faults import (
    EXTENSIONS,
    Answer,
    FaultyServer,
    Request,
    a_request,
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

Coding = Literal["gzip", "deflate"]
COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
}
TRITON = {"/v2": {"extensions": [*EXTENSIONS, "schedule_policy", "sequence", "classification"]}}
HEAD = b"POST /p HTTP/1.1\r\ncontent-length: 11\r\ninference-header-content-length: 2\r\n\r\n"


def compressed(answer: bytes, coding: str, **headers: object) -> bytes:
    """The same answer, compressed; ``headers`` say otherwise, with ``_`` for ``-``."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines: dict[str, object] = {}
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.decode().partition(": ")
        lines[name] = value
    packed = COMPRESS[coding](body)
    lines |= {"Content-Length": len(packed), "Content-Encoding": coding}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    return http_answer(
        packed, headers=lines, status=head.split(b" ", 1)[1].split(b"\r\n")[0].decode()
    )


def asking(coding: Coding | None = "gzip", **options: Any) -> InferRequest:
    request = a_request([1.0, 2.0])
    request.options = RequestOptions(compression=coding, **options)
    return request


@pytest.fixture(params=["blocking", "in a loop"])
def infer(request: pytest.FixtureRequest) -> Callable[[HTTPBackend, InferRequest], InferResponse]:
    if request.param == "blocking":
        return HTTPBackend.infer
    return lambda backend, asked: asyncio.run(backend.infer_async(asked))


Infer = Callable[[HTTPBackend, InferRequest], InferResponse]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_body_is_compressed_and_its_head_says_how_long_it_is(coding: str) -> None:
    head, body = compress_body([HEAD + b"{}", memoryview(b"123456789")], coding)
    assert bytes(head) == HEAD.replace(b": 11", b": %d" % len(body))
    assert DECOMPRESS[coding](bytes(body)) == b"{}123456789"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("size", [0, 1, 100, 16 * 1024, 3_000_000])
def test_a_body_is_had_as_it_was(coding: str, size: int) -> None:
    body = np.random.default_rng(1).integers(0, 9, size, np.uint8).tobytes()
    assert decompress(COMPRESS[coding](body), coding, size) == body


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_body_over_the_limit_is_refused_before_there_is_more_of_it(coding: str) -> None:
    bomb = COMPRESS[coding](bytes(200_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="1000000 bytes"):
            decompress(bomb, coding, 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    with pytest.raises(TooLarge):
        decompress(COMPRESS[coding](b"abc"), coding, 2)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_body_that_is_broken_is_refused(coding: str) -> None:
    whole = COMPRESS[coding](b"abc" * 100_000)
    for broken in (b"", b"abc", whole[:-1], whole[:20], whole + b"x", whole + whole):
        with pytest.raises(ProtocolError):
            decompress(broken, coding, 1_000_000)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_call_is_compressed_and_so_may_its_answer_be(coding: Coding, infer: Infer) -> None:
    def answer(sock: socket.socket, request: Request) -> None:
        assert request.headers["content-encoding"] == request.headers["accept-encoding"] == coding
        request.body = DECOMPRESS[coding](request.body)
        length = int(request.headers["inference-header-content-length"])
        message = json.loads(request.body[:length])
        assert message["inputs"][0]["parameters"] == {"binary_data_size": 8}
        sock.sendall(compressed(tensor_answer([5.0]), coding))

    with faulty_server(answer, control=TRITON) as server, opened(server.url) as backend:
        output = infer(backend, asking(coding)).outputs["y"]
        assert output.tolist() == [5.0]
        assert output.flags.writeable
        # The connection is good for another.
        assert infer(backend, asking(coding)).outputs["y"].tolist() == [5.0]


def test_an_answer_need_not_be_compressed(infer: Infer) -> None:
    answer = saying(tensor_answer([5.0]))
    with faulty_server(answer, control=TRITON) as server, opened(server.url) as backend:
        assert infer(backend, asking()).outputs["y"].tolist() == [5.0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (compressed(tensor_answer([1.0]), "deflate"), "not asked for"),
        (compressed(tensor_answer([1.0]), "gzip", Content_Encoding="br"), "not asked for"),
        (compressed(tensor_answer([1.0]), "deflate", Content_Encoding="gzip"), "and is not"),
        (compressed(tensor_answer([0.0] * 1_000_000), "gzip"), "more than the 1000000 bytes"),
        (
            compressed(tensor_answer([1.0]), "gzip", Inference_Header_Content_Length=999),
            "should have 999",
        ),
    ],
)
def test_an_answer_compressed_in_another_way_breaks_the_protocol(
    answer: bytes, words: str, infer: Infer
) -> None:
    with (
        faulty_server(saying(answer), control=TRITON) as server,
        opened(server.url, max_response_bytes=1_000_000) as backend,
        pytest.raises(ProtocolError, match=words) as caught,
    ):
        infer(backend, asking())
    assert server.url.removesuffix("/m") in str(caught.value)


def test_the_deadline_holds_while_others_compress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the request is sent, nothing was processed; when the answer is there, it was."""
    release = threading.Event()
    wait = partial(release.wait, 20)

    async def call(backend: HTTPBackend) -> None:
        others = [asyncio.create_task(IN_LOOP.work(wait, lambda: 20.0)) for _ in range(64)]
        await asyncio.sleep(0)
        request = asking()
        request.deadline = Deadline.after(0.1)
        with pytest.raises(DeadlineExceeded, match="compressed") as caught:
            await backend.infer_async(request)
        assert caught.value.unprocessed
        release.set()
        await asyncio.gather(*others)
        release.clear()
        monkeypatch.setattr(_http_client, "decompress", lambda *_: wait())
        request.deadline = Deadline.after(2)
        with pytest.raises(DeadlineExceeded, match="decompressed") as caught:
            await backend.infer_async(request)
        assert not caught.value.unprocessed
        release.set()

    answer = saying(compressed(tensor_answer([1.0]), "gzip"))
    with faulty_server(answer, control=TRITON) as server, opened(server.url) as backend:
        try:
            asyncio.run(call(backend))
        finally:
            release.set()


def test_an_answer_compressed_unasked_breaks_the_protocol(infer: Infer) -> None:
    answer = saying(compressed(tensor_answer([1.0]), "gzip"))
    with faulty_server(answer, control=TRITON) as server, opened(server.url) as backend:
        with pytest.raises(ProtocolError, match="compressed, which was not asked for"):
            infer(backend, a_request())
        with pytest.raises(ProtocolError, match="compressed, which was not asked for"):
            infer(backend, asking(None, priority=1))


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_refusal_that_is_compressed_is_read(coding: Coding) -> None:
    refusal = compressed(json_answer({"error": "because of this"}, "400 No"), coding)
    with faulty_server(saying(refusal), control=TRITON) as server, opened(server.url) as backend:
        with pytest.raises(InvalidInput, match="because of this"):
            backend.infer(asking(coding))
        with pytest.raises(InvalidInput, match="answered 400$"):
            backend.infer(asking("gzip" if coding == "deflate" else "deflate"))


def test_a_server_that_is_not_triton_is_sent_nothing_compressed() -> None:
    with faulty_server(echo) as server, opened(server.url) as backend:
        assert backend.request_options == frozenset()
        advice = backend.advice("compression")
        assert advice == "open grpc://127.0.0.1:8001/m (or wherever its gRPC port is)"
        assert "'sequence'" in backend.advice("sequence")
        with pytest.raises(UnsupportedOperation, match="compression="):
            backend.infer(asking())
        assert [request.method for request in server.requests].count("POST") == 0


@pytest.mark.parametrize("end", [hang_up, reset])
def test_a_step_of_a_sequence_is_sent_once_also_on_a_connection_that_was_kept(
    end: Answer, infer: Infer
) -> None:
    def answer_the_first(sock: socket.socket, request: Request) -> None:
        first = len(calls(server)) == 1
        (echo if first else end)(sock, request)

    def calls(server: FaultyServer) -> list[Request]:
        return [request for request in server.requests if request.method == "POST"]

    async def both(backend: HTTPBackend) -> None:
        await backend.infer_async(step(1, start=True))
        with pytest.raises(Unavailable) as caught:
            await backend.infer_async(step(1))
        assert not caught.value.unprocessed

    def step(sequence: int, *, start: bool = False) -> InferRequest:
        return asking(None, sequence=SequenceStep(sequence, start=start, end=False))

    with faulty_server(answer_the_first, control=TRITON) as server, opened(server.url) as backend:
        if infer is HTTPBackend.infer:
            infer(backend, step(1, start=True))
            with pytest.raises(Unavailable) as caught:
                infer(backend, step(1))
            assert not caught.value.unprocessed
        else:
            asyncio.run(both(backend))
        assert len(calls(server)) == 2
