"""Arrays as OpenVINO's tensors, and tensors as arrays that are the caller's own."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from infer_backends.plugin import Array, DataType, InvalidInput, TensorSpec
from infer_backends_openvino._types import NARROWED

_LEAST, _MOST = -(2**31), 2**31 - 1


def input_maker(runtime: ModuleType, spec: TensorSpec) -> Callable[[Array], Any]:
    """A function that makes the tensor of an input. It shares the array's memory if it can.

    The array has to live for as long as the tensor is used.
    """
    tensor = runtime.Tensor

    def share(array: Array) -> Any:
        # OpenVINO takes no memory that may not be written to, though it writes to no input.
        return tensor(array, shared_memory=array.flags.writeable)

    def share_halves(array: Array) -> Any:
        halves = array.view(np.float16)
        if not halves.flags.writeable:
            halves = halves.copy()
        return tensor(halves, halves.shape, runtime.Type.bf16)

    def share_narrow(array: Array) -> Any:
        require_narrow(spec.name, array)
        return share(array)

    if spec.dtype is DataType.BF16:
        return share_halves
    return share_narrow if spec.dtype in NARROWED else share


def require_narrow(name: str, array: Array) -> None:
    """Refuse integers that OpenVINO would cut to 32 bits, silently.

    Raises:
        InvalidInput: There is one.
    """
    if array.size and not (array.max() <= _MOST and array.min() >= _LEAST):
        raise InvalidInput(
            f"the input {name!r} holds integers beyond {_LEAST} to {_MOST}, and OpenVINO computes "
            "in 32 bits: use onnx: for such a model, or smaller numbers"
        )


def own_array(tensor: Any, spec: TensorSpec) -> Array:
    """What a tensor of a request holds, copied: the request writes to it again."""
    array: Array = tensor.data
    if spec.dtype is DataType.BF16:
        array = array.view(spec.dtype.numpy_dtype)
    return np.array(array, order="C")
