"""Pure: made-up inputs that most models run on, to see whether they run at all."""

from __future__ import annotations

import numpy as np

from infer_backends._backend import Array
from infer_backends._errors import InvalidInput
from infer_backends._tensors import DataType, ModelMetadata, TensorSpec

_LENGTH = 8
#: The sides of a picture: networks halve them up to five times, or cut squares of 14 or 16.
_SIDE = 224
#: Of volumes and videos, which would be large with such sides.
_SIDE_OF_MANY = 32
_CHANNELS = 3
_MOST_CHANNELS = 4
_REAL = frozenset({DataType.FP16, DataType.FP32, DataType.FP64, DataType.BF16})
_LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8)
_LONGEST_WORD = 8


def sample(metadata: ModelMetadata, *, seed: int = 0, rows: int = 1) -> dict[str, Array]:
    """One made-up value for every input that a call has to give, by name, in metadata order.

    Floats are standard normal. Integers are 0 or 1: indices, masks and counts of which hardly a
    model refuses any; in a picture of UINT8 they are 0 to 255. BYTES are words of up to eight
    lower-case letters.

    Lengths that the metadata leaves open are chosen so that most real models run. The batch axis
    (the first one; of a model without batching, the first that varies) has ``rows`` rows. The
    sides of a picture are 224, a multiple of 32 and of 14, and its channels 3; a picture is a
    tensor of floats or UINT8 of rank 4, or of a shape like ``[3, -1, -1]``. Other lengths are 8,
    and from rank 5 on 32. A model whose lengths depend on each other may refuse the sample.

    Args:
        metadata: The model's metadata.
        seed: What the values are drawn by; the same values for the same seed.
        rows: The length of the batch axis.

    Raises:
        InvalidInput: ``seed`` is no whole number from 0 on.
        MissingDependency: For BF16, when ``ml_dtypes`` is not installed.
    """
    source = _source(seed)
    specs = [spec for spec in metadata.inputs if not spec.optional]
    batching = metadata.max_batch_size > 0
    if batching:
        # All inputs need the same number of rows: one that says how many decides.
        rows = next((spec.shape[0] for spec in specs if spec.shape and spec.shape[0] >= 0), rows)
    return {spec.name: _draw(spec, batching, rows, source) for spec in specs}


def _source(seed: object) -> np.random.Generator:
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InvalidInput("seed= is a whole number of at least 0; this one is not")
    return np.random.default_rng(seed)


def _draw(spec: TensorSpec, batching: bool, rows: int, source: np.random.Generator) -> Array:
    sides = _sides_of_picture(spec, batching)
    shape = _shape(spec.shape, batching, rows, sides)
    if spec.dtype in _REAL:
        return np.asarray(source.standard_normal(shape)).astype(spec.dtype.numpy_dtype)
    if spec.dtype is DataType.BYTES:
        words = np.empty(shape, object)
        for index in np.ndindex(*shape):
            length = source.integers(1, _LONGEST_WORD, endpoint=True)
            words[index] = source.choice(_LETTERS, length).tobytes()
        return words
    values = 256 if spec.dtype is DataType.UINT8 and sides else 2
    return np.asarray(source.integers(0, values, shape)).astype(spec.dtype.numpy_dtype)


def _shape(
    shape: tuple[int, ...], batching: bool, rows: int, sides: tuple[int, ...]
) -> tuple[int, ...]:
    """``shape`` with a length for every axis that varies."""
    if sides:
        lengths = [_SIDE if axis in sides else _CHANNELS for axis in range(len(shape))]
        batch = 0 if 0 not in sides and len(shape) > len(sides) + 1 else None
    else:
        lengths = [_LENGTH if len(shape) <= 4 else _SIDE_OF_MANY] * len(shape)
        batch = 0 if batching or -1 not in shape else shape.index(-1)
    if batch is not None and shape:
        lengths[batch] = rows
    return tuple(
        length if size == -1 else size for size, length in zip(shape, lengths, strict=True)
    )


def _sides_of_picture(spec: TensorSpec, batching: bool) -> tuple[int, ...]:
    """The axes of a picture's height and width; none for what is no picture."""
    shape = spec.shape
    if spec.dtype is not DataType.UINT8 and spec.dtype not in _REAL:
        return ()
    if len(shape) == 4:
        return (1, 2) if 1 <= shape[3] <= _MOST_CHANNELS else (2, 3)
    if not batching and len(shape) == 3 and 1 <= shape[0] <= _MOST_CHANNELS:
        return (1, 2) if shape[1:] == (-1, -1) else ()
    return ()
