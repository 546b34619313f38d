"""What an ONNX file declares of its graph's inputs and outputs, read from its protobuf encoding.

onnxruntime's Python API shows a scalar and a tensor of unknown rank alike, says nothing of a graph
that it refuses, and nothing at all before it has loaded the weights. The file itself tells. Only
the few fields below are read (onnx.proto, field numbers in brackets), all others are skipped, so
that gigabytes of weights cost nothing::

    ModelProto.model_version [5], .graph [7], .metadata_props [14] -> .key [1], .value [2]
    GraphProto.initializer [5] -> TensorProto.name [8]
              .sparse_initializer [15] -> .values [1] -> TensorProto.name [8]
              .input [11], .output [12] -> ValueInfoProto.name [1], .type [2]
    TypeProto.tensor_type [1] -> .elem_type [1], .shape [2] -> .dim [1] -> .dim_value [1]
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_LONGEST_PART = 1 << 20  # bytes of a declaration, a name or a note
_VARIES = -1


@dataclass(frozen=True, slots=True)
class DeclaredTensor:
    """What the file says of one graph input or output.

    Attributes:
        name: Its name.
        element_type: The number of its element type (TensorProto.DataType); 0 if it is no tensor.
        shape: Its dimensions, -1 for one that varies; None if no shape is declared (that of a
            scalar is, and is empty).
    """

    name: str
    element_type: int
    shape: tuple[int, ...] | None


@dataclass(slots=True)
class DeclaredModel:
    """What the file says of the model.

    Attributes:
        version: The version that it states; 0 for none.
        notes: What its author wrote down, by name.
        inputs: The inputs of the graph, those that have a value in the file among them.
        outputs: The outputs of the graph.
        initialized: The names of what has a value in the file.
    """

    version: int = 0
    notes: dict[str, str] = field(default_factory=dict)
    inputs: list[DeclaredTensor] = field(default_factory=list)
    outputs: list[DeclaredTensor] = field(default_factory=list)
    initialized: set[str] = field(default_factory=set)


def declared_tensors(path: str) -> tuple[DeclaredTensor, ...]:
    """The declared inputs, then outputs, of the graph; none if the file cannot be understood."""
    model = declared_model(path)
    return (*model.inputs, *model.outputs) if model is not None else ()


def declared_model(path: str) -> DeclaredModel | None:
    """What the file declares; None if it cannot be understood."""
    try:
        with open(path, "rb") as file:
            return _model(file, os.fstat(file.fileno()).st_size)
    except (OSError, ValueError):
        return None


def _model(file: BinaryIO, size: int) -> DeclaredModel:
    model = DeclaredModel()
    graphs = 0
    for number, start, end in _fields(file, 0, size):
        if number == 5:
            file.seek(start)
            model.version = _varint(file)
        elif number == 7:
            graphs += 1
            _read_graph(file, start, end, model)
        elif number == 14:
            note = {inner: _text(file, *span) for inner, *span in _fields(file, start, end)}
            model.notes[note.get(1, "")] = note.get(2, "")
    if graphs != 1:
        raise ValueError("not one graph")
    return model


def _read_graph(file: BinaryIO, start: int, end: int, model: DeclaredModel) -> None:
    for number, begin, stop in _fields(file, start, end):
        if number == 5:
            model.initialized.add(_tensor_name(file, begin, stop))
        elif number == 15:
            for inner, *span in _fields(file, begin, stop):
                if inner == 1:
                    model.initialized.add(_tensor_name(file, *span))
        elif number in {11, 12}:
            tensors = model.inputs if number == 11 else model.outputs
            tensors.append(_value_info(_bytes(file, begin, stop)))


def _tensor_name(file: BinaryIO, start: int, end: int) -> str:
    name = ""
    for number, begin, stop in _fields(file, start, end):
        if number == 8:
            name = _text(file, begin, stop)
    return name


def _value_info(encoded: bytes) -> DeclaredTensor:
    name, element_type, shape = "", 0, None
    stream = BytesIO(encoded)
    for number, start, end in _fields(stream, 0, len(encoded)):
        if number == 1:
            name = _text(stream, start, end)
        elif number == 2:
            for kind, begin, stop in _fields(stream, start, end):
                if kind == 1:
                    element_type, shape = _tensor_type(stream, begin, stop)
    return DeclaredTensor(name, element_type, shape)


def _tensor_type(stream: BinaryIO, start: int, end: int) -> tuple[int, tuple[int, ...] | None]:
    element_type, shape = 0, None
    for number, begin, stop in _fields(stream, start, end):
        if number == 1:
            stream.seek(begin)
            element_type = _varint(stream)
        elif number == 2:
            dims = _fields(stream, begin, stop)
            shape = tuple([_dim(stream, *span) for kind, *span in dims if kind == 1])
    return element_type, shape


def _dim(stream: BinaryIO, start: int, end: int) -> int:
    """A dimension; symbolic, unnamed and negative ones vary."""
    size = _VARIES
    for number, begin, _ in _fields(stream, start, end):
        if number == 1:
            stream.seek(begin)
            value = _varint(stream)
            size = value if value < 1 << 63 else _VARIES
        elif number == 2:
            size = _VARIES
    return size


def _text(stream: BinaryIO, start: int, end: int) -> str:
    return _bytes(stream, start, end).decode()


def _bytes(stream: BinaryIO, start: int, end: int) -> bytes:
    if end - start > _LONGEST_PART:
        raise ValueError("a declaration of an impossible length")
    stream.seek(start)
    return stream.read(end - start)


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
