"""Arrays as ``TritonRemoteModel`` takes and gives them: cast, not only checked. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np

from infer_backends.plugin import Array, DataType, InvalidInput, TensorSpec

# Complex numbers, dates, times, strings and objects: no cast of these means anything.
_NOT_NUMBERS = "cMmOSTU"


def as_array(value: Any, name: str) -> Array:
    """What a caller passed for the input ``name``, as an array.

    Raises:
        InvalidInput: It is none, or is ragged.
    """
    if value is None:
        raise InvalidInput(f"input {name!r}: expected an array, got None")
    try:
        array: Array = np.asarray(value)
    except Exception as exc:  # whatever a foreign array raises
        raise InvalidInput(
            f"input {name!r}: {type(value).__name__} is no array, and cannot be made one; are its "
            "rows of equal length, and is it on the CPU?"
        ) from exc
    return array


def cast_input(array: Array, spec: TensorSpec) -> Array:
    """The array in the datatype that the model wants, C-contiguous, in native byte order.

    Numbers are cast as ``astype`` does; strings become ``bytes`` in UTF-8.

    Raises:
        InvalidInput: The shape does not fit, or the elements are of another kind.
    """
    fits = len(array.shape) == len(spec.shape) and all(
        want in {-1, got} for want, got in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        raise InvalidInput(
            f"input {spec.name!r}: expected the shape {list(spec.shape)} (-1 is any size), got "
            f"{list(array.shape)}"
        )
    if spec.dtype is DataType.BYTES:
        return _to_bytes(array, spec.name)
    if array.dtype.kind in _NOT_NUMBERS or array.dtype.names is not None:
        raise InvalidInput(f"input {spec.name!r}: expected {spec.dtype}, got {array.dtype}")
    # NaN to an integer is the caller's wish, and NumPy's to define.
    with np.errstate(invalid="ignore", over="ignore"):
        return np.ascontiguousarray(array.astype(spec.dtype.numpy_dtype)).reshape(array.shape)


def cast_output(array: Array, like: np.dtype[Any]) -> Array:
    """The array in the dtype ``like``, if both are numbers; as it is otherwise."""
    if array.dtype.kind in _NOT_NUMBERS or like.kind in _NOT_NUMBERS or like.names is not None:
        return array
    with np.errstate(invalid="ignore", over="ignore"):
        return array.astype(like, copy=False)


def _to_bytes(array: Array, name: str) -> Array:
    if array.dtype.kind not in "OSTU":
        raise InvalidInput(f"input {name!r}: expected BYTES, got {array.dtype}")
    encoded = np.empty(array.shape, object)
    flat = encoded.reshape(-1)
    for index, element in enumerate(array.reshape(-1).tolist()):
        if isinstance(element, bytes):
            flat[index] = bytes(element)
        elif isinstance(element, str):
            flat[index] = _utf8(element, name)
        else:
            raise InvalidInput(
                f"input {name!r}: expected elements of bytes or str, got {type(element).__name__}"
            )
    return encoded


def _utf8(text: str, name: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Not chained: the exception holds the text.
        raise InvalidInput(f"input {name!r}: one of the strings is no Unicode text") from None
