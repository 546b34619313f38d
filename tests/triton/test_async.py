"""AsyncModel on a real Triton: many calls at a time, loops that come and go, calls given up."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import infer_backends as ib
from infer_backends import DeadlineExceeded, ModelClosed
from infer_backends._threads import MOST
from tests.conftest import Protocol
from tests.triton.grpc_fakes import fake_server

if TYPE_CHECKING:
    from infer_backends._async_model import AsyncModel

CALLS = 1000
#: Everything that runs on the machine of the tests may hold up a loop; what blocks it does more.
LATE = 1.0


@pytest.fixture(autouse=True)
def nothing_complained_of() -> Iterator[None]:
    """No task destroyed while it waits, no result that nobody asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()


@pytest.fixture(params=["http", "grpc", "onnx"])
def identity_url(
    request: pytest.FixtureRequest, triton_url: Callable[..., str], tmp_path: Path
) -> str:
    """The URL of a model that answers FP32 [-1] by the same, wherever it runs."""
    if request.param != "onnx":
        return triton_url("identity_1d", request.param)
    tensors = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [None]) for n in "xy")
    x, y = tensors
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "m", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    onnx.save(model, tmp_path / "identity.onnx")
    return f"onnx:{tmp_path / 'identity.onnx'}"


@pytest.fixture
def calm_url(identity_url: str) -> Iterator[str]:
    """The same, of a server that may be told at any moment that a call is cancelled.

    Over gRPC this Triton may crash when that meets the answer (server issues 7368 and 8034), so
    there it is a server made of grpc.
    """
    if not identity_url.startswith("grpc"):
        yield identity_url
        return
    with fake_server() as server:
        yield server.url


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition; fail when it does not come."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def heart() -> AsyncIterator[list[float]]:
    """How late the running loop is, again and again, in seconds."""
    late: list[float] = []

    async def beat() -> None:
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.002)
            late.append(time.monotonic() - begun - 0.002)

    task = asyncio.create_task(beat())
    try:
        yield late
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def complaints() -> list[Any]:
    """What the running loop's handler of exceptions is told from now on."""
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    return told


async def answers(model: AsyncModel, count: int, size: int = 4) -> int:
    """How many of so many calls at a time are answered, each by its own numbers."""
    sent = [np.full(size, number, np.float32) for number in range(count)]
    got = await asyncio.gather(*(model(array) for array in sent))
    return sum(np.array_equal(*pair) for pair in zip(sent, got, strict=True))


def peak() -> int:
    """The most memory that this process has had so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_thousand_calls_at_a_time_are_answered_in_a_loop_that_stays_alive(
    identity_url: str,
) -> None:
    async def call() -> None:
        async with await ib.open_async_model(identity_url) as model:
            await model(np.zeros(4, np.float32))
            threads = threading.active_count()
            async with heart() as late:
                assert await answers(model, CALLS) == CALLS
            # A pool for what cannot be awaited, whatever the number of calls.
            assert threading.active_count() - threads <= MOST
            assert sorted(late)[int(len(late) * 0.9)] < LATE

    asyncio.run(call())


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_a_thousand_calls_at_a_time_take_little_more_memory_than_their_arrays(
    identity_url: str,
) -> None:
    size = 4096  # 16 KiB

    async def call() -> int:
        async with await ib.open_async_model(identity_url) as model:
            assert await answers(model, 200, size) == 200
            gc.collect()
            before = peak()
            assert await answers(model, CALLS, size) == CALLS
            return peak() - before

    # What is sent, received, and for a moment both as messages: four times the arrays.
    assert asyncio.run(call()) < CALLS * (4 * 4 * size + 32 * 1024)


def test_loops_in_turn_and_at_a_time_use_one_model(identity_url: str) -> None:
    async def open_it() -> AsyncModel:
        model = await ib.open_async_model(identity_url)
        assert await answers(model, 3) == 3
        return model

    async def close(model: AsyncModel) -> None:
        assert await answers(model, 3) == 3
        await model.close()
        with pytest.raises(ModelClosed):
            await model(np.zeros(1, np.float32))

    model = asyncio.run(open_it())
    for _ in range(3):
        assert asyncio.run(answers(model, 20)) == 20
    right: list[int] = []
    threads = [
        threading.Thread(target=lambda: right.append(asyncio.run(answers(model, 20))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert right == [20] * 4
    asyncio.run(close(model))


def test_a_loop_that_ends_in_the_middle_of_calls_leaves_nothing_to_complain_of(
    identity_url: str,
) -> None:
    async def begin() -> AsyncModel:
        model = await ib.open_async_model(identity_url)
        assert await answers(model, 20) == 20
        tasks.append(asyncio.create_task(answers(model, 50)))
        # At once, and not just when they are answered: see ``calm_url``.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return model

    tasks: list[asyncio.Task[int]] = []
    model = asyncio.run(begin())
    assert tasks.pop().done()
    gc.collect()
    asyncio.run(model.close())


def test_closing_waits_for_calls_and_refuses_later_ones(identity_url: str) -> None:
    async def call() -> None:
        model = await ib.open_async_model(identity_url)
        told = complaints()
        tasks = [asyncio.create_task(answers(model, 5)) for _ in range(20)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await model.close()
        assert sum(await asyncio.gather(*tasks)) == 100
        with pytest.raises(ModelClosed):
            await answers(model, 1)
        assert told == []

    asyncio.run(call())


def delayed(seconds: float) -> dict[str, Any]:
    return {"INPUT": np.ones(3, np.float32), "SECONDS": np.array([seconds], np.float32)}


@pytest.mark.parametrize("where", ["the same loop", "another loop", "a thread"])
def test_closing_ends_what_does_not_end_in_time(
    triton_url: Callable[..., str], protocol: Protocol, where: str
) -> None:
    async def call() -> None:
        told = complaints()
        model = await ib.open_async_model(triton_url("delayed", protocol))
        tasks = [asyncio.create_task(model.infer(delayed(1.0))) for _ in range(3)]
        await asyncio.sleep(0.2)
        begun = time.monotonic()
        if where == "the same loop":
            await model.close(timeout=0.05)
        else:
            await asyncio.to_thread(lambda: asyncio.run(model.close(timeout=0.05)))
        for task in tasks:
            with pytest.raises(ModelClosed):
                await task
        assert time.monotonic() - begun < 0.7, "they were not waited for"
        assert told == []

    asyncio.run(call())


@pytest.mark.parametrize("how", ["wait_for", "timeout=", "asyncio.timeout"])
def test_a_call_ends_when_its_time_is_over(
    triton_url: Callable[..., str], protocol: Protocol, how: str
) -> None:
    async def give_up(model: AsyncModel) -> None:
        if how == "timeout=":
            with pytest.raises(DeadlineExceeded):
                await model.infer(delayed(1.0), timeout=0.2)
        elif how == "wait_for":
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(model.infer(delayed(1.0)), 0.2)
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):  # type: ignore[attr-defined, unused-ignore]
                    await model.infer(delayed(1.0))

    async def call() -> None:
        told = complaints()
        async with await ib.open_async_model(triton_url("delayed", protocol)) as model:
            await model.infer(delayed(0.0))
            begun = time.monotonic()
            await give_up(model)
            assert 0.15 < time.monotonic() - begun < 0.9
            assert (await model.infer(delayed(0.0)))["OUTPUT"].tolist() == [1, 1, 1]
            assert told == []
            assert asyncio.all_tasks() == {asyncio.current_task()}

    if how == "asyncio.timeout" and sys.version_info < (3, 11):
        return
    asyncio.run(call())


def queued(seconds: float, mark: Path) -> dict[str, Any]:
    return {
        "SECONDS": np.array([[seconds]], np.float32),
        "MARK": np.array([[str(mark).encode()]], object),
    }


def test_the_server_does_not_work_for_calls_that_were_cancelled(
    triton_url: Callable[..., str], tmp_path: Path
) -> None:
    # Over gRPC: HTTP has no other word for it than to close the connection, and this server does
    # not listen for that.
    async def call() -> None:
        async with await ib.open_async_model(triton_url("queued", "grpc")) as model:
            first = asyncio.create_task(model.infer(queued(1.0, tmp_path / "first")))
            await until((tmp_path / "first").exists)
            tasks = [
                asyncio.create_task(model.infer(queued(0.3, tmp_path / f"{number}")))
                for number in range(20)
            ]
            await asyncio.sleep(0.2)
            for task in tasks:
                task.cancel()
            for task in tasks:
                with pytest.raises(asyncio.CancelledError):
                    await task
            await first
            await model.infer(queued(0.0, tmp_path / "last"))

    asyncio.run(call())
    assert {path.name for path in tmp_path.iterdir()} == {"first", "last"}


def connections(url: str) -> int:
    """How many connections of this process lead to a server."""
    import psutil

    port = int(url.rpartition("/")[0].rpartition(":")[2])
    found = psutil.Process().net_connections("tcp")
    return sum(bool(one.raddr) and one.raddr.port == port for one in found)


def test_calls_that_are_cancelled_close_their_connections_and_leave_no_turn_taken(
    triton_url: Callable[..., str],
) -> None:
    url = triton_url("delayed", "http")

    async def call() -> None:
        told = complaints()
        before = connections(url)
        async with await ib.open_async_model(url) as model:
            await model.infer(delayed(0.0))
            opened = connections(url)
            for _ in range(3):
                # More than there may be connections.
                tasks = [asyncio.create_task(model.infer(delayed(0.3))) for _ in range(150)]
                await until(lambda: connections(url) >= opened + 90)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                assert all(task.cancelled() for task in tasks)
            assert connections(url) <= opened
            assert asyncio.all_tasks() == {asyncio.current_task()}
            result = await model.infer(delayed(0.0))
            assert result["OUTPUT"].tolist() == [1, 1, 1]
        assert connections(url) <= before
        assert told == []

    asyncio.run(call())


def test_calls_cancelled_at_any_moment_leave_a_model_that_works(calm_url: str) -> None:
    async def call() -> None:
        told = complaints()
        async with await ib.open_async_model(calm_url) as model:
            for ticks in range(40):
                task = asyncio.create_task(answers(model, 3))
                for _ in range(ticks):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            assert await answers(model, 50) == 50
            assert asyncio.all_tasks() == {asyncio.current_task()}
        gc.collect()
        assert told == []

    asyncio.run(call())


def test_a_batch_that_is_too_large_is_split(
    triton_url: Callable[..., str], protocol: Protocol
) -> None:
    async def call() -> None:
        async with await ib.open_async_model(triton_url("batching", protocol)) as model:
            x = np.arange(57, dtype=np.float32).reshape(19, 3)
            np.testing.assert_array_equal(await model(x), x)
            task = asyncio.create_task(model(x))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(call())


def run_in_uvloop(make: Callable[[], Awaitable[None]]) -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(make())
    finally:
        loop.close()


def test_a_loop_of_another_make_will_do(identity_url: str) -> None:
    async def call() -> None:
        async with await ib.open_async_model(identity_url) as model:
            assert await answers(model, 200) == 200
            task = asyncio.create_task(answers(model, 50))
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert await answers(model, 50) == 50

    run_in_uvloop(call)
