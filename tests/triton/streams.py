"""Streams of the model ``generating``, read by a thread or in an event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from infer_backends.plugin import InferRequest, InferResponse
from infer_backends_triton._grpc_backend import GrpcBackend
from tests.triton.grpc_fakes import a_request


class Stream(Protocol):
    """A stream that waits for each response, however it is read."""

    def __iter__(self) -> Iterator[InferResponse]: ...
    def __next__(self) -> InferResponse: ...
    def close(self) -> None: ...


class InLoop:
    """An asynchronous stream, whose loop runs while it is asked."""

    def __init__(
        self, stream: AsyncGenerator[InferResponse, None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._stream = stream
        self._loop = loop

    def __iter__(self) -> Iterator[InferResponse]:
        return self

    def __next__(self) -> InferResponse:
        try:
            return self._loop.run_until_complete(anext(self._stream))
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        self._loop.run_until_complete(self._stream.aclose())


Start = Callable[[GrpcBackend, InferRequest], Stream]


def asking(
    count: int,
    *,
    seconds: float | None = None,
    fail: str | None = None,
    mark: Path | None = None,
    **more: Any,
) -> InferRequest:
    """A request for so many responses of the model ``generating``."""
    inputs: dict[str, Any] = {"COUNT": np.array([count], np.int32)}
    if seconds is not None:
        inputs["SECONDS"] = np.array([seconds], np.float32)
    if fail is not None:
        inputs["FAIL"] = np.array([fail.encode()], object)
    if mark is not None:
        inputs["MARK"] = np.array([str(mark).encode()], object)
    return a_request(inputs=inputs, **more)


def token(response: InferResponse) -> int:
    return int(response.outputs["token"][0])


def eventually(condition: Callable[[], object], within: float = 20.0) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def told(mark: Path) -> str:
    """What the model says of a stream at its end."""
    eventually(lambda: mark.exists() and mark.read_text())
    return mark.read_text()


def in_flight(backend: GrpcBackend) -> int:
    """How many calls gRPC counts, for the process as a whole."""
    return backend._connection._gate._in_flight


def grpc_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "spin" in thread.name]
