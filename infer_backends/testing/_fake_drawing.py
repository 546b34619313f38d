"""Pure: outputs made up from a model's metadata, the same ones for the same inputs and seed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from infer_backends.plugin import Array, DataType, ModelMetadata, TensorSpec

#: Made-up integers go from 0 to one below this, which every integer type can hold.
_INTEGERS = 100
#: The bytes of a made-up text.
_TEXT_BYTES = 4
#: The bits of a mantissa of BF16, which NumPy does not know.
_BF16_BITS = 8


def draw(metadata: ModelMetadata, inputs: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """Outputs as a model might have given them: the same for the same inputs, on every machine.

    A dimension that varies is that of the first input which has one at the same place, and 1 if
    none has. Where the first dimension varies, each row is drawn from the rows of the inputs at
    the same place: so a sample has the same outputs alone and in a batch. Floats are from 0 to 1,
    integers below 100, texts of the form ``text-0123abcd``.

    Args:
        metadata: What the model says of itself.
        inputs: The inputs of a call, which fit the metadata.
        seed: Another seed, other outputs.
    """
    varying = [
        spec
        for spec in metadata.inputs
        if spec.shape[:1] == (-1,) and spec.name in inputs and inputs[spec.name].ndim
    ]
    lengths = {len(inputs[spec.name]) for spec in varying}
    rows = {spec.name for spec in varying} if len(lengths) == 1 else set()
    common = _state(seed, {name: inputs[name] for name in inputs if name not in rows})
    by_row = {name: inputs[name] for name in inputs if name in rows}
    return {
        spec.name: _draw_output(spec, _shape(spec, metadata.inputs, inputs), common, by_row)
        for spec in metadata.outputs
    }


def _shape(
    spec: TensorSpec, specs: Sequence[TensorSpec], inputs: Mapping[str, Array]
) -> tuple[int, ...]:
    return tuple(
        _size(axis, specs, inputs) if size == -1 else size for axis, size in enumerate(spec.shape)
    )


def _size(axis: int, specs: Sequence[TensorSpec], inputs: Mapping[str, Array]) -> int:
    """How long a dimension that varies is."""
    for spec in specs:
        array = inputs.get(spec.name)
        if array is not None and array.ndim > axis and spec.shape[axis : axis + 1] == (-1,):
            return int(array.shape[axis])
    return 1


def _draw_output(
    spec: TensorSpec, shape: tuple[int, ...], common: Any, by_row: Mapping[str, Array]
) -> Array:
    state = common.copy()
    state.update(spec.name.encode("utf-8", "surrogatepass"))
    if spec.shape[:1] != (-1,) or not by_row:
        for name, array in by_row.items():
            _take_in(state, name, array)
        return _elements(state, spec.dtype, math.prod(shape)).reshape(shape)
    output = np.empty(shape, spec.dtype.numpy_dtype)
    for index in range(shape[0]):
        row = state.copy()
        for name, array in by_row.items():
            _take_in(row, name, array[index : index + 1])
        elements = _elements(row, spec.dtype, math.prod(shape[1:]))
        output[index : index + 1] = elements.reshape(1, *shape[1:])
    return output


def _state(seed: int, inputs: Mapping[str, Array]) -> Any:
    state = hashlib.shake_128(str(seed).encode())
    for name, array in inputs.items():
        _take_in(state, name, array)
    return state


def _take_in(state: Any, name: str, array: Array) -> None:
    """Let what is drawn depend on an array."""
    state.update(f"{name}|{array.shape}|".encode("utf-8", "surrogatepass"))
    if array.dtype == object:
        for element in array.ravel().tolist():
            state.update(len(element).to_bytes(8, "little") + element)
    else:
        little = array.dtype.newbyteorder("<") if array.dtype.kind in "iufb" else array.dtype
        state.update(array.astype(little, copy=False).tobytes())


def _elements(state: Any, dtype: DataType, count: int) -> Array:
    target: np.dtype[Any] = dtype.numpy_dtype
    drawn = state.digest(_TEXT_BYTES * count)
    if dtype is DataType.BYTES:
        texts = np.empty(count, object)
        for index in range(count):
            part = drawn[_TEXT_BYTES * index : _TEXT_BYTES * (index + 1)]
            texts[index] = b"text-" + part.hex().encode()
        return texts
    numbers = np.frombuffer(drawn, "<u4")
    if dtype is DataType.BOOL:
        return (numbers & 1).astype(bool)
    if target.kind in "iu":
        return (numbers % _INTEGERS).astype(target)
    # As many bits as the type has: so they are exact, below 1, and the same on every machine.
    bits = np.finfo(target).nmant + 1 if target.kind == "f" else _BF16_BITS
    bits = min(bits, 32)
    floats: Array = ((numbers >> (32 - bits)) / 2**bits).astype(target)
    return floats
