"""Runs what a test awaits, and looks whether the loop is left as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def in_loop(coroutine: Coroutine[Any, Any, Result], *, within: float = 60) -> Result:
    """What a coroutine returns, in an event loop of its own; no task may be left."""

    async def work() -> Result:
        result = await asyncio.wait_for(coroutine, within)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks are left: {left}"
        return result

    return asyncio.run(work())
