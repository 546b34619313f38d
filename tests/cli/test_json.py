"""Tensors go to JSON and come back; strings too, whatever bytes are in them."""

from __future__ import annotations

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from infer_backends._cli._json import (
    document,
    from_json,
    metadata_to_json,
    outputs_to_json,
    parse_json,
    to_json,
)
from infer_backends.plugin import DataType, ModelMetadata, TensorSpec


@given(
    st.sampled_from(["bool", "u1", "i8", "u8", "f2", "f4", "f8"]).flatmap(
        lambda dtype: hnp.arrays(np.dtype(dtype), hnp.array_shapes(min_dims=0))
    )
)
def test_numbers_come_back_as_they_were(array: Any) -> None:
    back = np.array(from_json(parse_json(json.dumps(to_json(array)))), array.dtype)
    np.testing.assert_array_equal(back, array)


@given(st.lists(st.binary(), max_size=5))
def test_strings_come_back_as_they_were(strings: list[bytes]) -> None:
    array = np.empty(len(strings), object)
    array[:] = strings
    back = from_json(parse_json(outputs_to_json({"x": array}))["x"])
    assert [item.encode() if isinstance(item, str) else item for item in back] == strings


def test_floats_are_written_with_the_fewest_digits_that_mean_the_same() -> None:
    assert to_json(np.array([0.1, 1 / 3, 2**24 + 2, np.inf], np.float32)) == [
        0.1,
        0.33333334,
        16777218.0,
        np.inf,
    ]
    assert to_json(np.array([[0.1, 65504]], np.float16)) == [[0.1, 65504.0]]
    assert to_json(np.array(0.1, np.float32)) == 0.1
    assert to_json(np.array([1 / 3])) == [1 / 3]
    assert to_json(np.array([], np.float32)) == []


def test_bf16_is_written_as_numbers() -> None:
    assert to_json(np.array([1.5], ml_dtypes.bfloat16)) == [1.5]


def test_outputs_stand_one_on_a_line() -> None:
    text = outputs_to_json({"a": np.array([1, 2]), "b": np.array([b"x", b"\xff"], object)})
    assert text == '{\n  "a": [1, 2],\n  "b": ["x", {"base64": "/w=="}]\n}\n'


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([{"base65": ""}], "an object among the elements"),
        ([{"base64": 1}], "an object among the elements"),
        ([{"base64": "?"}], "the base64 of an element is wrong"),
    ],
)
def test_objects_that_are_no_elements_are_refused(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json(value)


def test_json_that_is_nested_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 200_000)


def test_metadata_is_written_in_the_words_of_the_protocol() -> None:
    label = TensorSpec("y", DataType.BYTES, (-1,), labels=("cat", "dog"))
    x = TensorSpec("x", DataType.FP32, (-1, 3), optional=True)
    found = json.loads(metadata_to_json(ModelMetadata("m", ("1",), "memory", (x,), (label,), 8)))
    assert found["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [-1, 3], "optional": True, "labels": None}
    ]
    assert found["outputs"][0]["labels"] == ["cat", "dog"]
    assert (found["name"], found["versions"], found["max_batch_size"]) == ("m", ["1"], 8)
    assert document([]) == "[]\n"
