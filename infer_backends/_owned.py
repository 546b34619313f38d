"""Asynchronous generators that others read, and close."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from typing_extensions import Self

Item = TypeVar("Item")


class OwnedStream(Generic[Item]):
    """An asynchronous iterator that one generator reads for another one::

        async with OwnedStream(inner()) as items:
            async for item in items:
                yield item

    A loop that ends closes all generators that were begun in it, at the same time; of two that
    stand in each other, the inner one is then closed twice at once, which is an error. So only the
    outermost should be the loop's: this one is closed by its owner alone, when the block ends.

    Args:
        items: The iterator; a generator is closed.
    """

    __slots__ = ("_begun", "_items")

    def __init__(self, items: AsyncIterator[Item]) -> None:
        self._items = items
        self._begun = False

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[Item]:
        if self._begun:
            return self._items.__anext__()
        self._begun = True
        # They are looked at once, when a generator begins.
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, None)
        try:
            return self._items.__anext__()
        finally:
            sys.set_asyncgen_hooks(*hooks)

    async def aclose(self) -> None:
        """Close it, if it can be."""
        close: Any = getattr(self._items, "aclose", None)
        if close is not None:
            await close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
