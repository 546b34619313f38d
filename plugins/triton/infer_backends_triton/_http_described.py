"""What the JSON object of an answer says of the outputs that follow it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from infer_backends.plugin import DataType, ParameterValue, ProtocolError, TensorSpec
from infer_backends_triton._codec import check_size
from infer_backends_triton._http_messages import parse_object

_INTEGER = re.compile(r"[0-9]{1,19}")


class ErrorInAnswer(ProtocolError):
    """The answer is an error object of the protocol, though its status is that of success."""


@dataclass(frozen=True, slots=True)
class Output:
    """One output as the JSON object describes it.

    Attributes:
        spec: What the model's metadata says of it.
        shape: Its shape in this answer.
        size: The length of its binary form, in bytes; None when it is in the JSON object.
        room: The shape and the dtype of the array that this is received into.
        data: Its elements where they are in the JSON object.
    """

    spec: TensorSpec
    shape: tuple[int, ...]
    size: int | None
    room: tuple[tuple[int, ...], np.dtype[np.generic]]
    data: Any


@dataclass(frozen=True, slots=True)
class Header:
    """The JSON object of an answer, checked against the model's metadata.

    Attributes:
        outputs: The outputs, in the order of their bytes.
        names: Their names, in the same order.
        request_id: The id of the request that this answers, as the server says it.
        model_version: The version that answered; empty where it does not say.
        parameters: The response's parameters.
    """

    outputs: tuple[Output, ...]
    names: tuple[str, ...]
    request_id: Any
    model_version: str
    parameters: Mapping[str, ParameterValue]


def read_header(text: bytes, specs: Mapping[str, TensorSpec]) -> Header:
    """What the JSON object of an answer says.

    Args:
        text: The object.
        specs: The model's outputs, by name.

    Raises:
        ProtocolError: It does not hold together, or is not about this model.
        ErrorInAnswer: It is an error.
    """
    answer = parse_object(text, "the answer")
    outputs = _read_outputs(answer, specs)
    version = answer.get("model_version")
    if type(version) is int:
        version = str(version)
    return Header(
        outputs=outputs,
        names=tuple(output.spec.name for output in outputs),
        request_id=answer.get("id"),
        model_version=version if isinstance(version, str) else "",
        parameters=_read_parameters(answer),
    )


def _read_outputs(answer: Mapping[str, Any], specs: Mapping[str, TensorSpec]) -> tuple[Output, ...]:
    entries = answer.get("outputs")
    if entries is None and "error" in answer:
        raise ErrorInAnswer("the answer is an error object")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ProtocolError("the answer has no list of outputs")
    outputs: dict[str, Output] = {}
    for entry in entries:
        spec = _find_spec(entry, specs)
        if spec.name in outputs:
            raise ProtocolError(f"the answer has the output {spec.name[:100]!r} twice")
        if spec.name not in specs:
            outputs[spec.name] = _read_stranger(entry, spec)
            continue
        shape = _read_shape(entry, spec.name)
        size = _binary_size(entry, spec.name)
        room = shape, spec.dtype.numpy_dtype
        if size is not None:
            check_size(size, spec.dtype, shape, spec.name)
            if spec.dtype is DataType.BYTES:
                room = (size,), np.dtype(np.uint8)
        outputs[spec.name] = Output(spec, shape, size, room, entry.get("data"))
    return tuple(outputs.values())


def _read_stranger(entry: Mapping[str, Any], spec: TensorSpec) -> Output:
    """An output that the metadata does not have: its bytes are received, and left out."""
    size = _binary_size(entry, spec.name[:100])
    room = (size or 0,), spec.dtype.numpy_dtype
    return Output(spec, room[0], size or 0, room, None)


def _find_spec(entry: Mapping[str, Any], specs: Mapping[str, TensorSpec]) -> TensorSpec:
    name = entry.get("name")
    if not isinstance(name, str):
        raise ProtocolError("the answer has an output without a name")
    spec = specs.get(name)
    if spec is None:
        return TensorSpec(name, DataType.UINT8, (-1,))
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
        return _read_written_shape(shape, name)
    return tuple(shape)


def _read_written_shape(shape: Any, name: str) -> tuple[int, ...]:
    """A shape of strings: what makes JSON of gRPC's messages writes 64-bit integers so."""
    if not isinstance(shape, list) or not all(
        type(dim) is int or (isinstance(dim, str) and _INTEGER.fullmatch(dim)) for dim in shape
    ):
        raise ProtocolError(f"output {name!r} has no shape, or one that is no list of integers")
    return tuple(map(int, shape))


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
