"""The messages of ``inference.GRPCInferenceService`` as bytes, both ways. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError, EncodeError, Message

from infer_backends.plugin import InvalidInput, ParameterValue, ProtocolError

#: What bytes raise that are no message; the second where protobuf is without its C extension.
NO_MESSAGE = (DecodeError, UnicodeError)
#: The most bytes that one protobuf message may have.
MAX_MESSAGE_BYTES = 2**31 - 1

_INT64 = range(-(2**63), 2**63)
_UINT64 = range(2**64)


def serialise(message: Message) -> bytes:
    """The bytes of a message without tensors.

    Raises:
        InvalidInput: It is larger than a message may be.
    """
    try:
        serialised: bytes = message.SerializeToString()
    except (EncodeError, ValueError) as exc:
        raise _too_large(0) from exc
    return serialised


def parse(kind: type[Any], answer: bytes, url: str) -> Any:
    """The message of type ``kind`` that ``answer`` holds.

    Raises:
        ProtocolError: It holds none.
    """
    try:
        return kind.FromString(answer)
    except NO_MESSAGE as exc:
        raise ProtocolError(
            f"{url} answered with {len(answer)} bytes that are no {kind.DESCRIPTOR.name}"
        ) from exc


def to_mapping(message: Message) -> dict[str, Any]:
    """The message in the JSON form that HTTP uses: snake case, what is empty left out."""
    return dict(MessageToDict(message, preserving_proto_field_name=True))


def check_size(size: int, tensor_bytes: int) -> None:
    """Refuse a message that is too large.

    Args:
        size: Its length, in bytes.
        tensor_bytes: How much of it is tensors, for the error.

    Raises:
        InvalidInput: It is.
    """
    if size > MAX_MESSAGE_BYTES:
        raise _too_large(tensor_bytes)


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


def _too_large(tensor_bytes: int) -> InvalidInput:
    return InvalidInput(
        f"the inputs have {tensor_bytes} bytes, and a gRPC message has at most "
        f"{MAX_MESSAGE_BYTES}: send fewer rows at a time, or use http://"
    )
