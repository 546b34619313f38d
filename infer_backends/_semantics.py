"""What a call means, whichever way it is made: the part of a model that waits for nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from time import monotonic
from types import MappingProxyType
from typing import Any, NoReturn

from infer_backends import _fitting
from infer_backends._agreement import Tolerance
from infer_backends._backend import (
    Backend,
    InferRequest,
    InferResponse,
    ParameterValue,
    SupportsMembers,
)
from infer_backends._binding import Binder
from infer_backends._call_options import (
    check_parameters,
    check_request_id,
    positive_seconds,
    read_options,
)
from infer_backends._coercion import Coerce
from infer_backends._deadline import Deadline
from infer_backends._errors import InferError, ModelClosed, PluginError, UnsupportedOperation
from infer_backends._headers import check_headers
from infer_backends._inflight import InFlight
from infer_backends._interruptions import from_outside
from infer_backends._members import members_of, status_of
from infer_backends._outputs import Outputs
from infer_backends._registry import serving
from infer_backends._remote_model import DEFAULT_TIMEOUT
from infer_backends._request_options import RequestOptions
from infer_backends._result import InferResult
from infer_backends._samples import sample
from infer_backends._status import ModelStatus
from infer_backends._tensors import ModelMetadata
from infer_backends._verification import Verification, verify

NOTHING: Mapping[str, Any] = MappingProxyType({})


def described(backend: Backend) -> str:
    """Who answers for a model, for errors: URLs and plugins, or a class."""
    if isinstance(backend, SupportsMembers):
        return f"the backend of {', '.join(serving(member.url) for member in backend.members())}"
    return f"the backend {type(backend).__module__}.{type(backend).__name__}"


def _who_answered(backend: Backend, url: str) -> str:
    return serving(url) if url else described(backend)


class Semantics:
    """What :class:`Model` and :class:`AsyncModel` have in common: all but how they wait.

    Args:
        backend: What answers the calls.
        timeout: The time that a call may take, in seconds; None for the default.
        coerce: How far inputs may be converted.

    Attributes:
        backend: As given.
        metadata: What the model says of itself.
        one_response: Whether a request has one response: the model is not decoupled.
        binder: Binds arguments to inputs.
        outputs: Puts outputs in order.
        timeout: The time that a call may take, in seconds.
        timeout_given: Whether the caller said so.
        calls: Counts the calls in flight.
    """

    __slots__ = (
        "_opened",
        "backend",
        "binder",
        "calls",
        "metadata",
        "one_response",
        "outputs",
        "timeout",
        "timeout_given",
    )

    def __init__(
        self, backend: Backend, *, timeout: float | None = None, coerce: Coerce = "lossless"
    ) -> None:
        self.backend = backend
        self.metadata = self._metadata()
        self.one_response = not self.metadata.decoupled
        self.binder = Binder(self.metadata, coerce)
        self.outputs = Outputs(self.metadata, partial(_who_answered, backend))
        self.timeout = DEFAULT_TIMEOUT if timeout is None else positive_seconds(timeout)
        self.timeout_given = timeout is not None
        self.calls = InFlight()
        self._opened = monotonic()

    def _metadata(self) -> ModelMetadata:
        """What the model says of itself, asked for once."""
        try:
            return self.backend.metadata
        except InferError:
            raise
        except Exception as exc:
            raise PluginError(
                f"the metadata of {described(self.backend)} raised {type(exc).__name__}; a backend "
                "reads it when it is opened"
            ) from exc

    def request_of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> InferRequest:
        """The request of ``model(*args, **kwargs)``."""
        deadline = Deadline(monotonic() + self.timeout, self.timeout_given)
        inputs = self.binder.bind(args, kwargs)
        return InferRequest(inputs, None, deadline, "", NOTHING, NOTHING)

    def deadline(self, timeout: float | None) -> Deadline:
        """The deadline of a call that begins now."""
        seconds = self.timeout if timeout is None else positive_seconds(timeout)
        return Deadline.after(seconds, explicit=timeout is not None or self.timeout_given)

    def request(
        self,
        inputs: Mapping[str, Any],
        *,
        outputs: Iterable[str] | None,
        timeout: float | None,
        request_id: str = "",
        parameters: Mapping[str, ParameterValue] | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> InferRequest:
        """The request of ``model.infer(inputs, ...)``, all of it checked."""
        request = InferRequest(
            inputs={},
            outputs=self.outputs.select(outputs),
            deadline=self.deadline(timeout),
            request_id=check_request_id(request_id),
            parameters=check_parameters(parameters),
            headers=check_headers(headers),
            options=self._options(options),
        )
        request.inputs = self.binder.bind_mapping(inputs)
        return request

    def _options(self, given: Mapping[str, Any]) -> RequestOptions | None:
        options = read_options(given)
        if options is not None:
            known = _fitting.options_with_own(self.backend)
            _fitting.require(self.backend, options.given, known)
        return options

    def require_one_response(self) -> None:
        """Refuse a call of a decoupled model.

        Raises:
            UnsupportedOperation: It is one.
        """
        if not self.one_response:
            raise UnsupportedOperation(
                f"the model {self.metadata.name!r} is decoupled: a request has any number of "
                "responses, so ask for them by model.stream({...})"
            )

    def require_streams(self) -> None:
        """Refuse a stream of a model that has none.

        Raises:
            UnsupportedOperation: It is not decoupled, or who answers for it cannot stream.
        """
        if self.one_response:
            raise UnsupportedOperation(
                f"the model {self.metadata.name!r} is not decoupled: a request has one response, "
                "so ask for it by model(...), or model.infer({...})"
            )
        _fitting.require_streaming(self.backend)

    def require_sequences(self) -> None:
        """Refuse a sequence where nobody keeps any.

        Raises:
            UnsupportedOperation: Nobody who answers for the model does.
        """
        self.require_one_response()
        known = _fitting.options_of(self.backend)
        _fitting.require(self.backend, frozenset({"sequence"}), known)

    def checked(self, response: InferResponse) -> InferResponse:
        """A response that is one.

        Raises:
            PluginError: It is something else.
        """
        if not isinstance(response, InferResponse):
            raise PluginError(
                f"{described(self.backend)} returned {type(response).__name__}; a backend returns "
                "an InferResponse"
            )
        return response

    def result(self, response: InferResponse, request: InferRequest) -> InferResult:
        """What ``model.infer`` returns."""
        options = request.options
        classes = options is not None and options.top_k is not None
        return InferResult(
            self.outputs.order(response, request.outputs, classes=classes),
            backend_url=response.backend_url,
            attempts=response.attempts,
            model_version=response.model_version,
            parameters=response.parameters,
            request_id=request.request_id,
        )

    def failure(self, exc: BaseException) -> BaseException:
        """What is raised to the caller when the backend raised ``exc``."""
        if isinstance(exc, InferError):
            if self.calls.closed and not isinstance(exc, ModelClosed):
                return ModelClosed("the model was closed while this call was in flight")
            return exc
        if isinstance(exc, GeneratorExit) or from_outside(exc):
            return exc
        # Only the type: a careless message could hold the URL's password.
        return PluginError(
            f"{described(self.backend)} raised {type(exc).__name__}; a backend raises only the "
            "library's errors"
        )

    def fail(self, exc: BaseException) -> NoReturn:
        """Raise to the caller what is to be raised when the backend raised ``exc``."""
        failure = self.failure(exc)
        try:
            if failure is exc:
                raise exc
            raise failure from exc
        finally:
            # An error holds its frames: those of the call hold its arrays.
            del failure, exc

    def status(self) -> ModelStatus:
        """How every member does: its state, its calls, what it takes; printed, it is a table.

        Raises:
            ModelClosed: The model was closed.
        """
        token = self.calls.enter()
        try:
            return status_of(self.backend, monotonic() - self._opened)
        finally:
            self.calls.leave(token)

    def ask_every_member(
        self,
        inputs: Mapping[str, Any] | None,
        timeout: float | None,
        seed: int,
        tolerance: Tolerance | None,
    ) -> Verification:
        """The whole of ``verify`` and ``warmup``; blocks its thread."""
        self.require_one_response()
        deadline = self.deadline(timeout)
        given = sample(self.metadata, seed=seed) if inputs is None else inputs
        bound = self.binder.bind_mapping(given)
        made_up = inputs is None
        token = self.calls.enter()
        try:
            found = verify(members_of(self.backend), bound, deadline, tolerance, made_up=made_up)
        finally:
            self.calls.leave(token)
        if self.calls.closed and any(member.error is not None for member in found.members):
            raise ModelClosed("the model was closed while its members were asked")
        return found

    def describe(self, kind: str) -> str:
        """The ``repr`` of a model."""
        state = " (closed)" if self.calls.closed else ""
        inputs = ", ".join(map(str, self.metadata.inputs))
        outputs = ", ".join(map(str, self.metadata.outputs))
        return f"<{kind} {self.metadata.name!r}: {inputs} -> {outputs}{state}>"
