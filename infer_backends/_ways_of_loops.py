"""How code that is written once asks a backend in an event loop; see ``_ways.py``."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from infer_backends._backend import InferRequest, InferResponse
from infer_backends._deadline import Deadline
from infer_backends._errors import DeadlineExceeded
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
        responses = backend.stream_async(request)
        try:
            async for response in responses:
                yield response
        finally:
            close = getattr(responses, "aclose", None)
            if close is not None:
                await close()

    async def aside(self, function: Callable[[Deadline], Result], deadline: Deadline) -> Result:
        """What the function returns, in a thread of the loop's own pool.

        Raises:
            DeadlineExceeded: Others use all of its threads, and the deadline passed.
        """
        thread = asyncio.ensure_future(asyncio.to_thread(function, deadline))
        try:
            # The function itself says more of what it waited for.
            await asyncio.wait((thread,), timeout=max(0.0, deadline.remaining()) + _GRACE)
            if thread.done():
                return thread.result()
        finally:
            if not thread.cancel() and not thread.cancelled():
                thread.exception()
        raise DeadlineExceeded(
            "the deadline passed while all threads of the event loop were in use: give a larger "
            "timeout, or the loop a larger default executor",
            unprocessed=True,
        )

    async def pause(self, seconds: float, ended: threading.Event) -> None:  # noqa: ARG002
        """Sleep in the running loop; pauses are too short to be ended by another thread."""
        await asyncio.sleep(seconds)


IN_LOOP = InLoop()


async def in_own_thread(function: Callable[[], Result]) -> Result:
    """What a function returns, in a thread of its own: it waits for no others to end.

    Cancelling the task leaves the function to itself.

    Args:
        function: What is called, rarely: threads are not kept.
    """
    ended: concurrent.futures.Future[Result] = concurrent.futures.Future()
    ended.set_running_or_notify_cancel()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            ended.set_result(context.run(function))
        except BaseException as exc:  # noqa: BLE001 - raised where it is awaited
            ended.set_exception(exc)

    threading.Thread(target=run, name="infer-backends-aside", daemon=True).start()
    return await asyncio.wrap_future(ended)
