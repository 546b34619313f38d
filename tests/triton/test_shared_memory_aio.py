"""Shared memory in event loops, with a real Triton: the same regions, and the same rules."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from infer_backends import AsyncModel, DeadlineExceeded, InferenceFailed, open_async_model
from infer_backends.plugin import Deadline
from infer_backends_triton._local import LocalTriton
from infer_backends_triton._region_pool import RegionPool
from infer_backends_triton._shared_loop import InLoop
from tests.conftest import Protocol
from tests.triton.test_shared_memory_triton import (
    files,
    numbers,
    pool_of,
    registered,
    url_of,
)

pytestmark = pytest.mark.usefixtures("prefix")


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[AsyncModel]:
    async with await open_async_model(url, shared_memory="system") as model:
        yield model


async def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def pool(model: Any) -> RegionPool:
    return pool_of(model)


async def right(model: AsyncModel, seed: int) -> bool:
    x = numbers(seed)
    y = await model(x)
    return bool(y.flags.writeable) and y.tobytes() == x.tobytes()


def test_large_tensors_go_by_regions_that_are_used_again(
    triton: LocalTriton, protocol: Protocol, prefix: str
) -> None:
    async def call() -> None:
        async with opened(url_of(triton, protocol)) as model:
            threads = threading.active_count()
            for seed in range(6):
                assert await right(model, seed)
            # One for the first call, whose output's size was not known; one for all that followed.
            assert len(files(prefix)) == 2
            assert all(await asyncio.gather(*(right(model, seed) for seed in range(20))))
            assert files(prefix) == await asyncio.to_thread(registered, triton, prefix)
            made = files(prefix)
            assert all(await asyncio.gather(*(right(model, seed) for seed in range(10))))
            assert files(prefix) == made
            assert threading.active_count() - threads <= 8, "no call has a thread"
        assert files(prefix) == set()
        assert await asyncio.to_thread(registered, triton, prefix) == set()

    asyncio.run(call())


def delayed(seed: int, seconds: float) -> dict[str, Any]:
    return {"INPUT": numbers(seed), "SECONDS": np.array([seconds], np.float32)}


def test_the_region_of_a_cancelled_call_is_never_used_again_and_goes(
    triton: LocalTriton, protocol: Protocol, prefix: str
) -> None:
    async def call() -> None:
        async with opened(url_of(triton, protocol, "delayed")) as model:
            for seed in range(2):
                await model.infer(delayed(seed, 0.0))
            task = asyncio.create_task(model.infer(delayed(2, 0.5)))
            await until(lambda: pool(model)._busy)
            (used,) = (region.name for region in pool(model)._busy)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert used not in files(prefix)
            assert not pool(model)._busy
            for seed in range(3, 6):
                x = delayed(seed, 0.0)
                result = await model.infer(x)
                assert result["OUTPUT"].tobytes() == x["INPUT"].tobytes()
            assert used not in files(prefix)

            async def forgotten() -> bool:
                await model.infer(delayed(7, 0.0))
                return used not in await asyncio.to_thread(registered, triton, prefix)

            end = time.monotonic() + 20
            while not await forgotten():
                assert time.monotonic() < end
                await asyncio.sleep(0.1)

    asyncio.run(call())


def test_calls_cancelled_at_any_moment_leave_no_region_in_use(
    triton: LocalTriton, prefix: str
) -> None:
    # Over gRPC this server may crash when a call is cancelled just as it is answered.
    async def call() -> None:
        async with opened(url_of(triton, "http")) as model:
            for milliseconds in range(25):
                tasks = [asyncio.create_task(right(model, seed)) for seed in range(2)]
                await asyncio.sleep(milliseconds / 2000)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            await until(lambda: not pool(model)._busy)
            assert all(await asyncio.gather(*(right(model, seed) for seed in range(4))))
        assert files(prefix) == set()

    asyncio.run(call())


def test_loops_and_threads_share_the_regions(
    triton: LocalTriton, protocol: Protocol, prefix: str
) -> None:
    async def call(model: AsyncModel) -> bool:
        return all(await asyncio.gather(*(right(model, seed) for seed in range(3))))

    async def open_it() -> AsyncModel:
        return await open_async_model(url_of(triton, protocol), shared_memory="system")

    model = asyncio.run(open_it())
    assert all(asyncio.run(call(model)) for _ in range(3))
    with ThreadPoolExecutor(3) as threads:
        assert all(threads.map(lambda _: asyncio.run(call(model)), range(6)))
    asyncio.run(model.close())
    assert files(prefix) == set()


def test_steps_that_block_end_at_their_deadline_when_no_thread_is_free() -> None:
    undone: list[int] = []

    async def call() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        go_on = threading.Event()
        asking = InLoop(lambda *_: asyncio.sleep(0))  # type: ignore[arg-type]
        assert await asking.aside(lambda: 1, Deadline.after(10), undone.append) == 1
        blocked = loop.run_in_executor(None, go_on.wait)
        try:
            with pytest.raises(DeadlineExceeded, match="default executor"):
                await asking.aside(lambda: 2, Deadline.after(0.05), undone.append)
        finally:
            go_on.set()
        await blocked

        def fail() -> int:
            raise InferenceFailed("it could not")

        with pytest.raises(InferenceFailed):
            await asking.aside(fail, Deadline.after(10), undone.append)
        begun, go_on = threading.Event(), threading.Event()

        def take() -> int:
            begun.set()
            go_on.wait(20)
            return 3

        task = asyncio.create_task(asking.aside(take, Deadline.after(10), undone.append))
        await until(begun.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        await until(lambda: undone)

    asyncio.run(call())
    assert undone == [3]


def test_an_answer_is_not_lost_where_no_thread_is_free_to_tidy_up(
    triton: LocalTriton, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    async def call() -> None:
        async with opened(url_of(triton, protocol)) as model:
            for seed in range(2):
                assert await right(model, seed)
            monkeypatch.setattr(RegionPool, "untidy", property(lambda _: True))
            for _ in range(64):
                asyncio.get_running_loop().run_in_executor(None, release.wait, 20)
            x = numbers(3)
            try:
                answer = await model.infer({"INPUT": x}, timeout=2.0)
            finally:
                release.set()
            assert answer["OUTPUT"].tobytes() == x.tobytes()

    asyncio.run(call())
