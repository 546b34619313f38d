"""Tensors to bytes and JSON, and back."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from infer_backends.plugin import Array, DataType, InvalidInput, ProtocolError, UnsupportedOperation
from infer_backends_triton._codec import binary_only, decode, encode, from_json, to_json


def numbers(dtype: DataType, shape: tuple[int, ...]) -> Array:
    array: Array = (np.arange(math.prod(shape)) % 2).reshape(shape).astype(dtype.numpy_dtype)
    return array


def objects(*elements: object) -> Array:
    array = np.empty(len(elements), object)
    array[:] = elements
    return array


FIXED = [dtype for dtype in DataType if dtype is not DataType.BYTES]
SHAPES = [(), (0,), (1,), (3, 0, 2), (2, 3), (2, 1, 2)]


@pytest.mark.parametrize("dtype", FIXED)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_datatype_and_shape_comes_back_as_it_went(
    dtype: DataType, shape: tuple[int, ...]
) -> None:
    array = numbers(dtype, shape)
    back = decode(encode(array, dtype), dtype, shape, "y")
    assert (back.dtype, back.shape) == (array.dtype, shape)
    assert back.tolist() == array.tolist()
    assert back.flags.writeable
    assert back.flags.c_contiguous


@pytest.mark.parametrize("shape", SHAPES)
def test_bytes_of_every_shape_come_back_as_they_went(shape: tuple[int, ...]) -> None:
    array = objects(b"", b"a\0", b"\xff" * 300, b"d", b"e", b"f")[: math.prod(shape)].reshape(shape)
    back = decode(encode(array, DataType.BYTES), DataType.BYTES, shape, "y")
    assert (back.dtype, back.shape) == (np.dtype(object), shape)
    assert back.tolist() == array.tolist()
    assert back.flags.writeable


def test_numbers_are_little_endian_in_c_order() -> None:
    array = np.array([[1, 2], [3, 4]], np.uint16)
    assert bytes(encode(array, DataType.UINT16)) == bytes.fromhex("0100 0200 0300 0400")
    assert bytes(encode(array.T, DataType.UINT16)) == bytes.fromhex("0100 0300 0200 0400")
    swapped = array.astype(">u2")
    assert bytes(encode(swapped, DataType.UINT16)) == bytes.fromhex("0100 0200 0300 0400")


def test_bytes_carry_their_lengths() -> None:
    assert encode(objects(b"ab", b""), DataType.BYTES) == b"\2\0\0\0ab\0\0\0\0"


@pytest.mark.parametrize("dtype", FIXED)
def test_a_contiguous_array_is_not_copied(dtype: DataType) -> None:
    array = numbers(dtype, (2, 3))
    raw = encode(array, dtype)
    assert isinstance(raw, memoryview)
    assert np.shares_memory(np.frombuffer(raw, np.uint8), array)


def test_what_is_decoded_shares_no_memory_with_the_answer() -> None:
    raw = bytearray(8)
    array = decode(raw, DataType.FP32, (2,), "y")
    raw[:] = b"\xff" * 8
    assert array.tolist() == [0.0, 0.0]


def test_any_byte_but_zero_is_true() -> None:
    array = decode(b"\0\1\2\xff", DataType.BOOL, (4,), "y")
    assert array.view(np.uint8).tolist() == [0, 1, 1, 1]


def test_a_view_of_larger_items_is_read_as_bytes() -> None:
    raw = np.array([1.5], np.float64).data
    assert decode(raw, DataType.FP64, (1,), "y").tolist() == [1.5]


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.zeros(2, np.int32), DataType.INT64),
        (np.zeros(2, np.float32), DataType.BYTES),
        (objects("text"), DataType.BYTES),
        (objects(None), DataType.BYTES),
    ],
)
def test_an_array_of_another_type_is_not_sent(array: Array, dtype: DataType) -> None:
    with pytest.raises(InvalidInput):
        encode(array, dtype)


@pytest.mark.parametrize("dtype", list(DataType))
@pytest.mark.parametrize(
    "shape",
    [(-1,), (2, -3), (2**40,), (2**62, 2**62), (0, 2**62, 2**62), (2**70, 0), (1,) * 33],
)
def test_a_shape_that_its_bytes_do_not_justify_is_a_protocol_error(
    dtype: DataType, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ProtocolError, match="'y'"):
        decode(b"\0" * 8, dtype, shape, "y")
    with pytest.raises(ProtocolError, match="'y'"):
        decode(b"", dtype, shape, "y")


@pytest.mark.parametrize(
    ("raw", "count", "words"),
    [
        (b"\1\0\0", 1, "expected 4 or more bytes, got 3"),
        (b"\1\0\0\0", 1, "0 of its 1 BYTES elements"),
        (b"\1\0\0\0a\1\0\0", 2, "expected 8|1 of its 2"),
        (b"\xff\xff\xff\xffa", 1, "cut short"),
        (b"\1\0\0\0ab", 1, "1 bytes after the last"),
        (b"ab", 0, "2 bytes after the last"),
        (b"\4\0\0\0aaaa\1\0", 2, "1 of its 2"),
    ],
)
def test_bytes_whose_lengths_do_not_add_up_are_a_protocol_error(
    raw: bytes, count: int, words: str
) -> None:
    with pytest.raises(ProtocolError, match=words):
        decode(raw, DataType.BYTES, (count,), "y")


def test_lengths_that_differ_are_named() -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(b"1234567", DataType.FP32, (2,), "scores")
    assert str(caught.value) == "output 'scores' is FP32[2]: expected 8 bytes, got 7"


def test_halves_have_no_form_in_json() -> None:
    assert {dtype for dtype in DataType if binary_only(dtype)} == {DataType.FP16, DataType.BF16}
    for dtype in (DataType.FP16, DataType.BF16):
        with pytest.raises(UnsupportedOperation, match="gRPC"):
            to_json(numbers(dtype, (1,)), dtype, "x")
        with pytest.raises(UnsupportedOperation, match="gRPC"):
            from_json([1.0], dtype, (1,), "y")


@pytest.mark.parametrize("dtype", [dtype for dtype in FIXED if not binary_only(dtype)])
@pytest.mark.parametrize("shape", SHAPES)
def test_json_carries_every_other_datatype(dtype: DataType, shape: tuple[int, ...]) -> None:
    array = numbers(dtype, shape)
    text = json.dumps(to_json(array, dtype, "x"))
    back = from_json(json.loads(text), dtype, shape, "y")
    assert (back.dtype, back.shape, back.tolist()) == (array.dtype, shape, array.tolist())
    if shape:
        assert from_json(array.tolist(), dtype, shape, "y").tolist() == array.tolist()


def test_json_carries_text() -> None:
    array = objects("é".encode(), b"").reshape(2, 1)
    assert to_json(array, DataType.BYTES, "x") == ["é", ""]
    assert from_json([["é"], [""]], DataType.BYTES, (2, 1), "y").tolist() == array.tolist()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_carries_no_nan_and_no_infinity(value: float) -> None:
    with pytest.raises(UnsupportedOperation, match="NaN or an infinity"):
        to_json(np.array([value], np.float32), DataType.FP32, "x")


def test_json_carries_no_bytes_that_are_not_text_and_the_error_keeps_them_secret() -> None:
    with pytest.raises(UnsupportedOperation, match="UTF-8") as caught:
        to_json(objects(b"\xffsecret"), DataType.BYTES, "x")
    assert "secret" not in f"{caught.value}{caught.value.__cause__}"


def test_nan_and_infinities_that_a_server_writes_as_numbers_are_taken() -> None:
    value = json.loads("[NaN, Infinity, 1]")
    back = from_json(value, DataType.FP32, (3,), "y")
    assert np.isnan(back[0])
    assert back[1:].tolist() == [math.inf, 1.0]


def test_null_for_nan_or_an_infinity_is_not_guessed_at() -> None:
    with pytest.raises(UnsupportedOperation, match="'y' is FP64 and has null.*NaN or an infinity"):
        from_json([1.5, None], DataType.FP64, (2,), "y")


def test_the_largest_fp32_is_taken_as_any_server_writes_it() -> None:
    largest = float(np.finfo(np.float32).max)
    back = from_json([3.4028235e38, largest], DataType.FP32, (2,), "y")
    assert back.tolist() == [largest, largest]


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([1.5], DataType.INT32),
        ([1.0], DataType.INT32),
        ([True], DataType.INT32),
        ([128], DataType.INT8),
        ([-1], DataType.UINT8),
        ([2**64], DataType.UINT64),
        (["1"], DataType.INT64),
        ([None], DataType.INT32),
        ([None], DataType.BYTES),
        ([True], DataType.FP64),
        (["1"], DataType.FP32),
        ([1e39], DataType.FP32),
        ([10**400], DataType.FP64),
        ([2], DataType.BOOL),
        ([0.0], DataType.BOOL),
        (["true"], DataType.BOOL),
        ([1], DataType.BYTES),
        (["\ud800"], DataType.BYTES),
        ([{}], DataType.FP32),
    ],
)
def test_json_elements_of_another_type_are_a_protocol_error(
    value: list[Any], dtype: DataType
) -> None:
    with pytest.raises(ProtocolError, match="'y'"):
        from_json(value, dtype, (1,), "y")


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (None, (1,)),
        ("a", (1,)),
        (1.0, ()),
        ([1.0], (2,)),
        ([1.0, 2.0], (1,)),
        ([[1.0], [2.0, 3.0]], (2, 2)),
        ([[1.0, 2.0]], (2,)),
        ([[[1.0]]], (1, 1)),
        ([[1.0], 2.0], (2, 1)),
        ([1.0], (-1,)),
        ([], (2**70, 0)),
    ],
)
def test_json_that_does_not_have_its_shape_is_a_protocol_error(
    value: object, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ProtocolError, match="'y'"):
        from_json(value, DataType.FP32, shape, "y")
