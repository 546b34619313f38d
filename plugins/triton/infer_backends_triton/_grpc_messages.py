"""The messages of ``inference.GRPCInferenceService``: built from requests, read into arrays. Pure.

Tensors travel as raw bytes. An answer may have them as raw bytes or as typed contents (the Open
Inference Protocol allows both, and MLServer sends the second).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError, EncodeError, Message

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
from infer_backends_triton._codec import decode, encode
from infer_backends_triton._grpc_runtime import service_pb2

#: The most bytes that one protobuf message may have.
MAX_MESSAGE_BYTES = 2**31 - 1

_INT64 = range(-(2**63), 2**63)
_UINT64 = range(2**64)
_CONTENTS = {
    DataType.BOOL: "bool_contents",
    DataType.INT8: "int_contents",
    DataType.INT16: "int_contents",
    DataType.INT32: "int_contents",
    DataType.INT64: "int64_contents",
    DataType.UINT8: "uint_contents",
    DataType.UINT16: "uint_contents",
    DataType.UINT32: "uint_contents",
    DataType.UINT64: "uint64_contents",
    DataType.FP32: "fp32_contents",
    DataType.FP64: "fp64_contents",
    DataType.BYTES: "bytes_contents",
}
_WIDE = {"i": np.dtype(np.int64), "u": np.dtype(np.uint64)}


def build_infer_request(
    request: InferRequest, metadata: ModelMetadata, model: str, version: str
) -> bytes:
    """The serialised ``ModelInferRequest``.

    Args:
        request: The call, checked against ``metadata``.
        metadata: What the model says of itself.
        model: The name to ask for.
        version: The version to ask for; empty for the server's choice.

    Raises:
        InvalidInput: Something in the request has no form in the protocol.
    """
    specs = {spec.name: spec for spec in metadata.inputs}
    try:
        message = service_pb2.ModelInferRequest(
            model_name=model, model_version=version, id=request.request_id
        )
        for name, array in request.inputs.items():
            dtype = specs[name].dtype
            message.inputs.add(name=name, datatype=dtype.value, shape=array.shape)
            message.raw_input_contents.append(bytes(encode(array, dtype)))
        for name in request.outputs or ():
            message.outputs.add(name=name)
        for name, value in request.parameters.items():
            set_parameter(message.parameters[name], name, value)
    except (UnicodeError, TypeError) as exc:
        raise InvalidInput("the request holds a name that is no Unicode text") from exc
    return _serialise(message, sum(map(len, message.raw_input_contents)))


def read_infer_response(
    answer: bytes, request: InferRequest, metadata: ModelMetadata, url: str
) -> InferResponse:
    """The arrays of a serialised ``ModelInferResponse``.

    Args:
        answer: The serialised message.
        request: What was asked.
        metadata: What the model says of itself.
        url: Who answered, secrets masked.

    Raises:
        ProtocolError: The answer does not hold together, or does not fit the metadata.
    """
    message = parse(service_pb2.ModelInferResponse, answer, url)
    if request.request_id and message.id not in {"", request.request_id}:
        raise ProtocolError(f"{url} answered with the id of another request")
    specs = {spec.name: spec for spec in metadata.outputs}
    outputs: dict[str, Array] = {}
    for tensor, raw in _pair(message, url):
        spec = specs.get(tensor.name)
        if spec is None:
            raise ProtocolError(
                f"{url} answered with an output {tensor.name[:100]!r} that the model does not have"
            )
        if tensor.name in outputs:
            raise ProtocolError(f"{url} answered with the output {tensor.name!r} twice")
        outputs[tensor.name] = _read_tensor(tensor, raw, spec, url)
    order = request.outputs if request.outputs is not None else tuple(specs)
    missing = [name for name in order if name not in outputs]
    if missing:
        raise ProtocolError(f"{url} answered without the outputs {', '.join(map(repr, missing))}")
    return InferResponse(
        outputs={name: outputs[name] for name in order},
        model_version=message.model_version,
        parameters=read_parameters(message.parameters),
        backend_url=url,
    )


def serialise(message: Message) -> bytes:
    """The bytes of a small message.

    Raises:
        InvalidInput: It holds text that is not Unicode.
    """
    return _serialise(message, 0)


def parse(kind: type[Any], answer: bytes, url: str) -> Any:
    """The message of type ``kind`` that ``answer`` holds.

    Raises:
        ProtocolError: It holds none.
    """
    try:
        return kind.FromString(answer)
    except DecodeError as exc:
        raise ProtocolError(
            f"{url} answered with {len(answer)} bytes that are no {kind.DESCRIPTOR.name}"
        ) from exc


def to_mapping(message: Message) -> dict[str, Any]:
    """The message in the JSON form that HTTP uses: snake case, what is empty left out."""
    return dict(MessageToDict(message, preserving_proto_field_name=True))


def _serialise(message: Message, tensor_bytes: int) -> bytes:
    if tensor_bytes <= MAX_MESSAGE_BYTES:
        try:
            serialised: bytes = message.SerializeToString()
        except (EncodeError, ValueError) as exc:
            raise _too_large(tensor_bytes) from exc
        if len(serialised) <= MAX_MESSAGE_BYTES:
            return serialised
    raise _too_large(tensor_bytes)


def _too_large(tensor_bytes: int) -> InvalidInput:
    return InvalidInput(
        f"the inputs have {tensor_bytes} bytes, and a gRPC message has at most "
        f"{MAX_MESSAGE_BYTES}: send fewer rows at a time, or use http://"
    )


def set_parameter(parameter: Any, name: str, value: ParameterValue) -> None:
    """Give a parameter of a message its value.

    Raises:
        InvalidInput: The value has no form in the protocol.
    """
    # bool first: it is an int in Python.
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int) and value in _INT64:
        parameter.int64_param = value
    elif isinstance(value, int) and value in _UINT64:
        parameter.uint64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    elif isinstance(value, str):
        parameter.string_param = value
    else:
        raise InvalidInput(
            f"the parameter {name!r} is {type(value).__name__}; expected bool, a 64-bit int, float "
            "or str"
        )


def read_parameters(parameters: Mapping[str, Any]) -> dict[str, ParameterValue]:
    """The values of a message's parameters, by name."""
    read = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is not None:
            read[name] = getattr(parameter, choice)
    return read


def _pair(message: Any, url: str) -> Iterable[tuple[Any, bytes | None]]:
    """Each output, with its raw bytes if the answer has those."""
    raws: list[bytes] = list(message.raw_output_contents)
    if not raws:
        return ((tensor, None) for tensor in message.outputs)
    if len(raws) != len(message.outputs):
        raise ProtocolError(
            f"{url} answered with {len(message.outputs)} outputs and the bytes of {len(raws)}"
        )
    return zip(message.outputs, raws, strict=True)


def _read_tensor(tensor: Any, raw: bytes | None, spec: TensorSpec, url: str) -> Array:
    if tensor.datatype != spec.dtype.value:
        raise ProtocolError(
            f"{url} answered with the output {spec.name!r} as {tensor.datatype[:40]!r}; its "
            f"metadata says {spec.dtype}"
        )
    shape = tuple(tensor.shape)
    if raw is not None:
        return decode(raw, spec.dtype, shape, spec.name)
    return _read_contents(tensor.contents, spec.dtype, shape, spec.name)


def _read_contents(contents: Any, dtype: DataType, shape: tuple[int, ...], name: str) -> Array:
    """The array of an output that came as typed contents."""
    field = _CONTENTS.get(dtype)
    # FP16 and BF16 have no field, so that only an empty tensor of them can come this way.
    elements = getattr(contents, field) if field is not None else ()
    if any(dim < 0 for dim in shape):
        raise ProtocolError(f"output {name!r} has a negative dimension in its shape {list(shape)}")
    count = 1
    for dim in shape:
        count *= dim
    if len(elements) != count:
        raise ProtocolError(
            f"output {name!r} is {dtype}{list(shape)}: expected {count} elements, got "
            f"{len(elements)}"
        )
    if count == 0:
        return decode(b"", dtype, shape, name)
    if dtype is DataType.BYTES:
        array: Array = np.empty(count, object)
        array[:] = elements
    else:
        wide = np.fromiter(elements, _WIDE.get(dtype.numpy_dtype.kind, dtype.numpy_dtype), count)
        array = _narrow(wide, dtype, name)
    try:
        return array.reshape(shape)
    except ValueError as exc:
        raise ProtocolError(f"output {name!r} has {len(shape)} dimensions") from exc


def _narrow(wide: Array, dtype: DataType, name: str) -> Array:
    """Elements of 32 bits as the 8 or 16 that the datatype has."""
    array: Array = wide.astype(dtype.numpy_dtype)
    if dtype.numpy_dtype.kind in "iu" and not np.array_equal(array, wide):
        raise ProtocolError(f"output {name!r} has an element that is no {dtype}")
    return array
