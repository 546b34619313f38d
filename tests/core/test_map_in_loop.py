"""What is particular to bulk work in an event loop."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest

from infer_backends import ModelClosed
from infer_backends._async_model import AsyncModel
from infer_backends.plugin import Array, InferRequest, InferResponse
from tests.core.fakes import FakeBackend
from tests.core.running import in_loop

X = np.ones(3, np.float32)


class InLoop(FakeBackend):
    """Answers in the loop, once it is let go."""

    def __init__(self, *, free: bool = True) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.stuck = asyncio.Event()
        self.at_work = 0
        self.cancelled = 0
        if free:
            self.go.set()

    async def infer_async(self, request: InferRequest) -> InferResponse:
        self.at_work += 1
        if not self.go.is_set() and self.at_work == 3:
            self.stuck.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.at_work -= 1
        return self.infer(request)

    async def close_async(self) -> None:
        self.close()


class Coming:
    """Samples that come in the loop, and whether their generator has ended."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.count = count
        self.error = error
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[Array]:
        for value in range(self.count):
            await asyncio.sleep(0)
            self.taken += 1
            yield np.full(3, value, np.float32)
        if self.error is not None:
            raise self.error


def test_samples_may_come_in_the_loop() -> None:
    async def work() -> list[float]:
        async with AsyncModel(InLoop()) as model:
            return [float(r["y"][0]) async for r in model.map(Coming(10), batch_size=4)]

    assert in_loop(work()) == [2 * value for value in range(10)]


def test_what_comes_in_the_loop_is_taken_as_it_is_needed() -> None:
    coming = Coming(10**9)

    async def work() -> None:
        async with AsyncModel(InLoop()) as model:
            options: Any = {"batch_size": 2, "concurrency": 2}
            async with aclosing(model.map(coming, **options)) as results:  # type: ignore[type-var]
                async for result in results:
                    if result.sample_index == 20:
                        break

    in_loop(work())
    assert 21 <= coming.taken <= 21 + 2 + 2 * 2 * 2


def test_an_error_of_what_comes_is_raised_after_the_results_before() -> None:
    found: list[int] = []

    async def work() -> None:
        async with AsyncModel(InLoop()) as model:
            async for result in model.map(Coming(5, KeyError("gone")), batch_size=2):
                found.append(result.sample_index)  # noqa: PERF401 - also those before an error

    with pytest.raises(KeyError, match="gone"):
        in_loop(work())
    assert found == [0, 1, 2, 3, 4]


def test_other_tasks_go_on_meanwhile() -> None:
    async def work() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.ensure_future(tick())
        async with AsyncModel(InLoop()) as model:
            async for _ in model.map([X] * 100, batch_size=1):
                pass
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)
        return ticks

    assert in_loop(work()) >= 10


async def rest_of(results: AsyncIterator[Any]) -> None:
    async for _ in results:
        pass


def test_leaving_the_loop_early_cancels_what_is_in_flight() -> None:
    backend = InLoop()

    async def work() -> None:
        async with AsyncModel(backend) as model:
            results: Any = model.map(itertools.repeat(X), batch_size=1, concurrency=3)
            await anext(results)
            backend.go.clear()
            waiting = asyncio.ensure_future(rest_of(results))
            await backend.stuck.wait()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await results.aclose()

    in_loop(work())
    assert backend.cancelled == 3


def test_a_model_that_is_closed_meanwhile_ends_the_iteration() -> None:
    async def work() -> None:
        model = AsyncModel(InLoop())
        results = model.map(itertools.repeat(X), on_error="return")
        await anext(results)
        await model.close()
        with pytest.raises(ModelClosed):
            async for _ in results:
                pass

    in_loop(work())
