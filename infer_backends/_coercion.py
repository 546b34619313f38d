"""Pure: one argument -> an array of the datatype that an input asks for, or a clear error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from infer_backends._backend import Array
from infer_backends._errors import InvalidInput
from infer_backends._tensors import DataType, TensorSpec

Coerce = Literal["never", "lossless", "unsafe"]

_BOOL, _INTEGER, _FLOAT, _TEXT, _OTHER = "bool", "integer", "float", "text", "other"
_KINDS = {"b": _BOOL, "i": _INTEGER, "u": _INTEGER, "f": _FLOAT, "S": _TEXT, "U": _TEXT, "T": _TEXT}


def coerce_array(value: Any, spec: TensorSpec, mode: Coerce) -> Array:
    """An array of ``spec.dtype``, in native byte order, C-contiguous; the shape is not looked at.

    ``value`` itself is returned when it is such an array already.

    Raises:
        InvalidInput: ``value`` is no array of that datatype, and cannot become one under ``mode``
            without losing meaning.
    """
    if spec.dtype is DataType.BYTES:
        return _bytes_array(value, spec)
    target = spec.dtype.numpy_dtype
    if type(value) is np.ndarray and value.dtype == target and value.flags.c_contiguous:
        return value
    array = as_array(value, spec)
    if array.dtype == target:
        return np.asarray(array, order="C")
    if array.size == 0 and isinstance(value, (list, tuple)):
        return np.empty(array.shape, target)  # an empty list has no dtype of its own
    if array.dtype.newbyteorder("=") == target:
        return array.astype(target, order="C")
    if mode == "never":
        raise _wrong_dtype(array, spec, f"pass an array of {target}, or open with another coerce=")
    source = kind_of(array.dtype)
    if source in {_TEXT, _OTHER}:
        raise _wrong_dtype(array, spec, _advice_for_others(array))
    if mode == "unsafe":
        with np.errstate(all="ignore"):
            return array.astype(target, order="C", casting="unsafe")
    return _lossless(array, source, target, spec)


def as_array(value: Any, spec: TensorSpec) -> Array:
    """Whatever ``value`` is, as a plain ndarray of whatever dtype it has.

    Raises:
        InvalidInput: It cannot be made into one: None, ragged, on another device, masked.
    """
    if value is None:
        raise InvalidInput(f"input {spec.name!r}: expected an array, got None")
    _refuse_masks(value, spec)
    try:
        return np.asarray(value)
    except Exception as exc:
        array = _from_dlpack(value)
        if array is not None:
            return array
        raise InvalidInput(_not_an_array(value, spec)) from exc


def _refuse_masks(value: Any, spec: TensorSpec) -> None:
    """Refuse arrays of which elements are masked, given alone or in a list."""
    if isinstance(value, np.ma.MaskedArray):
        masked = np.ma.is_masked(value)
    elif isinstance(value, (list, tuple)) and any(
        issubclass(kind, np.ma.MaskedArray) for kind in set(map(type, value))
    ):
        masked = any(np.ma.is_masked(element) for element in value)
    else:
        return
    if masked:
        raise InvalidInput(
            f"input {spec.name!r}: a masked array would lose its mask; pass x.filled(value)"
        )


def kind_of(dtype: np.dtype[Any]) -> str:
    """The family of values that a dtype holds, for the rules of conversion."""
    if dtype.name == "bfloat16":
        return _FLOAT
    return _KINDS.get(dtype.kind, _OTHER)


def _from_dlpack(value: Any) -> Array | None:
    if not hasattr(value, "__dlpack__"):
        return None
    try:
        array: Array = np.from_dlpack(value)
    except Exception:  # noqa: BLE001 - whatever a foreign array raises
        return None  # the error of the first way is the one to report
    return array


def _not_an_array(value: Any, spec: TensorSpec) -> str:
    text = f"input {spec.name!r}: cannot make an array of this {type(value).__name__}"
    if isinstance(value, (list, tuple)):
        return f"{text}; are its rows of different lengths (ragged)? pad them to one shape"
    if hasattr(value, "__array__") or hasattr(value, "__dlpack__"):
        return (
            f"{text}; is it on another device, or does it carry gradients? "
            "pass x.detach().cpu(); has NumPy no such dtype (bfloat16)? pass x.float()"
        )
    return f"{text}; pass a NumPy array or a list"


def _advice_for_others(array: Array) -> str:
    if array.dtype == object:
        return (
            "an array of Python objects has no datatype; is it ragged, or does it hold None, or "
            "integers of more than 64 bits?"
        )
    if array.dtype.kind == "c":
        return "pass the real and imaginary parts as two inputs, or np.abs(x)"
    return "pass numbers"


def _wrong_dtype(array: Array, spec: TensorSpec, advice: str) -> InvalidInput:
    return InvalidInput(f"input {spec.name!r}: expected {spec.dtype}, got {array.dtype}; {advice}")


def _lossless(array: Array, source: str, target: np.dtype[Any], spec: TensorSpec) -> Array:
    wanted = kind_of(target)
    if source == wanted == _INTEGER:
        return _integers(array, target, spec)
    if wanted == _FLOAT and source in {_INTEGER, _FLOAT}:
        return _floats(array, target, spec)
    if wanted == _BOOL:
        advice = "pass x != 0 if that is meant"
    elif source == _BOOL:
        advice = f"pass x.astype({target.name!r}) if zeros and ones are meant"
    else:
        advice = f"pass x.astype({target.name!r}) if the fractions may go"
    raise _wrong_dtype(array, spec, advice)


def _integers(array: Array, target: np.dtype[Any], spec: TensorSpec) -> Array:
    if array.size and not np.can_cast(array.dtype, target, "safe"):
        limits = np.iinfo(target)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise _wrong_dtype(
                array, spec, f"some values do not fit into {limits.min}..{limits.max}"
            )
    return array.astype(target, order="C")


def _floats(array: Array, target: np.dtype[Any], spec: TensorSpec) -> Array:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        converted = array.astype(target, order="C")
    if target.itemsize >= 8 and array.dtype.itemsize <= 8:
        return converted
    became_infinite = np.isinf(converted)
    if became_infinite.any() and np.isfinite(array[became_infinite]).any():
        raise _wrong_dtype(
            array, spec, "some finite values are too large, and would become infinite"
        )
    return converted


def _bytes_array(value: Any, spec: TensorSpec) -> Array:
    """An object array whose elements are all ``bytes``."""
    if isinstance(value, (list, tuple, str, bytes, bytearray)):
        # Not by way of NumPy's string dtypes: those drop NULs at the end.
        source = _object_array(value, spec)
    else:
        found = as_array(value, spec)
        if found.dtype != object and kind_of(found.dtype) != _TEXT:
            raise _wrong_dtype(found, spec, "pass bytes, str, or an array of them")
        source = found.astype(object)
    result = np.empty(source.shape, object)
    flat = result.reshape(-1)
    for index, element in enumerate(source.reshape(-1)):
        flat[index] = _as_bytes(element, index, spec)
    return result


def _object_array(value: Any, spec: TensorSpec) -> Array:
    _refuse_masks(value, spec)
    try:
        return np.array(_frozen(value), dtype=object)
    except Exception as exc:
        raise InvalidInput(_not_an_array(value, spec)) from exc


def _frozen(value: Any) -> Any:
    """The same with ``bytes`` for every ``bytearray``, which NumPy would take apart."""
    if isinstance(value, bytearray):
        return bytes(value)
    return [_frozen(element) for element in value] if isinstance(value, (list, tuple)) else value


_TO_BYTES: dict[type, Callable[[Any], bytes]] = {
    bytes: lambda element: element,
    np.bytes_: bytes,
    bytearray: bytes,
    str: lambda element: element.encode(),
    np.str_: lambda element: str(element).encode(),
}


def _as_bytes(element: Any, index: int, spec: TensorSpec) -> bytes:
    convert = _TO_BYTES.get(type(element))
    if convert is None:
        convert = next((_TO_BYTES[t] for t in (str, bytes) if isinstance(element, t)), None)
    if convert is None:
        advice = (
            "; are its rows of different lengths (ragged)?" if isinstance(element, list) else ""
        )
        raise InvalidInput(
            f"input {spec.name!r}: expected bytes or str, got {type(element).__name__} "
            f"at element {index}{advice}"
        )
    try:
        return convert(element)
    except UnicodeError:
        # Not chained: the exception holds the text.
        raise InvalidInput(
            f"input {spec.name!r}: the str at element {index} cannot be written as UTF-8 "
            "(a lone surrogate); pass bytes"
        ) from None
