"""What a model's tensors are: datatypes, tensor specifications, model metadata.

Datatype names are those of the Open Inference Protocol (KServe v2), "Tensor Data Types".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache

import numpy as np

from infer_backends._errors import InvalidInput, MissingDependency


class DataType(str, Enum):
    """A tensor datatype of the Open Inference Protocol."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BF16 = "BF16"
    BYTES = "BYTES"

    def __str__(self) -> str:
        return self.value

    @property
    def numpy_dtype(self) -> np.dtype[np.generic]:
        """The dtype, in native byte order, of arrays of this datatype.

        ``BYTES`` is ``object`` (each element a ``bytes``), ``BF16`` is ``ml_dtypes.bfloat16``.

        Raises:
            MissingDependency: For ``BF16``, when ``ml_dtypes`` is not installed.
        """
        return _numpy_dtype(self)

    @property
    def itemsize(self) -> int | None:
        """Bytes per element, or None for ``BYTES``, whose elements vary."""
        return None if self is DataType.BYTES else _numpy_dtype(self).itemsize

    @classmethod
    def from_numpy(cls, dtype: np.dtype[np.generic] | type[np.generic]) -> DataType:
        """The datatype that arrays of ``dtype`` have, whatever their byte order.

        ``object`` and NumPy's string dtypes are ``BYTES``.

        Raises:
            InvalidInput: No datatype of the protocol corresponds to ``dtype``.
        """
        dtype = np.dtype(dtype)
        if dtype.kind in "OSUT":
            return cls.BYTES
        found = _BY_NUMPY_NAME.get(dtype.name)
        if found is None:
            raise InvalidInput(
                f"dtype {dtype} has no datatype in the protocol; expected one of "
                f"{', '.join(sorted(_BY_NUMPY_NAME))}, or strings"
            )
        return found


_BY_NUMPY_NAME = {
    "bool": DataType.BOOL,
    "uint8": DataType.UINT8,
    "uint16": DataType.UINT16,
    "uint32": DataType.UINT32,
    "uint64": DataType.UINT64,
    "int8": DataType.INT8,
    "int16": DataType.INT16,
    "int32": DataType.INT32,
    "int64": DataType.INT64,
    "float16": DataType.FP16,
    "float32": DataType.FP32,
    "float64": DataType.FP64,
    "bfloat16": DataType.BF16,
}
_NUMPY_NAMES = {datatype: name for name, datatype in _BY_NUMPY_NAME.items()}


@cache
def _numpy_dtype(datatype: DataType) -> np.dtype[np.generic]:
    if datatype is DataType.BYTES:
        return np.dtype(object)
    if datatype is DataType.BF16:
        try:
            import ml_dtypes
        except ImportError as exc:
            raise MissingDependency(
                "BF16 tensors need the package ml_dtypes: pip install ml_dtypes"
            ) from exc
        bfloat16: np.dtype[np.generic] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(_NUMPY_NAMES[datatype])


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a model says of one of its inputs or outputs.

    Attributes:
        name: The tensor's name.
        dtype: Its datatype.
        shape: Its dimensions, the batch axis included; -1 is a dimension that varies.
        optional: Whether a call may leave this input out.
        labels: For a classification output, the name of each class; None when there are none.
    """

    name: str
    dtype: DataType
    shape: tuple[int, ...]
    optional: bool = False
    labels: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}{list(self.shape)}"


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a model says of itself.

    Attributes:
        name: The model's name.
        versions: The versions that can be asked for, as the backend names them; may be empty.
        platform: What runs the model, such as ``onnxruntime_onnx`` or ``CPUExecutionProvider``.
        inputs: The inputs, in the order in which positional arguments are taken.
        outputs: The outputs, in the order in which a call returns them.
        max_batch_size: Rows that one request may hold, along the first axis of every tensor;
            0 when the model does no batching of its own, and is simply called.
        decoupled: Whether one request may have none or many responses.
        parameters: What else the model's author wrote down, by name. Not compared.
    """

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int = 0
    decoupled: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict, compare=False)
