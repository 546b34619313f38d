"""A model's metadata, from what servers say of it."""

from __future__ import annotations

from typing import Any

import pytest

from infer_backends.plugin import DataType, ProtocolError, TensorSpec, UnsupportedOperation
from infer_backends_triton._metadata import read_metadata

MODEL: dict[str, Any] = {
    "name": "digits",
    "versions": ["1", "2"],
    "platform": "onnxruntime_onnx",
    "inputs": [
        {"name": "image", "datatype": "FP32", "shape": [-1, 64]},
        {"name": "bias", "datatype": "BYTES", "shape": [-1, 1]},
    ],
    "outputs": [{"name": "label", "datatype": "INT64", "shape": [-1]}],
}
CONFIG: dict[str, Any] = {
    "name": "digits",
    "backend": "onnxruntime",
    "max_batch_size": 8,
    "input": [{"name": "image", "optional": False}, {"name": "bias", "optional": True}],
    "output": [{"name": "label", "label_filename": "labels.txt"}],
    "model_transaction_policy": {"decoupled": True},
    "parameters": {"author": {"string_value": "me"}},
}


def test_all_that_is_said_is_read() -> None:
    metadata = read_metadata(MODEL, CONFIG)
    assert metadata.name == "digits"
    assert metadata.versions == ("1", "2")
    assert metadata.platform == "onnxruntime_onnx"
    assert metadata.inputs == (
        TensorSpec("image", DataType.FP32, (-1, 64)),
        TensorSpec("bias", DataType.BYTES, (-1, 1), optional=True),
    )
    assert metadata.outputs == (TensorSpec("label", DataType.INT64, (-1,)),)
    assert metadata.max_batch_size == 8
    assert metadata.decoupled is True
    assert metadata.parameters == {"author": "me"}


def test_labels_are_among_the_parameters_of_the_configuration() -> None:
    labels = {"parameters": {"labels.label": {"string_value": '["cat", "dog"]'}}}
    assert read_metadata(MODEL, CONFIG | labels).outputs[0].labels == ("cat", "dog")
    assert read_metadata(MODEL, CONFIG | labels).inputs[0].labels is None
    broken = {"parameters": {"labels": {"string_value": "cat"}}}
    assert read_metadata(MODEL, CONFIG | broken).outputs[0].labels is None


def test_integers_may_be_strings_as_protobuf_writes_them() -> None:
    model = MODEL | {"inputs": [{"name": "image", "datatype": "FP32", "shape": ["-1", "64"]}]}
    metadata = read_metadata(model, {"max_batch_size": "4"})
    assert metadata.inputs[0].shape == (-1, 64)
    assert metadata.max_batch_size == 4


def test_a_server_without_configurations_does_not_batch() -> None:
    metadata = read_metadata(MODEL, None)
    assert (metadata.max_batch_size, metadata.decoupled, metadata.parameters) == (0, False, {})
    assert not any(spec.optional for spec in metadata.inputs)


@pytest.mark.parametrize("nothing", [{}, {"versions": None}, {"versions": []}])
def test_what_is_left_out_is_empty(nothing: dict[str, Any]) -> None:
    model = {"name": "m", "inputs": None, "outputs": [{"name": "y", "datatype": "BOOL"}]}
    metadata = read_metadata(model | nothing, {"input": None, "parameters": None})
    assert (metadata.versions, metadata.platform, metadata.inputs) == ((), "", ())
    assert metadata.outputs == (TensorSpec("y", DataType.BOOL, ()),)


def test_the_platform_is_the_backend_when_the_model_names_none() -> None:
    assert read_metadata(MODEL | {"platform": ""}, CONFIG).platform == "onnxruntime"
    assert read_metadata(MODEL | {"platform": None}, {"platform": "p"}).platform == "p"


def test_a_negative_batch_size_is_none() -> None:
    assert read_metadata(MODEL, {"max_batch_size": -1}).max_batch_size == 0


def test_an_unknown_datatype_is_not_supported_and_named() -> None:
    model = MODEL | {"inputs": [{"name": "x", "datatype": "FP8", "shape": [1]}]}
    with pytest.raises(UnsupportedOperation, match=r"'x' is of the datatype 'FP8'; known are BOOL"):
        read_metadata(model, None)


@pytest.mark.parametrize("nothing", [{"outputs": []}, {"outputs": None}])
def test_a_server_that_says_nothing_of_the_outputs_is_told_where_to_say_it(
    nothing: dict[str, Any],
) -> None:
    with pytest.raises(
        UnsupportedOperation, match=r"no outputs.*'digits'.*declare .*model-settings\.json"
    ):
        read_metadata(MODEL | nothing, None)


def with_input(**entry: Any) -> dict[str, Any]:
    return MODEL | {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1]} | entry]}


@pytest.mark.parametrize(
    ("model", "config"),
    [
        ([], None),
        ({}, None),
        (MODEL | {"name": ""}, None),
        (MODEL | {"name": 1}, None),
        (MODEL | {"platform": 1}, None),
        (MODEL | {"versions": "1"}, None),
        (MODEL | {"versions": [1]}, None),
        (MODEL | {"inputs": {}}, None),
        (MODEL | {"inputs": ["x"]}, None),
        (MODEL | {"outputs": MODEL["outputs"] * 2}, None),
        (with_input(name=None), None),
        (with_input(datatype=None), None),
        (with_input(datatype=3), None),
        (with_input(shape=[-2]), None),
        (with_input(shape=[1.0]), None),
        (with_input(shape=[True]), None),
        (with_input(shape=["a"]), None),
        (with_input(shape=["9" * 19]), None),
        (with_input(shape=["9" * 5000]), None),
        (with_input(shape=[2**63]), None),
        (with_input(shape=3), None),
        (MODEL, []),
        (MODEL, {"max_batch_size": "many"}),
        (MODEL, {"max_batch_size": 1.5}),
        (MODEL, {"input": [1]}),
        (MODEL, {"parameters": [1]}),
        (MODEL, {"parameters": {"a": "b"}}),
        (MODEL, {"model_transaction_policy": 1}),
    ],
)
def test_what_is_malformed_is_a_protocol_error(model: Any, config: Any) -> None:
    with pytest.raises(ProtocolError):
        read_metadata(model, config)
