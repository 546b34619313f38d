"""The answers of the Open Inference Protocol over HTTP: outputs, where their bytes go. Pure.

An answer's JSON object says what follows it, so that the arrays of the outputs can be made before
their bytes are received, and those be received into them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from infer_backends.plugin import (
    Array,
    DataType,
    InferRequest,
    InferResponse,
    ModelMetadata,
    ParameterValue,
    ProtocolError,
    TensorSpec,
)
from infer_backends_triton._codec import (
    byte_view,
    check_size,
    decode,
    from_json,
    make_room,
    settle,
)
from infer_backends_triton._http_messages import HEADER_LENGTH, parse_object
from infer_backends_triton._http_wire import ResponseHead, TooLarge, parse_length

# A model's answers to requests of one shape are alike but for the bytes of the tensors.
_KNOWN_HEADERS = 64
_LONGEST_KNOWN_HEADER = 4096
_INTEGER = re.compile(r"[0-9]{1,19}")


class ErrorInAnswer(ProtocolError):
    """The answer is an error object of the protocol, though its status is that of success."""


@dataclass(frozen=True, slots=True)
class _Output:
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
class _Header:
    """The JSON object of an answer, checked against the model's metadata.

    Attributes:
        outputs: The outputs, in the order of their bytes.
        names: Their names, in the same order.
        request_id: The id of the request that this answers, as the server says it.
        model_version: The version that answered; empty where it does not say.
        parameters: The response's parameters.
    """

    outputs: tuple[_Output, ...]
    names: tuple[str, ...]
    request_id: Any
    model_version: str
    parameters: Mapping[str, ParameterValue]


class AnswerReader:
    """Reads the answers of one model. What answers have in common is worked out once.

    Args:
        metadata: The model's metadata.
        url: Who answers, secrets masked.
    """

    def __init__(self, metadata: ModelMetadata, url: str) -> None:
        self.url = url
        self.all_outputs = tuple(spec.name for spec in metadata.outputs)
        self._specs = {spec.name: spec for spec in metadata.outputs}
        self._known_header = lru_cache(_KNOWN_HEADERS)(self._read_header)

    def expect(self, request: InferRequest) -> Answer:
        """The answer to ``request``, which is still to come."""
        return Answer(self, request)

    def read_header(self, text: bytes) -> _Header:
        """What the JSON object of an answer says.

        Raises:
            ProtocolError: It does not hold together, or is not about this model.
            ErrorInAnswer: It is an error.
        """
        if len(text) <= _LONGEST_KNOWN_HEADER:
            return self._known_header(text)
        return self._read_header(text)

    def _read_header(self, text: bytes) -> _Header:
        answer = parse_object(text, "the answer")
        outputs = _read_outputs(answer, self._specs)
        version = answer.get("model_version")
        if type(version) is int:
            version = str(version)
        return _Header(
            outputs=outputs,
            names=tuple(output.spec.name for output in outputs),
            request_id=answer.get("id"),
            model_version=version if isinstance(version, str) else "",
            parameters=_read_parameters(answer),
        )


class Answer:
    """One answer: takes it in, and becomes the response.

    Either the connection asks :meth:`prefix_length` and :meth:`place` where the parts of the body
    go, or :meth:`take` is given the whole of it.
    """

    __slots__ = ("_arrays", "_header", "_reader", "_request_id", "_wanted")

    _header: _Header
    _arrays: list[Array]

    def __init__(self, reader: AnswerReader, request: InferRequest) -> None:
        self._reader = reader
        self._request_id = request.request_id
        self._wanted = reader.all_outputs if request.outputs is None else request.outputs

    def prefix_length(self, head: ResponseHead) -> int | None:
        """The length of the JSON object before the tensors' bytes; None when it is all there is.

        Raises:
            ProtocolError: It is longer than the body.
        """
        text = head.headers.get(HEADER_LENGTH)
        return None if text is None else _check_prefix(text, head.length)

    def place(self, prefix: bytes, length: int) -> list[memoryview]:
        """Make the arrays of the outputs.

        Args:
            prefix: The JSON object.
            length: How many bytes come after it.

        Returns:
            The memory that these bytes go to, in order; nothing empty.

        Raises:
            ProtocolError: The answer does not hold together, or is not one to this request.
        """
        self._header = header = self._reader.read_header(prefix)
        self._check(header)
        left = length
        arrays, views = [], []
        for output in header.outputs:
            size = output.size
            if size is None:
                name = output.spec.name
                arrays.append(from_json(output.data, output.spec.dtype, output.shape, name))
                continue
            if size > left:
                raise ProtocolError(
                    f"output {output.spec.name!r} should have {size} bytes; {left} are there"
                )
            left -= size
            array = _make_room(output)
            arrays.append(array)
            if size:
                views.append(byte_view(array))
        if left:
            raise ProtocolError(f"the answer has {left} bytes that belong to no output")
        self._arrays = arrays
        return views

    def take(self, body: memoryview, head: ResponseHead) -> None:
        """Take in a body that was received as a whole.

        Raises:
            ProtocolError: The answer does not hold together, or is not one to this request.
        """
        text = head.headers.get(HEADER_LENGTH)
        end = len(body) if text is None else _check_prefix(text, len(body))
        for view in self.place(bytes(body[:end]), len(body) - end):
            view[:] = body[end : end + len(view)]
            end += len(view)

    def response(self) -> InferResponse:
        """The response, once all of the body is here.

        Raises:
            ProtocolError: An output of ``BYTES`` does not hold together.
        """
        header = self._header
        arrays = map(_finish, header.outputs, self._arrays)
        outputs = dict(zip(header.names, arrays, strict=True))
        if self._wanted != header.names:
            outputs = {name: outputs[name] for name in self._wanted}
        return InferResponse(
            outputs=outputs,
            model_version=header.model_version,
            parameters=dict(header.parameters),
            backend_url=self._reader.url,
        )

    def _check(self, header: _Header) -> None:
        if self._request_id and header.request_id not in (None, "", self._request_id):
            raise ProtocolError("the answer has the id of another request")
        missing = [name for name in self._wanted if name not in header.names]
        if missing:
            raise ProtocolError(f"the answer lacks the output {missing[0]!r}")


def _make_room(output: _Output) -> Array:
    """The memory that an output's bytes are received into; none is taken before they arrive."""
    try:
        return make_room(*output.room, output.spec.name)
    except MemoryError as exc:
        raise TooLarge(
            f"there is no memory for output {output.spec.name!r} of {output.size} bytes"
        ) from exc


def _finish(output: _Output, array: Array) -> Array:
    """The output's array, after its bytes came into ``array``."""
    if output.size is None:
        return array
    if output.spec.dtype is DataType.BYTES:
        return decode(array.data, DataType.BYTES, output.shape, output.spec.name)
    return settle(array, output.spec.dtype)


@lru_cache(_KNOWN_HEADERS)
def _check_prefix(text: str, length: int | None) -> int:
    prefix = parse_length(text, HEADER_LENGTH)
    if length is not None and prefix > length:
        raise ProtocolError(f"the answer's JSON should have {prefix} bytes; all of it has {length}")
    return prefix


def _read_outputs(
    answer: Mapping[str, Any], specs: Mapping[str, TensorSpec]
) -> tuple[_Output, ...]:
    entries = answer.get("outputs")
    if entries is None and "error" in answer:
        raise ErrorInAnswer("the answer is an error object")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ProtocolError("the answer has no list of outputs")
    outputs: dict[str, _Output] = {}
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
        outputs[spec.name] = _Output(spec, shape, size, room, entry.get("data"))
    return tuple(outputs.values())


def _read_stranger(entry: Mapping[str, Any], spec: TensorSpec) -> _Output:
    """An output that the metadata does not have: its bytes are received, and left out."""
    size = _binary_size(entry, spec.name[:100])
    room = (size or 0,), spec.dtype.numpy_dtype
    return _Output(spec, room[0], size or 0, room, None)


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
