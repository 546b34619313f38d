"""What a call means: the ``RemoteModel`` protocol, and ``Model``, its one implementation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from time import monotonic
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from infer_backends._backend import Backend, InferRequest, InferResponse, ParameterValue
from infer_backends._binding import Binder
from infer_backends._coercion import Coerce
from infer_backends._deadline import LONGEST_TIMEOUT, Deadline
from infer_backends._errors import (
    InferError,
    InvalidInput,
    ModelClosed,
    PluginError,
    UnsupportedOperation,
)
from infer_backends._headers import check_headers
from infer_backends._inflight import InFlight
from infer_backends._outputs import Outputs
from infer_backends._result import InferResult
from infer_backends._tensors import ModelMetadata

if TYPE_CHECKING:
    from typing_extensions import Self

_NOTHING: Mapping[str, Any] = MappingProxyType({})
DEFAULT_TIMEOUT = 60.0
CLOSE_TIMEOUT = 10.0


@runtime_checkable
class RemoteModel(Protocol):
    """A model, wherever it runs: how its metadata is loaded, and what a call means.

    What applications annotate with; :func:`infer_backends.open_model` returns one.
    """

    @property
    def metadata(self) -> ModelMetadata:
        """What the model says of itself, loaded when it was opened."""
        ...

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the model; see :meth:`Model.__call__`."""
        ...

    def infer(
        self,
        inputs: Mapping[str, Any],
        *,
        outputs: Iterable[str] | None = None,
        timeout: float | None = None,
        request_id: str = "",
        parameters: Mapping[str, ParameterValue] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> InferResult:
        """Run the model, with options; see :meth:`Model.infer`."""
        ...

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Release everything; see :meth:`Model.close`."""
        ...


class Model:
    """The one implementation of call semantics, over any :class:`~infer_backends.plugin.Backend`.

    Made by :func:`infer_backends.open_model`; made directly, it wraps a backend of your own.
    May be shared by threads, works after ``fork``, and pickles by its URL and options.

    Args:
        backend: What answers the calls. The model closes it.
        timeout: The time that a call may take, in seconds; None for 60, which does not make a
            local runtime stop in the middle of its work.
        coerce: How far inputs may be converted: ``never`` (the dtype has to be right),
            ``lossless`` (no meaning is lost) or ``unsafe`` (as ``ndarray.astype`` does).
        reopen: A function and its arguments that make this model again, for pickling.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        timeout: float | None = None,
        coerce: Coerce = "lossless",
        reopen: tuple[Callable[..., Model], tuple[Any, ...]] | None = None,
    ) -> None:
        self._backend = backend
        self._metadata = backend.metadata
        self._binder = Binder(self._metadata, coerce)
        self._outputs = Outputs(self._metadata)
        self._timeout = DEFAULT_TIMEOUT if timeout is None else _seconds(timeout)
        self._timeout_given = timeout is not None
        self._reopen = reopen
        self._calls = InFlight()

    @property
    def metadata(self) -> ModelMetadata:
        """What the model says of itself, loaded when it was opened."""
        return self._metadata

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the model on inputs by position, by name, or in one mapping.

        Args:
            *args: The inputs, in metadata order: arrays, lists, or whatever has ``__array__``.
            **kwargs: The inputs by name. Every keyword is an input's name; options go to
                :meth:`infer`.

        Returns:
            The array of a model with one output; a tuple of arrays, in metadata order, of a
            model with several.

        Raises:
            InvalidInput: The arguments do not fit the model; nothing was sent.
            InferError: Why there is no answer; see :mod:`infer_backends`.
        """
        deadline = Deadline(monotonic() + self._timeout, explicit=self._timeout_given)
        inputs = self._binder.bind(args, kwargs)
        response = self._run(InferRequest(inputs, None, deadline, "", _NOTHING, _NOTHING))
        outputs = self._outputs.arrays(response)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def infer(
        self,
        inputs: Mapping[str, Any],
        *,
        outputs: Iterable[str] | None = None,
        timeout: float | None = None,
        request_id: str = "",
        parameters: Mapping[str, ParameterValue] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> InferResult:
        """Run the model, with options.

        Args:
            inputs: The inputs by name.
            outputs: The outputs wanted, in the order wanted; None for all.
            timeout: The total time for this call, in seconds; None for the model's own.
            request_id: A name for this request, passed to the server.
            parameters: Request parameters of the protocol.
            headers: Extra headers (gRPC: metadata) for this call.

        Returns:
            The outputs by name, with who answered.

        Raises:
            InvalidInput: The arguments do not fit the model; nothing was sent.
            InferError: Why there is no answer; see :mod:`infer_backends`.
        """
        seconds = self._timeout if timeout is None else _seconds(timeout)
        request = InferRequest(
            inputs={},
            outputs=self._outputs.select(outputs),
            deadline=Deadline.after(seconds, explicit=timeout is not None or self._timeout_given),
            request_id=_request_id(request_id),
            parameters=_parameters(parameters),
            headers=check_headers(headers),
        )
        request.inputs = self._binder.bind_mapping(inputs)
        response = self._run(request)
        return InferResult(
            self._outputs.order(response, request.outputs),
            backend_url=response.backend_url,
            attempts=response.attempts,
            model_version=response.model_version,
            parameters=response.parameters,
            request_id=request_id,
        )

    def _run(self, request: InferRequest) -> InferResponse:
        calls = self._calls
        token = calls.enter()
        try:
            response = self._backend.infer(request)
        except InferError as exc:
            if calls.closed and not isinstance(exc, ModelClosed):
                raise ModelClosed("the model was closed while this call was in flight") from exc
            raise
        except Exception as exc:
            raise self._foreign(exc) from exc
        finally:
            calls.leave(token)
        if not isinstance(response, InferResponse):
            raise PluginError(
                f"{self._described()} returned {type(response).__name__}; a backend returns an "
                "InferResponse"
            )
        return response

    def _described(self) -> str:
        return f"the backend {type(self._backend).__module__}.{type(self._backend).__name__}"

    def _foreign(self, exc: Exception) -> PluginError:
        # Only the type: a careless message could hold the URL's password.
        return PluginError(
            f"{self._described()} raised {type(exc).__name__}; a backend raises only the "
            "library's errors"
        )

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Release everything. May be called more than once.

        Waits for calls in flight, then cancels what is left of them; those, and later ones,
        raise :class:`ModelClosed`.

        Args:
            timeout: How long to wait for calls in flight, in seconds; 0 cancels them at once.

        Raises:
            InvalidInput: ``timeout`` is no number; nothing was closed.
        """
        self._calls.close(_number_of_seconds(timeout))
        try:
            self._backend.close()
        except InferError:
            raise
        except Exception as exc:
            raise self._foreign(exc) from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., Model], tuple[Any, ...]]:
        if self._reopen is None:
            raise UnsupportedOperation(
                "a model made from a Backend cannot be pickled: open it by its URL with open_model"
            )
        return self._reopen

    def __repr__(self) -> str:
        state = " (closed)" if self._calls.closed else ""
        inputs = ", ".join(map(str, self._metadata.inputs))
        outputs = ", ".join(map(str, self._metadata.outputs))
        return f"<Model {self._metadata.name!r}: {inputs} -> {outputs}{state}>"


def _seconds(timeout: object) -> float:
    seconds = _number_of_seconds(timeout)
    if seconds <= 0:
        raise InvalidInput("timeout= is a positive number of seconds; this one is not")
    return seconds


def _number_of_seconds(timeout: object) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, Real):
        raise InvalidInput(f"timeout= is a number of seconds, not {type(timeout).__name__}")
    if timeout != timeout:  # noqa: PLR0124 - NaN; an int may be too large for isnan
        raise InvalidInput("timeout= is a positive number of seconds; this one is not a number")
    seconds: Any = timeout
    return float(max(-LONGEST_TIMEOUT, min(seconds, LONGEST_TIMEOUT)))


def _request_id(request_id: object) -> str:
    if not isinstance(request_id, str):
        raise InvalidInput(f"request_id= is a str, not {type(request_id).__name__}")
    _require_text(request_id, "request_id=")
    return request_id


def _parameters(parameters: Mapping[str, ParameterValue] | None) -> Mapping[str, ParameterValue]:
    if parameters is None:
        return {}
    if not isinstance(parameters, Mapping):
        raise InvalidInput("parameters= is a mapping from names to values")
    given: Iterable[tuple[object, object]] = parameters.items()
    for name, value in given:
        if not isinstance(name, str):
            raise InvalidInput(f"parameter names are str, not {type(name).__name__}")
        _require_text(name, "a parameter's name")
        _check_parameter(name, value)
    return dict(parameters)


def _check_parameter(name: str, value: object) -> None:
    """Refuse, on every backend, a value that one of the protocols could not carry."""
    if not isinstance(value, (bool, int, float, str)):
        raise InvalidInput(f"parameter {name!r}: expected a bool, int, float or str")
    if isinstance(value, str):
        _require_text(value, f"parameter {name!r}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(f"parameter {name!r} is no finite number")
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise InvalidInput(f"parameter {name!r} does not fit into 64 bits")


def _require_text(text: str, what: str) -> None:
    """Refuse lone surrogates, which UTF-8 cannot hold."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            # Not chained: the exception holds the text.
            raise InvalidInput(f"{what} is no Unicode text: it holds a lone surrogate") from None
