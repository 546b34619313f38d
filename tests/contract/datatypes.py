"""Which tensors go which way, and which cannot: one table, for the tests and for the documentation.

``python -m tests.contract.datatypes`` writes it into ``docs/reference/datatypes.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from infer_backends import InvalidInput, ModelNotFound, ProtocolError, UnsupportedOperation
from infer_backends.plugin import Array, DataType, InferError

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "datatypes.md"
BEGIN, END = "<!-- the table -->\n", "<!-- the end of the table -->\n"

Way = Literal[
    "triton-http",
    "triton-grpc",
    "shared-http",
    "shared-grpc",
    "mlserver-http",
    "mlserver-grpc",
    "typed",
    "onnxruntime",
    "openvino",
]

#: The columns: a title, and the ways that it stands for, which do the same.
COLUMNS: tuple[tuple[str, tuple[Way, ...]], ...] = (
    ("HTTP, binary (Triton)", ("triton-http",)),
    ("HTTP, JSON (MLServer)", ("mlserver-http",)),
    ("gRPC, raw (Triton)", ("triton-grpc",)),
    ("gRPC, raw (MLServer)", ("mlserver-grpc",)),
    ("gRPC, typed answers", ("typed",)),
    ("shared memory, either protocol (Triton)", ("shared-http", "shared-grpc")),
    ("onnxruntime", ("onnxruntime",)),
    ("OpenVINO", ("openvino",)),
)
WAYS: tuple[Way, ...] = tuple(way for _, ways in COLUMNS for way in ways)

TRITON: tuple[Way, ...] = ("triton-http", "triton-grpc", "shared-http", "shared-grpc")
FLOATING = frozenset({DataType.FP16, DataType.BF16, DataType.FP32, DataType.FP64})
LARGE = frozenset({DataType.INT64, DataType.UINT32, DataType.UINT64})


@dataclass(frozen=True)
class Case:
    """A tensor that is sent, and has to come back as it went.

    Attributes:
        row: The row of the table that it belongs to.
        dtype: Its datatype.
        array: The tensor.
        model: The kind of model that gives it back.
    """

    row: str
    dtype: DataType
    array: Array
    model: Literal["matrix", "scalar", "batching"] = "matrix"

    def __str__(self) -> str:
        return f"{self.row}: {self.dtype}{list(self.array.shape)}"


@dataclass(frozen=True)
class Limit:
    """What cannot be.

    Attributes:
        why: The reason, for the page.
        error: What is raised; None where there can be no such model.
        at: When.
    """

    why: str
    error: type[InferError] | None = None
    at: Literal["open", "call"] = "call"


_JSON_HALVES = Limit("JSON has no form for it: use gRPC", UnsupportedOperation, "open")
_NO_BF16 = Limit("MLServer has no such datatype, and loads no such model", ModelNotFound, "open")
_TYPED_HALVES = Limit("the protocol has no typed contents for it", ProtocolError)
_ORT_BF16 = Limit("the Python API of onnxruntime has no arrays of it", UnsupportedOperation, "open")
_JSON_NAN = Limit("JSON has no form for them: use gRPC", UnsupportedOperation)
_JSON_BYTES = Limit("JSON carries text only: use gRPC", UnsupportedOperation)
_ORT_BYTES = Limit("strings of onnxruntime are UTF-8", InvalidInput)
_OV_LARGE = Limit("OpenVINO computes in integers of 32 bits with a sign", InvalidInput)
_OV_FP64 = Limit(
    "OpenVINO computes in FP32; `precision=fp32` accepts that", UnsupportedOperation, "open"
)
_OV_BYTES = Limit("OpenVINO corrupts memory with strings", UnsupportedOperation, "open")
_NO_SCALARS = Limit("a model of Triton has one dimension or more")
_NO_BATCHES = Limit("only Triton says a `max_batch_size`; elsewhere see the row above")

INTEGERS = "`BOOL`, `INT8` to `INT64`, `UINT8` to `UINT64`"
BEYOND = "`INT64`, `UINT32`, `UINT64`: beyond 32 bits with a sign"
FLOATS = "`FP32`"
NOT_FINITE = "`FP32`: NaN, infinities"
DOUBLES = "`FP64`"
DOUBLES_NOT_FINITE = "`FP64`: NaN, infinities"
HALVES = "`FP16`"
BRAINS = "`BF16`"
TEXT = "`BYTES`: text, with NULs, emoji, empty strings"
BINARY = "`BYTES`: bytes that are not UTF-8"
EMPTY = "no elements: `[0, 3]`, `[2, 0]`, where others are sent"
SCALAR = "a scalar: `[]`"
NO_ROWS = "no rows, where `max_batch_size` is over 0"

#: What cannot be, by row and column.
LIMITS: dict[str, dict[Way, Limit]] = {
    INTEGERS: {},
    BEYOND: {"openvino": _OV_LARGE},
    FLOATS: {},
    NOT_FINITE: {"mlserver-http": _JSON_NAN},
    DOUBLES: {"openvino": _OV_FP64},
    DOUBLES_NOT_FINITE: {"mlserver-http": _JSON_NAN, "openvino": _OV_FP64},
    HALVES: {"mlserver-http": _JSON_HALVES, "typed": _TYPED_HALVES},
    BRAINS: {
        "mlserver-http": _NO_BF16,
        "mlserver-grpc": _NO_BF16,
        "typed": _TYPED_HALVES,
        "onnxruntime": _ORT_BF16,
    },
    TEXT: {"openvino": _OV_BYTES},
    BINARY: {"mlserver-http": _JSON_BYTES, "onnxruntime": _ORT_BYTES, "openvino": _OV_BYTES},
    EMPTY: {},
    NO_ROWS: dict.fromkeys(set(WAYS) - set(TRITON), _NO_BATCHES),
    SCALAR: dict.fromkeys(TRITON, _NO_SCALARS),
}


def cases() -> Iterator[Case]:
    """Every tensor of the table."""
    for dtype in DataType:
        if dtype is not DataType.BYTES and dtype not in FLOATING:
            if dtype in LARGE:
                yield Case(BEYOND, dtype, _extremes(dtype))
                dtype_32 = DataType.INT32 if dtype is DataType.INT64 else DataType.UINT16
                yield Case(INTEGERS, dtype, _extremes(dtype_32).astype(dtype.numpy_dtype))
            else:
                yield Case(INTEGERS, dtype, _extremes(dtype))
        if dtype not in {DataType.FP16, DataType.BF16}:
            # Where a datatype cannot be sent at all, its row is that of its own.
            row = {DataType.FP64: DOUBLES, DataType.BYTES: TEXT}.get(dtype, EMPTY)
            empty = np.empty((0, 3), dtype.numpy_dtype)
            yield Case(row, dtype, empty)
            yield Case(row, dtype, empty.reshape(2, 0))
    for rows, dtype, largest in (
        ((FLOATS, NOT_FINITE), DataType.FP32, 0x7F7F_FFFF),
        ((DOUBLES, DOUBLES_NOT_FINITE), DataType.FP64, 0x7FEF_FFFF_FFFF_FFFF),
    ):
        yield Case(rows[0], dtype, _bits(dtype, largest))
        yield Case(rows[1], dtype, np.array([[np.nan], [np.inf], [-np.inf]], dtype.numpy_dtype))
    for row, dtype, largest in ((HALVES, DataType.FP16, 0x7BFF), (BRAINS, DataType.BF16, 0x7F7F)):
        yield Case(row, dtype, _bits(dtype, largest))
    yield Case(TEXT, DataType.BYTES, _objects("", "a\0b\0", "naïve 🦜", "\n", "x" * 1000, "plain"))
    yield Case(BINARY, DataType.BYTES, _objects(b"\xff\0\xfe", b"\0", b"", b"plain"))
    yield Case(SCALAR, DataType.FP32, np.array(-0.1, np.float32), "scalar")
    yield Case(NO_ROWS, DataType.FP32, np.empty((0, 3), np.float32), "batching")


def _extremes(dtype: DataType) -> Array:
    if dtype is DataType.BOOL:
        return np.array([[True, False], [False, True]])
    limits = np.iinfo(np.dtype(dtype.numpy_dtype.name))
    return np.array([[limits.min, 0], [1, limits.max]], dtype.numpy_dtype)


def _bits(dtype: DataType, largest: int) -> Array:
    """The largest, the smallest, minus zero, the least above zero, and what has no short text."""
    unsigned: Any = {2: np.uint16, 4: np.uint32, 8: np.uint64}[dtype.numpy_dtype.itemsize]
    sign = 1 << dtype.numpy_dtype.itemsize * 8 - 1
    array = np.array([[largest, largest | sign, sign], [1, largest // 3, 0]], unsigned)
    return array.view(dtype.numpy_dtype)


def _objects(*elements: bytes | str) -> Array:
    array = np.empty(len(elements), object)
    array[:] = [part.encode() if isinstance(part, str) else part for part in elements]
    return array.reshape(2, -1)


def render() -> str:
    """The table in Markdown, and its notes."""
    notes: list[str] = []
    lines = [
        _line(["tensors", *(title for title, _ in COLUMNS)]),
        _line(["---"] * (len(COLUMNS) + 1)),
    ]
    for row, limits in LIMITS.items():
        cells = [_cell({limits.get(way) for way in ways}, notes) for _, ways in COLUMNS]
        lines.append(_line([row, *cells]))
    return "".join([*lines, "\n", *(f"{i}. {note}\n" for i, note in enumerate(notes, 1))])


def _cell(found: set[Limit | None], notes: list[str]) -> str:
    (limit,) = found
    if limit is None:
        return "yes"
    note = f"{limit.why[0].upper()}{limit.why[1:]}"
    if limit.error is not None:
        when = "when it is opened" if limit.at == "open" else "by the call"
        note += f". `{limit.error.__name__}` is raised {when}"
    if f"{note}." not in notes:
        notes.append(f"{note}.")
    return f"no ({notes.index(f'{note}.') + 1})"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def page() -> str:
    """The page as it has to be."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{render()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
