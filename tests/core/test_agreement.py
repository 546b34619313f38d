"""In what two answers differ: said by names, shapes and counts, never by values."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from infer_backends._agreement import Comparison, Tolerance, compare
from infer_backends._backend import Array
from infer_backends._errors import InvalidInput

USUAL = Tolerance(1e-3, 1e-5)
NAN, INF = float("nan"), float("inf")


def compared(left: Any, right: Any, dtype: Any = np.float32) -> Comparison:
    return compare({"y": np.array(left, dtype)}, {"y": np.array(right, dtype)}, USUAL)


def test_equal_answers_have_no_differences() -> None:
    assert compared([1, NAN, INF, -INF], [1, NAN, INF, -INF]) == Comparison((), 0.0)


def test_a_difference_within_the_tolerance_is_none_but_is_measured() -> None:
    differences, largest = compared([1000.0, 0.0], [1000.5, 0.000009], np.float64)
    assert differences == ()
    assert largest == pytest.approx(0.5)


def test_the_tolerance_is_of_the_expected_value() -> None:
    loose = Tolerance(1.0, 0.0)
    zero, one = {"y": np.zeros(1)}, {"y": np.ones(1)}
    assert compare(one, zero, loose).differences == ()
    assert compare(zero, one, loose).differences != ()


@pytest.mark.parametrize(
    ("left", "right", "count", "largest"),
    [
        ([1.0, 2.0, 4.0], [1.0, 2.5, 3.0], 2, 1.0),
        ([NAN, 1.0], [1.0, 1.0], 1, 0.0),
        ([1.0, 1.0], [NAN, 1.0], 1, 0.0),
        ([INF], [-INF], 1, INF),
        ([INF], [3.0], 1, INF),
        ([3.0], [INF], 1, INF),
        ([NAN], [INF], 1, None),
    ],
)
def test_floats_that_differ_are_counted(
    left: list[float], right: list[float], count: int, largest: float | None
) -> None:
    found = compared(left, right)
    by = "" if largest is None else f", by {largest:.3g} at most"
    assert found.differences == (f"output 'y': {count} of {len(left)} elements differ{by}",)
    assert found.largest == largest


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_halves_are_compared_as_the_numbers_that_they_are(dtype: Any) -> None:
    assert compared([1.5], [2.5], dtype).largest == 1.0


@pytest.mark.parametrize(
    ("dtype", "left", "right", "largest"),
    [
        (np.int8, [-128], [127], 255.0),
        (np.uint8, [0], [255], 255.0),
        (np.int64, [-(2**63)], [2**63 - 1], float(2**64 - 1)),
        (np.uint64, [2**64 - 1], [2**64 - 2], 1.0),
    ],
)
def test_integers_are_compared_exactly(
    dtype: Any, left: list[int], right: list[int], largest: float
) -> None:
    differences, found = compared(left, right, dtype)
    assert differences == (f"output 'y': 1 of 1 elements differ, by {largest:.3g} at most",)
    assert found == largest


@pytest.mark.parametrize(
    ("dtype", "left", "right"), [(object, [b"cat", b"x"], [b"dog", b"x"]), (bool, [1, 0], [0, 0])]
)
def test_strings_and_booleans_are_counted(dtype: Any, left: Any, right: Any) -> None:
    found = compared(left, right, dtype)
    assert found == Comparison(("output 'y': 1 of 2 elements differ",), None)
    assert compared(left, left, dtype) == Comparison((), None)


def test_outputs_of_no_elements_agree() -> None:
    for dtype in (np.float32, np.int32, object):
        assert compared([], [], dtype) == Comparison((), None)


def test_other_names_datatypes_and_shapes_are_told_and_nothing_compared() -> None:
    one = np.ones((1, 2), np.float32)
    assert compare({"y": one}, {"z": one}, USUAL) == (("outputs are ['y'] and ['z']",), None)
    expected: dict[str, Array] = {"a": one, "b": one, "c": np.array([b"x"], object)}
    got: dict[str, Array] = {"a": one.astype(np.float64), "b": one[:, :1], "c": np.ones(1)}
    differences, largest = compare(expected, got, USUAL)
    assert differences == (
        "output 'a' is float32[1, 2] and float64[1, 2]",
        "output 'b' is float32[1, 2] and float32[1, 1]",
        "output 'c' is bytes[1] and float64[1]",
    )
    assert largest is None


def test_the_order_of_outputs_is_no_difference() -> None:
    a, b = np.ones(1), np.zeros(1)
    assert compare({"a": a, "b": b}, {"b": b, "a": a}, USUAL) == ((), 0.0)


@pytest.mark.parametrize("wrong", [-1, NAN, INF, "1", True, None])
def test_a_tolerance_is_a_number_of_at_least_zero(wrong: object) -> None:
    with pytest.raises(InvalidInput, match="atol= is a"):
        Tolerance.of(0, wrong)
    with pytest.raises(InvalidInput, match="rtol= is a"):
        Tolerance.of(wrong, 0)
