"""Calls over gRPC in an event loop: as right as in a thread, cancelled at the server, closed."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from infer_backends.plugin import (
    DataType,
    Deadline,
    DeadlineExceeded,
    InferRequest,
    InvalidInput,
    ModelClosed,
    ProtocolError,
    SupportsAsync,
    Unavailable,
)
from infer_backends_triton._grpc_backend import GrpcBackend
from tests.triton.endpoints import free_port, silent_server
from tests.triton.grpc_fakes import a_request, echo, fake_server, opened, refuse

EVERY_DATATYPE = [dtype for dtype in DataType if dtype is not DataType.BF16]


def an_array(dtype: DataType) -> Any:
    if dtype is DataType.BYTES:
        return np.array([[b"a", b"", "ü".encode()]], object)
    return np.arange(6).reshape(2, 3).astype(dtype.numpy_dtype)


def asking(array: Any, timeout: float = 30.0) -> InferRequest:
    return InferRequest({"INPUT": array}, None, Deadline.after(timeout))


async def eventually(condition: Callable[[], object]) -> None:
    """Wait for a condition; fail when it does not come."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def test_a_backend_over_grpc_answers_in_an_event_loop() -> None:
    assert issubclass(GrpcBackend, SupportsAsync)
    with fake_server() as server, opened(server.url) as backend:
        response = asyncio.run(backend.infer_async(a_request(headers={"x-own": "1"})))
    assert response.outputs["y"].tolist() == [1, 2]
    assert response.outputs["y"].flags.writeable
    assert server.metadata[-1]["x-own"] == "1"


@pytest.mark.parametrize("dtype", EVERY_DATATYPE)
def test_every_datatype_comes_back_as_it_was_sent(
    triton_url: Callable[..., str], dtype: DataType
) -> None:
    array = an_array(dtype)
    with opened(triton_url(f"identity_{dtype.value.lower()}", "grpc")) as backend:
        outputs = asyncio.run(backend.infer_async(asking(array))).outputs
    assert outputs["OUTPUT"].dtype == array.dtype
    np.testing.assert_array_equal(outputs["OUTPUT"], array)


def test_many_calls_at_a_time_each_get_their_own_answer(triton_url: Callable[..., str]) -> None:
    async def call_all(backend: GrpcBackend) -> None:
        arrays = [np.full((1, number % 7 + 1), number, np.float32) for number in range(256)]
        answers = await asyncio.gather(*(backend.infer_async(asking(array)) for array in arrays))
        for array, answer in zip(arrays, answers, strict=True):
            np.testing.assert_array_equal(answer.outputs["OUTPUT"], array)

    with opened(triton_url("identity_fp32", "grpc")) as backend:
        asyncio.run(call_all(backend))


def test_cancelling_a_task_cancels_the_call_at_the_server() -> None:
    begun, cancelled = threading.Event(), threading.Event()

    def hang(request: Any, context: grpc.ServicerContext) -> Any:
        context.add_callback(cancelled.set)
        begun.set()
        cancelled.wait(20)
        return echo(request, context)

    async def call(backend: GrpcBackend) -> None:
        task = asyncio.create_task(backend.infer_async(a_request()))
        await eventually(begun.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(cancelled.is_set)
        await backend.infer_async(a_request())

    with fake_server(hang) as server, opened(server.url) as backend:
        asyncio.run(call(backend))


def test_a_server_that_says_nothing_costs_the_deadline_and_rings_the_alarm() -> None:
    rung: list[bool] = []
    stop = threading.Event()

    def hang(request: Any, context: grpc.ServicerContext) -> Any:
        stop.wait(20)
        return echo(request, context)

    with fake_server(hang) as server, opened(server.url) as backend:
        request = a_request(timeout=0.6)
        deadline = request.deadline
        request.deadline = deadline.with_alarm(0.05, lambda: rung.append(deadline.expired))
        with pytest.raises(DeadlineExceeded, match="no answer"):
            asyncio.run(backend.infer_async(request))
        stop.set()
    assert rung == [False]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, Unavailable),
        (grpc.StatusCode.CANCELLED, Unavailable),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidInput),
        (grpc.StatusCode.INTERNAL, None),
    ],
)
def test_a_refusal_is_the_error_that_threads_get(
    code: grpc.StatusCode, kind: type[Exception] | None
) -> None:
    with fake_server(refuse(code, "no secret here")) as server:
        with opened(server.url, headers={"authorization": "Bearer secret"}) as backend:
            with pytest.raises(Exception, match=r"\*\*\*|secret") as blocking:
                backend.infer(a_request())
            with pytest.raises(type(blocking.value)) as caught:
                asyncio.run(backend.infer_async(a_request()))
    assert kind is None or type(caught.value) is kind
    assert str(caught.value) == str(blocking.value)
    assert caught.value.unprocessed == blocking.value.unprocessed  # type: ignore[attr-defined]
    assert "no secret" not in str(caught.value)


def test_an_answer_that_is_too_large_is_refused() -> None:
    with fake_server() as server, opened(server.url, max_response_bytes=1000) as backend:
        with pytest.raises(ProtocolError, match="max_response_bytes"):
            asyncio.run(backend.infer_async(a_request(inputs={"x": np.zeros(1000, np.float32)})))


def test_a_server_that_is_back_is_found_at_once() -> None:
    port = free_port()

    async def call(backend: GrpcBackend, stop: Callable[[], Any]) -> None:
        await backend.infer_async(a_request())
        stop()
        for _ in range(2):
            with pytest.raises(Unavailable):
                await backend.infer_async(a_request())
        with fake_server(port=port):
            assert (await backend.infer_async(a_request())).outputs["y"].tolist() == [1, 2]

    with fake_server(port=port) as server, opened(server.url) as backend:
        asyncio.run(call(backend, lambda: server.stop().wait()))


def test_a_connection_that_is_not_made_is_unavailable_in_time() -> None:
    with fake_server() as server, opened(server.url, connect_timeout=0.3) as backend:
        with silent_server() as port:
            backend._connection.endpoint.target = f"dns:///127.0.0.1:{port}"
            with pytest.raises((Unavailable, DeadlineExceeded)):
                asyncio.run(backend.infer_async(a_request(timeout=1.0)))


async def ask_twice(backend: GrpcBackend) -> None:
    for _ in range(2):
        assert (await backend.infer_async(a_request())).outputs["y"].tolist() == [1, 2]


def test_loops_in_turn_and_at_a_time_have_channels_of_their_own() -> None:
    with fake_server() as server, opened(server.url) as backend:
        for _ in range(3):
            asyncio.run(ask_twice(backend))
        assert len(backend._in_loops._values) == 1, "those of closed loops are gone"
        threads = [
            threading.Thread(target=lambda: asyncio.run(ask_twice(backend))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert backend.infer(a_request()).outputs["y"].tolist() == [1, 2]
    gc.collect()


@pytest.mark.parametrize("where", ["in the loop", "in another thread"])
def test_closing_ends_calls_in_flight_and_refuses_later_ones(where: str) -> None:
    begun, stop = threading.Event(), threading.Event()

    def hang(request: Any, context: grpc.ServicerContext) -> Any:
        begun.set()
        stop.wait(20)
        return echo(request, context)

    async def call(backend: GrpcBackend) -> None:
        task = asyncio.create_task(backend.infer_async(a_request()))
        await eventually(begun.is_set)
        if where == "in the loop":
            await backend.close_async()
        else:
            await asyncio.to_thread(backend.close)
        with pytest.raises(ModelClosed):
            await task
        with pytest.raises(ModelClosed):
            await backend.infer_async(a_request())
        await backend.close_async()

    with fake_server(hang) as server, opened(server.url) as backend:
        asyncio.run(call(backend))
        stop.set()
        with pytest.raises(ModelClosed):
            asyncio.run(backend.infer_async(a_request()))


FORKING = """
import asyncio, os, sys
from infer_backends.plugin import UnsupportedOperation
from tests.triton.forker import wait_for
from tests.triton.grpc_fakes import a_request, opened

async def ask(backend):
    return (await backend.infer_async(a_request(inputs={"INPUT": ARRAY}))).outputs

import numpy as np
ARRAY = np.array([1, 2], np.float32)
with opened(sys.argv[1]) as backend:
    asyncio.run(ask(backend))
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(ask(backend))
        except UnsupportedOperation as exc:
            os._exit(0 if exc.unprocessed and "fork" in str(exc) else 12)
        os._exit(13)
    print(wait_for(child))
    asyncio.run(ask(backend))
    print("works")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="fork is tested on Linux")
def test_a_child_of_fork_is_refused_at_once_where_it_would_hang(
    triton_url: Callable[..., str],
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKING, triton_url("identity_1d", "grpc")],
        capture_output=True,
        check=False,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=90,
    )
    assert done.stdout.split() == ["works", "works"], done.stderr
