"""How code that is written once asks a backend in an event loop; see ``_ways.py``."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from infer_backends._backend import InferRequest, InferResponse
from infer_backends._ways import Responses

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


class InLoop:
    """The way of event loops, for backends that all can answer in one."""

    async def ask(self, backend: Any, request: InferRequest) -> InferResponse:
        """What the backend answers, in the running loop."""
        response: InferResponse = await backend.infer_async(request)
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

    async def aside(
        self,
        function: Callable[Arguments, Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """What the function returns, in a thread of the loop's own pool."""
        return await asyncio.to_thread(function, *args, **kwargs)

    async def pause(self, seconds: float, ended: threading.Event) -> None:  # noqa: ARG002
        """Sleep in the running loop; pauses are too short to be ended by another thread."""
        await asyncio.sleep(seconds)


IN_LOOP = InLoop()
