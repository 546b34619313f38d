"""OpenVINO's element types as the protocol's datatypes, and its shapes as ours."""

from __future__ import annotations

from typing import Any

from infer_backends.plugin import DataType

#: The datatypes of the element types that NumPy and OpenVINO's Python API share, by their names.
DATATYPES = {
    "boolean": DataType.BOOL,
    "u8": DataType.UINT8,
    "u16": DataType.UINT16,
    "u32": DataType.UINT32,
    "u64": DataType.UINT64,
    "i8": DataType.INT8,
    "i16": DataType.INT16,
    "i32": DataType.INT32,
    "i64": DataType.INT64,
    "f16": DataType.FP16,
    "f32": DataType.FP32,
    "f64": DataType.FP64,
    "bf16": DataType.BF16,
}

#: Datatypes whose values OpenVINO keeps in signed integers of 32 bits while it computes.
NARROWED = frozenset({DataType.INT64, DataType.UINT64, DataType.UINT32})


def dimensions(shape: Any) -> tuple[int, ...]:
    """A ``PartialShape`` of known rank as integers; one that varies is -1, bounds or not."""
    return tuple(-1 if size.is_dynamic else size.get_length() for size in shape)
