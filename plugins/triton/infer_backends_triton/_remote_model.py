"""``TritonRemoteModel``: a Triton model behind one class, as a drop-in for code that has one."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from infer_backends.plugin import (
    Array,
    Backend,
    DataType,
    Deadline,
    InferRequest,
    InvalidInput,
    InvalidURL,
    ModelURL,
    OpenOptions,
)
from infer_backends_triton._remote_model_arrays import as_array, cast_input, cast_output
from infer_backends_triton._remote_model_protocols import PROTOCOLS, Protocol
from infer_backends_triton._settings import TRITON_OPTIONS, ConnectionSettings

_TIMEOUT = 60.0
# What these change is laid down here by what the class stands in for.
_MEANINGLESS = frozenset({"coerce", "parity"})


class InputCountError(InvalidInput, RuntimeError):
    """The inputs of a call were given in the wrong number, or in two ways at once."""


class TritonRemoteModel:
    """A model on a Triton server, called like a function. Safe for threads.

    With a model in the URL's path, or as ``endpoint``, a call takes the inputs by position and
    returns a list of arrays, sorted by output name, each cast to the dtype of the first input as
    it was given. (Strings are not cast.)

    With neither, the model is the first that is ready in the server's repository index. A call
    takes the inputs by position or by name, and returns the outputs in the order of the model's
    metadata, in its dtypes: one output alone, several as a list.

    In both forms inputs are cast to the model's dtypes. New code is better off with
    ``infer_backends.open_model``, which casts only what loses nothing::

        from infer_backends_triton import TritonRemoteModel

        with TritonRemoteModel("grpc://localhost:8001/digits") as model:
            (probabilities,) = model(images)

        model = TritonRemoteModel("localhost:8000", endpoint="digits", scheme="http")

    Args:
        url: The server and, in its path, the model; or ``host:port`` where ``scheme`` is given.
            The options ``ca``, ``cert``, ``key``, ``max_response_bytes``, ``auth``, ``timeout``
            and ``connect_timeout`` may follow.
        endpoint: The model's name, if it is not in the URL.
        scheme: ``http``, ``https``, ``grpc`` or ``grpcs``, if it is not in the URL.
        headers: Headers, or gRPC metadata, of every request.
        timeout: Total time of opening, and of each call, in seconds; None for 60.
        connect_timeout: Time for connecting, in seconds; None for 2.

    Attributes:
        endpoint: The model's name.
        url: ``host:port``, with a base path behind it if there is one.
        runtime: What runs the model, as the server calls it: its platform or backend.
        input_formats: The datatypes of the inputs as Triton's configuration writes them, such as
            ``TYPE_FP32`` and ``TYPE_STRING``.
        np_input_formats: The NumPy types that the inputs are cast to, such as ``numpy.float32``.
        input_names: The names of the inputs, in the order of positional arguments.
        output_names: The names of the outputs, in the order in which a call returns them.
        metadata: With a model named: the mapping in the configuration's parameter ``metadata``,
            or None. Without: the server's description of the model, as the protocol has it.

    Raises:
        InferError: Anything of the library's tree. A wrong number of inputs is a
            ``RuntimeError`` too.
    """

    def __init__(
        self,
        url: str,
        endpoint: str = "",
        scheme: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        connect_timeout: float | None = None,
    ) -> None:
        parsed = resolve_url(url, endpoint, scheme)
        self._named = parsed.model is not None
        self._protocol: Protocol = PROTOCOLS[parsed.scheme.removeprefix("triton+")]
        given = {"timeout": timeout, "connect_timeout": connect_timeout}
        options = OpenOptions.read(parsed, TRITON_OPTIONS, given, headers=headers)
        self._timeout: float = options.core["timeout"] or _TIMEOUT
        options.deadline = Deadline.after(self._timeout, explicit=False)
        self._settings = ConnectionSettings.read(parsed, options)
        if parsed.model is None:
            parsed = replace(parsed, model=self._protocol.first_model(parsed, options))
        self._backend: Backend = self._protocol.open(parsed, options)
        self._lock = threading.Lock()
        self._client: Any = None
        described = self._backend.metadata
        self.endpoint = parsed.model or ""
        self.url = "/".join((self._settings.address, *parsed.base_path))
        self.runtime = described.platform
        self.input_names = [spec.name for spec in described.inputs]
        self.output_names = [spec.name for spec in described.outputs]
        if self._named:
            self.output_names.sort()
        self.input_formats = [_config_name(spec.dtype) for spec in described.inputs]
        self.np_input_formats = [spec.dtype.numpy_dtype.type for spec in described.inputs]
        self.metadata = self._read_parameter() if self._named else self._describe()

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the model; see the class for what is taken and returned.

        Raises:
            InferError: Anything of the library's tree. A wrong number of inputs, or inputs given
                both by position and by name, is a ``RuntimeError`` too.
        """
        given = self._bind(args, kwargs)
        specs = {spec.name: spec for spec in self._backend.metadata.inputs}
        response = self._backend.infer(
            InferRequest(
                inputs={name: cast_input(array, specs[name]) for name, array in given.items()},
                outputs=None,
                deadline=Deadline.after(self._timeout, explicit=False),
            )
        )
        outputs: list[Array] = [response.outputs[name] for name in self.output_names]
        if self._named:
            like = next(iter(given.values())).dtype
            return [cast_output(output, like) for output in outputs]
        return outputs[0] if len(outputs) == 1 else outputs

    @property
    def triton_client(self) -> Any:
        """A tritonclient ``InferenceServerClient`` of this server, made when first asked for.

        It does not send the headers given here, and tritonclient's over HTTP is not safe for
        threads.
        """
        with self._lock:
            if self._client is None:
                self._client = self._protocol.make_client(self._settings, self.url, self._timeout)
            return self._client

    @property
    def InferInput(self) -> Any:  # noqa: N802 - tritonclient's name
        """The class of that name of tritonclient, for this protocol."""
        return self._protocol.tritonclient().InferInput

    @property
    def InferRequestedOutput(self) -> Any:  # noqa: N802 - tritonclient's name
        """The class of that name of tritonclient, for this protocol."""
        return self._protocol.tritonclient().InferRequestedOutput

    def close(self) -> None:
        """Disconnect. May be called more than once."""
        self._backend.close()
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def __enter__(self) -> TritonRemoteModel:  # noqa: PYI034 - typing.Self is new in 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<TritonRemoteModel {self.endpoint!r} at {self._settings.url}>"

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Array]:
        """The arrays that were given, by name, in metadata order."""
        if not args and not kwargs:
            raise InputCountError("No inputs provided.")
        if args and kwargs:
            raise InputCountError("Cannot specify args and kwargs at the same time")
        inputs = self._backend.metadata.inputs
        count = len(args) or len(kwargs)
        optional = sum(spec.optional for spec in inputs)
        if not len(inputs) - optional <= count <= len(inputs):
            raise InputCountError(f"Expected {len(inputs)} inputs, got {count}.")
        given = dict(kwargs) or dict(zip(self.input_names, args, strict=False))
        unknown = sorted(given.keys() - set(self.input_names))
        missing = [s.name for s in inputs if s.name not in given and not s.optional]
        if unknown or missing:
            raise InvalidInput(
                f"the model's inputs are {', '.join(map(repr, self.input_names))}; not among them "
                f"{unknown}, not given {missing}"
            )
        return {name: as_array(given[name], name) for name in self.input_names if name in given}

    def _read_parameter(self) -> dict[str, Any] | None:
        """The mapping in the configuration's parameter ``metadata``."""
        text = self._backend.metadata.parameters.get("metadata")
        return None if text is None else read_mapping(text)

    def _describe(self) -> dict[str, Any]:
        described = self._backend.metadata
        tensors = {
            key: [
                {"name": spec.name, "datatype": spec.dtype.value, "shape": list(spec.shape)}
                for spec in specs
            ]
            for key, specs in (("inputs", described.inputs), ("outputs", described.outputs))
        }
        return {
            "name": described.name,
            "versions": list(described.versions),
            "platform": described.platform,
            **tensors,
        }


def resolve_url(url: str, endpoint: str, scheme: str) -> ModelURL:
    """One URL of the three arguments. Pure.

    Raises:
        InvalidURL: They contradict each other, or it is no URL of Triton's.
    """
    text = url if not scheme or "://" in url else f"{scheme}://{url}"
    parsed = ModelURL.parse(text)
    if parsed.scheme.removeprefix("triton+") not in PROTOCOLS:
        raise InvalidURL(
            f"{parsed.location!r} is no URL of Triton's: expected one of {', '.join(PROTOCOLS)}"
        )
    if scheme and scheme.lower() != parsed.scheme:
        raise InvalidURL(f"{parsed.location!r} is given with another scheme, {scheme!r}")
    for name, _ in parsed.options:
        if name in _MEANINGLESS:
            raise InvalidURL(f"the option {name!r} has no meaning here: use open_model")
    if not endpoint:
        return parsed
    if parsed.model not in {None, endpoint}:
        raise InvalidURL(f"{parsed.location!r} is given with another model, {endpoint!r}")
    return replace(parsed, model=endpoint)


def read_mapping(text: str) -> dict[str, Any] | None:
    """The mapping that ``text`` writes, as JSON or as a Python literal; None if it is neither."""
    import ast

    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return None


def _config_name(dtype: DataType) -> str:
    return "TYPE_STRING" if dtype is DataType.BYTES else f"TYPE_{dtype}"
