"""How shared memory asks a server: in a thread; ``_shared_loop.py`` has the way of event loops."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from infer_backends.plugin import Deadline, InferRequest
from infer_backends_triton._shared_layout import Answer, Layout

Result = TypeVar("Result")

#: Asks the model by a region, whose inputs are in it already.
Ask = Callable[[InferRequest, str, Layout], Answer]
AskInLoop = Callable[[InferRequest, str, Layout], Coroutine[Any, Any, Answer]]


class Asking(Protocol):
    """One way to ask a model, and to do what blocks."""

    def ask(
        self, request: InferRequest, region: str, layout: Layout
    ) -> Coroutine[Any, Any, Answer]:
        """What the model answers; the inputs of the layout are in the region already."""
        ...

    async def aside(
        self,
        task: Callable[[], Result],
        deadline: Deadline,
        undo: Callable[[Result], object] = lambda _: None,
    ) -> Result:
        """What a task returns that blocks its thread now and then.

        Args:
            task: What to do.
            deadline: By when it ends by itself.
            undo: What to do with the result if nobody waits for it any more; quick.
        """
        ...


class InThread:
    """The way of threads.

    Args:
        ask: How to ask the model.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def ask(self, request: InferRequest, region: str, layout: Layout) -> Answer:
        """What the model answers, in this thread."""
        return self._ask(request, region, layout)

    async def aside(
        self,
        task: Callable[[], Result],
        deadline: Deadline,  # noqa: ARG002 - it ends by itself
        undo: Callable[[Result], object] = lambda _: None,  # noqa: ARG002 - it is waited for
    ) -> Result:
        """What the task returns, in this thread."""
        return task()
