"""How code that is written once asks a backend in an event loop; see ``_ways.py``."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from infer_backends._backend import InferRequest, InferResponse
from infer_backends._deadline import Deadline
from infer_backends._errors import DeadlineExceeded, Unavailable, UnsupportedOperation
from infer_backends._owned import OwnedStream
from infer_backends._ways import Responses

Result = TypeVar("Result")

#: How long after a deadline a thread may end that minds it itself, in seconds.
_GRACE = 0.1


class InLoop:
    """The way of event loops, for backends that all can answer in one."""

    def ask(self, backend: Any, request: InferRequest) -> Coroutine[Any, Any, InferResponse]:
        """What the backend answers, in the running loop."""
        # No coroutine of its own: it would be one more that every call is resumed through.
        response: Coroutine[Any, Any, InferResponse] = backend.infer_async(request)
        return response

    async def stream(self, backend: Any, request: InferRequest) -> Responses:
        """The backend's responses, one by one, in the running loop."""
        if not hasattr(backend, "stream_async"):
            raise UnsupportedOperation(
                "what answers for this model streams to threads only: use open_model"
            )
        async with OwnedStream(backend.stream_async(request)) as responses:
            async for response in responses:
                yield response

    async def aside(self, function: Callable[[Deadline], Result], deadline: Deadline) -> Result:
        """What the function returns, in a thread of its own: the loop's own may all be in use.

        Raises:
            DeadlineExceeded: The deadline passed, and the function did not mind it.
        """
        waiting = asyncio.ensure_future(in_own_thread(partial(function, deadline)))
        try:
            # The function itself says more of what it waited for.
            await asyncio.wait((waiting,), timeout=max(0.0, deadline.remaining()) + _GRACE)
            if waiting.done():
                return waiting.result()
        finally:
            if not waiting.cancel() and not waiting.cancelled():
                waiting.exception()
            # An error holds its frames, and this one would hold the error.
            del waiting
        raise DeadlineExceeded("the deadline passed while a model was opened, or looked at again")

    async def pause(self, seconds: float, ended: threading.Event) -> None:  # noqa: ARG002
        """Sleep in the running loop; pauses are too short to be ended by another thread."""
        await asyncio.sleep(seconds)


IN_LOOP = InLoop()


async def in_own_thread(function: Callable[[], Result]) -> Result:
    """What a function returns, in a thread of its own: it waits for no others to end.

    Cancelling the task leaves the function to itself.

    Args:
        function: What is called, rarely: threads are not kept.

    Raises:
        Unavailable: The system has no thread left.
    """
    ended: concurrent.futures.Future[Result] = concurrent.futures.Future()
    ended.set_running_or_notify_cancel()
    thread = threading.Thread(
        target=contextvars.copy_context().run,
        args=(_call, function, ended),
        name="infer-backends-aside",
        daemon=True,
    )
    try:
        thread.start()
    except RuntimeError as exc:
        raise Unavailable(f"no thread could be started: {exc}", unprocessed=True) from exc
    try:
        return await asyncio.wrap_future(ended)
    finally:
        del ended


async def close_aside(close: Callable[[], object]) -> None:
    """Close something that may wait for what it does; in this thread, if there is no other."""
    try:
        await in_own_thread(close)
    except Unavailable:
        close()


def _call(function: Callable[[], Result], ended: concurrent.futures.Future[Result]) -> None:
    try:
        ended.set_result(function())
    except StopIteration as exc:
        # No future takes it.
        ended.set_exception(RuntimeError("StopIteration"))
        del exc
    except BaseException as exc:  # noqa: BLE001 - raised where it is awaited
        ended.set_exception(exc)
