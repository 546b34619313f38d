"""What a call means: the ``RemoteModel`` protocol, and ``Model``, its one implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from infer_backends._agreement import Tolerance
from infer_backends._backend import Backend, InferRequest, InferResponse, ParameterValue
from infer_backends._binding import Binder
from infer_backends._call_options import (
    check_parameters,
    check_request_id,
    number_of_seconds,
    positive_seconds,
)
from infer_backends._coercion import Coerce
from infer_backends._deadline import Deadline
from infer_backends._errors import (
    InferError,
    ModelClosed,
    PluginError,
    UnsupportedOperation,
)
from infer_backends._headers import check_headers
from infer_backends._inflight import InFlight
from infer_backends._members import members_of, status_of
from infer_backends._outputs import Outputs
from infer_backends._result import InferResult
from infer_backends._samples import sample
from infer_backends._status import ModelStatus
from infer_backends._tensors import ModelMetadata
from infer_backends._verification import Verification, verify

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
        self._timeout = DEFAULT_TIMEOUT if timeout is None else positive_seconds(timeout)
        self._timeout_given = timeout is not None
        self._reopen = reopen
        self._calls = InFlight()
        self._opened = monotonic()

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
        deadline = Deadline(monotonic() + self._timeout, self._timeout_given)
        inputs = self._binder.bind(args, kwargs)
        response = self._run(InferRequest(inputs, None, deadline, "", _NOTHING, _NOTHING))
        return self._outputs.unpack(response)

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
        seconds = self._timeout if timeout is None else positive_seconds(timeout)
        request = InferRequest(
            inputs={},
            outputs=self._outputs.select(outputs),
            deadline=Deadline.after(seconds, explicit=timeout is not None or self._timeout_given),
            request_id=check_request_id(request_id),
            parameters=check_parameters(parameters),
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

    def status(self) -> ModelStatus:
        """How every member does: its state, its calls, what it takes; printed, it is a table.

        Raises:
            ModelClosed: The model was closed.
        """
        token = self._calls.enter()
        try:
            return status_of(self._backend, monotonic() - self._opened)
        finally:
            self._calls.leave(token)

    def verify(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        rtol: float = 1e-3,
        atol: float = 1e-5,
        timeout: float | None = None,
        seed: int = 0,
    ) -> Verification:
        """Send the same inputs to every member, and compare their answers.

        Members are asked one after the other, whatever their state; one that does not answer is
        a part of what is returned, and no error. The outputs of the first that answers are what
        the others are held against: floats may be apart by ``atol + rtol * abs(expected)``, all
        else has to be the same. FP16 and BF16 may need a larger ``rtol``.

        Args:
            inputs: The inputs by name; None makes some up that most models run on.
            rtol: The relative difference that is tolerated.
            atol: The absolute difference that is tolerated.
            timeout: The total time, in seconds; None for the model's own.
            seed: What inputs that are made up are drawn by.

        Returns:
            What each member made of them; true when all agree.

        Raises:
            InvalidInput: The arguments do not fit the model; nothing was sent.
            ModelClosed: The model was closed.
        """
        return self._ask_every_member(inputs, timeout, seed, Tolerance.of(rtol, atol))

    def warmup(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        seed: int = 0,
    ) -> Verification:
        """Open every member and run it once, so that no later call waits for that.

        What they answer is not compared. The arguments, and what is raised, are those of
        :meth:`verify`.
        """
        return self._ask_every_member(inputs, timeout, seed, None)

    def _ask_every_member(
        self,
        inputs: Mapping[str, Any] | None,
        timeout: float | None,
        seed: int,
        tolerance: Tolerance | None,
    ) -> Verification:
        seconds = self._timeout if timeout is None else positive_seconds(timeout)
        deadline = Deadline.after(seconds, explicit=timeout is not None or self._timeout_given)
        given = sample(self._metadata, seed=seed) if inputs is None else inputs
        bound = self._binder.bind_mapping(given)
        made_up = inputs is None
        token = self._calls.enter()
        try:
            found = verify(members_of(self._backend), bound, deadline, tolerance, made_up=made_up)
        finally:
            self._calls.leave(token)
        if self._calls.closed and any(member.error is not None for member in found.members):
            raise ModelClosed("the model was closed while its members were asked")
        return found

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Release everything. May be called more than once.

        Waits for calls in flight, then cancels what is left of them; those, and later ones,
        raise :class:`ModelClosed`.

        Args:
            timeout: How long to wait for calls in flight, in seconds; 0 cancels them at once.

        Raises:
            InvalidInput: ``timeout`` is no number; nothing was closed.
        """
        self._calls.close(number_of_seconds(timeout))
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
