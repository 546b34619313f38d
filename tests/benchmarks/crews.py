"""Callers that call a model at the same time: threads, or the tasks of an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Protocol

from tests.benchmarks.clients import Addresses, AsyncCall, Call, open_async, open_sync
from tests.benchmarks.commands import Cell, Measurement
from tests.benchmarks.models import Array

_PATIENCE = 60.0  # seconds that callers wait for each other to be ready


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a crew's calls took, and the last answer of each caller."""

    measurement: Measurement
    answers: tuple[Array, ...]


@dataclass(frozen=True, slots=True)
class _Turn:
    """One caller's part: when it began and ended, in seconds, and what it got."""

    begun: float
    ended: float
    latencies: list[float]
    answer: Array


class Crew(Protocol):
    """Callers that can be set to work again and again."""

    def run(self, cell: Cell, array: Array, calls: int) -> Outcome:
        """Make ``calls`` calls, shared equally by the callers of ``cell``."""
        ...


def _outcome(turns: list[_Turn], cpu: float) -> Outcome:
    wall = max(turn.ended for turn in turns) - min(turn.begun for turn in turns)
    latencies = tuple(latency for turn in turns for latency in turn.latencies)
    return Outcome(Measurement(latencies, wall, cpu), tuple(turn.answer for turn in turns))


class Threads:
    """Threads that live on, each with what its client needs of its own."""

    def __init__(self, open_call: Callable[[str], Call]) -> None:
        self._open = open_call
        self._threads: list[ThreadPoolExecutor] = []
        self._calls: dict[tuple[int, str], Call] = {}
        self._begun = 0.0

    def run(self, cell: Cell, array: Array, calls: int) -> Outcome:
        """Make the calls. The clock starts when all threads are ready."""
        while len(self._threads) < cell.callers:
            self._threads.append(ThreadPoolExecutor(1))
        ready = threading.Barrier(cell.callers, action=self._start_clock)
        each = calls // cell.callers
        futures = [
            thread.submit(self._turn, index, cell.model, array, each, ready)
            for index, thread in enumerate(self._threads[: cell.callers])
        ]
        turns = [future.result() for future in futures]
        return _outcome(turns, process_time() - self._begun)

    def _start_clock(self) -> None:
        self._begun = process_time()

    def _turn(
        self, index: int, model: str, array: Array, calls: int, ready: threading.Barrier
    ) -> _Turn:
        try:
            if (index, model) not in self._calls:
                self._calls[index, model] = self._open(model)
        except BaseException:
            ready.abort()
            raise
        call = self._calls[index, model]
        ready.wait(_PATIENCE)
        latencies, answer = [], array
        begun = perf_counter()
        for _ in range(calls):
            start = perf_counter()
            answer = call(array)
            latencies.append(perf_counter() - start)
        return _Turn(begun, perf_counter(), latencies, answer)


class Tasks:
    """Tasks of one event loop, with one client."""

    def __init__(self, name: str, addresses: Addresses) -> None:
        self._loop = asyncio.new_event_loop()
        self._open = self._loop.run_until_complete(open_async(name, addresses))
        self._calls: dict[str, AsyncCall] = {}

    def run(self, cell: Cell, array: Array, calls: int) -> Outcome:
        """Make the calls."""
        return self._loop.run_until_complete(self._gather(cell, array, calls))

    async def _gather(self, cell: Cell, array: Array, calls: int) -> Outcome:
        if cell.model not in self._calls:
            self._calls[cell.model] = await self._open(cell.model)
        call, each = self._calls[cell.model], calls // cell.callers
        begun = process_time()
        turns = await asyncio.gather(*(self._turn(call, array, each) for _ in range(cell.callers)))
        return _outcome(turns, process_time() - begun)

    async def _turn(self, call: AsyncCall, array: Array, calls: int) -> _Turn:
        latencies, answer = [], array
        begun = perf_counter()
        for _ in range(calls):
            start = perf_counter()
            answer = await call(array)
            latencies.append(perf_counter() - start)
        return _Turn(begun, perf_counter(), latencies, answer)


def make_crew(name: str, addresses: Addresses) -> Crew:
    """The callers of a contender, by its name."""
    return Tasks(name, addresses) if name.endswith("-aio") else Threads(open_sync(name, addresses))
