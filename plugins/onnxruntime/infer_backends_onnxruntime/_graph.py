"""The inputs and outputs that an ONNX file declares, read from its protobuf encoding.

onnxruntime's Python API shows a scalar and a tensor of unknown rank alike, and says nothing of a
graph that it refuses. The file itself tells. Only the few fields below are read (onnx.proto,
field numbers in brackets), all others are skipped, so that gigabytes of weights cost nothing::

    ModelProto.graph [7] -> GraphProto.input [11], .output [12] -> ValueInfoProto
    ValueInfoProto.name [1], .type [2] -> TypeProto.tensor_type [1] -> .elem_type [1], .shape [2]
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_LONGEST_VALUE_INFO = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class DeclaredTensor:
    """What the file says of one graph input or output.

    Attributes:
        name: Its name.
        element_type: The number of its element type (TensorProto.DataType); 0 if it is no tensor.
        ranked: Whether its shape is declared (that of a scalar is, and is empty).
    """

    name: str
    element_type: int
    ranked: bool


def declared_tensors(path: str) -> tuple[DeclaredTensor, ...]:
    """The declared inputs, then outputs, of the graph; none if the file cannot be understood."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            return tuple(_graph_tensors(file, size))
    except (OSError, ValueError):
        return ()


def _graph_tensors(file: BinaryIO, size: int) -> Iterator[DeclaredTensor]:
    for number, start, end in _fields(file, 0, size):
        if number != 7:
            continue
        for inner, begin, stop in _fields(file, start, end):
            if inner in {11, 12}:
                if stop - begin > _LONGEST_VALUE_INFO:
                    raise ValueError("a declaration of an impossible length")
                file.seek(begin)
                yield _value_info(file.read(stop - begin))


def _value_info(encoded: bytes) -> DeclaredTensor:
    name, element_type, ranked = "", 0, False
    stream = BytesIO(encoded)
    for number, start, end in _fields(stream, 0, len(encoded)):
        if number == 1:
            name = encoded[start:end].decode()
        elif number == 2:
            for kind, begin, stop in _fields(stream, start, end):
                if kind == 1:
                    element_type, ranked = _tensor_type(stream, begin, stop)
    return DeclaredTensor(name, element_type, ranked)


def _tensor_type(stream: BinaryIO, start: int, end: int) -> tuple[int, bool]:
    element_type, ranked = 0, False
    for number, begin, _ in _fields(stream, start, end):
        if number == 1:
            stream.seek(begin)
            element_type = _varint(stream)
        elif number == 2:
            ranked = True
    return element_type, ranked


def _fields(stream: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The number, begin and end of each field between two offsets; survives seeks in between."""
    position = start
    while position < end:
        stream.seek(position)
        tag = _varint(stream)
        wire = tag & 7
        if wire == _DELIMITED:
            length = _varint(stream)
            begin = stream.tell()
        else:
            begin = stream.tell()
            length = _scalar_length(stream, wire)
        position = begin + length
        if position > end:
            raise ValueError("a field that is longer than what holds it")
        yield tag >> 3, begin, position


def _scalar_length(stream: BinaryIO, wire: int) -> int:
    if wire == _VARINT:
        begin = stream.tell()
        _varint(stream)
        return stream.tell() - begin
    if wire in {_FIXED64, _FIXED32}:
        return 8 if wire == _FIXED64 else 4
    raise ValueError("not protobuf")


def _varint(stream: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("not protobuf")
