"""Made-up inputs: every model's own checks let them pass, and most models run on them."""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes
import numpy as np
import pytest

from infer_backends._samples import sample
from infer_backends._tensors import DataType, TensorSpec
from tests.core.fakes import metadata

FP32, INT64, UINT8, BYTES = DataType.FP32, DataType.INT64, DataType.UINT8, DataType.BYTES


def shape_of(
    shape: Sequence[int], dtype: DataType = FP32, *, max_batch_size: int = 0, rows: int = 1
) -> tuple[int, ...]:
    specs = [TensorSpec("x", dtype, tuple(shape))]
    return sample(metadata(specs, max_batch_size=max_batch_size), rows=rows)["x"].shape


def test_inputs_that_may_be_left_out_are_left_out() -> None:
    specs = [TensorSpec("a", FP32, (1,)), TensorSpec("b", FP32, (1,), optional=True)]
    assert list(sample(metadata(specs))) == ["a"]


def test_the_same_seed_draws_the_same_and_another_draws_other_values() -> None:
    specs = [
        TensorSpec(name, dtype, (-1, 50)) for name, dtype in zip("abc", DataType, strict=False)
    ]
    first, again, other = (sample(metadata(specs), seed=seed) for seed in (3, 3, 4))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        assert not np.array_equal(first[name], other[name])


@pytest.mark.parametrize("dtype", DataType)
def test_values_are_of_the_datatype_and_none_that_a_model_would_refuse(dtype: DataType) -> None:
    array = sample(metadata([TensorSpec("x", dtype, (-1, 100))]))["x"]
    assert array.dtype == dtype.numpy_dtype
    assert array.shape == (1, 100)
    elements = array.ravel().tolist()
    if dtype is BYTES:
        assert all(type(word) is bytes and word.isalpha() and word.islower() for word in elements)
        assert 1 <= min(map(len, elements)) < max(map(len, elements)) <= 8
    elif array.dtype.kind in "biu":
        assert set(elements) == {0, 1}
    else:
        assert array.dtype in (np.float16, np.float32, np.float64, ml_dtypes.bfloat16)
        assert np.isfinite(array.astype(float)).all()
        assert 0.5 < array.astype(float).std() < 2


def test_a_picture_of_bytes_has_all_shades() -> None:
    picture = sample(metadata([TensorSpec("x", UINT8, (-1, -1, -1, 3))]))["x"]
    assert (picture.min(), picture.max()) == (0, 255)


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((), FP32, ()),
        ((5,), FP32, (5,)),
        ((-1,), FP32, (2,)),
        ((-1, -1), INT64, (2, 8)),
        ((4, -1, 16), FP32, (4, 2, 16)),
        ((-1, -1, -1), FP32, (2, 8, 8)),
        ((-1, -1, 4), FP32, (2, 8, 4)),
        ((-1, 3, 640, 640), FP32, (2, 3, 640, 640)),
        ((-1, 3, -1, -1), FP32, (2, 3, 224, 224)),
        ((-1, -1, -1, 3), UINT8, (2, 224, 224, 3)),
        ((-1, -1, -1, -1), FP32, (2, 3, 224, 224)),
        ((1, 3, -1, -1), FP32, (1, 3, 224, 224)),
        ((3, -1, -1), FP32, (3, 224, 224)),
        ((3, -1, -1), INT64, (3, 2, 8)),
        ((-1, -1, -1, -1), INT64, (2, 8, 8, 8)),
        ((-1, 1, -1, -1, -1), FP32, (2, 1, 32, 32, 32)),
        ((0, -1), FP32, (0, 2)),
    ],
)
def test_lengths_that_vary_are_chosen_so_that_most_models_run(
    shape: tuple[int, ...], dtype: DataType, expected: tuple[int, ...]
) -> None:
    assert shape_of(shape, dtype, rows=2) == expected


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((-1, 3), (2, 3)), ((-1, -1), (2, 8)), ((-1, 3, -1), (2, 3, 8)), ((4, -1), (4, 8)), ((), ())],
)
def test_the_rows_of_a_model_that_batches_are_its_first_axis(
    shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert shape_of(shape, max_batch_size=8, rows=2) == expected


def test_all_inputs_of_a_model_that_batches_have_the_same_rows() -> None:
    specs = [TensorSpec("a", FP32, (-1, 3)), TensorSpec("b", FP32, (5, 3))]
    drawn = sample(metadata(specs, max_batch_size=8))
    assert [array.shape[0] for array in drawn.values()] == [5, 5]
