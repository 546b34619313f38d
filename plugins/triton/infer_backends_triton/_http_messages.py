"""The JSON of the Open Inference Protocol over HTTP, both ways. Pure.

With the server's binary tensor data extension a message is one JSON object and, after it, the
bytes of the tensors that the object describes, in its order; ``Inference-Header-Content-Length``
says where the object ends. Without it, tensors are lists in the object.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from infer_backends.plugin import (
    Array,
    DataType,
    InferRequest,
    InferResponse,
    InvalidInput,
    ModelMetadata,
    ParameterValue,
    ProtocolError,
    TensorSpec,
)
from infer_backends_triton import _discovery as discovery
from infer_backends_triton._codec import decode, encode, from_json, to_json

#: Says, in requests and in answers, how long the JSON object before the tensors' bytes is.
HEADER_LENGTH = "inference-header-content-length"
# What a segment of a path may hold as it is (RFC 3986, "pchar"). Triton does not decode its paths,
# so that a model "a+b" is not found as "a%2Bb".
_PLAIN = "!$&'()*+,;=:@"


@dataclass(frozen=True, slots=True)
class InferMessage:
    """A request, ready to be sent.

    Attributes:
        header: The JSON object.
        tensors: The bytes of the inputs, in order; empty ones left out. They may be views of
            the caller's arrays.
        binary: Whether tensors travel as bytes.
    """

    header: bytes
    tensors: tuple[bytes | memoryview, ...]
    binary: bool

    @property
    def length(self) -> int:
        """The length of the whole body, in bytes."""
        return len(self.header) + sum(len(tensor) for tensor in self.tensors)


def model_path(base: Sequence[str], model: str, version: str | None) -> str:
    """The path of a model, percent-encoded."""
    segments = [*base, "v2", "models", model]
    if version is not None:
        segments += ["versions", version]
    return server_path(segments)


def server_path(segments: Sequence[str]) -> str:
    """A path made of these segments, percent-encoded where that is needed."""
    return "".join(f"/{quote(segment, safe=_PLAIN)}" for segment in segments)


def build_infer(request: InferRequest, metadata: ModelMetadata, *, binary: bool) -> InferMessage:
    """The message for one request.

    Raises:
        InvalidInput: A parameter or the request's id cannot be sent.
        UnsupportedOperation: JSON cannot carry one of the inputs.
    """
    dtypes = {spec.name: spec.dtype for spec in metadata.inputs}
    header: dict[str, Any] = {}
    if request.request_id:
        header["id"] = request.request_id
    parameters = dict(request.parameters)
    tensors: list[bytes | memoryview] = []
    inputs = []
    for name, array in request.inputs.items():
        dtype = dtypes[name]
        entry: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": dtype.value}
        if binary:
            raw = encode(array, dtype)
            entry["parameters"] = {"binary_data_size": len(raw)}
            if len(raw):
                tensors.append(raw)
        else:
            entry["data"] = to_json(array, dtype, name)
        inputs.append(entry)
    if request.outputs is not None:
        wanted = {"parameters": {"binary_data": True}} if binary else {}
        header["outputs"] = [{"name": name, **wanted} for name in request.outputs]
    elif binary:
        if "binary_data_output" in parameters:
            raise InvalidInput("the parameter 'binary_data_output' is not for callers: remove it")
        parameters["binary_data_output"] = True
    if parameters:
        header["parameters"] = parameters
    header["inputs"] = inputs
    return InferMessage(_dump(header), tuple(tensors), binary)


def read_infer(
    body: memoryview,
    header_length: int | None,
    request: InferRequest,
    metadata: ModelMetadata,
    backend_url: str,
) -> InferResponse:
    """The response that an answer to ``request`` holds.

    Args:
        body: The whole body.
        header_length: The length of its JSON object, or None when there is nothing else.
        request: What was asked.
        metadata: The metadata of the model that was asked.
        backend_url: Who answered, secrets masked.

    Raises:
        ProtocolError: The answer does not hold together, or is not one to this request.
    """
    if header_length is not None and header_length > len(body):
        raise ProtocolError(
            f"the answer's JSON should have {header_length} bytes; all of it has {len(body)}"
        )
    end = len(body) if header_length is None else header_length
    answer = parse_object(body[:end], "the answer")
    answered = answer.get("id")
    if request.request_id and answered not in {None, "", request.request_id}:
        raise ProtocolError("the answer has the id of another request")
    outputs = _read_outputs(answer, body[end:], {spec.name: spec for spec in metadata.outputs})
    wanted = request.outputs
    if wanted is None:
        wanted = tuple(spec.name for spec in metadata.outputs)
    missing = [name for name in wanted if name not in outputs]
    if missing:
        raise ProtocolError(f"the answer lacks the output {missing[0]!r}")
    version = answer.get("model_version")
    return InferResponse(
        outputs={name: outputs[name] for name in wanted},
        model_version=version if isinstance(version, str) else "",
        parameters=_read_parameters(answer),
        backend_url=backend_url,
    )


def parse_object(text: bytes | bytearray | memoryview, what: str) -> Mapping[str, Any]:
    """The JSON object that ``text`` is.

    Raises:
        ProtocolError: It is something else.
    """
    answer = _parse(text, what)
    if not isinstance(answer, dict):
        raise ProtocolError(f"{what} is no JSON object")
    return answer


def choose_model(index: bytes | memoryview, url: str, version: str | None) -> str:
    """The one model of a server that is ready.

    Args:
        index: What the server answered when asked for its repository.
        url: Who answered, for errors.
        version: The version that is asked for, or None for any.

    Raises:
        ModelNotFound: No model is ready.
        InvalidURL: Several are.
        ProtocolError: This is no repository index.
    """
    return discovery.choose_model(read_index(index, url), url, version)


def read_index(index: bytes | memoryview, url: str) -> list[Mapping[str, Any]]:
    """The models that a server's repository index lists.

    Raises:
        ProtocolError: This is no repository index.
    """
    entries = _parse(index, "the repository index")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ProtocolError(f"the repository index of {url} is no list of models")
    return entries


def read_extensions(body: bytes | memoryview) -> frozenset[str]:
    """The protocol extensions that a server says it has.

    Raises:
        ProtocolError: This is no server metadata.
    """
    extensions = parse_object(body, "the server's metadata").get("extensions") or []
    if not isinstance(extensions, list):
        raise ProtocolError("the server's metadata has a wrong list of extensions")
    return frozenset(name for name in extensions if isinstance(name, str))


def _read_outputs(
    answer: Mapping[str, Any], raw: memoryview, specs: Mapping[str, TensorSpec]
) -> dict[str, Array]:
    entries = answer.get("outputs")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ProtocolError("the answer has no list of outputs")
    outputs: dict[str, Array] = {}
    start = 0
    for entry in entries:
        spec = _find_spec(entry, specs)
        if spec.name in outputs:
            raise ProtocolError(f"the answer has the output {spec.name!r} twice")
        shape = _read_shape(entry, spec.name)
        size = _binary_size(entry, spec.name)
        if size is None:
            outputs[spec.name] = from_json(entry.get("data"), spec.dtype, shape, spec.name)
            continue
        if start + size > len(raw):
            raise ProtocolError(
                f"output {spec.name!r} should have {size} bytes; {len(raw) - start} are there"
            )
        outputs[spec.name] = decode(raw[start : start + size], spec.dtype, shape, spec.name)
        start += size
    if start != len(raw):
        raise ProtocolError(f"the answer has {len(raw) - start} bytes that belong to no output")
    return outputs


def _find_spec(entry: Mapping[str, Any], specs: Mapping[str, TensorSpec]) -> TensorSpec:
    name = entry.get("name")
    spec = specs.get(name) if isinstance(name, str) else None
    if spec is None:
        shown = repr(name[:100]) if isinstance(name, str) else "without a name"
        raise ProtocolError(f"the answer has an output {shown} that the model does not have")
    datatype = entry.get("datatype")
    if datatype != spec.dtype.value:
        known = isinstance(datatype, str) and datatype in DataType.__members__
        raise ProtocolError(
            f"output {spec.name!r} came as {datatype if known else 'an unknown datatype'}; the "
            f"model's metadata says {spec.dtype}"
        )
    return spec


def _read_shape(entry: Mapping[str, Any], name: str) -> tuple[int, ...]:
    shape = entry.get("shape")
    if not isinstance(shape, list) or not all(type(dim) is int for dim in shape):
        raise ProtocolError(f"output {name!r} has no shape, or one that is no list of integers")
    return tuple(shape)


def _binary_size(entry: Mapping[str, Any], name: str) -> int | None:
    parameters = entry.get("parameters") or {}
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is None:
        return None
    if type(size) is not int or size < 0 or "data" in entry:
        raise ProtocolError(f"output {name!r} has a wrong binary_data_size, or data beside it")
    return size


def _read_parameters(answer: Mapping[str, Any]) -> dict[str, ParameterValue]:
    parameters = answer.get("parameters")
    if not isinstance(parameters, dict):
        return {}
    return {
        name: value
        for name, value in parameters.items()
        if isinstance(value, bool | int | float | str)
    }


def _parse(text: bytes | bytearray | memoryview, what: str) -> Any:
    try:
        return json.loads(str(text, "utf-8"))
    except (ValueError, RecursionError) as exc:
        # Only the kind: the exception keeps the whole text.
        raise ProtocolError(f"{what} is not JSON") from ValueError(type(exc).__name__)


def _dump(header: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(header, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError) as exc:
        # Not chained: a UnicodeError keeps the whole text, tensors included.
        raise InvalidInput(
            "the request's id or one of its parameters cannot be sent: expected text in Unicode, "
            "finite numbers, and booleans"
        ) from ValueError(type(exc).__name__)
