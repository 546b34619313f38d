"""Pure: in what two answers to the same request differ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from infer_backends._backend import Array
from infer_backends._coercion import kind_of
from infer_backends._errors import InvalidInput


class Tolerance(NamedTuple):
    """How far floats may be apart: by ``absolute + relative * abs(expected)``."""

    relative: float
    absolute: float

    @classmethod
    def of(cls, rtol: object, atol: object) -> Tolerance:
        """The tolerance that a caller asked for.

        Raises:
            InvalidInput: One of the two is no number, negative or infinite.
        """
        return cls(_tolerated("rtol", rtol), _tolerated("atol", atol))


def _tolerated(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidInput(f"{name}= is a number, not {type(value).__name__}")
    number = float(value)
    if not 0 <= number < math.inf:
        raise InvalidInput(f"{name}= is a finite number of at least 0; this one is not")
    return number


class Comparison(NamedTuple):
    """What a comparison found.

    Attributes:
        differences: What differs, a sentence for each output; empty when nothing does.
        largest: The largest difference between two numbers, whether tolerated or not; None where
            no numbers could be compared.
    """

    differences: tuple[str, ...]
    largest: float | None


def compare(
    expected: Mapping[str, Array], got: Mapping[str, Array], tolerance: Tolerance
) -> Comparison:
    """Compare the outputs of two answers: their names, dtypes and shapes, and then their values.

    Floats may be apart by the tolerance; NaN is equal to NaN, and an infinity to itself. All else
    has to be the same.
    """
    if expected.keys() != got.keys():
        return Comparison((f"outputs are {sorted(expected)} and {sorted(got)}",), None)
    differences = []
    largest = []
    for name, left in expected.items():
        right = got[name]
        if left.dtype != right.dtype or left.shape != right.shape:
            differences.append(f"output {name!r} is {_described(left)} and {_described(right)}")
            continue
        count, most = _values(left, right, tolerance)
        if most is not None:
            largest.append(most)
        if count:
            by = "" if most is None else f", by {most:.3g} at most"
            differences.append(f"output {name!r}: {count} of {left.size} elements differ{by}")
    return Comparison(tuple(differences), max(largest, default=None))


def _described(array: Array) -> str:
    return f"{'bytes' if array.dtype == object else array.dtype}{list(array.shape)}"


def _values(left: Array, right: Array, tolerance: Tolerance) -> tuple[int, float | None]:
    """How many elements differ, and the largest difference between two numbers."""
    kind = kind_of(left.dtype)
    if kind == "float":
        return _floats(left.astype(np.float64), right.astype(np.float64), tolerance)
    differ = int(np.count_nonzero(left != right))
    if kind != "integer" or not left.size:
        return differ, None
    # Unsigned numbers wrap around, so that this holds for all 64-bit integers.
    high = np.maximum(left, right).astype(np.uint64)
    low = np.minimum(left, right).astype(np.uint64)
    return differ, float((high - low).max())


def _floats(
    left: NDArray[np.float64], right: NDArray[np.float64], tolerance: Tolerance
) -> tuple[int, float | None]:
    # A difference of infinities is none, and of what is no number says nothing.
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.where(left == right, 0.0, np.abs(left - right))
        finite = np.isfinite(left) & np.isfinite(right)
        near = apart <= tolerance.absolute + tolerance.relative * np.abs(left)
    same = np.where(finite, near, left == right) | (np.isnan(left) & np.isnan(right))
    numbers = apart[~np.isnan(apart)]
    largest = float(numbers.max()) if numbers.size else None
    return int(np.count_nonzero(~same)), largest
