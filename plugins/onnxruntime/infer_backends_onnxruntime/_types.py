"""onnxruntime's types as the protocol's datatypes, and its dimensions as ours."""

from __future__ import annotations

from collections.abc import Iterable

from infer_backends.plugin import DataType

_DATATYPES = {
    "tensor(bool)": DataType.BOOL,
    "tensor(uint8)": DataType.UINT8,
    "tensor(uint16)": DataType.UINT16,
    "tensor(uint32)": DataType.UINT32,
    "tensor(uint64)": DataType.UINT64,
    "tensor(int8)": DataType.INT8,
    "tensor(int16)": DataType.INT16,
    "tensor(int32)": DataType.INT32,
    "tensor(int64)": DataType.INT64,
    "tensor(float16)": DataType.FP16,
    "tensor(float)": DataType.FP32,
    "tensor(double)": DataType.FP64,
    "tensor(string)": DataType.BYTES,
}

#: Element types of ONNX (TensorProto.DataType), and the datatypes that they are.
ELEMENTS = {
    1: DataType.FP32,
    2: DataType.UINT8,
    3: DataType.INT8,
    4: DataType.UINT16,
    5: DataType.INT16,
    6: DataType.INT32,
    7: DataType.INT64,
    8: DataType.BYTES,
    9: DataType.BOOL,
    10: DataType.FP16,
    11: DataType.FP64,
    12: DataType.UINT32,
    13: DataType.UINT64,
}

#: Element types of ONNX (TensorProto.DataType) that never reach NumPy through onnxruntime.
UNSUPPORTED_ELEMENTS = {
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
    17: "float8e4m3fn",
    18: "float8e4m3fnuz",
    19: "float8e5m2",
    20: "float8e5m2fnuz",
    21: "uint4",
    22: "int4",
    23: "float4e2m1",
    24: "float8e8m0",
    25: "uint2",
    26: "int2",
}


def datatype(onnx_type: str) -> DataType | None:
    """The datatype of ``onnx_type``, such as ``tensor(float)``; None if there is none."""
    return _DATATYPES.get(onnx_type)


def dimensions(shape: Iterable[object]) -> tuple[int, ...]:
    """A shape as integers: symbolic and unnamed dimensions, strings and None, become -1."""
    return tuple(size if isinstance(size, int) and size >= 0 else -1 for size in shape)
