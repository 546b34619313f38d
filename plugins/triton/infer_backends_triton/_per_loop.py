"""What belongs to one event loop: found again by the loop that runs, and gone with it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

Value = TypeVar("Value")


class PerLoop(Generic[Value]):
    """One value for each event loop that asks, made when it first does.

    Args:
        make: Makes it.
        drop: Lets go of it when its loop was closed, or is gone.
    """

    def __init__(self, make: Callable[[], Value], drop: Callable[[Value], object]) -> None:
        self._make = make
        self._drop = drop
        self._values: dict[weakref.ref[AbstractEventLoop], Value] = {}
        self._closed = False

    def here(self) -> Value:
        """The value of the running loop."""
        loop = _running_loop()
        found = self._values.get(weakref.ref(loop))
        return self._add(loop) if found is None else found

    def take(self) -> Value | None:
        """The value of the running loop, which is not kept here any more; None without one."""
        return self._values.pop(weakref.ref(_running_loop()), None)

    def close(self) -> None:
        """Let go of all values, and of those made from now on."""
        self._closed = True
        for ref in list(self._values):
            self._forget(ref)

    def _add(self, loop: AbstractEventLoop) -> Value:
        for ref in list(self._values):
            other = ref()
            if other is None or other.is_closed():
                self._forget(ref)
        value = self._make()
        # With a reference of its own, which goes when this object does.
        self._values[weakref.ref(loop, self._forget)] = value
        if self._closed:
            self._drop(value)
        return value

    def _forget(self, ref: weakref.ref[AbstractEventLoop]) -> None:
        value = self._values.pop(ref, None)
        if value is not None:
            self._drop(value)


def _running_loop() -> AbstractEventLoop:
    # Whoever runs a loop has imported this; others need not.
    import asyncio

    return asyncio.get_running_loop()
