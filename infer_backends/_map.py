"""Bulk work by threads; see ``_bulk.py`` for what is done."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from infer_backends._backend import InferRequest, InferResponse
from infer_backends._bulk import Batch, BulkOptions, Outcome, batches, given_back, outcomes
from infer_backends._progress import progress_of
from infer_backends._semantics import Semantics
from infer_backends._threads import Threads
from infer_backends._ways import run


def map_samples(
    model: Semantics,
    ask: Callable[[InferRequest], InferResponse],
    samples: Iterable[Any],
    *,
    progress: bool,
    **given: Any,
) -> Iterator[Outcome]:
    """The outcomes of samples; see :meth:`Model.map`.

    Raises:
        InvalidInput: An option is wrong; nothing was sent.
    """
    options = BulkOptions.read(model, **given)
    watch = progress_of(samples, wanted=progress)
    return _work(model, ask, samples, options, watch)


def _work(
    model: Semantics,
    ask: Callable[[InferRequest], InferResponse],
    samples: Iterable[Any],
    options: BulkOptions,
    watch: Any,
) -> Iterator[Outcome]:
    async def ask_here(request: InferRequest) -> InferResponse:
        return ask(request)

    def answer(batch: Batch) -> list[Outcome]:
        return run(outcomes(ask_here, model, options, batch))

    threads = Threads("map", options.concurrency)
    source = _Source(batches(model, options, samples))
    running: deque[Future[list[Outcome]]] = deque()
    try:
        with watch as advance:
            while source.more or running:
                # As many as are at work, and as many that are ready for them.
                while source.more and len(running) < 2 * options.concurrency:
                    batch = source.next()
                    if batch is not None:
                        running.append(threads.begin(answer, batch))
                for done in _done(running, ordered=options.ordered):
                    for outcome in done.result():
                        advance()
                        yield given_back(outcome, options)
            source.end()
    finally:
        threads.close()
        wait(running)


def _done(running: deque[Future[list[Outcome]]], *, ordered: bool) -> list[Future[list[Outcome]]]:
    """Take those out whose outcomes come next; wait for at least one."""
    if not running:
        return []
    if ordered:
        return [running.popleft()]
    done = wait(running, return_when=FIRST_COMPLETED).done
    for future in done:
        running.remove(future)
    return list(done)


class _Source:
    """Batches, until there are no more; what their iterable raises is kept for the end.

    Attributes:
        more: Whether there may be more.
    """

    def __init__(self, items: Iterator[Batch]) -> None:
        self._items = items
        self._error: Exception | None = None
        self.more = True

    def next(self) -> Batch | None:
        """The next one."""
        try:
            return next(self._items)
        except StopIteration:
            self.more = False
        except Exception as exc:  # noqa: BLE001 - raised at the end
            self.more = False
            self._error = exc
        return None

    def end(self) -> None:
        """Raise what the iterable of samples raised, after the results of those before."""
        if self._error is not None:
            raise self._error
