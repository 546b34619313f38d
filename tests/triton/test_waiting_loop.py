"""How code that is written once waits in an event loop: for its turn, and for work in threads."""

from __future__ import annotations

import asyncio

import pytest

from infer_backends.plugin import DeadlineExceeded
from infer_backends_triton._waiting_loop import Slots


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
