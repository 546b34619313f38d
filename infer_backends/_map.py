"""Bulk work by threads; see ``_bulk.py`` for what is done."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
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
from infer_backends._errors import UnsupportedOperation
from infer_backends._progress import Advance, progress_of
from infer_backends._semantics import Semantics
from infer_backends._threads import Threads
from infer_backends._ways import run

Ask = Callable[[InferRequest], InferResponse]


def map_samples(
    model: Semantics, ask: Ask, samples: Iterable[Any], *, progress: bool, **given: Any
) -> Iterator[Outcome]:
    """The outcomes of samples; see :meth:`Model.map`.

    Raises:
        InvalidInput: An option is wrong; nothing was sent.
    """
    options = BulkOptions.read(model, **given)
    require_samples(samples)
    watch = progress_of(samples, wanted=progress)
    return _each(model, ask, samples, options, watch)


def _each(
    model: Semantics,
    ask: Ask,
    samples: Iterable[Any],
    options: BulkOptions,
    watch: AbstractContextManager[Advance],
) -> Iterator[Outcome]:
    batches = Source(Batcher(model, options.batch_size), samples)
    work = Work(batches, _Crew(model, ask, options), options)
    with watch as advance:
        try:
            while (done := run(work.next())) is not None:
                for outcome in chain.from_iterable(done):
                    advance()
                    yield given_back(outcome, options)
        finally:
            run(work.close())


class _Crew:
    """Threads."""

    def __init__(self, model: Semantics, ask: Ask, options: BulkOptions) -> None:
        async def ask_here(request: InferRequest) -> InferResponse:
            return ask(request)

        self._ask = ask_here
        self._model = model
        self._options = options
        self._threads = Threads("map", options.concurrency)
        self._process = os.getpid()

    def begin(self, batch: Batch) -> Future[Outcomes]:
        self._require_own_process()
        return self._threads.begin(self._answer, batch)

    def _answer(self, batch: Batch) -> Outcomes:
        return run(outcomes(self._ask, self._model, self._options, batch))

    def ready(self, running: deque[Future[Outcomes]]) -> bool:
        if self._options.ordered:
            return running[0].done()
        return any(future.done() for future in running)

    async def take(self, running: deque[Future[Outcomes]]) -> list[Outcomes]:
        self._require_own_process()
        if self._options.ordered:
            return [running.popleft().result()]
        ended = wait(running, return_when=FIRST_COMPLETED).done
        done = [future for future in running if future in ended]
        for future in done:
            running.remove(future)
        return [future.result() for future in done]

    async def close(self, running: deque[Future[Outcomes]]) -> None:  # noqa: ARG002 - threads know
        self._threads.close(wait=True)

    def _require_own_process(self) -> None:
        if os.getpid() != self._process:
            raise UnsupportedOperation(
                "the process that began this iteration has the threads that do the work: call "
                "model.map again in the forked child"
            )
