"""Bulk work in event loops; see ``_bulk.py`` for what is done."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any

from infer_backends._backend import InferRequest, InferResponse
from infer_backends._batcher import Batch, Batcher
from infer_backends._bulk import (
    BulkOptions,
    Outcome,
    Outcomes,
    Source,
    Work,
    given_back,
    outcomes,
    require_samples,
)
from infer_backends._progress import Advance, progress_of
from infer_backends._semantics import Semantics

Samples = Iterable[Any] | AsyncIterable[Any]
Ask = Callable[[InferRequest], Awaitable[InferResponse]]


def map_samples(
    model: Semantics, ask: Ask, samples: Samples, *, progress: bool, **given: Any
) -> AsyncIterator[Outcome]:
    """The outcomes of samples; see :meth:`AsyncModel.map`.

    Raises:
        InvalidInput: An option is wrong; nothing was sent.
    """
    options = BulkOptions.read(model, **given)
    require_samples(samples)
    watch = progress_of(samples, wanted=progress)
    return _each(model, ask, samples, options, watch)


async def _each(
    model: Semantics,
    ask: Ask,
    samples: Samples,
    options: BulkOptions,
    watch: AbstractContextManager[Advance],
) -> AsyncIterator[Outcome]:
    batches = _source(Batcher(model, options.batch_size), samples)
    work = Work(batches, _Crew(model, ask, options), options)
    with watch as advance:
        try:
            while (done := await work.next()) is not None:
                for outcome in chain.from_iterable(done):
                    advance()
                    yield given_back(outcome, options)
        finally:
            await work.close()


def _source(batcher: Batcher, samples: Samples) -> Source:
    if isinstance(samples, AsyncIterable):
        return _AsyncSource(batcher, samples)
    return Source(batcher, samples)


class _AsyncSource(Source):
    """Batches of what comes in the event loop."""

    def __init__(self, batcher: Batcher, samples: AsyncIterable[Any]) -> None:
        super().__init__(batcher, ())
        self._coming = aiter(samples)

    async def _read(self) -> bool:
        async for sample in self._coming:
            if self._take(sample):
                return True
        return False


class _Crew:
    """Tasks."""

    def __init__(self, model: Semantics, ask: Ask, options: BulkOptions) -> None:
        self._model = model
        self._ask = ask
        self._options = options
        self._slots = asyncio.Semaphore(options.concurrency)

    def begin(self, batch: Batch) -> asyncio.Task[Outcomes]:
        return asyncio.ensure_future(self._answer(batch))

    async def _answer(self, batch: Batch) -> Outcomes:
        async with self._slots:
            return await outcomes(self._ask, self._model, self._options, batch)

    def ready(self, running: deque[asyncio.Task[Outcomes]]) -> bool:
        if self._options.ordered:
            return running[0].done()
        return any(task.done() for task in running)

    async def take(self, running: deque[asyncio.Task[Outcomes]]) -> list[Outcomes]:
        awaited = [running[0]] if self._options.ordered else running
        ended, _ = await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        done = [task for task in awaited if task in ended]
        for task in done:
            running.remove(task)
        return [task.result() for task in done]

    async def close(self, running: deque[asyncio.Task[Outcomes]]) -> None:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
