"""How code that is written once waits in an event loop: for its turn, and for work in threads."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from infer_backends.plugin import Deadline, DeadlineExceeded
from infer_backends_triton._waiting_loop import IN_LOOP, Slots


def no_patience() -> float:
    raise DeadlineExceeded("at once")


def test_a_task_whose_time_was_over_before_it_waited_takes_nobodys_turn() -> None:
    async def take() -> None:
        slots = Slots(1)
        await slots.take(lambda: 10)
        for _ in range(3):
            with pytest.raises(DeadlineExceeded):
                await slots.take(no_patience)
        assert not slots._waiters
        slots.give()
        await asyncio.wait_for(slots.take(lambda: 10), 5)

    asyncio.run(take())


def test_a_turn_given_to_a_task_that_is_cancelled_goes_on_to_the_next() -> None:
    async def take() -> None:
        slots = Slots(1)
        await slots.take(lambda: 10)
        first, second = (asyncio.create_task(slots.take(lambda: 10)) for _ in range(2))
        await asyncio.sleep(0)
        slots.give()
        first.cancel()
        await asyncio.wait_for(second, 5)
        assert first.cancelled()

    asyncio.run(take())


@contextmanager
def blocked() -> Iterator[threading.Event]:
    """What ends the waiting of threads, set at the end at the latest."""
    release = threading.Event()
    try:
        yield release
    finally:
        release.set()


def test_work_needs_no_thread_of_the_loops_own() -> None:
    async def work(release: threading.Event) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(64):
            loop.run_in_executor(None, release.wait, 20)
        assert await IN_LOOP.work(lambda: 3, lambda: 10) == 3
        release.set()

    with blocked() as release:
        asyncio.run(work(release))


def test_work_that_is_not_done_in_time_is_not_waited_for_and_not_begun_later() -> None:
    done: list[int] = []

    async def work(release: threading.Event) -> None:
        patience = partial(Deadline.after(20).patience, "this")
        many = [
            asyncio.create_task(IN_LOOP.work(partial(release.wait, 20), patience))
            for _ in range(64)
        ]
        await asyncio.sleep(0)
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="before that was done"):
            await IN_LOOP.work(
                partial(done.append, 1), partial(Deadline.after(0.1).patience, "that was done")
            )
        assert time.monotonic() - begun < 10
        release.set()
        await asyncio.gather(*many)
        await IN_LOOP.work(partial(done.append, 2), patience)

    with blocked() as release:
        asyncio.run(work(release))
    assert done == [2]


def test_what_goes_wrong_in_work_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(IN_LOOP.work(lambda: 1 // 0, lambda: 10))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_of_fork_works_in_threads_of_its_own() -> None:
    assert asyncio.run(IN_LOOP.work(lambda: 1, lambda: 10)) == 1
    child = os.fork()
    if child == 0:
        try:
            os._exit(asyncio.run(IN_LOOP.work(lambda: 10, lambda: 10)))
        finally:
            os._exit(11)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 10
