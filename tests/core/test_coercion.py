"""One argument becomes an array of the input's datatype, or a clear error."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from infer_backends import DataType, InvalidInput, TensorSpec
from infer_backends._coercion import Coerce, coerce_array
from infer_backends.plugin import Array


def spec(dtype: DataType) -> TensorSpec:
    return TensorSpec("x", dtype, (-1,))


def coerced(value: object, dtype: DataType, mode: Coerce = "lossless") -> Array:
    array = coerce_array(value, spec(dtype), mode)
    assert array.dtype == dtype.numpy_dtype
    assert array.flags.c_contiguous
    assert array.dtype.isnative
    return array


def test_an_array_that_fits_is_passed_on_as_it_is() -> None:
    array = np.zeros((2, 3), np.float32)
    assert coerced(array, DataType.FP32) is array


@pytest.mark.parametrize("mode", ["never", "lossless", "unsafe"])
def test_byte_order_and_layout_are_normalised_in_every_mode(mode: Coerce) -> None:
    values = np.arange(6, dtype=np.int32).reshape(2, 3)
    for array in (values.astype(">i4"), np.asfortranarray(values), values[:, ::-1], values[::-1]):
        np.testing.assert_array_equal(coerced(array, DataType.INT32, mode), array)


def test_a_value_without_axes_stays_one() -> None:
    assert coerced(3, DataType.FP32).shape == ()
    assert coerced(np.float32(3), DataType.FP32).shape == ()
    assert coerced(np.array(3, ">f4"), DataType.FP32).shape == ()


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([1, 2], DataType.UINT8),
        (np.array([255], np.int64), DataType.UINT8),
        (np.array([-128], np.int64), DataType.INT8),
        (np.array([2**63 - 1], np.uint64), DataType.INT64),
        ([1, 2], DataType.FP16),
        ([65504], DataType.FP16),
        (np.array([1], np.uint64), DataType.FP32),
        ([1.5, np.nan, np.inf], DataType.FP16),
        (np.array([1e300]), DataType.FP64),
        (np.array([1.5], np.float16), DataType.FP64),
        (np.array([1.5], np.float32), DataType.BF16),
        (np.array([1.5], ml_dtypes.bfloat16), DataType.FP32),
        (np.array([1.5], ml_dtypes.bfloat16), DataType.FP16),
        (np.array([3], np.int16), DataType.BF16),
        (np.array([1.5], np.longdouble), DataType.FP64),
        ([True], DataType.BOOL),
        ([], DataType.INT32),
        ([[], []], DataType.BOOL),
        (range(3), DataType.INT64),
        ((1, 2), DataType.FP32),
    ],
)
def test_what_loses_no_meaning_is_converted(value: object, dtype: DataType) -> None:
    expected = np.asarray(value).astype(dtype.numpy_dtype)
    np.testing.assert_array_equal(coerced(value, dtype), expected)


@pytest.mark.parametrize(
    ("value", "dtype", "advice"),
    [
        ([1.0], DataType.INT32, r"expected INT32, got float64; pass x.astype\('int32'\)"),
        ([256], DataType.UINT8, "do not fit into 0..255"),
        ([-1], DataType.UINT64, "do not fit into 0.."),
        (np.array([2**63], np.uint64), DataType.INT64, "do not fit"),
        ([65536], DataType.FP16, "would become infinite"),
        ([1e39], DataType.FP32, "would become infinite"),
        (np.array([1e39]), DataType.BF16, "would become infinite"),
        (np.array([3e38], np.float32), DataType.FP16, "would become infinite"),
        ([True], DataType.FP32, "zeros and ones"),
        ([True], DataType.UINT8, "zeros and ones"),
        ([1], DataType.BOOL, "x != 0"),
        ([1.0], DataType.BOOL, "x != 0"),
        ([1j], DataType.FP32, "real and imaginary"),
        (["1"], DataType.FP32, "pass numbers"),
        ([b"1"], DataType.INT8, "pass numbers"),
        (np.array(["2020-01-01"], "M8[D]"), DataType.INT64, "pass numbers"),
        ([[1], [1, 2]], DataType.FP32, "ragged"),
        (None, DataType.FP32, "got None"),
        ([None], DataType.FP32, "got object"),
        (np.array([1, 2], object), DataType.FP32, "got object"),
        ({"a": 1}, DataType.FP32, "got object"),
        ({1}, DataType.FP32, "got object"),
        ([2**64], DataType.UINT64, "got object"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), DataType.FP32, r"x.filled\(value\)"),
        ([1], DataType.BYTES, "got int at element 0"),
        (np.array([1]), DataType.BYTES, "expected BYTES, got int64"),
        ([None], DataType.BYTES, "got NoneType at element 0"),
        (["a", ["b", "c"]], DataType.BYTES, "ragged"),
        ([2**64], DataType.INT64, "integers of more than 64 bits"),
        (["\ud800"], DataType.BYTES, "lone surrogate"),
        (None, DataType.BYTES, "got list at|got NoneType|got None"),
    ],
)
def test_what_would_lose_meaning_is_refused_with_advice(
    value: object, dtype: DataType, advice: str
) -> None:
    with pytest.raises(InvalidInput, match=advice) as caught:
        coerce_array(value, spec(dtype), "lossless")
    assert str(caught.value).startswith("input 'x': ")


def test_masks_within_a_list_are_not_lost_either() -> None:
    masked = np.ma.masked_array([1.0, 2.0], [False, True])
    for value in ([masked, masked], (np.zeros(2), masked), [1.0, np.ma.masked]):
        with pytest.raises(InvalidInput, match="lose its mask"):
            coerce_array(value, spec(DataType.FP32), "lossless")
    texts = np.ma.masked_array(["a", "b"], [False, True])
    with pytest.raises(InvalidInput, match="lose its mask"):
        coerce_array([texts], spec(DataType.BYTES), "lossless")
    assert coerced([masked[:1], masked[:1]], DataType.FP32).tolist() == [[1.0], [1.0]]


def test_a_mask_that_hides_nothing_is_no_hindrance() -> None:
    np.testing.assert_array_equal(
        coerced(np.ma.masked_array([1.0], [False]), DataType.FP32), np.array([1], np.float32)
    )


def test_never_takes_only_the_dtype_itself() -> None:
    with pytest.raises(InvalidInput, match="open with another coerce="):
        coerce_array(np.array([1.0]), spec(DataType.FP32), "never")
    assert coerced(np.array([1.0]), DataType.FP64, "never").shape == (1,)
    assert coerced(["a"], DataType.BYTES, "never")[0] == b"a"


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        ([1.7], DataType.INT32, 1),
        ([1], DataType.BOOL, True),
        ([True], DataType.FP32, 1.0),
        ([1e39], DataType.FP32, np.inf),
        ([300], DataType.UINT8, 44),
    ],
)
def test_unsafe_converts_as_astype_does(value: object, dtype: DataType, expected: object) -> None:
    assert coerced(value, dtype, "unsafe")[0] == expected


@pytest.mark.parametrize("value", [[1j], ["1"], [None]])
def test_unsafe_still_refuses_what_is_no_number(value: object) -> None:
    with pytest.raises(InvalidInput, match="expected FP32"):
        coerce_array(value, spec(DataType.FP32), "unsafe")


@pytest.mark.parametrize(
    "value",
    [
        ["a\0", "", "naïve 🦜"],
        [b"a\0", b"", "naïve 🦜".encode()],
        [bytearray(b"a\0"), np.str_(""), np.bytes_("naïve 🦜".encode())],
        np.array(["a\0", "", "naïve 🦜"], object),
    ],
)
def test_strings_become_bytes_and_keep_their_nuls(value: object) -> None:
    assert coerced(value, DataType.BYTES).tolist() == [b"a\0", b"", "naïve 🦜".encode()]


def test_bytearrays_are_elements_and_not_rows_of_numbers() -> None:
    assert coerced([bytearray(b"ab"), bytearray(b"cd")], DataType.BYTES).tolist() == [b"ab", b"cd"]
    assert coerced([[bytearray()], (bytearray(b"c"),)], DataType.BYTES).tolist() == [[b""], [b"c"]]
    assert coerced(bytearray(b"ab"), DataType.BYTES).item() == b"ab"
    looped: list[object] = []
    looped.append(looped)
    with pytest.raises(InvalidInput, match="cannot make an array of this list"):
        coerce_array(looped, spec(DataType.BYTES), "lossless")


def test_numpy_string_arrays_become_bytes() -> None:
    assert coerced(np.array([["é"], ["b"]]), DataType.BYTES).tolist() == [["é".encode()], [b"b"]]
    assert coerced(np.array([b"a", b"bc"]), DataType.BYTES).tolist() == [b"a", b"bc"]


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="NumPy 1.x has no StringDType")
def test_variable_width_strings_become_bytes() -> None:
    array = np.array(["a\0", "ü"], np.dtypes.StringDType())
    assert coerced(array, DataType.BYTES).tolist() == [b"a\0", "ü".encode()]


def test_one_string_has_no_axes() -> None:
    array = coerced("abc", DataType.BYTES)
    assert array.shape == ()
    assert array[()] == b"abc"
    assert coerced(np.empty((2, 0), object), DataType.BYTES).shape == (2, 0)


def test_the_callers_object_array_is_not_changed() -> None:
    given = np.array(["a"], object)
    coerced(given, DataType.BYTES)
    assert given[0] == "a"


class OnlyDLPack:
    def __init__(self, array: NDArray[np.float32]) -> None:
        self.array = array

    def __array__(self, *_: object, **__: object) -> None:
        raise TypeError("no arrays here")

    def __dlpack__(self, **options: Any) -> object:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


class Unreachable:
    def __array__(self, *_: object, **__: object) -> None:
        raise RuntimeError("on another device")

    def __dlpack__(self, **_: object) -> object:
        raise BufferError("on another device")


class WithArray:
    def __array__(self, *_: object, **__: object) -> NDArray[np.float64]:
        return np.array([1.0])


def test_foreign_tensors_come_by_array_or_dlpack() -> None:
    assert coerced(WithArray(), DataType.FP32).tolist() == [1.0]
    assert coerced(OnlyDLPack(np.array([2], np.float32)), DataType.FP32).tolist() == [2.0]
    with pytest.raises(InvalidInput, match=r"pass x.detach\(\).cpu\(\)") as caught:
        coerce_array(Unreachable(), spec(DataType.FP32), "lossless")
    assert "bfloat16" in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_no_error_shows_a_value() -> None:
    for value, dtype in (
        ([31337.5], DataType.INT8),
        (["31337"], DataType.FP32),
        ([31337], DataType.INT8),
    ):
        with pytest.raises(InvalidInput) as caught:
            coerce_array(value, spec(dtype), "lossless")
        assert "31337" not in str(caught.value)
