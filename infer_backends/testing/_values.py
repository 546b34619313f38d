"""What the suite calls models with, and how it compares what they answer."""

from __future__ import annotations

from typing import Any

import numpy as np

from infer_backends._backend import Array
from infer_backends._tensors import DataType

IMAGE = np.arange(6, dtype=np.float32).reshape(2, 3)
CODES = np.array([1, -(2**31)], np.int64)
WRONG_INPUTS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "no input": ((), {}),
    "too few": ((IMAGE,), {}),
    "too many": ((IMAGE, CODES, CODES), {}),
    "by position and by name": ((IMAGE,), {"codes": CODES}),
    "unknown name": ((), {"image": IMAGE, "codes": CODES, "timeout": 1}),
    "missing name": ((), {"image": IMAGE}),
    "rank too low": ((IMAGE[0], CODES), {}),
    "rank too high": ((IMAGE[None], CODES), {}),
    "static dimension": ((IMAGE[:, :2], CODES), {}),
    "static dimension of the second": ((IMAGE, CODES[:1]), {}),
    "complex": ((IMAGE.astype(np.complex64), CODES), {}),
    "fractions for integers": ((IMAGE, [1.5, 2.5]), {}),
    "too large for the datatype": ((IMAGE, np.array([1, 2**63], np.uint64)), {}),
    "truth for numbers": ((IMAGE > 1, CODES), {}),
    "text for numbers": (([["a", "b", "c"]], CODES), {}),
    "None": ((None, CODES), {}),
    "ragged": (([[1, 2, 3], [1]], CODES), {}),
    "objects": ((np.array([[None] * 3]), CODES), {}),
}


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


def assert_same(got: Array, expected: Array) -> None:
    """The same dtype, shape and elements, NaNs and signs of zero among them."""
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    if got.dtype == object:
        assert got.tolist() == expected.tolist()
    else:
        assert got.tobytes() == expected.tobytes()
