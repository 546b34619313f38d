"""Outputs that are made up from metadata."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infer_backends import DataType, ModelMetadata, TensorSpec
from infer_backends.plugin import Array
from infer_backends.testing._fake_drawing import draw

ROWS = TensorSpec("x", DataType.FP32, (-1, 3))


def made_up(output: TensorSpec, array: Any = None, seed: int = 0) -> Array:
    metadata = ModelMetadata("m", (), "fake", (ROWS,), (output,))
    x = np.ones((2, 3), np.float32) if array is None else np.asarray(array, np.float32)
    return draw(metadata, {"x": x}, seed)["y"]


@pytest.mark.parametrize("dtype", list(DataType), ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (4,), (-1,), (-1, 4), (2, -1)])
def test_every_datatype_and_shape_can_be_made_up(dtype: DataType, shape: tuple[int, ...]) -> None:
    array = made_up(TensorSpec("y", dtype, shape))
    assert array.dtype == dtype.numpy_dtype
    assert array.shape == tuple(
        (2, 1)[axis] if size == -1 else size for axis, size in enumerate(shape)
    )
    if dtype is DataType.BYTES:
        assert all(type(text) is bytes and len(text) == 13 for text in array.ravel().tolist())
    else:
        numbers = array.astype(np.float64)
        assert ((numbers >= 0) & (numbers < 100)).all()


def test_what_is_made_up_is_the_same_on_every_machine() -> None:
    """Snapshots of tests hold it: so it is part of the contract."""
    floats = made_up(TensorSpec("y", DataType.FP32, (-1, 2)), [[0, 1, 2]])
    integers = made_up(TensorSpec("y", DataType.INT64, (4,)), [[0, 1, 2]])
    texts = made_up(TensorSpec("y", DataType.BYTES, (1,)), [[0, 1, 2]])
    assert floats.tolist() == FLOATS
    assert integers.tolist() == INTEGERS
    assert texts.tolist() == TEXTS


FLOATS = [[0.9847984910011292, 0.15433180332183838]]
INTEGERS = [87, 45, 9, 30]
TEXTS = [b"text-afc11bfc"]


def test_other_inputs_or_another_seed_make_up_others() -> None:
    output = TensorSpec("y", DataType.FP64, (8,))
    drawn = [made_up(output), made_up(output, np.zeros((2, 3))), made_up(output, seed=1)]
    assert len({array.tobytes() for array in drawn}) == 3
    assert made_up(output).tobytes() == drawn[0].tobytes()


@given(st.integers(0, 6), st.integers(0, 5))
def test_a_sample_has_the_same_outputs_alone_and_in_a_batch(rows: int, seed: int) -> None:
    output = TensorSpec("y", DataType.FP32, (-1, 4))
    batch = np.random.default_rng(seed).random((rows, 3), np.float32)
    together = made_up(output, batch, seed)
    assert together.shape == (rows, 4)
    for index in range(rows):
        np.testing.assert_array_equal(
            made_up(output, batch[index : index + 1], seed)[0], together[index]
        )


def test_a_dimension_that_varies_is_that_of_the_first_input_which_has_one_there() -> None:
    specs = (
        TensorSpec("fixed", DataType.FP32, (7, 5)),
        TensorSpec("left", DataType.FP32, (-1, 2), optional=True),
        TensorSpec("right", DataType.FP32, (-1, -1)),
    )
    outputs = (TensorSpec("y", DataType.FP32, (-1, -1, -1)),)
    metadata = ModelMetadata("m", (), "fake", specs, outputs)
    inputs: dict[str, Array] = {
        "fixed": np.zeros((7, 5), np.float32),
        "left": np.zeros((3, 2), np.float32),
        "right": np.zeros((4, 6), np.float32),
    }
    assert draw(metadata, inputs, 0)["y"].shape == (3, 6, 1)
    del inputs["left"]
    assert draw(metadata, inputs, 0)["y"].shape == (4, 6, 1)


def test_texts_and_numbers_in_any_byte_order_count() -> None:
    spec = TensorSpec("x", DataType.BYTES, (2,))
    outputs = (TensorSpec("y", DataType.INT64, (4,)),)
    metadata = ModelMetadata("m", (), "fake", (spec,), outputs)
    texts = [np.array(pair, object) for pair in ([b"a", b"bc"], [b"ab", b"c"])]
    drawn = [draw(metadata, {"x": text}, 0)["y"].tolist() for text in texts]
    assert drawn[0] != drawn[1]


def test_a_model_without_inputs_has_outputs_all_the_same() -> None:
    outputs = (TensorSpec("y", DataType.FP32, (-1, 2)),)
    assert draw(ModelMetadata("m", (), "fake", (), outputs), {}, 0)["y"].shape == (1, 2)
