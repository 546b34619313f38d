"""What a call asks for beyond its tensors, fitted to what a backend can do."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from infer_backends._backend import (
    Backend,
    InferRequest,
    InferResponse,
    SupportsAdvice,
    SupportsAsync,
    SupportsAsyncStreaming,
    SupportsRequestOptions,
    SupportsStreaming,
)
from infer_backends._classes import classify
from infer_backends._errors import UnsupportedOperation
from infer_backends._owned import OwnedStream
from infer_backends._request_options import RequestOptions
from infer_backends._ways import Responses, Way

#: What changes nothing of the answer: a backend that cannot do it may be asked without.
HINTS = frozenset({"priority", "queue_timeout", "compression"})
#: What is done here, if the backend does not.
OWN = frozenset({"top_k"})


def options_of(backend: object) -> frozenset[str]:
    """Which options a backend can do."""
    return backend.request_options if isinstance(backend, SupportsRequestOptions) else frozenset()


def options_with_own(backend: object) -> frozenset[str]:
    """Which options can be asked for where that backend answers."""
    return options_of(backend) | OWN


def advice_of(backend: object, ability: str) -> str:
    """What to do instead of what a backend cannot do; empty for nothing."""
    return backend.advice(ability) if isinstance(backend, SupportsAdvice) else ""


def require(backend: Backend, asked: frozenset[str], known: frozenset[str]) -> None:
    """Refuse options that cannot be had.

    Args:
        backend: Who would be asked.
        asked: What is asked for.
        known: What can be had.

    Raises:
        UnsupportedOperation: One of them cannot.
    """
    for name in sorted(asked - known):
        raise UnsupportedOperation(
            with_advice(
                f"what answers for the model {backend.metadata.name!r} has no {name}",
                backend,
                name,
                "leave it out, or open another URL",
            )
        )


def with_advice(text: str, backend: object, ability: str, otherwise: str = "") -> str:
    """The text of an error, and what to do."""
    advice = advice_of(backend, ability) or otherwise
    return f"{text}: {advice}" if advice else text


def ask(way: Way, backend: Backend, request: InferRequest) -> Coroutine[Any, Any, InferResponse]:
    """What a backend answers; what it cannot do of the request's options is done here, or left out.

    Raises:
        UnsupportedOperation: It cannot do what can be neither.
    """
    if request.options is None:
        return way.ask(backend, request)
    return _ask_fitted(way, backend, request, request.options)


async def _ask_fitted(
    way: Way, backend: Backend, request: InferRequest, options: RequestOptions
) -> InferResponse:
    known = options_of(backend)
    response = await way.ask(backend, _fitted(request, backend, known))
    if options.top_k is not None and "top_k" not in known:
        classify(response, options.top_k, backend.metadata)
    return response


async def stream(way: Way, backend: Backend, request: InferRequest) -> Responses:
    """A backend's responses, as :func:`ask` has its one response.

    Raises:
        UnsupportedOperation: It cannot stream, or do what was asked for.
    """
    require_streaming(backend)
    options = request.options
    known = options_of(backend)
    fitted = _fitted(request, backend, known)
    async with OwnedStream(way.stream(backend, fitted)) as responses:
        async for response in responses:
            if options is not None and options.top_k is not None and "top_k" not in known:
                classify(response, options.top_k, backend.metadata)
            yield response


def can_stream(backend: object) -> bool:
    """Whether a backend can stream, or one that it stands for may be able to."""
    stands_for: bool | None = getattr(backend, "can_stream", None)
    if stands_for is not None:
        return stands_for
    return isinstance(backend, (SupportsStreaming, SupportsAsyncStreaming))


def require_streaming(backend: Backend) -> None:
    """Refuse to stream where that cannot be had.

    Raises:
        UnsupportedOperation: It cannot.
    """
    if not can_stream(backend):
        raise UnsupportedOperation(
            with_advice("what answers for this model sends one response only", backend, "streaming")
        )


def _fitted(request: InferRequest, backend: Backend, known: frozenset[str]) -> InferRequest:
    options = request.options
    if options is None or options.given <= known:
        return request
    require(backend, options.given - HINTS - OWN, known)
    left_out: dict[str, Any] = dict.fromkeys(options.given - known)
    fitted = replace(options, **left_out)
    return replace(request, options=fitted if fitted.given else None)


async def close_async(backend: Backend) -> None:
    """Close what a backend has in the running event loop, if it has anything there."""
    if isinstance(backend, SupportsAsync):
        await backend.close_async()
