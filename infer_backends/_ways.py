"""How code that is written once asks a backend: in the caller's thread, or in an event loop.

What stands between a call and a backend is written as coroutines, which ask and wait by a
:class:`Way` that they are given. By :data:`BLOCKING` they never suspend, so that :func:`run` is the
whole of the synchronous side; the way of event loops is in ``_ways_of_loops.py``.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, Protocol, TypeVar

from infer_backends._backend import Backend, InferRequest, InferResponse
from infer_backends._deadline import Deadline
from infer_backends._errors import UnsupportedOperation

Result = TypeVar("Result")
Responses = AsyncGenerator[InferResponse, None]


class Way(Protocol):
    """One way to ask, and to wait."""

    def ask(self, backend: Any, request: InferRequest) -> Coroutine[Any, Any, InferResponse]:
        """What a backend answers."""
        ...

    def stream(self, backend: Any, request: InferRequest) -> Responses:
        """The responses of a backend that can stream; closing it closes the backend's."""
        ...

    async def aside(self, function: Callable[[Deadline], Result], deadline: Deadline) -> Result:
        """What a function returns that blocks its thread until a deadline, at the longest."""
        ...

    async def pause(self, seconds: float, ended: threading.Event) -> None:
        """Wait for so long, or for less if the event is set."""
        ...


class Blocking:
    """The way of threads."""

    async def ask(self, backend: Backend, request: InferRequest) -> InferResponse:
        """What the backend answers, in this thread."""
        return backend.infer(request)

    async def stream(self, backend: Any, request: InferRequest) -> Responses:
        """The backend's responses, one by one."""
        if not hasattr(backend, "stream"):
            raise UnsupportedOperation(
                "what answers for this model streams in event loops only: use open_async_model"
            )
        responses = backend.stream(request)
        try:
            for response in responses:
                yield response
        finally:
            close = getattr(responses, "close", None)
            if close is not None:
                close()

    async def aside(self, function: Callable[[Deadline], Result], deadline: Deadline) -> Result:
        """What the function returns, in this thread."""
        return function(deadline)

    async def pause(self, seconds: float, ended: threading.Event) -> None:
        """Wait in this thread."""
        ended.wait(seconds)


BLOCKING = Blocking()


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """What a coroutine returns that only ever waits by blocking."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: Result = done.value
        return result
    coroutine.close()
    raise RuntimeError("this coroutine waits for an event loop")


def iterate(items: AsyncGenerator[Result, None]) -> Generator[Result, None, None]:
    """The items of an asynchronous generator that only ever waits by blocking."""
    try:
        while True:
            with contextlib.suppress(StopAsyncIteration):
                yield _step(items.__anext__)
                continue
            return
    finally:
        _step(items.aclose)


def _step(step: Callable[[], Any]) -> Any:
    """One step of an asynchronous generator that is none of a loop that may be running here.

    The loop would close it when it ends.
    """
    hooks = sys.get_asyncgen_hooks()
    if hooks == (None, None):
        return run(step())
    sys.set_asyncgen_hooks(None, None)
    try:
        return run(step())
    finally:
        sys.set_asyncgen_hooks(*hooks)
