"""How shared memory asks a server in an event loop; see ``_shared_asking.py``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from infer_backends.plugin import Deadline, DeadlineExceeded, InferRequest
from infer_backends_triton._shared_asking import AskInLoop
from infer_backends_triton._shared_layout import Answer, Layout

Result = TypeVar("Result")

# How long after its deadline a task may end by itself, which says more, in seconds.
_GRACE = 0.1


class InLoop:
    """The way of the running event loop.

    Args:
        ask: How to ask the model.
    """

    def __init__(self, ask: AskInLoop) -> None:
        self._ask = ask

    def ask(
        self, request: InferRequest, region: str, layout: Layout
    ) -> Coroutine[Any, Any, Answer]:
        """What the model answers, awaited."""
        return self._ask(request, region, layout)

    async def aside(
        self,
        task: Callable[[], Result],
        deadline: Deadline,
        undo: Callable[[Result], object] = lambda _: None,
    ) -> Result:
        """What the task returns, in a thread of the loop's own pool."""
        handover = _Handover(task, undo)
        thread = asyncio.ensure_future(asyncio.to_thread(handover.work))
        try:
            await asyncio.wait((thread,), timeout=max(0.0, deadline.remaining()) + _GRACE)
            if thread.done():
                thread.result()
                return handover.take()
            raise DeadlineExceeded(
                "the deadline passed while all threads of the event loop were in use: give a "
                "larger timeout, or the loop a larger default executor",
                unprocessed=True,
            )
        finally:
            if not thread.cancel() and not thread.cancelled():
                thread.exception()
            handover.end()


class _Handover(Generic[Result]):
    """What a thread gets for a task, which may have been cancelled meanwhile."""

    def __init__(self, work: Callable[[], Result], undo: Callable[[Result], object]) -> None:
        self._work = work
        self._undo = undo
        # Whoever takes a result out has it alone; and of two that come last, one sees the other.
        self._results: list[Result] = []
        self._ended = False

    def work(self) -> None:
        if not self._ended:
            self._results.append(self._work())
        # It may have ended meanwhile.
        if self._ended:
            self._undo_it()

    def take(self) -> Result:
        return self._results.pop()

    def end(self) -> None:
        self._ended = True
        self._undo_it()

    def _undo_it(self) -> None:
        try:
            result = self._results.pop()
        except IndexError:
            return
        self._undo(result)
