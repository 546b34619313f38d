"""The largest elements of an output, in the form that Triton has for them."""

from __future__ import annotations

import numpy as np
import pytest

from infer_backends import (
    Classification,
    DataType,
    InvalidInput,
    Model,
    ProtocolError,
    TensorSpec,
    UnsupportedOperation,
)
from infer_backends._batching import Splitting
from infer_backends._classes import classify, read_classes
from infer_backends.plugin import Array, InferResponse, ModelMetadata
from tests.core.fakes import FakeBackend, metadata

NO_ROWS = metadata(outputs=[TensorSpec("y", DataType.FP32, (-1, 3))], max_batch_size=4)


def model(
    dtype: DataType = DataType.FP32, *, rows: bool = True, labels: tuple[str, ...] | None = None
) -> ModelMetadata:
    spec = TensorSpec("y", dtype, (-1, 3), labels=labels)
    return metadata(outputs=[spec], max_batch_size=8 if rows else 0)


def classes_of(array: Array, top_k: int, described: ModelMetadata) -> Array:
    response = InferResponse({"y": array})
    classify(response, top_k, described)
    return response.outputs["y"]


def test_each_row_has_its_largest_elements_first_with_value_and_index() -> None:
    array = np.array([[0.1, 0.7, 0.2], [3, 2, 1]], np.float32)
    found = classes_of(array, 2, model())
    assert found.shape == (2, 2)
    assert found.tolist() == [[b"0.700000:1", b"0.200000:2"], [b"3.000000:0", b"2.000000:1"]]


def test_labels_are_the_models() -> None:
    array = np.array([[0, 1, 2]], np.float32)
    found = classes_of(array, 3, model(labels=("cat", "dog")))
    assert found.tolist() == [[b"2.000000:2", b"1.000000:1:dog", b"0.000000:0:cat"]]


def test_without_a_batch_axis_all_elements_are_one_row() -> None:
    array = np.array([[1, 9, 2], [3, 4, 5]], np.int32)
    assert classes_of(array, 2, model(DataType.INT32, rows=False)).tolist() == [b"9:1", b"5:5"]


def test_more_than_there_are_is_all_of_them() -> None:
    assert classes_of(np.zeros((2, 3), np.float32), 10, model()).shape == (2, 3)


@pytest.mark.parametrize(
    ("dtype", "numbers", "order"),
    [
        (DataType.UINT64, [2**64 - 1, 0, 2**63], [0, 2, 1]),
        (DataType.INT64, [-(2**63), 2**63 - 1, 0], [1, 2, 0]),
        (DataType.BOOL, [False, True, False], [1, 0, 2]),
        (DataType.FP16, [0.5, -1, 2], [2, 0, 1]),
        (DataType.UINT8, [7, 255, 8], [1, 2, 0]),
    ],
)
def test_extremes_of_every_type_are_in_order(
    dtype: DataType, numbers: list[float], order: list[int]
) -> None:
    array = np.array([numbers], dtype.numpy_dtype)
    found = read_classes(classes_of(array, 3, model(dtype)))
    assert [one.index for one in found[0]] == order


def test_equal_elements_keep_their_order() -> None:
    found = read_classes(classes_of(np.zeros((1, 3), np.float32), 3, model()))
    assert [one.index for one in found[0]] == [0, 1, 2]


def test_bytes_have_no_largest_elements() -> None:
    with pytest.raises(UnsupportedOperation, match="BYTES"):
        classes_of(np.array([[b"a"]], object), 1, model(DataType.BYTES))


def test_classes_are_read_with_labels_that_hold_colons() -> None:
    array = np.array([[b"0.5:3:a:b"], [b"1:0"]], object)
    assert read_classes(array) == [
        [Classification(0.5, 3, "a:b")],
        [Classification(1.0, 0, "")],
    ]


@pytest.mark.parametrize("element", [b"", b"secret", b"1:", b"x:1", b"\xff:1", "1:2", None])
def test_what_is_no_class_is_an_error_that_does_not_show_it(element: object) -> None:
    with pytest.raises(ProtocolError, match="value:index:label") as raised:
        read_classes(np.array([element], object))
    assert "secret" not in str(raised.value)


def test_no_rows_have_no_classes() -> None:
    assert classes_of(np.zeros((0, 3), np.float32), 2, model()).shape == (0, 2)
    split = Splitting(FakeBackend(metadata=NO_ROWS), "fake://h/m")
    for backend in (split, FakeBackend(metadata=NO_ROWS)):
        result = Model(backend).infer({"x": np.zeros((0, 3), np.float32)}, top_k=2)
        assert (result["y"].shape, result["y"].dtype) == ((0, 2), np.dtype(object))


def test_classes_that_were_not_asked_for_are_no_broken_answer() -> None:
    with pytest.raises(InvalidInput, match="ask for them by top_k="):
        read_classes(np.zeros((1, 3), np.float32))
