"""The server has its troubles while event loops wait for it."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import infer_backends as ib
from tests.conftest import Protocol
from tests.faults.calls import MARGIN, Call
from tests.faults.servers import Server

if TYPE_CHECKING:
    from infer_backends._async_model import AsyncModel

_numbers = itertools.count(1)


async def call(model: AsyncModel, *, timeout: float = 30.0, wait: float = 0.0) -> Call:
    """One call, with numbers that no other call has; see ``calls.py``."""
    x = np.full(3, next(_numbers), np.float32)
    if wait:
        x[0] = -wait
    begun = time.monotonic()
    try:
        result = await model.infer({"x": x}, timeout=timeout)
    except Exception as exc:  # noqa: BLE001 - whatever it is, the test looks at it
        return Call("", False, (), begun, time.monotonic() - begun, exc)
    right = bool(np.array_equal(result["y"], x))
    return Call(result.backend_url, right, result.attempts, begun, time.monotonic() - begun)


def check(calls: list[Call], within: float) -> None:
    assert not [one.error for one in calls if one.error is not None]
    assert all(one.right for one in calls)
    assert max(one.duration for one in calls) < within + MARGIN


async def until(condition: Callable[[], object], within: float = 60.0) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def until_answered_by(model: AsyncModel, url: str) -> None:
    end = time.monotonic() + 60
    while (await call(model)).url != url:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


@asynccontextmanager
async def opened(*urls: str, **options: Any) -> AsyncIterator[AsyncModel]:
    """A model, and a loop whose handler of exceptions is told nothing."""
    told: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context))
    async with await ib.open_async_model(list(urls), **options) as model:
        yield model
    gc.collect()
    assert told == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


def run(make: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await make()

    asyncio.run(main())


def test_five_hundred_calls_that_wait_when_the_server_is_killed_are_all_answered(
    server: Server, protocol: Protocol, local_url: str
) -> None:
    url = server.url(protocol)

    async def calls() -> None:
        async with opened(url, local_url, probe_period=0.2) as model:
            tasks = [asyncio.create_task(call(model, wait=0.02)) for _ in range(500)]
            await until(lambda: any(task.done() for task in tasks))
            await asyncio.to_thread(server.kill)
            made = await asyncio.gather(*tasks)
            check(made, within=30)
            assert {one.url for one in made} == {url, local_url}
            assert (await call(model)).url == local_url
            await asyncio.to_thread(server.start)
            await until_answered_by(model, url)

    run(calls)


def test_calls_go_on_by_the_second_member_while_the_first_hangs_and_come_back(
    server: Server, protocol: Protocol, local_url: str
) -> None:
    url = server.url(protocol)

    async def calls() -> None:
        async with opened(url, local_url, probe_period=0.2) as model:
            assert (await call(model)).url == url
            await asyncio.to_thread(server.hang)
            made = await asyncio.gather(*(call(model, timeout=1.5) for _ in range(100)))
            check(made, within=1.5)
            assert {one.url for one in made} == {local_url}
            server.resume()
            await until_answered_by(model, url)

    run(calls)


def test_a_server_that_hangs_costs_an_awaited_call_its_deadline_and_no_more(
    server: Server, protocol: Protocol
) -> None:
    async def calls() -> None:
        async with opened(server.url(protocol)) as model:
            assert (await call(model)).right
            await asyncio.to_thread(server.hang)
            made = await asyncio.gather(*(call(model, timeout=0.5) for _ in range(150)))
            assert {type(one.error) for one in made} == {ib.DeadlineExceeded}
            assert max(one.duration for one in made) < 0.5 + MARGIN
            server.resume()
            await until_answered_by(model, server.url(protocol))

    run(calls)


def test_calls_that_are_cancelled_while_the_server_hangs_leave_nothing(
    server: Server, protocol: Protocol, local_url: str
) -> None:
    url = server.url(protocol)

    async def calls() -> None:
        async with opened(url, local_url, probe_period=0.2) as model:
            assert (await call(model)).url == url
            await asyncio.to_thread(server.hang)
            tasks = [asyncio.create_task(call(model, timeout=20)) for _ in range(150)]
            await asyncio.sleep(0.1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert all(task.cancelled() for task in tasks)
            assert model.status().members[0].in_flight == 0
            # Whoever gives up says nothing of the server: it is still the one to ask.
            server.resume()
            assert (await call(model)).url == url

    run(calls)


def test_a_second_member_that_is_loaded_late_is_waited_for_by_all(
    server: Server, protocol: Protocol, local_url: str
) -> None:
    async def calls() -> None:
        lazy = f"{local_url}?preload=false"
        async with opened(server.url(protocol), lazy, probe_period=0.2) as model:
            await asyncio.to_thread(server.kill)
            made = await asyncio.gather(*(call(model) for _ in range(300)))
            check(made, within=30)
            assert {one.url.partition("?")[0] for one in made} == {local_url}

    run(calls)


def test_a_server_that_is_away_when_the_model_is_opened_is_found_later(
    server: Server, protocol: Protocol, local_url: str
) -> None:
    async def calls() -> None:
        await asyncio.to_thread(server.kill)
        async with opened(server.url(protocol), local_url, probe_period=0.2) as model:
            check(list(await asyncio.gather(*(call(model) for _ in range(50)))), within=30)
            await asyncio.to_thread(server.start)
            await until_answered_by(model, server.url(protocol))

    run(calls)


@pytest.mark.parametrize("hanging", [False, True])
def test_opening_that_is_cancelled_leaves_nothing(
    server: Server, protocol: Protocol, hanging: bool
) -> None:
    async def calls() -> None:
        if hanging:
            await asyncio.to_thread(server.hang)
        for milliseconds in (0, 2, 5, 10, 20, 50):
            task = asyncio.create_task(ib.open_async_model(server.url(protocol), timeout=3))
            await asyncio.sleep(milliseconds / 1000)
            task.cancel()
            for opened in await asyncio.gather(task, return_exceptions=True):
                # It may have been faster.
                if not isinstance(opened, BaseException):
                    await opened.close()
        server.resume()

    run(calls)
