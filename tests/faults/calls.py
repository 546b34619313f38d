"""Calls of an app, each of which has to be answered rightly."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import infer_backends as ib
from tests.faults.servers import wait_until

if TYPE_CHECKING:
    from typing_extensions import Self

#: How much later than its deadline a call may end on a machine that is busy, in seconds.
MARGIN = 2.0
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Call:
    """What became of one call.

    Attributes:
        url: Who answered; empty for nobody.
        right: Whether the answer was the right one.
        attempts: What failed before it.
        begun: When it was made, on the monotonic clock.
        duration: How long it took, in seconds.
        error: What was raised instead of an answer.
    """

    url: str
    right: bool
    attempts: tuple[ib.Attempt, ...]
    begun: float
    duration: float
    error: Exception | None = None


def call(
    model: ib.Model,
    *,
    timeout: float | None = None,
    size: int = 3,
    wait: float = 0.0,
    busy: bool = False,
) -> Call:
    """One call, with numbers that no other call has.

    Args:
        model: Whom to ask.
        timeout: Its deadline, in seconds.
        size: How many numbers are sent.
        wait: How long a server takes to answer it, in seconds; a local model doesn't wait.
        busy: Whether a server answers that it is too busy; a local model never is.
    """
    x = np.full(size, next(_numbers), np.float32)
    if wait:
        x[0] = -wait
    if busy:
        x[0] = np.inf
    begun = time.monotonic()
    try:
        result = model.infer({"x": x}, timeout=timeout)
    except Exception as exc:  # noqa: BLE001 - whatever it is, the test looks at it
        return Call("", False, (), begun, time.monotonic() - begun, exc)
    duration = time.monotonic() - begun
    right = bool(np.array_equal(result["y"], x))
    return Call(result.backend_url, right, result.attempts, begun, duration)


class Load:
    """Threads that call a model, again and again, in a ``with`` block.

    Args:
        model: Whom to ask.
        threads: How many.
        timeout: The deadline of each call, in seconds.
        size: How many numbers each call sends.
        wait: How long a server takes to answer each, in seconds.
        pace: Seconds between two calls of a thread.
    """

    def __init__(
        self,
        model: ib.Model,
        threads: int = 8,
        *,
        timeout: float = 20.0,
        size: int = 3,
        wait: float = 0.0,
        pace: float = 0.01,
    ) -> None:
        self.calls: list[Call] = []
        self._model = model
        self._timeout, self._size, self._wait, self._pace = timeout, size, wait, pace
        self._inside: set[int] = set()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(self._timeout + 10)
            assert not thread.is_alive(), "a call hangs"

    @property
    def inside(self) -> int:
        """How many calls are under way."""
        return len(self._inside)

    def _run(self) -> None:
        me = threading.get_ident()
        while not self._over.wait(self._pace):
            self._inside.add(me)
            self.calls.append(
                call(self._model, timeout=self._timeout, size=self._size, wait=self._wait)
            )
            self._inside.discard(me)

    def wait_for(self, url: str, count: int = 20, *, among: int = 0) -> None:
        """Wait until the latest calls, ``count`` in a row, were answered by ``url``.

        Args:
            url: Who has to answer.
            count: How many calls in a row.
            among: How many calls to pass over, from the beginning.
        """

        def in_a_row() -> bool:
            enough = len(self.calls) >= among + count
            return enough and all(one.url == url for one in self.calls[-count:])

        wait_until(in_a_row)

    def check(self) -> None:
        """Every call was answered, rightly, within its deadline."""
        check(self.calls, within=self._timeout)


def check(calls: Sequence[Call], *, within: float) -> None:
    """Every call was answered, rightly, within its deadline."""
    assert calls
    assert not [one.error for one in calls if one.error is not None]
    assert all(one.right for one in calls)
    assert max(one.duration for one in calls) < within + MARGIN
