"""What an awaited call means: all that a call in a thread does, and what loops bring with them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import pickle
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from infer_backends import (
    AsyncRemoteModel,
    DeadlineExceeded,
    InferenceFailed,
    InvalidInput,
    Model,
    ModelClosed,
    PluginError,
    ProtocolError,
    RemoteModel,
    Unavailable,
    UnsupportedOperation,
)
from infer_backends._async_model import AsyncModel
from infer_backends._batching import Splitting
from infer_backends._in_pool import InPool
from infer_backends._resilience._policy import Policy
from infer_backends._resilience._single import Single
from infer_backends._threads import MOST
from infer_backends._ways_of_loops import IN_LOOP, in_own_thread
from infer_backends.plugin import Deadline, InferRequest, InferResponse
from tests.core.fakes import FakeBackend, metadata

X = np.ones((2, 3), np.float32)


class AsyncFake(FakeBackend):
    """Answers in event loops, when its gate is open."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.hold = False
        self.inside = self.most = self.cancelled = self.closed_async = 0
        self._waiting: set[asyncio.Future[None]] = set()

    async def infer_async(self, request: InferRequest) -> InferResponse:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            while self.hold:
                waiting = asyncio.get_running_loop().create_future()
                self._waiting.add(waiting)
                await waiting
            return self.infer(request)
        except asyncio.CancelledError:
            self.cancelled += 1
            if self.closed_async:
                raise ModelClosed("the backend was closed") from None
            raise
        finally:
            self.inside -= 1

    def let_go(self) -> None:
        self.hold = False
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    async def close_async(self) -> None:
        self.closed_async += 1
        for waiting in self._waiting:
            waiting.cancel()
        self.close()


async def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.002)


def parameters_of(method: object) -> list[tuple[str, Any, Any]]:
    found = inspect.signature(method).parameters.values()  # type: ignore[arg-type]
    return [(one.name, one.kind, one.default) for one in found]


def public(kind: type) -> set[str]:
    own = {"__call__", "__init__"} | {name for name in dir(kind) if not name.startswith("_")}
    return own & set(dir(kind))


#: What waits in a thread of its own: in a loop, any call can be a task.
ONLY_OF_THREADS = {"submit"}
#: What waits for nothing, or is waited for piece by piece.
NEVER_AWAITED = {"metadata", "map", "sequence", "status", "stream", "__init__"}


@pytest.mark.parametrize(
    ("blocking", "awaited"), [(Model, AsyncModel), (RemoteModel, AsyncRemoteModel)]
)
def test_both_models_have_the_same_methods_with_the_same_parameters(
    blocking: type, awaited: type
) -> None:
    assert public(blocking) - ONLY_OF_THREADS == public(awaited)
    for name in sorted(public(awaited) - {"metadata"}):
        mine, other = parameters_of(getattr(awaited, name)), parameters_of(getattr(blocking, name))
        if name == "__init__":
            # An AsyncModel does not pickle.
            other = [one for one in other if one[0] != "reopen"]
        assert mine == other, name


@pytest.mark.parametrize("kind", [AsyncModel, AsyncRemoteModel])
def test_what_waits_is_awaited_and_nothing_else(kind: type) -> None:
    waits = {
        name
        for name in public(kind)
        if inspect.iscoroutinefunction(inspect.getattr_static(kind, name))
    }
    assert waits == public(kind) - NEVER_AWAITED


def test_an_async_model_is_an_async_remote_model() -> None:
    model: AsyncRemoteModel = AsyncModel(FakeBackend())
    assert isinstance(model, AsyncRemoteModel)


@pytest.fixture(params=["in the loop", "in a pool"])
def backend(request: pytest.FixtureRequest) -> FakeBackend:
    return AsyncFake() if request.param == "in the loop" else FakeBackend()


def test_a_call_gives_what_it_gives_in_a_thread(backend: FakeBackend) -> None:
    async def call() -> None:
        async with AsyncModel(backend) as model:
            np.testing.assert_array_equal(await model(X), X * 2)
            np.testing.assert_array_equal(await model(x=X.tolist()), X * 2)
            result = await model.infer(
                {"x": X}, outputs=["y"], request_id="r1", parameters={"p": 1}, headers={"A": "b"}
            )
            assert (result.request_id, result.backend_url) == ("r1", "fake://h/m")
            assert backend.requests[-1].parameters == {"p": 1}
            assert backend.requests[-1].headers == {"a": "b"}

    asyncio.run(call())
    assert backend.closed == 1


def test_what_is_wrong_is_refused_before_anything_is_asked(backend: FakeBackend) -> None:
    async def call() -> None:
        async with AsyncModel(backend) as model:
            for wrong in ((), (X, X), (X[0],)):
                with pytest.raises(InvalidInput):
                    await model(*wrong)
            with pytest.raises(InvalidInput):
                await model.infer({"x": X}, timeout=-1)
            with pytest.raises(UnsupportedOperation):
                await model.infer({"x": X}, priority=1)
            with pytest.raises(UnsupportedOperation, match="not decoupled"):
                model.stream({"x": X})
            with pytest.raises(UnsupportedOperation, match="sequence"):
                model.sequence()
            with pytest.raises(InvalidInput):
                await model.close(timeout=float("nan"))

    asyncio.run(call())
    assert backend.requests == []


def test_errors_are_those_of_a_thread(backend: FakeBackend) -> None:
    async def call() -> None:
        async with AsyncModel(backend) as model:
            backend.error = InferenceFailed("the model itself raised")
            with pytest.raises(InferenceFailed, match="the model itself"):
                await model(X)
            backend.error = KeyError("secret")
            with pytest.raises(PluginError, match="raised KeyError") as caught:
                await model(X)
            assert isinstance(caught.value.__cause__, KeyError)
            assert "secret" not in str(caught.value)
            backend.error = None
            backend.answer = lambda _: {}
            with pytest.raises(ProtocolError, match="'y'"):
                await model(X)

    asyncio.run(call())


def test_a_deadline_that_has_passed_ends_the_call_in_a_pool() -> None:
    backend = FakeBackend()

    async def call() -> None:
        async with AsyncModel(backend) as model:
            with pytest.raises(DeadlineExceeded):
                await model.infer({"x": X}, timeout=1e-9)

    asyncio.run(call())
    assert backend.requests == []


class Slow(FakeBackend):
    """Blocks the threads that ask it."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.inside = self.most = 0
        self._count = threading.Lock()

    def infer(self, request: InferRequest) -> InferResponse:
        with self._count:
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            assert self.go_on.wait(20)
            return super().infer(request)
        finally:
            with self._count:
                self.inside -= 1


def test_a_pool_has_few_threads_and_what_waits_for_one_ends_at_its_deadline() -> None:
    backend = Slow()

    async def call() -> None:
        before = threading.active_count()
        async with AsyncModel(backend) as model:
            calls = [asyncio.create_task(model(X)) for _ in range(500)]
            await until(lambda: backend.inside == MOST)
            late = asyncio.create_task(model.infer({"x": X}, timeout=0.05))
            with pytest.raises(DeadlineExceeded, match="before a thread was free") as caught:
                await late
            assert caught.value.unprocessed
            assert threading.active_count() - before <= MOST
            backend.go_on.set()
            for answer in await asyncio.gather(*calls):
                np.testing.assert_array_equal(answer, X * 2)
        assert backend.most == MOST
        assert len(backend.requests) == 500

    asyncio.run(call())


def test_a_cancelled_call_that_waits_for_a_thread_is_never_made() -> None:
    backend = Slow()

    async def call() -> None:
        async with AsyncModel(backend) as model:
            inside = [asyncio.create_task(model(X)) for _ in range(MOST)]
            await until(lambda: backend.inside == MOST)
            waiting = [asyncio.create_task(model(X)) for _ in range(50)]
            await asyncio.sleep(0)
            for task in (*waiting, inside[0]):
                task.cancel()
            for task in (*waiting, inside[0]):
                with pytest.raises(asyncio.CancelledError):
                    await task
            backend.go_on.set()
            await asyncio.gather(*inside[1:])

    asyncio.run(call())
    assert len(backend.requests) == MOST


@pytest.mark.parametrize("ticks", range(6))
def test_a_failure_of_a_call_that_is_cancelled_just_then_is_not_complained_of(ticks: int) -> None:
    backend = Slow()
    backend.error = InferenceFailed("too late to matter")
    complaints: list[Any] = []

    async def call() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
        async with AsyncModel(backend) as model:
            task = asyncio.create_task(model(X))
            await until(lambda: backend.inside == 1)
            backend.go_on.set()
            # The loop stands still until there is an answer, and then does some of what follows.
            time.sleep(0.05)  # noqa: ASYNC251 - as said
            for _ in range(ticks):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises((asyncio.CancelledError, InferenceFailed)):
                await task

    asyncio.run(call())
    gc.collect()
    assert complaints == []


@pytest.mark.parametrize("how", ["cancel", "wait_for", "timeout"])
def test_a_call_that_is_given_up_is_cancelled_and_not_in_flight_any_more(how: str) -> None:
    backend = AsyncFake()
    backend.hold = True

    async def give_up(call: Awaitable[object]) -> None:
        if how == "wait_for":
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(call, 0.01)
        elif how == "timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):  # type: ignore[attr-defined, unused-ignore]
                    await call
        else:
            task = asyncio.ensure_future(call)
            await until(lambda: backend.inside)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    async def call() -> None:
        model = AsyncModel(backend)
        await give_up(model(X))
        assert (backend.inside, backend.cancelled) == (0, 1)
        begun = time.monotonic()
        await model.close(timeout=10)
        assert time.monotonic() - begun < 5, "nobody is waited for"

    if how == "timeout" and not hasattr(asyncio, "timeout"):
        return
    asyncio.run(call())


def test_a_thousand_calls_in_flight_are_all_answered_by_the_right_answer() -> None:
    backend = AsyncFake()
    backend.hold = True

    async def call() -> None:
        async with AsyncModel(backend) as model:
            tasks = [
                asyncio.create_task(model(np.full((1, 3), number, np.float32)))
                for number in range(1000)
            ]
            await until(lambda: backend.inside == 1000)
            assert len(asyncio.all_tasks()) == 1001, "a call has no task of its own"
            backend.let_go()
            for number, answer in enumerate(await asyncio.gather(*tasks)):
                np.testing.assert_array_equal(answer, np.full((1, 3), 2 * number, np.float32))

    asyncio.run(call())


def test_closing_waits_for_calls_in_flight() -> None:
    backend = AsyncFake()
    backend.hold = True

    async def call() -> None:
        model = AsyncModel(backend)
        task = asyncio.create_task(model(X))
        await until(lambda: backend.inside)
        closing = asyncio.create_task(model.close())
        await until(lambda: model._calls.closed)
        with pytest.raises(ModelClosed):
            await model(X)
        backend.let_go()
        np.testing.assert_array_equal(await task, X * 2)
        await closing
        await model.close()
        assert "(closed)" in repr(model)
        with pytest.raises(ModelClosed):
            model.status()

    asyncio.run(call())
    assert backend.closed_async >= 1


def test_closing_ends_what_does_not_end_by_itself() -> None:
    backend = AsyncFake()
    backend.hold = True

    async def call() -> None:
        model = AsyncModel(backend)
        tasks = [asyncio.create_task(model(X)) for _ in range(3)]
        await until(lambda: backend.inside == 3)
        await model.close(timeout=0.05)
        for task in tasks:
            with pytest.raises(ModelClosed):
                await task

    asyncio.run(call())


def test_several_loops_in_turn_and_at_a_time_use_one_model(backend: FakeBackend) -> None:
    model = AsyncModel(backend)

    async def call(number: int) -> bool:
        x = np.full((1, 3), number, np.float32)
        answers = await asyncio.gather(*(model(x) for _ in range(5)))
        return all(np.array_equal(answer, x * 2) for answer in answers)

    assert all(asyncio.run(call(number)) for number in range(3))
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda number: asyncio.run(call(number)), range(12)))
    asyncio.run(model.close())
    with pytest.raises(ModelClosed):
        asyncio.run(call(1))


def test_an_async_model_does_not_pickle_and_says_what_does() -> None:
    with pytest.raises(UnsupportedOperation, match="pickle a Model, or the URL"):
        pickle.dumps(AsyncModel(FakeBackend()))


def single(backend: FakeBackend) -> Single:
    return Single(backend, backend.url, Policy(random=lambda: 0.0))


def test_a_call_that_did_no_work_is_sent_again() -> None:
    backend = AsyncFake()
    failures = iter([Unavailable("not now", unprocessed=True)])

    def sometimes(request: InferRequest) -> dict[str, Any]:
        for failure in failures:
            raise failure
        return {"y": request.inputs["x"]}

    backend.answer = sometimes

    async def call() -> None:
        async with AsyncModel(single(backend)) as model:
            result = await model.infer({"x": X})
            assert [type(attempt.error) for attempt in result.attempts] == [Unavailable]
            assert model.status().members[0].calls == 1

    asyncio.run(call())


def splitting(backend: FakeBackend) -> AsyncModel:
    return AsyncModel(Splitting(backend, backend.url))


def test_a_large_batch_is_split_and_comes_back_in_order() -> None:
    backend = AsyncFake(metadata=metadata(max_batch_size=4))

    async def call() -> None:
        async with splitting(backend) as model:
            x = np.arange(66, dtype=np.float32).reshape(22, 3)
            backend.hold = True
            task = asyncio.create_task(model(x))
            await until(lambda: backend.inside == 4)
            backend.let_go()
            np.testing.assert_array_equal(await task, x * 2)
            assert (await model(x[:0])).shape == (0, 3)

    asyncio.run(call())
    assert sorted(len(request.inputs["x"]) for request in backend.requests) == [2, 4, 4, 4, 4, 4]
    assert backend.most == 4


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_the_parts_of_a_batch_end_with_it(how: str) -> None:
    backend = AsyncFake(metadata=metadata(max_batch_size=1))
    backend.hold = True

    async def call() -> None:
        model = splitting(backend)
        task = asyncio.create_task(model(np.zeros((10, 3), np.float32)))
        await until(lambda: backend.inside == 4)
        if how == "cancelled":
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            backend.error = InferenceFailed("no")
            backend.let_go()
            with pytest.raises(InferenceFailed):
                await task
        assert backend.inside == 0
        assert len(asyncio.all_tasks()) == 1
        await model.close()

    asyncio.run(call())
    assert len(backend.requests) <= 4


def test_others_that_use_all_threads_of_the_loop_hold_up_neither_deadlines_nor_closing() -> None:
    backend, go_on = FakeBackend(), threading.Event()

    async def work() -> None:
        model = AsyncModel(Single(InPool(backend), backend.url, Policy()))
        np.testing.assert_array_equal(await model(X), X * 2)
        assert (await model.verify()).members[0].error is None
        assert await IN_LOOP.aside(lambda _: 1, Deadline.after(5)) == 1
        await model.close()
        assert backend.closed

    async def call() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        blocked = loop.run_in_executor(None, go_on.wait)
        try:
            await work()
        finally:
            go_on.set()
        await blocked

    asyncio.run(call())


def test_what_is_done_aside_has_its_result_or_its_error() -> None:
    def fail(_: Deadline) -> None:
        raise Unavailable("nobody there")

    async def call() -> None:
        deadline = Deadline.after(10)
        assert await IN_LOOP.aside(lambda given: given, deadline) is deadline
        with pytest.raises(Unavailable):
            await IN_LOOP.aside(fail, deadline)
        with pytest.raises(Unavailable):
            await in_own_thread(lambda: fail(deadline))

    asyncio.run(call())


def test_what_is_not_awaited_is_not_begun() -> None:
    backend = AsyncFake()

    async def call() -> None:
        async with AsyncModel(backend) as model:
            model(X).close()

    asyncio.run(call())
    assert backend.requests == []


def test_a_model_outlives_the_loop_that_it_was_made_in() -> None:
    backend = FakeBackend()

    async def make() -> AsyncModel:
        model = AsyncModel(backend)
        await model(X)
        return model

    async def use(model: AsyncModel) -> None:
        np.testing.assert_array_equal(await model(X), X * 2)
        await model.close()

    model = asyncio.run(make())
    gc.collect()
    asyncio.run(use(model))
    assert backend.closed == 1


@contextlib.asynccontextmanager
async def heart() -> AsyncIterator[list[float]]:
    """How late the loop is, again and again, in seconds."""
    late: list[float] = []

    async def beat() -> None:
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.001)
            late.append(time.monotonic() - begun)

    task = asyncio.create_task(beat())
    try:
        yield late
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def test_a_pool_that_works_does_not_hold_up_the_loop() -> None:
    def work(request: InferRequest) -> dict[str, Any]:
        time.sleep(0.01)
        return {"y": request.inputs["x"]}

    backend = FakeBackend(work)

    async def call() -> None:
        async with AsyncModel(InPool(backend)) as model, heart() as late:
            await asyncio.gather(*(model(X) for _ in range(200)))
        assert sorted(late)[len(late) // 2] < 0.25

    asyncio.run(call())
