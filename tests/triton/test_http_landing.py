"""Answers received into the arrays that callers get, from servers that are broken or slow."""

from __future__ import annotations

import itertools
import json
import resource
import socket
import sys
import threading
import tracemalloc
from typing import Any

import numpy as np
import pytest

from infer_backends.plugin import (
    Deadline,
    DeadlineExceeded,
    InferError,
    InferRequest,
    ProtocolError,
    Unavailable,
)
from infer_backends_triton._http_stream import Stream
from infer_backends_triton._waiting import BLOCKING, run
from tests.triton.http_faults import (
    Request,
    a_request,
    close,
    faulty_server,
    http_answer,
    opened,
    saying,
    tensor_answer,
)

pytestmark = pytest.mark.usefixtures("connections_more")

LARGE = [float(number) for number in range(500_000)]
LARGE_ANSWER = tensor_answer(LARGE)
HEAD_END = LARGE_ANSWER.index(b"\r\n\r\n") + 4
TENSOR = LARGE_ANSWER.index(b"}]}") + 3


def claiming(size: int, content_length: int) -> bytes:
    """The beginning of an answer that says how large the rest is, without the rest."""
    entry: dict[str, Any] = {"name": "y", "datatype": "FP32", "shape": [size // 4]}
    entry["parameters"] = {"binary_data_size": size}
    header = json.dumps({"outputs": [entry]}).encode()
    lengths = {
        "Content-Length": len(header) + content_length,
        "Inference-Header-Content-Length": len(header),
    }
    return http_answer(header, headers=lengths)


def test_a_large_answer_takes_the_memory_of_its_outputs_and_little_more() -> None:
    with faulty_server(saying(LARGE_ANSWER)) as server, opened(server.url) as backend:
        backend.infer(a_request())
        tracemalloc.start()
        try:
            response = backend.infer(a_request())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert response.outputs["y"].tolist() == LARGE
        assert peak < response.outputs["y"].nbytes + 500_000


@pytest.mark.parametrize(
    "cuts",
    [
        [HEAD_END],
        [HEAD_END - 2, HEAD_END + 3],
        [TENSOR - 2],
        [TENSOR],
        [TENSOR + 1, TENSOR + 300_001],
        [len(LARGE_ANSWER) - 1],
    ],
)
def test_an_answer_in_pieces_is_put_together(cuts: list[int], connections_more: int) -> None:
    pieces = [
        LARGE_ANSWER[start:end] for start, end in itertools.pairwise([0, *cuts, len(LARGE_ANSWER)])
    ]

    def in_pieces(sock: socket.socket, request: Request) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            # Time for the piece before to be taken alone.
            pause.wait(0.02)
            sock.sendall(piece)

    pause = threading.Event()
    with faulty_server(in_pieces) as server, opened(server.url) as backend:
        for _ in range(2):
            assert backend.infer(a_request()).outputs["y"].tolist() == LARGE
        assert server.connections == 1 + connections_more, "the connection was kept"


def test_a_small_answer_after_a_large_one_is_not_waited_for(connections_more: int) -> None:
    answers = itertools.cycle([LARGE_ANSWER, tensor_answer([1.0, 2.0])])

    def in_turn(sock: socket.socket, request: Request) -> None:
        sock.sendall(next(answers))

    with faulty_server(in_turn) as server, opened(server.url) as backend:
        for _ in range(3):
            assert len(backend.infer(a_request()).outputs["y"]) == len(LARGE)
            assert backend.infer(a_request(timeout=20)).outputs["y"].tolist() == [1.0, 2.0]
        assert server.connections == 1 + connections_more


def test_small_answers_may_be_alike_and_differ_and_come_in_pieces(connections_more: int) -> None:
    alike, other = tensor_answer([1.0, 2.0]), tensor_answer([3.0, 4.0])
    longer, head_end = tensor_answer([5.0, 6.0, 7.0]), alike.index(b"\r\n\r\n") + 4
    answers = [[alike], [other], [longer], [other], [alike]]
    for cut in (3, head_end - 2, head_end, head_end + 9, len(alike) - 8, len(alike) - 1):
        answers += [[alike[:cut], alike[cut:]], [other]]
    to_come = iter(answers)

    def in_turn(sock: socket.socket, request: Request) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in next(to_come):
            sock.sendall(piece)
            # Time for the piece to be taken alone.
            pause.wait(0.02)

    pause = threading.Event()
    expected = {alike: [1.0, 2.0], other: [3.0, 4.0], longer: [5.0, 6.0, 7.0]}
    with faulty_server(in_turn) as server, opened(server.url) as backend:
        for pieces in answers:
            answered = backend.infer(a_request(timeout=20)).outputs["y"].tolist()
            assert answered == expected[b"".join(pieces)]
        assert server.connections == 1 + connections_more


def test_a_known_answer_that_is_cut_short_is_unavailable() -> None:
    answer = tensor_answer([1.0, 2.0])
    to_come = iter([answer, answer, answer[:-1]])

    def in_turn(sock: socket.socket, request: Request) -> None:
        piece = next(to_come)
        sock.sendall(piece)
        if piece != answer:
            close(sock)

    with faulty_server(in_turn) as server, opened(server.url) as backend:
        for _ in range(2):
            backend.infer(a_request())
        with pytest.raises(Unavailable, match="in the middle of the body"):
            backend.infer(a_request())


def test_more_than_a_known_answer_ends_the_connection(connections_more: int) -> None:
    answer = tensor_answer([1.0, 2.0])
    to_come = iter([answer, answer + b"more", answer, answer])

    def in_turn(sock: socket.socket, request: Request) -> None:
        sock.sendall(next(to_come))

    with faulty_server(in_turn) as server, opened(server.url) as backend:
        for _ in range(4):
            assert backend.infer(a_request()).outputs["y"].tolist() == [1.0, 2.0]
        assert server.connections == 2 + connections_more


@pytest.mark.parametrize("cut", [HEAD_END + 5, TENSOR, TENSOR + 10, len(LARGE_ANSWER) - 1])
def test_an_answer_that_is_cut_short_is_unavailable(cut: int) -> None:
    with faulty_server(saying(LARGE_ANSWER[:cut], then_close=True)) as server:
        with opened(server.url) as backend, pytest.raises(InferError) as caught:
            backend.infer(a_request(timeout=60))
    assert type(caught.value) is Unavailable
    assert "in the middle of the body" in str(caught.value)


@pytest.mark.parametrize("start", [HEAD_END, TENSOR - 5, TENSOR + 5, len(LARGE_ANSWER) - 20])
def test_an_answer_that_drips_costs_the_deadline_and_no_more(start: int) -> None:
    stop = threading.Event()

    def drip(sock: socket.socket, request: Request) -> None:
        sock.sendall(LARGE_ANSWER[:start])
        for byte in LARGE_ANSWER[start:]:
            if stop.wait(0.05):
                return
            sock.sendall(bytes([byte]))

    with faulty_server(drip) as server, opened(server.url) as backend:
        with pytest.raises(DeadlineExceeded):
            backend.infer(a_request(timeout=0.4))
        stop.set()


def test_lengths_that_contradict_each_other_are_refused_without_waiting_for_the_rest() -> None:
    for answer in (claiming(2**30, 8), claiming(4, 2**30)):
        with faulty_server(saying(answer)) as server, opened(server.url) as backend:
            with pytest.raises(ProtocolError, match=r"bytes"):
                backend.infer(a_request(timeout=20))


def test_bytes_after_the_tensors_are_a_protocol_error() -> None:
    with faulty_server(saying(claiming(4, 6) + b"\0" * 6)) as server:
        with opened(server.url) as backend:
            with pytest.raises(ProtocolError, match="2 bytes that belong to no output"):
                backend.infer(a_request())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems measure memory otherwise")
def test_a_large_answer_that_is_only_announced_takes_no_memory() -> None:
    size = 2**30
    with faulty_server(saying(claiming(size, size), then_close=True)) as server:
        with opened(server.url) as backend:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            with pytest.raises(Unavailable):
                backend.infer(a_request())
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) * 1024 < size / 10


def test_more_than_the_announced_bytes_end_the_connection(connections_more: int) -> None:
    with faulty_server(saying(LARGE_ANSWER + b"x")) as server, opened(server.url) as backend:
        for _ in range(2):
            assert backend.infer(a_request()).outputs["y"].tolist() == LARGE
        assert server.connections == 2 + connections_more


def test_nothing_of_a_failed_call_is_in_the_array_of_the_next_one() -> None:
    answers = iter([LARGE_ANSWER[: TENSOR + 1000], tensor_answer([5.0])])

    def answer(sock: socket.socket, request: Request) -> None:
        sock.sendall(next(answers))
        if request.body.endswith(b"\0\0\x80?"):
            close(sock)

    with faulty_server(answer) as server, opened(server.url) as backend:
        with pytest.raises(Unavailable):
            backend.infer(a_request([1.0]))
        assert backend.infer(a_request([2.0])).outputs["y"].tolist() == [5.0]


def test_an_array_belongs_to_its_caller_alone() -> None:
    with faulty_server(saying(tensor_answer([1.0, 2.0]))) as server, opened(server.url) as backend:
        first = backend.infer(a_request()).outputs["y"]
        first[:] = 9
        second = backend.infer(a_request()).outputs["y"]
        assert second.tolist() == [1.0, 2.0]
        assert not np.shares_memory(first, second)


def test_a_deadline_of_a_year_is_no_overflow() -> None:
    near, far = socket.socketpair()
    with far:
        stream = Stream(near, BLOCKING)
        try:
            far.sendall(b"ab")
            deadline = Deadline.after(365 * 86400.0)
            assert run(stream.receive(deadline)) == b"ab"
        finally:
            stream.close()


def test_what_comes_slowly_is_taken_before_much_of_it_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    stream = Stream(near, BLOCKING)
    try:
        with far:
            far.sendall(b"x" * 100_000)
            received = bytearray(1_000_000)
            with pytest.raises(TimeoutError):
                run(stream.receive_into(memoryview(received), Deadline.after(1)))
        assert received.startswith(b"x" * 100_000)
    finally:
        stream.close()


def test_many_tensors_are_sent_in_one_request() -> None:
    with faulty_server() as server:
        names = [f"x{number}" for number in range(200)]
        tensors = [{"name": name, "datatype": "FP32", "shape": [-1]} for name in names]
        server.control["/v2/models/m"] = {
            "name": "m",
            "inputs": tensors,
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
        }
        server.answer = saying(tensor_answer([1.0]))
        with opened(server.url) as backend:
            inputs = {name: np.full(3, float(name[1:]), np.float32) for name in names}
            backend.infer(InferRequest(dict(inputs), None, Deadline.after(30)))
        body = server.requests[-1].body
        assert body.endswith(b"".join(array.tobytes() for array in inputs.values()))
