"""Whatever is passed as an input: it is converted without losing meaning, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from infer_backends import DataType, InvalidInput, TensorSpec
from infer_backends._binding import bind_one
from infer_backends._coercion import coerce_array, kind_of

DATATYPES = [dtype for dtype in DataType if dtype is not DataType.BYTES]
numbers = hnp.arrays(
    hnp.boolean_dtypes()
    | hnp.integer_dtypes(endianness="?")
    | hnp.unsigned_integer_dtypes(endianness="?")
    | hnp.floating_dtypes(endianness="?"),
    hnp.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=4),
)


@given(numbers, st.sampled_from(DATATYPES))
def test_a_conversion_keeps_values_or_is_refused(
    array: np.ndarray[Any, Any], dtype: DataType
) -> None:
    spec = TensorSpec("x", dtype, (-1,) * array.ndim)
    try:
        converted = bind_one(array, spec, "lossless")
    except InvalidInput:
        same_kind = kind_of(array.dtype) == kind_of(dtype.numpy_dtype)
        assert not (same_kind and np.can_cast(array.dtype, dtype.numpy_dtype, "safe"))
        return
    assert converted.dtype == dtype.numpy_dtype
    assert converted.dtype.isnative
    assert converted.flags.c_contiguous
    assert converted.shape == array.shape
    if kind_of(dtype.numpy_dtype) == "float":
        wide = converted.astype(np.float64)
        source = array.astype(np.float64)
        assert (np.isnan(wide) == np.isnan(source)).all()
        assert (np.isinf(wide) == np.isinf(source)).all()
    else:
        np.testing.assert_array_equal(converted, array)


nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=8,
)


@given(nested, st.sampled_from(list(DataType)), st.sampled_from(["never", "lossless", "unsafe"]))
def test_any_python_value_is_bound_or_refused(value: Any, dtype: DataType, mode: Any) -> None:
    spec = TensorSpec("x", dtype, (-1,))
    try:
        array = coerce_array(value, spec, mode)
    except InvalidInput as exc:
        assert str(exc).startswith("input 'x': ")
    else:
        assert array.dtype == dtype.numpy_dtype


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.binary(), max_size=5))
def test_strings_come_through_byte_for_byte(values: list[str | bytes]) -> None:
    spec = TensorSpec("x", DataType.BYTES, (-1,))
    expected = [value.encode() if isinstance(value, str) else value for value in values]
    assert bind_one(values, spec, "lossless").tolist() == expected
