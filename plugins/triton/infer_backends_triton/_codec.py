"""Tensors as bytes and as JSON, both ways. Pure: nothing here knows who carries them.

The binary form is that of the Open Inference Protocol's binary tensor data extension and of
gRPC's ``raw_input_contents``: elements in C order, little-endian, nothing between them. ``BOOL``
is one byte each; an element of ``BYTES`` is its length in four bytes, then its bytes.

What is wrong with an array to be sent is ``InvalidInput``; what is wrong with an answer is
``ProtocolError``. Shapes and lengths are shown in errors, elements never.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from infer_backends.plugin import Array, DataType, InvalidInput, ProtocolError, UnsupportedOperation

_LENGTH = struct.Struct("<I")
_FLOATS = frozenset({DataType.FP32, DataType.FP64})
# The dtypes of arrays whose memory is what travels. BF16 is not among them: its dtype is in a
# package that need not be there.
_AS_ON_THE_WIRE = {
    dtype.numpy_dtype: dtype
    for dtype in DataType
    if sys.byteorder == "little" and dtype not in {DataType.BYTES, DataType.BF16}
}
_PLAIN = frozenset(_AS_ON_THE_WIRE.values()) - {DataType.BOOL}
# NumPy 1.x arrays have at most 32 dimensions.
_MAX_RANK = 32


def binary_only(dtype: DataType) -> bool:
    """Whether JSON has no form for tensors of this datatype."""
    return dtype is DataType.FP16 or dtype is DataType.BF16


def is_plain(dtype: DataType) -> bool:
    """Whether the binary form of this datatype, whatever bytes it has, is an array's memory.

    Not that of BYTES, which has lengths between the elements, nor of BOOL, where any byte may mean
    true, nor of BF16, whose dtype has no buffer format.
    """
    return dtype in _PLAIN


def encode(array: Array, dtype: DataType) -> bytes | memoryview:
    """The binary form of ``array``.

    Args:
        array: Of the datatype ``dtype``, of any shape, layout and byte order. Elements of
            ``BYTES`` are ``bytes``.
        dtype: The datatype to send it as.

    Returns:
        A view of the array's own memory where that is C-contiguous and little-endian already,
        else new bytes. The array must not change while the view is in use.

    Raises:
        InvalidInput: The array is not of this datatype.
    """
    if _AS_ON_THE_WIRE.get(array.dtype) is dtype and array.flags.c_contiguous:
        # What byte_view does, for dtypes that all have a buffer format.
        return array.data.cast("B") if array.size else b""
    if DataType.from_numpy(array.dtype) is not dtype:
        raise InvalidInput(f"an array of dtype {array.dtype} cannot be sent as {dtype}")
    if array.size == 0:
        return b""
    if dtype is DataType.BYTES:
        return _encode_elements(array)
    if dtype is DataType.BF16:
        # Its own dtype has no buffer format, and no byte order to ask for.
        array = array.view(np.uint16)
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data


def decode(
    raw: bytes | bytearray | memoryview, dtype: DataType, shape: tuple[int, ...], name: str
) -> Array:
    """The array that ``raw`` is the binary form of.

    Args:
        raw: All the bytes of this tensor and no others.
        dtype: The tensor's datatype.
        shape: Its shape, as the answer has it.
        name: The output's name, for errors.

    Returns:
        A writable, C-contiguous array in native byte order that shares no memory with ``raw``.

    Raises:
        ProtocolError: Bytes and shape do not fit each other.
    """
    raw = memoryview(raw)
    if raw.format != "B" or raw.ndim != 1:
        raw = raw.cast("B")
    # Before anything is allocated.
    check_size(raw.nbytes, dtype, shape, name)
    if dtype is DataType.BYTES:
        return _fill(_decode_elements(raw, math.prod(shape), name), shape, name)
    array = make_room(shape, dtype.numpy_dtype, name)
    if raw.nbytes:
        byte_view(array)[:] = raw
    return settle(array, dtype)


def check_size(size: int, dtype: DataType, shape: tuple[int, ...], name: str) -> None:
    """Refuse a tensor whose binary form cannot be that of its shape; see :func:`decode`.

    Args:
        size: The length of the binary form, in bytes.
        dtype: The tensor's datatype.
        shape: Its shape, as the answer has it.
        name: The output's name, for errors.

    Raises:
        ProtocolError: Size and shape do not fit each other.
    """
    count = _count(shape, name)
    if dtype is DataType.BYTES:
        # Each element takes its length at least.
        least = count * _LENGTH.size
        if least > size:
            raise _wrong_length(name, dtype, shape, f"{least} or more", size)
    else:
        expected = count * dtype.numpy_dtype.itemsize
        if expected != size:
            raise _wrong_length(name, dtype, shape, str(expected), size)


def byte_view(array: Array) -> memoryview:
    """The memory of an array that is C-contiguous, in native byte order, and not empty."""
    if array.dtype.kind == "V":
        # The dtype of BF16 has no buffer format.
        array = array.view(np.uint16)
    return array.data.cast("B")


def make_room(shape: tuple[int, ...], dtype: np.dtype[np.generic], name: str) -> Array:
    """An array whose memory the binary form of a tensor can be received into.

    :func:`settle` makes it right when the bytes are there.

    Raises:
        ProtocolError: There is no array of this shape.
    """
    try:
        return np.empty(shape, dtype)
    except (ValueError, OverflowError) as exc:
        # A dimension of 0 lets the others be anything, and NumPy multiplies those too.
        raise ProtocolError(f"output {name!r} has the impossible shape {list(shape)}") from exc


def settle(array: Array, dtype: DataType) -> Array:
    """The array that :func:`make_room` made, after the bytes of a tensor came into its memory."""
    if dtype is DataType.BOOL:
        # Any byte may stand for true on the wire; in a NumPy bool only 1 may.
        received = array.view(np.uint8)
        np.minimum(received, np.uint8(1), out=received)
    elif sys.byteorder == "big":
        (array.view(np.uint16) if dtype is DataType.BF16 else array).byteswap(inplace=True)
    return array


def to_json(array: Array, dtype: DataType, name: str) -> list[Any]:
    """The elements of ``array`` in C order, as JSON can carry them.

    Raises:
        UnsupportedOperation: JSON has no form for the datatype, or for one of the elements:
            NaN, an infinity, or bytes that are not UTF-8.
    """
    if binary_only(dtype):
        raise _no_json_form(name, dtype)
    elements: list[Any] = array.reshape(-1).tolist()
    if dtype is DataType.BYTES:
        try:
            return [element.decode() for element in elements]
        except UnicodeDecodeError as exc:
            raise UnsupportedOperation(
                f"input {name!r} holds bytes that are not UTF-8, and this server takes tensors as "
                "JSON only, which cannot carry them: use gRPC"
            ) from _without_contents(exc)
    if dtype in _FLOATS and not np.isfinite(array).all():
        raise UnsupportedOperation(
            f"input {name!r} holds NaN or an infinity, and this server takes tensors as JSON "
            "only, which cannot carry them: use gRPC"
        )
    return elements


def from_json(value: Any, dtype: DataType, shape: tuple[int, ...], name: str) -> Array:
    """The array of a tensor that came as JSON.

    Args:
        value: The parsed ``data``: a list, flat in C order or nested as ``shape`` is.
        dtype: The tensor's datatype. Floats may be written as integers, ``BOOL`` as 0 and 1;
            otherwise elements have to be what the datatype says.
        shape: Its shape, as the answer has it.
        name: The output's name, for errors.

    Raises:
        ProtocolError: The elements do not fit the shape or the datatype.
        UnsupportedOperation: JSON has no form for the datatype, or for an element that the
            server replaced by ``null``: NaN or an infinity.
    """
    if binary_only(dtype):
        raise _no_json_form(name, dtype)
    elements = _flatten(value, shape, name)
    if dtype is DataType.BYTES:
        return _fill(_encode_strings(elements, name), shape, name)
    if dtype in _FLOATS:
        return _fill_numbers(_check_floats(elements, dtype, name), dtype, shape, name)
    return _fill_numbers(_check_integers(elements, dtype, name), dtype, shape, name)


def _encode_elements(array: Array) -> bytes:
    elements: list[Any] = array.reshape(-1).tolist()
    parts: list[bytes] = []
    for element in elements:
        if type(element) is not bytes:
            raise InvalidInput(f"an element of BYTES is bytes, not {type(element).__name__}")
        if len(element) > 0xFFFFFFFF:
            raise InvalidInput(f"an element of BYTES has at most 4 GiB, not {len(element)} bytes")
        parts += (_LENGTH.pack(len(element)), element)
    return b"".join(parts)


def _decode_elements(raw: memoryview, count: int, name: str) -> list[bytes]:
    elements: list[bytes] = []
    start = 0
    for _ in range(count):
        if start + _LENGTH.size > raw.nbytes:
            raise _cut_short(name, len(elements), count)
        (length,) = _LENGTH.unpack_from(raw, start)
        start += _LENGTH.size
        if start + length > raw.nbytes:
            raise _cut_short(name, len(elements), count)
        elements.append(bytes(raw[start : start + length]))
        start += length
    if start != raw.nbytes:
        raise ProtocolError(
            f"output {name!r} has {raw.nbytes - start} bytes after the last of its {count} elements"
        )
    return elements


def _count(shape: tuple[int, ...], name: str) -> int:
    if len(shape) > _MAX_RANK:
        raise ProtocolError(
            f"output {name!r} has {len(shape)} dimensions; expected {_MAX_RANK} or fewer"
        )
    if min(shape, default=0) < 0:
        raise ProtocolError(f"output {name!r} has a negative dimension in its shape {list(shape)}")
    return math.prod(shape)


def _fill(elements: Sequence[bytes], shape: tuple[int, ...], name: str) -> Array:
    array = make_room(shape, np.dtype(object), name)
    array.reshape(-1)[:] = elements
    return array


def _fill_numbers(elements: list[Any], dtype: DataType, shape: tuple[int, ...], name: str) -> Array:
    array = make_room(shape, dtype.numpy_dtype, name)
    array.reshape(-1)[:] = np.array(elements, dtype.numpy_dtype)
    return array


def _flatten(value: Any, shape: tuple[int, ...], name: str) -> list[Any]:
    count = _count(shape, name)
    if not isinstance(value, list):
        raise ProtocolError(f"the data of output {name!r} is no list in JSON")
    elements: list[Any] = value
    if any(isinstance(element, list) for element in elements):
        elements = [value]
        for size in shape:
            if any(not isinstance(row, list) or len(row) != size for row in elements):
                raise ProtocolError(
                    f"the nested data of output {name!r} does not have its shape {list(shape)}"
                )
            elements = list(chain.from_iterable(elements))
    if len(elements) != count:
        raise ProtocolError(
            f"output {name!r} has {len(elements)} elements; its shape {list(shape)} wants {count}"
        )
    return elements


def _encode_strings(elements: list[Any], name: str) -> list[bytes]:
    if not all(type(element) is str for element in elements):
        raise _wrong_element(name, DataType.BYTES)
    try:
        return [element.encode() for element in elements]
    except UnicodeEncodeError as exc:
        raise ProtocolError(
            f"output {name!r} holds a string that is not Unicode text"
        ) from _without_contents(exc)


def _check_floats(elements: list[Any], dtype: DataType, name: str) -> list[float]:
    # bool is an int in Python, and no number here.
    if not all(type(element) is float or type(element) is int for element in elements):
        if any(element is None for element in elements):
            raise _not_finite(name, dtype)
        raise _wrong_element(name, dtype)
    try:
        floats = [float(element) for element in elements]
    except OverflowError:
        # Not chained, like all that is about elements: foreign texts may show them.
        raise _wrong_element(name, dtype) from None
    if dtype is DataType.FP32:
        doubles = np.array(floats, np.float64)
        # Rounded before it is judged: the shortest text of the largest FP32 is a little larger.
        with np.errstate(over="ignore"):
            overflows = np.isinf(doubles.astype(np.float32)) & np.isfinite(doubles)
        if overflows.any():
            raise _wrong_element(name, dtype)
    return floats


def _check_integers(elements: list[Any], dtype: DataType, name: str) -> list[int]:
    if dtype is DataType.BOOL:
        if not all(type(element) in {bool, int} and element in {0, 1} for element in elements):
            raise _wrong_element(name, dtype)
        return elements
    limits = np.iinfo(np.dtype(dtype.numpy_dtype.name))
    low, high = int(limits.min), int(limits.max)
    if not all(type(element) is int and low <= element <= high for element in elements):
        raise _wrong_element(name, dtype)
    return elements


def _without_contents(exc: UnicodeError) -> Exception:
    """A stand-in to chain: the original's text and attributes hold the element itself."""
    return ValueError(type(exc).__name__)


def _no_json_form(name: str, dtype: DataType) -> UnsupportedOperation:
    return UnsupportedOperation(
        f"tensor {name!r} is {dtype}, which JSON has no form for, and this server has no binary "
        "tensor extension: use gRPC"
    )


def _not_finite(name: str, dtype: DataType) -> UnsupportedOperation:
    # Not read as NaN: the same servers write null for an infinity.
    return UnsupportedOperation(
        f"output {name!r} is {dtype} and has null in its JSON: the model gave NaN or an infinity, "
        "which JSON cannot carry: use gRPC"
    )


def _wrong_element(name: str, dtype: DataType) -> ProtocolError:
    return ProtocolError(f"output {name!r} has an element in JSON that is no {dtype}")


def _cut_short(name: str, got: int, count: int) -> ProtocolError:
    return ProtocolError(
        f"output {name!r} is cut short: {got} of its {count} BYTES elements are complete"
    )


def _wrong_length(
    name: str, dtype: DataType, shape: tuple[int, ...], expected: str, size: int
) -> ProtocolError:
    return ProtocolError(
        f"output {name!r} is {dtype}{list(shape)}: expected {expected} bytes, got {size}"
    )
