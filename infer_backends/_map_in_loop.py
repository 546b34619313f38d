"""Bulk work in event loops; see ``_bulk.py`` for what is done."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
)
from typing import Any

from infer_backends._backend import InferRequest, InferResponse
from infer_backends._bulk import Batch, Batcher, BulkOptions, Outcome, given_back, outcomes
from infer_backends._progress import progress_of
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
    watch = progress_of(samples, wanted=progress)
    return _work(model, ask, samples, options, watch)


async def _work(
    model: Semantics, ask: Ask, samples: Samples, options: BulkOptions, watch: Any
) -> AsyncIterator[Outcome]:
    slots = asyncio.Semaphore(options.concurrency)

    async def answer(batch: Batch) -> list[Outcome]:
        async with slots:
            return await outcomes(ask, model, options, batch)

    source = _Source(_batches(model, options, samples))
    running: list[asyncio.Future[list[Outcome]]] = []
    try:
        with watch as advance:
            while source.more or running:
                while source.more and len(running) < 2 * options.concurrency:
                    batch = await source.next()
                    if batch is not None:
                        running.append(asyncio.ensure_future(answer(batch)))
                for done in await _done(running, ordered=options.ordered):
                    for outcome in done.result():
                        advance()
                        yield given_back(outcome, options)
            source.end()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _batches(
    model: Semantics, options: BulkOptions, samples: Samples
) -> AsyncIterator[Batch]:
    batcher = Batcher(model, options)
    async for sample in _each(samples):
        for batch in batcher.add(sample):
            yield batch
    for batch in batcher.rest():
        yield batch


async def _each(samples: Samples) -> AsyncIterator[Any]:
    if isinstance(samples, AsyncIterable):
        async for sample in samples:
            yield sample
    else:
        for sample in samples:
            yield sample


async def _done(
    running: list[asyncio.Future[list[Outcome]]], *, ordered: bool
) -> list[asyncio.Future[list[Outcome]]]:
    """Take those out whose outcomes come next; wait for at least one."""
    if not running:
        return []
    awaited = running[:1] if ordered else running
    done, _ = await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
    for future in done:
        running.remove(future)
    return list(done)


class _Source:
    """Batches, until there are no more; what their iterable raises is kept for the end."""

    def __init__(self, items: AsyncIterator[Batch]) -> None:
        self._items = items
        self._error: Exception | None = None
        self.more = True

    async def next(self) -> Batch | None:
        """The next one."""
        try:
            return await self._items.__anext__()
        except StopAsyncIteration:
            self.more = False
        except Exception as exc:  # noqa: BLE001 - raised at the end
            self.more = False
            self._error = exc
        return None

    def end(self) -> None:
        """Raise what the iterable of samples raised, after the results of those before."""
        if self._error is not None:
            raise self._error
