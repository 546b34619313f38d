"""What the suite calls models with, and how it compares what they answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from infer_backends._backend import Array
from infer_backends._tensors import DataType, TensorSpec

#: Lengths that a model leaves open: of the first axis, and of the others.
_ROWS, _LENGTH = 2, 3


def values(dtype: DataType) -> Array:
    """A 2 x 3 array with the extremes of a datatype."""
    target: np.dtype[Any] = dtype.numpy_dtype
    if dtype is DataType.BYTES:
        texts = [b"", b"a\0b\0", "naïve 🦜".encode(), b"\n", b"x" * 1000, b"plain"]
        return np.array([*texts, None], object)[:-1].reshape(2, 3)
    if dtype is DataType.BOOL:
        return np.array([[True, False, True], [False, False, True]])
    if target.kind in "iu":
        limits = np.iinfo(target)
        return np.array([[limits.min, 0, 1], [2, 3, limits.max]], target)
    return np.array([[np.nan, np.inf, -np.inf], [-0.0, 1.5, -1024]], np.float64).astype(target)


def shape_of(spec: TensorSpec) -> tuple[int, ...]:
    """A shape that fits: two rows, and lengths of three, where the model leaves them open."""
    return tuple(
        size if size != -1 else _LENGTH if axis else _ROWS for axis, size in enumerate(spec.shape)
    )


def example(spec: TensorSpec, number: int = 0) -> Array:
    """An ordinary array that fits: small numbers, others for another ``number``."""
    shape = shape_of(spec)
    counted = np.arange(number, number + int(np.prod(shape, dtype=int)))
    if spec.dtype is DataType.BYTES:
        array = np.empty(counted.size, object)
        array[:] = [b"text %d" % count for count in counted]
        return array.reshape(shape)
    elements = counted % 2 == 0 if spec.dtype is DataType.BOOL else counted % 100
    result: Array = elements.astype(spec.dtype.numpy_dtype)
    return result.reshape(shape)


def filled(array: Array, shape: Sequence[int]) -> Array:
    """The elements of an array in another shape, again and again."""
    result: Array = np.resize(array, tuple(shape))
    return result.reshape(tuple(shape))


def assert_same(got: Array, expected: Array) -> None:
    """The same dtype, shape and elements, NaNs and signs of zero among them."""
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    if got.dtype == object:
        assert got.tolist() == expected.tolist()
    elif got.tobytes() != expected.tobytes():
        # Says which elements differ, where a difference can be seen.
        np.testing.assert_array_equal(got, expected)
        assert got.tobytes() == expected.tobytes(), "other NaNs, or zeros of another sign"


def assert_close(got: Array, expected: Array, tolerance: float) -> None:
    """The same dtype and shape, and floats that are no further apart than the tolerance."""
    if not tolerance or got.dtype.kind not in "fV":
        assert_same(got, expected)
        return
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    wide = np.float64
    np.testing.assert_allclose(got.astype(wide), expected.astype(wide), tolerance, tolerance)


def assert_all_close(
    got: Mapping[str, Array], expected: Mapping[str, Array], tolerance: float = 0.0
) -> None:
    """The same outputs, in the same order, no further apart than the tolerance."""
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert_close(got[name], array, tolerance)
