"""How streams over gRPC end when not all is well: a closed model, a killed server, a fork."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from infer_backends.plugin import Deadline, DeadlineExceeded, ModelClosed, Unavailable
from infer_backends_triton import LocalTriton, _grpc_loop
from infer_backends_triton._grpc_backend import GrpcBackend
from infer_backends_triton._grpc_ending import _Draining
from tests.servers import repository
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

_SCRIPT = """\
import sys
import numpy as np
from tests.triton.grpc_fakes import a_request, make_options
from infer_backends.plugin import ModelURL, UnsupportedOperation
from infer_backends_triton._grpc_backend import GrpcBackend

backend = GrpcBackend.open(ModelURL.parse(sys.argv[1]), make_options())
inputs = {"COUNT": np.array([200], np.int32), "SECONDS": np.array([0.05], np.float32)}
stream = backend.stream(a_request(inputs=inputs))
next(stream)
"""


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


def test_closing_the_model_ends_a_stream_that_waits(url: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with opened(url) as backend, ThreadPoolExecutor(1) as pool:
        stream = backend.stream(asking(9, seconds=0.5, mark=mark))
        next(stream)
        waiting = pool.submit(next, stream)
        backend.close()
        with pytest.raises(ModelClosed):
            waiting.result(10)
        assert told(mark) == "cancelled"


def test_closing_the_model_ends_a_stream_that_does_not_wait(url: str) -> None:
    with opened(url) as backend:
        stream = backend.stream(asking(100, seconds=0.05))
        next(stream)
        backend.close()
        with pytest.raises(ModelClosed):
            list(stream)
        with pytest.raises(ModelClosed):
            next(backend.stream(asking(1)))


def test_closing_the_model_ends_a_stream_in_a_loop(url: str) -> None:
    async def main(backend: GrpcBackend) -> None:
        suspended = backend.stream_async(asking(100, seconds=0.05))
        await anext(suspended)
        waiting = asyncio.create_task(anext(backend.stream_async(asking(1, seconds=5))))
        await asyncio.sleep(0.05)
        await backend.close_async()
        with pytest.raises(ModelClosed):
            await waiting
        with pytest.raises(ModelClosed):
            await anext(suspended)
        with pytest.raises(ModelClosed):
            await anext(backend.stream_async(asking(1)))

    with opened(url) as backend:
        asyncio.run(main(backend))


def test_many_streams_at_a_time_each_get_their_own_responses(url: str) -> None:
    def read(count: int) -> list[int]:
        return [token(response) for response in backend.stream(asking(count))]

    with opened(url) as backend, ThreadPoolExecutor(8) as pool:
        counts = [number % 9 for number in range(64)]
        assert list(pool.map(read, counts)) == [list(range(count)) for count in counts]
        assert in_flight(backend) == 0
        eventually(lambda: not grpc_threads())


def test_a_server_that_is_killed_in_the_middle_is_unavailable(
    triton_environment: Path, tmp_path: Path, start: Start
) -> None:
    models = repository.write_repository(tmp_path / "models", only=["generating"])
    arguments = ["--disable-auto-complete-config"]
    with LocalTriton(
        models, environment=triton_environment, arguments=arguments, startup_timeout=120
    ) as server, opened(f"{server.grpc_url}/generating") as backend:  # fmt: skip
        stream = start(backend, asking(1000, seconds=0.02))
        next(stream)
        server.kill()
        with pytest.raises(Unavailable) as caught:
            list(stream)
        assert not caught.value.unprocessed
        assert in_flight(backend) == 0
        with pytest.raises(Unavailable):
            next(start(backend, asking(1)))


def test_nobody_at_the_address_is_unavailable(start: Start) -> None:
    with fake_server() as server, opened(server.url) as backend:
        server.stop().wait()
        with pytest.raises(Unavailable) as caught:
            next(start(backend, a_request()))
        assert caught.value.unprocessed


def run_script(url: str, more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _SCRIPT + more, url],
        capture_output=True,
        check=False,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=60,
    )


def test_a_process_with_an_open_stream_ends_at_once(url: str) -> None:
    begun = time.monotonic()
    done = run_script(url, "")
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - begun < 9


def test_a_child_cannot_read_its_parents_stream_which_goes_on(url: str) -> None:
    done = run_script(
        url,
        """
import os
pid = os.fork()
if pid == 0:
    try:
        next(stream)
    except UnsupportedOperation as error:
        assert "begun before this process was forked" in str(error)
        del stream, error
        try:
            next(backend.stream(a_request(inputs=inputs)))
        except UnsupportedOperation as error:
            assert "in flight when this process was forked" in str(error)
            os._exit(10)
    os._exit(11)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 10
print([int(next(stream).outputs["token"][0]) for _ in range(3)])
stream.close()
""",
    )
    assert (done.returncode, done.stdout) == (0, "[1, 2, 3]\n"), done.stderr


def test_a_deadline_may_end_while_the_caller_does_something_else(url: str) -> None:
    with opened(url) as backend:
        request = asking(1000, seconds=0.01, timeout=0.4)
        stream = backend.stream(request)
        next(stream)
        eventually(lambda: request.deadline.expired)
        with pytest.raises(DeadlineExceeded):
            list(stream)
        assert backend.ready(Deadline.after(10))


def test_a_stream_whose_closing_is_cancelled_leaves_nothing(url: str) -> None:
    async def main(backend: GrpcBackend) -> None:
        stream = backend.stream_async(asking(1000, seconds=0.002))
        await anext(stream)
        closing = asyncio.create_task(stream.aclose())
        await asyncio.sleep(0.005)
        while not closing.done():
            closing.cancel()
            await asyncio.sleep(0.001)
        assert closing.cancelled(), "it was cancelled while it ended the stream"
        assert not backend._in_loops.here()._calls

    with opened(url) as backend:
        asyncio.run(main(backend))
        assert in_flight(backend) == 0


def test_cancelling_a_task_that_waits_lets_the_server_finish_what_it_sends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_grpc_loop, "LULL", 1.0)
    monkeypatch.setattr(_grpc_loop, "LONGEST", 20.0)
    left, cancelled = threading.Event(), threading.Event()
    sent: list[int] = []

    def answer(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        context.add_callback(cancelled.set)
        yield echo(request, context)
        assert left.wait(20)
        for number in range(8):
            yield echo(request, context)
            sent.append(number)
            time.sleep(0.01)
        cancelled.wait(20)

    async def main(backend: GrpcBackend) -> None:
        stream = backend.stream_async(a_request())
        await anext(stream)
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.05)
        waiting.cancel()
        left.set()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not backend._in_loops.here()._calls

    with fake_server(stream=answer) as server, opened(server.url) as backend:
        asyncio.run(main(backend))
        assert cancelled.wait(10)
        assert in_flight(backend) == 0
    assert sent == list(range(8))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_whatever_a_stream_raises_is_its_end() -> None:
    def broken() -> Iterator[bytes]:
        yield b""
        raise ValueError("the channel was closed")

    draining = _Draining(broken())
    draining._thread.join(10)
    assert draining._ended.is_set()
