"""Nothing is kept of a call that has ended, however it ended."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from infer_backends import (
    AsyncModel,
    DeadlineExceeded,
    InferenceFailed,
    InferError,
    MemberState,
    Model,
    ModelClosed,
    PluginError,
    Unavailable,
)
from infer_backends._batching import Splitting
from infer_backends._in_pool import InPool
from infer_backends.plugin import Array, InferRequest, InferResponse
from tests.core.fakes import FakeBackend, metadata
from tests.core.resilience.members import OPEN, Switch, opened, until
from tests.core.running import in_loop
from tests.core.test_streams import Counting, CountingAsync, decoupled, n

BATCHING = metadata(max_batch_size=2)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


class Failing(FakeBackend):
    def infer(self, request: InferRequest) -> InferResponse:
        raise InferenceFailed("no")


class FailingAsync(Failing):
    async def infer_async(self, request: InferRequest) -> InferResponse:
        raise InferenceFailed("no")

    async def close_async(self) -> None:
        self.close()


def array(rows: int = 2) -> tuple[Array, weakref.ref[Array]]:
    made = np.ones((rows, 3), np.float32)
    return made, weakref.ref(made)


@pytest.mark.parametrize("layers", ["bare", "split", "fallback"])
def test_a_failed_call_keeps_no_array(layers: str) -> None:
    backend = Failing(metadata=BATCHING if layers == "split" else None)
    made: Any = backend
    if layers == "split":
        made = Splitting(backend, backend.url)
    elif layers == "fallback":
        made = opened(Switch("fake://a/m", backend), Switch("fake://b/m", Failing()))
    model = Model(made)
    gc.disable()
    try:
        x, kept = array(5)
        with pytest.raises(InferenceFailed):
            model(x)
        del x
        assert kept() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("layers", ["bare", "pool", "split"])
def test_a_failed_call_in_an_event_loop_keeps_no_array(layers: str) -> None:
    kind = Failing if layers == "pool" else FailingAsync
    backend = kind(metadata=BATCHING if layers == "split" else None)
    made: Any = Splitting(backend, backend.url) if layers == "split" else backend

    async def work() -> None:
        model = AsyncModel(made)
        x, kept = array(5)
        with contextlib.suppress(InferenceFailed):
            await model(x)
        del x
        # Callbacks of what has ended are called by the loop.
        for _ in range(5):
            await asyncio.sleep(0)
        until(lambda: kept() is None, 5)

    gc.disable()
    try:
        in_loop(work())
    finally:
        gc.enable()


class Slow(Counting):
    """Thinks before every response; ``closed_at`` is set when its generator has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.gone = threading.Event()
        self.waiting = threading.Event()

    def stream(self, request: InferRequest) -> Iterator[InferResponse]:
        try:
            for response in super().stream(request):
                self.waiting.set()
                time.sleep(0.3)
                yield response
        finally:
            self.gone.set()


@pytest.mark.parametrize("how", ["cancelled", "late"])
def test_a_pooled_stream_ends_as_it_was_ended_and_its_generator_is_closed(how: str) -> None:
    backend = Slow()

    async def read(model: AsyncModel, timeout: float | None) -> None:
        async for _ in model.stream(n(5), timeout=timeout):
            pass

    async def work() -> None:
        async with AsyncModel(backend) as model:
            if how == "late":
                with pytest.raises(DeadlineExceeded):
                    await read(model, 0.1)
                return
            task = asyncio.ensure_future(read(model, None))
            await asyncio.to_thread(backend.waiting.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()

    in_loop(work())
    assert backend.gone.wait(10)


def test_a_pooled_backend_that_raises_stop_iteration_ends_the_call() -> None:
    backend = FakeBackend()
    backend.error = StopIteration()

    async def work() -> None:
        async with AsyncModel(backend) as model:
            with pytest.raises(PluginError):
                await model(np.ones((1, 3), np.float32))

    in_loop(work(), within=10)


def test_a_stream_of_threads_is_none_of_a_loop_that_runs_there() -> None:
    model = Model(Counting())

    async def begin() -> Any:
        stream = model.stream(n(4))
        next(stream)
        return stream

    stream = asyncio.run(begin())
    assert [int(part["i"][0]) for part in stream] == [1, 2, 3]


def test_a_cancelled_cleaning_up_is_not_counted_as_a_call() -> None:
    class Lingering(CountingAsync):
        async def stream_async(self, request: InferRequest) -> Any:
            try:
                async for response in super().stream_async(request):
                    yield response
            finally:
                await asyncio.sleep(30)

    async def work() -> None:
        model = AsyncModel(Lingering())
        stream: Any = model.stream(n(4))
        await stream.__anext__()
        closing = asyncio.ensure_future(stream.aclose())
        await asyncio.sleep(0.01)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert not model._calls.busy
        await model.close()

    in_loop(work())


def test_a_stream_that_its_reader_has_no_more_time_for_does_not_make_its_server_suspect() -> None:
    first = Counting("fake://a/m")
    first.at = {3: DeadlineExceeded("late")}
    model = Model(opened(Switch("fake://a/m", first), Switch("fake://b/m", Counting())))
    stream = model.stream(n(9), timeout=0.05)
    next(stream)
    time.sleep(0.06)
    with pytest.raises(DeadlineExceeded):
        list(stream)
    member = model.status().members[0]
    assert (member.state, member.calls, member.failures) == (MemberState.READY, 1, 0)


def test_streams_that_break_count_once_and_five_in_a_row_are_enough() -> None:
    first = Counting("fake://a/m")
    first.at = {1: Unavailable("reset")}
    model = Model(opened(Switch("fake://a/m", first), Switch("fake://b/m", Counting())))
    for _ in range(5):
        with pytest.raises(Unavailable):
            list(model.stream(n(3)))
    member = model.status().members[0]
    assert (member.state, member.calls, member.failures) == (MemberState.DOWN, 5, 5)


def test_a_stream_that_is_left_early_is_a_call_that_was_answered() -> None:
    first = Counting("fake://a/m")
    model = Model(opened(Switch("fake://a/m", first), Switch("fake://b/m", Counting())))
    stream: Any = model.stream(n(9))
    next(stream)
    stream.close()
    member = model.status().members[0]
    assert (member.calls, member.failures, member.in_flight) == (1, 0, 0)


def test_what_was_tried_before_a_stream_broke_is_told() -> None:
    first, second = Counting("fake://a/m"), Counting("fake://b/m")
    first.at = {0: Unavailable("refused")}
    second.at = {1: Unavailable("reset")}
    model = Model(opened(Switch("fake://a/m", first), Switch("fake://b/m", second)))
    with pytest.raises(Unavailable, match="reset") as raised:
        list(model.stream(n(3)))
    assert [attempt.url for attempt in raised.value.attempts] == ["fake://a/m"]


def test_waiting_behind_our_own_calls_says_nothing_of_a_member() -> None:
    first, second = FakeBackend(url="fake://a/m"), FakeBackend(url="fake://b/m")
    error = DeadlineExceeded("others use all threads", unprocessed=True)
    error.queued_here = True
    first.error = error
    model = Model(opened(Switch("fake://a/m", first), Switch("fake://b/m", second)))
    result = model.infer({"x": np.ones((1, 3))})
    assert result.backend_url == "fake://b/m"
    member = model.status().members[0]
    assert (member.state, member.failures) == (MemberState.READY, 0)


def test_a_call_that_finds_no_thread_free_says_that_it_waited_here() -> None:
    backend = FakeBackend()
    go_on = threading.Event()

    def answer(request: InferRequest) -> dict[str, Array]:
        go_on.wait(10)
        return {"y": np.asarray(request.inputs["x"])}

    backend.answer = answer

    async def work() -> InferError | None:
        pool = InPool(backend)
        pool._threads._most = 1
        model = AsyncModel(pool)
        x = np.ones((1, 3), np.float32)
        first = asyncio.ensure_future(model(x))
        await asyncio.sleep(0.01)
        try:
            await model.infer({"x": x}, timeout=0.05)
        except DeadlineExceeded as exc:
            return exc
        finally:
            go_on.set()
            await first
            await model.close()
        return None

    error = in_loop(work())
    assert error is not None
    assert (error.queued_here, error.unprocessed) == (True, True)


def test_streams_for_the_other_kind_of_caller_say_so() -> None:
    class OnlyThreads(Counting):
        async def infer_async(self, request: InferRequest) -> InferResponse:
            raise AssertionError

        async def close_async(self) -> None:
            self.close()

    class OnlyLoops(FakeBackend):
        async def stream_async(self, request: InferRequest) -> Any:
            yield InferResponse({})

    async def work() -> None:
        async with AsyncModel(OnlyThreads()) as model:
            with pytest.raises(InferError, match="threads only: use open_model"):
                async for _ in model.stream(n(1)):
                    pass

    in_loop(work())
    with pytest.raises(InferError, match="loops only: use open_async_model"):
        list(Model(OnlyLoops(metadata=decoupled())).stream(n(1)))


def test_a_model_closed_while_a_stream_is_read_ends_it() -> None:
    model = Model(Counting())
    stream = model.stream(n(3))
    next(stream)
    backend = model._backend
    assert isinstance(backend, Counting)
    backend.at = {1: Unavailable("closed")}
    model.close(timeout=0)
    with pytest.raises(ModelClosed):
        list(stream)


def test_closing_does_not_wait_for_a_stream_that_nobody_reads() -> None:
    model = Model(Counting())
    stream = model.stream(n(3))
    next(stream)
    began = time.monotonic()
    model.close(timeout=60)
    assert time.monotonic() - began < 30
    with pytest.raises(ModelClosed):
        next(stream)


def test_closing_in_an_event_loop_does_not_wait_for_a_stream_that_nobody_reads() -> None:
    async def work() -> None:
        model = AsyncModel(CountingAsync())
        stream: Any = model.stream(n(3))
        await stream.__anext__()
        await asyncio.wait_for(model.close(timeout=60), 30)
        with pytest.raises(ModelClosed):
            await stream.__anext__()

    in_loop(work())


def test_a_closed_model_says_so_before_anything_else() -> None:
    model = Model(FakeBackend())
    model.close()
    for ask in (lambda: model.stream({}), model.sequence, model.submit):
        with pytest.raises(ModelClosed):
            ask()


@pytest.mark.parametrize("kind", ["bare", "fallback", "pool"])
@pytest.mark.parametrize("left", ["held", "dropped"])
def test_a_stream_that_its_loop_closes_is_closed_once(
    kind: str, left: str, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    backend = Counting() if kind == "pool" else CountingAsync()
    made: Any = backend
    if kind == "fallback":
        made = opened(Switch("fake://a/m", backend), Switch("fake://b/m", CountingAsync()))
    model = AsyncModel(made)
    held: list[Any] = []

    async def begin() -> None:
        stream: Any = model.stream(n(9))
        await stream.__anext__()
        if left == "held":
            held.append(stream)

    asyncio.run(begin())
    gc.collect()
    assert [record.getMessage() for record in caplog.records] == []
    until(lambda: backend.ended == ["left"])
    model_closed = asyncio.run(model.close())
    assert model_closed is None
