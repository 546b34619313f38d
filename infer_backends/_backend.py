"""The narrow waist: what a plugin implements, and what passes through it on every call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from infer_backends._deadline import Deadline
from infer_backends._errors import Attempt
from infer_backends._request_options import RequestOptions
from infer_backends._status import ModelStatus
from infer_backends._tensors import ModelMetadata

__all__ = [
    "Array",
    "Attempt",
    "Backend",
    "InferRequest",
    "InferResponse",
    "Member",
    "ParameterValue",
    "SupportsAdvice",
    "SupportsAsync",
    "SupportsAsyncStreaming",
    "SupportsDescription",
    "SupportsMembers",
    "SupportsReadiness",
    "SupportsRequestOptions",
    "SupportsStreaming",
]

Array = NDArray[np.generic]
ParameterValue = bool | int | float | str


@dataclass(slots=True)
class InferRequest:
    """One call, already checked against the model's metadata.

    Attributes:
        inputs: The arrays, by name, in metadata order: each of the dtype that the metadata
            says, in native byte order, C-contiguous, of the right rank and static dimensions.
            BYTES inputs are object arrays whose elements are all ``bytes``. Not to be written to.
        outputs: The outputs wanted, in the order wanted; None for all.
        deadline: When the answer has to be there.
        request_id: The caller's name for this request; empty for none.
        parameters: Request parameters of the protocol.
        headers: Extra headers or gRPC metadata for this call, names in lower case.
        options: What only some backends can do; None for nothing. A backend is given those that
            it says it can do; see :class:`SupportsRequestOptions`.
    """

    inputs: dict[str, Array]
    outputs: tuple[str, ...] | None
    deadline: Deadline
    request_id: str = ""
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    options: RequestOptions | None = None


@dataclass(slots=True)
class InferResponse:
    """The answer to one request.

    Attributes:
        outputs: The arrays, by name: writable, C-contiguous, of the dtype that the metadata
            says, and aliased by nothing that the backend keeps. BYTES outputs are object
            arrays of ``bytes``.
        model_version: The version that answered; empty when the backend has none.
        parameters: Response parameters of the protocol.
        backend_url: Who answered, secrets masked.
        attempts: What failed before this answer, oldest first.
    """

    outputs: dict[str, Array]
    model_version: str = ""
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)
    backend_url: str = ""
    attempts: tuple[Attempt, ...] = ()


@runtime_checkable
class Backend(Protocol):
    """A model that can be run. The whole of what a plugin must provide.

    ``infer`` is called by several threads at once. All errors are of the library's own tree,
    with the foreign exception chained as the cause.
    """

    @property
    def metadata(self) -> ModelMetadata:
        """What the model says of itself; read once, when the backend was opened."""
        ...

    def infer(self, request: InferRequest) -> InferResponse:
        """Answer one request within its deadline."""
        ...

    def close(self) -> None:
        """Release everything; calls in flight may fail. May be called more than once."""
        ...


@runtime_checkable
class SupportsReadiness(Protocol):
    """A backend that can say whether its model would answer now."""

    def ready(self, deadline: Deadline) -> bool:
        """Whether the model is ready; never raises for a server that cannot be reached."""
        ...


@runtime_checkable
class SupportsDescription(Protocol):
    """A backend that can say anew what its model says of itself, as after a reload."""

    def describe(self, deadline: Deadline) -> ModelMetadata:
        """What the model says of itself now; ``metadata`` stays what it was at open.

        A client asks its server again; what cannot change without being opened anew is the same.

        Raises:
            ModelNotFound: The server answers, and no longer has the model.
            Unavailable: Nobody answered.
            DeadlineExceeded: The deadline passed before an answer was there.
            InferError: Whatever else keeps a model from being opened.
        """
        ...


@runtime_checkable
class SupportsAsync(Protocol):
    """A backend that answers in an event loop, without a thread for each call.

    The same backend, opened in the same way; what it holds for a loop (connections, say) is made
    by the first call of that loop, so that several loops may use it, one after the other or each
    in a thread of its own. A backend without this ability is run in a pool of threads.
    """

    async def infer_async(self, request: InferRequest) -> InferResponse:
        """Answer one request within its deadline.

        Cancelling the task cancels the call, on the wire where the protocol can. What is raised
        is what ``infer`` raises.
        """
        ...

    async def close_async(self) -> None:
        """Release what belongs to the running loop, and then all that ``close`` releases."""
        ...


@runtime_checkable
class SupportsRequestOptions(Protocol):
    """A backend that can do some of what :class:`RequestOptions` holds."""

    @property
    def request_options(self) -> frozenset[str]:
        """The names of those that it can do: attributes of :class:`RequestOptions`."""
        ...


@runtime_checkable
class SupportsStreaming(Protocol):
    """A backend that can answer one request by any number of responses."""

    def stream(self, request: InferRequest) -> Iterator[InferResponse]:
        """The responses to one request, each as soon as it is there.

        Nothing is sent before the first is asked for. Closing the iterator (a generator's
        ``close``) cancels the request, on the wire where the protocol can. The deadline of the
        request holds for all of it. What is raised, by ``next``, is what ``infer`` raises; there
        is nothing after that.
        """
        ...


@runtime_checkable
class SupportsAsyncStreaming(Protocol):
    """A backend that can do the same in an event loop, without a thread for each stream."""

    def stream_async(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        """The responses to one request, as :meth:`SupportsStreaming.stream` gives them.

        Closing the iterator (an asynchronous generator's ``aclose``), or cancelling the task that
        waits for it, cancels the request.
        """
        ...


@runtime_checkable
class SupportsAdvice(Protocol):
    """A backend that knows where that can be had which it cannot do."""

    def advice(self, ability: str) -> str:
        """What to do instead, as the end of an error's text; empty for nothing.

        Args:
            ability: ``streaming``, or the name of an attribute of :class:`RequestOptions`.
        """
        ...


class Member(Protocol):
    """One of several backends that answer for a model, reachable by itself.

    Attributes:
        url: Its URL, secrets masked.
    """

    @property
    def url(self) -> str: ...

    def metadata(self, deadline: Deadline) -> ModelMetadata:
        """What it says of its model; opens it if need be."""
        ...

    def run(self, request: InferRequest) -> InferResponse:
        """Let it answer, and nobody else, whatever its state; opens it if need be."""
        ...


@runtime_checkable
class SupportsMembers(Protocol):
    """A backend that stands for several: a fallback, replicas, or a single URL with retries."""

    def members(self) -> tuple[Member, ...]:
        """All of them, in order of preference, each replica by itself."""
        ...

    def status(self) -> ModelStatus:
        """How each of them does, and how often the model fell back."""
        ...
