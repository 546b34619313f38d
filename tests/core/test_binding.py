"""The arguments of a call become checked, named arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from infer_backends import DataType, InvalidInput, TensorSpec
from infer_backends._binding import Binder
from tests.core.fakes import metadata

IMAGE = TensorSpec("image", DataType.FP32, (-1, 2))
LIMIT = TensorSpec("limit", DataType.INT32, (1,))
EXTRA = TensorSpec("extra", DataType.FP32, (1,), optional=True)
TWO = Binder(metadata([IMAGE, LIMIT]))
OPTIONAL = Binder(metadata([IMAGE, EXTRA]))
X, L = np.ones((3, 2), np.float32), np.array([5], np.int32)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((X, L), {}),
        ((), {"image": X, "limit": L}),
        ((), {"limit": L, "image": X}),
        (({"limit": L, "image": X},), {}),
    ],
)
def test_inputs_come_by_position_by_name_or_in_one_mapping(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    bound = TWO.bind(args, kwargs)
    assert list(bound) == ["image", "limit"]
    assert bound["image"] is X
    assert bound["limit"] is L


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((X,), {"limit": L}, "by position or by name, not both"),
        ((X,), {}, "expected 2 inputs, got 1: 'limit' is missing; the model's inputs are image"),
        ((X, L, L), {}, "expected 2 inputs, got 3"),
        ((), {}, "missing input 'image', 'limit'; expected 2 inputs, got 0"),
        ((), {"image": X}, "missing input 'limit'"),
        ((), {"image": X, "limit": L, "timeout": 3}, "unknown input 'timeout'"),
        ((), {"image": X, "limits": L}, "did you mean 'limit'"),
        (({1: X, "limit": L},), {}, "unknown input 1"),
        (({"image": None, "limit": L},), {}, "got None"),
    ],
)
def test_wrong_counts_and_names_are_refused(
    args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        TWO.bind(args, kwargs)


def test_optional_inputs_may_be_left_out() -> None:
    extra = np.zeros(1, np.float32)
    assert list(OPTIONAL.bind((X,), {})) == ["image"]
    assert list(OPTIONAL.bind((X, extra), {})) == ["image", "extra"]
    assert list(OPTIONAL.bind((), {"extra": extra, "image": X})) == ["image", "extra"]
    with pytest.raises(InvalidInput, match="expected 1 to 2 inputs, got 3"):
        OPTIONAL.bind((X, extra, extra), {})


def test_a_model_without_inputs_takes_none() -> None:
    binder = Binder(metadata([]))
    assert binder.bind((), {}) == {}
    with pytest.raises(InvalidInput, match="expected 0 inputs, got 1; the model's inputs are none"):
        binder.bind((X,), {})
    with pytest.raises(InvalidInput, match="expected a mapping"):
        binder.bind_mapping(X)  # type: ignore[arg-type]


def test_infer_wants_a_mapping() -> None:
    with pytest.raises(InvalidInput, match=r"got ndarray; pass \{'image': x\}, or call model\(x\)"):
        TWO.bind_mapping(X)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "wanted", "hint"),
    [
        ((64,), (-1, 64), r"missing batch axis\? pass x\[None\]"),
        ((4,), (-1, 1), r"a column of single values\? pass x\[..., None\]"),
        ((1,), (-1, 1), r"a column of single values\? pass x\[..., None\]"),
        ((), (1,), r"a single value\? pass \[x\]"),
        ((1, 5, 64), (-1, 64), r"one axis too many\? pass x\[0\]"),
        ((2, 640, 480, 3), (-1, 3, 640, 480), r"pass x.transpose\(0, 3, 1, 2\)"),
        ((2, 3, 4), (-1, 64), "the rank should be 2, not 3"),
        ((2, 63), (-1, 64), "-1 stands for any length"),
        ((3,), (), "the rank should be 0, not 1"),
        ((1, 2, 3, 4, 5, 6), (-1, 3, 2, 4, 5, 6), "-1 stands for any length"),
    ],
)
def test_a_wrong_shape_says_expected_and_got_and_the_likely_fix(
    shape: tuple[int, ...], wanted: tuple[int, ...], hint: str
) -> None:
    binder = Binder(metadata([TensorSpec("x", DataType.FP32, wanted)]))
    with pytest.raises(InvalidInput, match=hint) as caught:
        binder.bind((np.zeros(shape, np.float32),), {})
    assert f"input 'x': expected shape {wanted}, got {shape}" in str(caught.value)


def test_dynamic_and_empty_dimensions_fit() -> None:
    binder = Binder(metadata([TensorSpec("x", DataType.FP32, (-1, -1))]))
    for shape in ((0, 0), (3, 0), (0, 7), (2, 2)):
        assert binder.bind((np.zeros(shape, np.float32),), {})["x"].shape == shape


def test_a_batching_model_wants_the_same_rows_of_every_input() -> None:
    specs = [TensorSpec("a", DataType.FP32, (-1, 1)), TensorSpec("b", DataType.FP32, (-1,))]
    binder = Binder(metadata(specs, max_batch_size=8))
    a, b = np.zeros((3, 1), np.float32), np.zeros(2, np.float32)
    with pytest.raises(InvalidInput, match=r"same number of rows .*'a' has 3, 'b' has 2"):
        binder.bind((a, b), {})
    assert len(Binder(metadata(specs)).bind((a, b), {})) == 2


@pytest.mark.parametrize(
    "array",
    [
        X,
        X[:0],
        X.T.copy().T,
        X.astype(np.float64),
        X.astype(">f4"),
        X[0],
        X[:, :1],
        X.view(np.recarray),
    ],
    ids=["right", "empty", "strided", "dtype", "endian", "rank", "size", "subclass"],
)
def test_one_input_by_position_is_bound_as_it_is_by_name(array: Any) -> None:
    binder = Binder(metadata([IMAGE]))
    try:
        expected = binder.bind_mapping({"image": array})["image"]
    except InvalidInput as exc:
        with pytest.raises(InvalidInput) as caught:
            binder.bind((array,), {})
        assert str(caught.value) == str(exc)
        return
    bound = binder.bind((array,), {})["image"]
    assert type(bound) is np.ndarray
    assert bound.flags.c_contiguous
    assert bound.dtype is expected.dtype
    np.testing.assert_array_equal(bound, expected)
