"""Any tensor comes back as it went; any bytes are a tensor or a protocol error."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from infer_backends.plugin import Array, DataType, ProtocolError, UnsupportedOperation
from infer_backends_triton._codec import binary_only, decode, encode, from_json, to_json

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
WILD_SHAPES = st.lists(st.integers(-2, 2**65) | st.integers(0, 3), max_size=5).map(tuple)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=12,
)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[DataType, Array]:
    dtype = draw(st.sampled_from(DataType))
    shape = draw(SHAPES)
    if dtype is DataType.BYTES:
        size = math.prod(shape)
        array = np.empty(size, object)
        array[:] = draw(st.lists(st.binary(max_size=6), min_size=size, max_size=size))
        return dtype, array.reshape(shape)
    if dtype is DataType.BF16:
        return dtype, draw(hnp.arrays(np.uint16, shape)).view(dtype.numpy_dtype)
    return dtype, draw(hnp.arrays(np.dtype(dtype.numpy_dtype.name), shape))


def bits(array: Array) -> object:
    """What tells NaNs, and the two zeros, apart."""
    return array.tolist() if array.dtype == object else array.tobytes()


@given(tensors())
def test_a_tensor_comes_back_as_it_went(tensor: tuple[DataType, Array]) -> None:
    dtype, array = tensor
    back = decode(encode(array, dtype), dtype, array.shape, "y")
    assert (back.dtype, back.shape, bits(back)) == (array.dtype, array.shape, bits(array))
    assert back.flags.writeable
    assert back.flags.c_contiguous
    assert not np.shares_memory(back, array)


@given(tensors(), st.randoms(use_true_random=False))
def test_layout_and_byte_order_do_not_matter(tensor: tuple[DataType, Array], random: Any) -> None:
    dtype, array = tensor
    axes = list(range(array.ndim))
    random.shuffle(axes)
    turned = array.transpose(axes)
    expected = bytes(encode(np.array(turned, order="C"), dtype))
    assert bytes(encode(turned, dtype)) == expected
    if dtype not in {DataType.BYTES, DataType.BF16}:
        assert bytes(encode(turned.astype(turned.dtype.newbyteorder(">")), dtype)) == expected


@given(st.binary(max_size=64), st.sampled_from(DataType), WILD_SHAPES | SHAPES)
def test_any_bytes_are_a_tensor_or_a_protocol_error(
    raw: bytes, dtype: DataType, shape: tuple[int, ...]
) -> None:
    try:
        array = decode(raw, dtype, shape, "y")
    except ProtocolError:
        return
    assert array.shape == shape
    assert array.size <= len(raw)
    if dtype is not DataType.BOOL:
        assert bytes(encode(array, dtype)) == raw


@given(tensors())
def test_a_tensor_comes_back_through_json_or_is_refused(tensor: tuple[DataType, Array]) -> None:
    dtype, array = tensor
    try:
        elements = to_json(array, dtype, "x")
    except UnsupportedOperation:
        return
    back = from_json(elements, dtype, array.shape, "y")
    assert (back.dtype, back.shape, back.tolist()) == (array.dtype, array.shape, array.tolist())


@given(JSON, st.sampled_from(DataType), WILD_SHAPES | SHAPES)
def test_any_json_is_a_tensor_or_a_protocol_error(
    value: Any, dtype: DataType, shape: tuple[int, ...]
) -> None:
    assume(not binary_only(dtype))
    try:
        array = from_json(value, dtype, shape, "y")
    except ProtocolError:
        return
    except UnsupportedOperation:
        # Servers write it for NaN as well as for infinities.
        assert "null" in json.dumps(value)
        return
    assert array.shape == shape
    assert array.dtype == dtype.numpy_dtype
