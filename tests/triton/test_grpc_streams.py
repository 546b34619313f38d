"""Streams over gRPC against a real Triton: a decoupled model answers one request many times."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from infer_backends.plugin import (
    DeadlineExceeded,
    InferenceFailed,
    InvalidInput,
    ModelNotFound,
    SupportsAsyncStreaming,
    SupportsStreaming,
)
from infer_backends_triton._grpc_backend import GrpcBackend
from infer_backends_triton._http import HTTPBackend
from tests.triton.grpc_fakes import a_request, echo, fake_server, opened
from tests.triton.streams import (
    InLoop,
    Start,
    asking,
    eventually,
    grpc_threads,
    in_flight,
    token,
    told,
)

URL = Callable[..., str]


@pytest.fixture(params=["blocking", "in a loop"])
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Begins a stream in a thread, or in an event loop."""
    if request.param == "blocking":
        yield GrpcBackend.stream
        return
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        yield lambda backend, asked: InLoop(backend.stream_async(asked), loop)


@pytest.fixture
def url(triton_url: URL) -> str:
    return triton_url("generating", "grpc")


def test_only_grpc_has_streams() -> None:
    assert issubclass(GrpcBackend, SupportsStreaming)
    assert issubclass(GrpcBackend, SupportsAsyncStreaming)
    assert not issubclass(HTTPBackend, SupportsStreaming)
    assert not issubclass(HTTPBackend, SupportsAsyncStreaming)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_all_responses_come_in_their_order(url: str, start: Start, count: int) -> None:
    with opened(url) as backend:
        responses = list(start(backend, asking(count, request_id="r1")))
        assert in_flight(backend) == 0
    assert [token(response) for response in responses] == list(range(count))
    assert all(response.backend_url == url for response in responses)
    assert all(response.model_version == "1" for response in responses)


def test_the_arrays_of_each_response_are_the_callers_own(url: str, start: Start) -> None:
    with opened(url) as backend:
        first, second = (r.outputs["token"] for r in start(backend, asking(2)))
    assert first.dtype == second.dtype == np.int32
    assert first.flags.writeable
    assert first.flags.c_contiguous
    first[0] = 7
    assert second.tolist() == [1]


def test_a_response_comes_as_soon_as_it_is_there(url: str, start: Start, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with opened(url) as backend:
        stream = start(backend, asking(3, seconds=0.2, mark=mark))
        assert token(next(stream)) == 0
        assert not mark.exists()
        assert [token(response) for response in stream] == [1, 2]
        assert told(mark) == "done"


def test_a_model_that_is_not_decoupled_answers_once(triton_url: URL, start: Start) -> None:
    sent = np.arange(60_000, dtype=np.float32).reshape(2, -1)
    with opened(triton_url("identity_fp32", "grpc")) as backend:
        (response,) = start(backend, a_request(inputs={"INPUT": sent}, outputs=("OUTPUT",)))
    np.testing.assert_array_equal(response.outputs["OUTPUT"], sent)


def test_what_goes_wrong_in_the_middle_is_raised_after_what_came_before(
    url: str, start: Start
) -> None:
    with opened(url) as backend:
        stream = start(backend, asking(2, fail="it broke"))
        assert [token(next(stream)) for _ in range(2)] == [0, 1]
        with pytest.raises(InferenceFailed, match="it broke") as caught:
            next(stream)
        assert not caught.value.unprocessed
        with pytest.raises(StopIteration):
            next(stream)
        # The server has outlived it, too.
        assert [token(response) for response in start(backend, asking(1))] == [0]
        assert in_flight(backend) == 0


def test_a_request_that_does_not_fit_the_model_is_invalid(url: str, start: Start) -> None:
    request = a_request(inputs={"COUNT": np.array([1, 2], np.int32)})
    with opened(url) as backend, pytest.raises(InvalidInput, match="unexpected shape"):
        next(start(backend, request))


def test_a_model_that_is_gone_is_not_found(url: str, start: Start) -> None:
    with opened(url) as backend:
        gone = GrpcBackend(backend._connection, backend.metadata, model="gone", version="", url=url)
        with pytest.raises(ModelNotFound, match="unknown model"):
            next(start(gone, asking(1)))


def test_closing_a_stream_cancels_it_at_the_server(url: str, start: Start, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with opened(url) as backend:
        stream = start(backend, asking(1000, seconds=0.05, mark=mark))
        next(stream)
        stream.close()
        assert in_flight(backend) == 0
        assert told(mark) == "cancelled"
        eventually(lambda: not grpc_threads())
        with pytest.raises(StopIteration):
            next(stream)
        assert [token(response) for response in start(backend, asking(1))] == [0]


@pytest.mark.parametrize("taken", [1, 3])
def test_a_stream_that_is_about_to_end_is_not_cancelled(
    url: str, start: Start, tmp_path: Path, taken: int
) -> None:
    mark = tmp_path / "mark"
    threads = threading.active_count()
    with opened(url) as backend:
        stream = start(backend, asking(3, mark=mark))
        assert [token(next(stream)) for _ in range(taken)] == list(range(taken))
        stream.close()
        assert told(mark) == "done"
        eventually(lambda: threading.active_count() <= threads + 1)


def test_a_model_that_sends_without_a_pause_is_cancelled_all_the_same(start: Start) -> None:
    ended = threading.Event()

    def flood(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        context.add_callback(ended.set)
        while not ended.is_set():
            yield echo(request, context)

    with fake_server(stream=flood) as server, opened(server.url) as backend:
        stream = start(backend, a_request())
        assert next(stream).outputs["y"].tolist() == [1, 2]
        begun = time.monotonic()
        stream.close()
        assert time.monotonic() - begun < 10
        assert ended.wait(10)
        eventually(lambda: not grpc_threads())


def test_a_stream_that_nobody_refers_to_is_cancelled(url: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with opened(url) as backend:
        assert token(next(backend.stream(asking(1000, seconds=0.05, mark=mark)))) == 0
        assert told(mark) == "cancelled"
        assert in_flight(backend) == 0


def test_cancelling_the_task_that_waits_cancels_the_stream(url: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    async def read(backend: GrpcBackend, first: asyncio.Event) -> None:
        async for _ in backend.stream_async(asking(2, seconds=0.5, mark=mark)):
            first.set()

    async def main(backend: GrpcBackend) -> None:
        first = asyncio.Event()
        task = asyncio.create_task(read(backend, first))
        await first.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert in_flight(backend) == 0

    with opened(url) as backend:
        asyncio.run(main(backend))
        assert told(mark) == "cancelled"


def test_nothing_is_sent_before_the_first_response_is_asked_for(
    url: str, start: Start, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    with opened(url) as backend:
        never = start(backend, asking(1, mark=mark))
        assert [token(response) for response in start(backend, asking(1))] == [0]
        never.close()
        assert in_flight(backend) == 0
    assert not mark.exists()


def test_the_deadline_is_that_of_the_last_response(url: str, start: Start, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with opened(url) as backend:
        stream = start(backend, asking(1000, seconds=0.1, mark=mark, timeout=0.5))
        begun = time.monotonic()
        assert token(next(stream)) == 0
        with pytest.raises(DeadlineExceeded) as caught:
            list(stream)
        assert time.monotonic() - begun < 5
        assert not caught.value.unprocessed
        assert told(mark) == "cancelled"


def test_a_deadline_that_has_passed_sends_nothing(url: str, start: Start) -> None:
    with opened(url) as backend, pytest.raises(DeadlineExceeded):
        next(start(backend, asking(1, timeout=-1)))


def test_an_alarm_rings_while_a_stream_waits(url: str, start: Start) -> None:
    rung = threading.Event()
    request = asking(1, seconds=0.4)
    request.deadline = request.deadline.with_alarm(0.05, rung.set)
    with opened(url) as backend:
        assert [token(response) for response in start(backend, request)] == [0]
    assert rung.is_set()
