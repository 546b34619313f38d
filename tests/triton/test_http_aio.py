"""Calls over HTTP in an event loop: as right as in a thread, many at a time, and nothing left."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl
import sys
import threading
import time
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme

from infer_backends.plugin import (
    DataType,
    Deadline,
    DeadlineExceeded,
    InferRequest,
    ModelClosed,
    SupportsAsync,
    Unavailable,
)
from infer_backends_triton import _http_client
from infer_backends_triton._http import HTTPBackend
from tests.triton.endpoints import black_hole, free_port, silent_server
from tests.triton.http_faults import (
    FaultyServer,
    Request,
    a_request,
    echo,
    faulty_server,
    opened,
)

EVERY_DATATYPE = [dtype for dtype in DataType if dtype is not DataType.BF16]


def an_array(dtype: DataType) -> Any:
    if dtype is DataType.BYTES:
        return np.array([[b"a", b"", "ü".encode()]], object)
    return np.arange(6).reshape(2, 3).astype(dtype.numpy_dtype)


def asking(name: str, array: Any, timeout: float = 30.0) -> InferRequest:
    return InferRequest({name: array}, None, Deadline.after(timeout))


async def connected(backend: HTTPBackend) -> int:
    """How many connections the running loop has."""
    pool = backend._clients.here()._pool
    return len(pool._idle) + len(pool._busy)


async def eventually(condition: Callable[[], object]) -> None:
    """Wait for a condition; fail when it does not come."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def test_a_backend_over_http_answers_in_an_event_loop() -> None:
    assert issubclass(HTTPBackend, SupportsAsync)
    with faulty_server(echo) as server, opened(server.url) as backend:
        response = asyncio.run(backend.infer_async(a_request([1.5, 2.5])))
    assert response.outputs["y"].tolist() == [1.5, 2.5]
    assert response.outputs["y"].flags.writeable
    assert (response.model_version, response.backend_url) == ("1", server.url)


@pytest.mark.parametrize("dtype", EVERY_DATATYPE)
def test_every_datatype_comes_back_as_it_was_sent(
    triton_url: Callable[..., str], dtype: DataType
) -> None:
    array = an_array(dtype)
    with opened(triton_url(f"identity_{dtype.value.lower()}")) as backend:
        outputs = asyncio.run(backend.infer_async(asking("INPUT", array))).outputs
    assert outputs["OUTPUT"].dtype == array.dtype
    np.testing.assert_array_equal(outputs["OUTPUT"], array)


def test_many_calls_at_a_time_each_get_their_own_answer(triton_url: Callable[..., str]) -> None:
    async def call_all(backend: HTTPBackend) -> None:
        arrays = [np.full((1, number % 7 + 1), number, np.float32) for number in range(256)]
        answers = await asyncio.gather(
            *(backend.infer_async(asking("INPUT", array)) for array in arrays)
        )
        for array, answer in zip(arrays, answers, strict=True):
            np.testing.assert_array_equal(answer.outputs["OUTPUT"], array)
        assert await connected(backend) <= _http_client.MAX_CONNECTIONS

    with opened(triton_url("identity_fp32"), shared_memory="off") as backend:
        threads = threading.active_count()
        asyncio.run(call_all(backend))
        assert threading.active_count() == threads, "no call had a thread"


def test_large_tensors_share_the_loop(triton_url: Callable[..., str]) -> None:
    async def call_all(backend: HTTPBackend) -> None:
        arrays = [np.full((1, 700_000), number, np.float32) for number in range(6)]
        answers = await asyncio.gather(
            *(backend.infer_async(asking("INPUT", array)) for array in arrays)
        )
        for array, answer in zip(arrays, answers, strict=True):
            np.testing.assert_array_equal(answer.outputs["OUTPUT"], array)

    with opened(triton_url("identity_fp32"), shared_memory="off") as backend:
        asyncio.run(call_all(backend))


def test_calls_that_find_no_connection_free_wait_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_http_client, "MAX_CONNECTIONS", 2)
    release = threading.Event()

    def answer(sock: socket.socket, request: Request) -> None:
        assert release.wait(20)
        echo(sock, request)

    async def call(server: FaultyServer, backend: HTTPBackend) -> None:
        asked = len(server.requests)
        calls = [asyncio.create_task(backend.infer_async(a_request([n]))) for n in range(10)]
        await eventually(lambda: len(server.requests) == asked + 2)
        with pytest.raises(DeadlineExceeded, match="used all connections") as caught:
            await backend.infer_async(a_request(timeout=0.1))
        assert caught.value.unprocessed
        # Who waits may give up, and takes nobody's turn with him.
        calls[5].cancel()
        release.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(answers.pop(5), asyncio.CancelledError)
        values = [got.outputs["y"][0] for got in answers if not isinstance(got, BaseException)]
        assert values == [0, 1, 2, 3, 4, 6, 7, 8, 9]
        assert await connected(backend) == 2

    with faulty_server(answer) as server, opened(server.url) as backend:
        asyncio.run(call(server, backend))
        assert server.connections == 3


def test_cancelling_a_call_closes_its_connection_and_no_other() -> None:
    gone = threading.Event()

    def answer(sock: socket.socket, request: Request) -> None:
        if request.headers.get("x-hang"):
            assert sock.recv(1) == b"", "the client closed the connection"
            gone.set()
        else:
            echo(sock, request)

    async def call(server: FaultyServer, backend: HTTPBackend) -> None:
        await backend.infer_async(a_request())
        asked = len(server.requests)
        hanging = asyncio.create_task(backend.infer_async(a_request(headers={"x-hang": "1"})))
        await eventually(lambda: len(server.requests) > asked)
        await backend.infer_async(a_request())
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        assert await asyncio.to_thread(gone.wait, 20)
        assert await connected(backend) == 1
        await backend.infer_async(a_request())

    with faulty_server(answer) as server, opened(server.url) as backend:
        asyncio.run(call(server, backend))
        assert server.connections == 3


def test_a_server_that_says_nothing_costs_the_deadline_and_rings_the_alarm() -> None:
    rung: list[bool] = []

    async def call(backend: HTTPBackend) -> None:
        request = a_request(timeout=0.6)
        deadline = request.deadline
        request.deadline = deadline.with_alarm(0.05, lambda: rung.append(deadline.expired))
        with pytest.raises(DeadlineExceeded, match="did not answer") as caught:
            await backend.infer_async(request)
        assert not caught.value.unprocessed
        assert await connected(backend) == 0

    with faulty_server() as server, opened(server.url) as backend:
        asyncio.run(call(backend))
    assert rung == [False]


def move(backend: HTTPBackend, port: int) -> None:
    """Have the backend look for its server at another port."""
    object.__setattr__(backend._server.settings, "port", port)


def test_a_server_that_does_not_read_costs_the_deadline() -> None:
    with faulty_server(echo) as server, opened(server.url) as backend:
        with silent_server() as port:
            move(backend, port)
            with pytest.raises(DeadlineExceeded):
                asyncio.run(backend.infer_async(a_request(np.zeros(10_000_000), timeout=0.4)))


@pytest.mark.parametrize("hole", [silent_server, black_hole])
def test_an_alarm_rings_while_a_call_waits_to_connect(hole: Callable[[], Any]) -> None:
    rung = []
    with faulty_server(echo) as server, opened(server.url, connect_timeout=0.5) as backend:
        with hole() as port:
            move(backend, port)
            request = a_request(timeout=1.0)
            request.deadline = request.deadline.with_alarm(0.05, lambda: rung.append(1))
            with pytest.raises((Unavailable, DeadlineExceeded)) as caught:
                asyncio.run(backend.infer_async(request))
    assert rung == [1]
    assert caught.value.unprocessed is (hole is black_hole)


def test_a_refused_connection_is_unavailable_and_nothing_was_processed() -> None:
    with faulty_server(echo) as server, opened(server.url) as backend:
        move(backend, free_port())
        with pytest.raises(Unavailable, match="cannot connect") as caught:
            asyncio.run(backend.infer_async(a_request()))
    assert caught.value.unprocessed


def test_a_name_is_resolved_outside_the_loop() -> None:
    with faulty_server(echo) as server:
        with opened(f"http://localhost:{server.port}/m") as backend:
            assert asyncio.run(backend.infer_async(a_request([3]))).outputs["y"].tolist() == [3]


def test_a_connection_that_the_server_closed_meanwhile_is_replaced_unnoticed() -> None:
    async def call(server: FaultyServer, backend: HTTPBackend) -> None:
        for _ in range(3):
            await backend.infer_async(a_request())
            server.drop_connections()

    with faulty_server(echo) as server, opened(server.url) as backend:
        asyncio.run(call(server, backend))
        assert len(server.requests) == 3 + 3, "no request was sent twice"


def test_loops_in_turn_and_at_a_time_have_connections_of_their_own() -> None:
    with faulty_server(echo) as server, opened(server.url) as backend:
        for number in range(3):
            assert asyncio.run(ask_twice(backend, number)) == 1
        assert server.connections == 4
        threads = [
            threading.Thread(target=lambda: asyncio.run(ask_twice(backend, 7))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert backend.infer(a_request([9])).outputs["y"].tolist() == [9]


async def ask_twice(backend: HTTPBackend, number: int) -> int:
    for _ in range(2):
        response = await backend.infer_async(a_request([number]))
        assert response.outputs["y"].tolist() == [number]
    return await connected(backend)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted in /proc")
def test_nothing_is_left_of_loops_that_ended_without_closing() -> None:
    with faulty_server(echo) as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        # What tests before this one left to the collector would be collected in the middle of it.
        gc.collect()
        before = descriptors()
        with opened(server.url) as backend:
            for _ in range(3):
                asyncio.run(ask_twice(backend, 1))
        gc.collect()
        server.drop_connections()
        for thread in server.threads[1:]:
            thread.join(10)
        assert descriptors() == before


def test_a_loop_that_is_collected_takes_its_connections_with_it() -> None:
    with faulty_server(echo) as server, opened(server.url) as backend:
        asyncio.run(ask_twice(backend, 1))
        gc.collect()
        assert not backend._clients._in_loops._values


def test_closing_in_a_loop_ends_calls_in_flight_and_refuses_later_ones() -> None:
    async def call(server: FaultyServer, backend: HTTPBackend) -> None:
        asked = len(server.requests)
        hanging = asyncio.create_task(backend.infer_async(a_request()))
        await eventually(lambda: len(server.requests) > asked)
        await backend.close_async()
        with pytest.raises(ModelClosed):
            await hanging
        with pytest.raises(ModelClosed):
            await backend.infer_async(a_request())
        await backend.close_async()

    with faulty_server() as server, opened(server.url) as backend:
        asyncio.run(call(server, backend))
        with pytest.raises(ModelClosed):
            backend.infer(a_request())
        with pytest.raises(ModelClosed):
            asyncio.run(backend.infer_async(a_request()))


def test_closing_in_another_thread_ends_calls_in_flight() -> None:
    async def call(server: FaultyServer, backend: HTTPBackend) -> None:
        asked = len(server.requests)
        hanging = asyncio.create_task(backend.infer_async(a_request()))
        await eventually(lambda: len(server.requests) > asked)
        await asyncio.to_thread(backend.close)
        with pytest.raises(ModelClosed):
            await hanging

    with faulty_server() as server, opened(server.url) as backend:
        asyncio.run(call(server, backend))


@pytest.mark.parametrize("size", [2, 600_000])
def test_a_call_over_tls_is_answered(tmp_path: Path, size: int) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    values = np.arange(size, dtype=np.float32)

    async def call_all(backend: HTTPBackend) -> None:
        answers = await asyncio.gather(*(backend.infer_async(a_request(values)) for _ in range(4)))
        for answer in answers:
            np.testing.assert_array_equal(answer.outputs["y"], values)
        await backend.infer_async(a_request([1]))

    with faulty_server(echo, tls=context) as server:
        with opened(server.url, ca=str(tmp_path / "ca.pem")) as backend:
            asyncio.run(call_all(backend))


def test_a_call_thrown_away_after_its_loop_leaves_nothing() -> None:
    async def begin(call: Coroutine[Any, Any, object]) -> None:
        assert call.send(None) is not None, "it waits for something"

    with faulty_server() as server, opened(server.url) as backend:
        before = descriptors()
        loop = asyncio.new_event_loop()
        call = backend.infer_async(a_request())
        loop.run_until_complete(begin(call))
        loop.close()
        call.close()
        gc.collect()
        assert descriptors() <= before + server.connections - 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_of_fork_answers_in_a_loop_of_its_own() -> None:
    with faulty_server(echo) as server, opened(server.url) as backend:
        asyncio.run(ask_twice(backend, 1))
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = 0 if asyncio.run(ask_twice(backend, 2)) == 1 else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        asyncio.run(ask_twice(backend, 3))


class Deaf(asyncio.SelectorEventLoop):
    """A loop that watches no sockets for others, as the usual one of Windows."""

    add_reader = asyncio.AbstractEventLoop.add_reader
    add_writer = asyncio.AbstractEventLoop.add_writer


def test_a_loop_that_cannot_watch_sockets_waits_in_threads() -> None:
    with faulty_server(echo) as server, opened(server.url) as backend:
        loop = Deaf()
        try:
            answer = loop.run_until_complete(backend.infer_async(a_request([5])))
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()
        assert answer.outputs["y"].tolist() == [5]
        asyncio.run(ask_twice(backend, 1))
        assert backend.infer(a_request([6])).outputs["y"].tolist() == [6]
