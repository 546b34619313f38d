"""Answers of the protocol over HTTP, and where their bytes go."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from infer_backends.plugin import (
    Array,
    DataType,
    Deadline,
    InferRequest,
    InferResponse,
    ModelMetadata,
    ProtocolError,
    TensorSpec,
)
from infer_backends_triton._codec import encode
from infer_backends_triton._http_answers import AnswerReader
from infer_backends_triton._http_wire import ResponseHead

METADATA = ModelMetadata(
    name="m",
    versions=(),
    platform="",
    inputs=(TensorSpec("a", DataType.FP32, (-1,)), TensorSpec("b", DataType.BYTES, (-1,))),
    outputs=(TensorSpec("x", DataType.INT32, (-1,)), TensorSpec("y", DataType.BYTES, (-1,))),
)


def a_request(**fields: Any) -> InferRequest:
    return InferRequest(**({"inputs": {}, "outputs": None, "deadline": Deadline.after(9)} | fields))


def read(header: dict[str, Any], raw: bytes = b"", **fields: Any) -> InferResponse:
    """The response that both ways of receiving an answer make."""
    text = json.dumps(header).encode()
    received = read_whole(text, raw, a_request(**fields))
    landed = read_placed(AnswerReader(METADATA, "http://h/m"), text, raw, a_request(**fields))
    assert {name: array.tolist() for name, array in received.outputs.items()} == {
        name: array.tolist() for name, array in landed.outputs.items()
    }
    return landed


def head_of(body: bytes, prefix: int | None) -> ResponseHead:
    headers = {} if prefix is None else {"inference-header-content-length": str(prefix)}
    return ResponseHead(200, headers, len(body), chunked=False, keep_alive=True)


def read_whole(text: bytes, raw: bytes, request: InferRequest) -> InferResponse:
    answer = AnswerReader(METADATA, "http://h/m").expect(request)
    head = head_of(text + raw, len(text) if raw else None)
    answer.take(memoryview(text + raw), head)
    return answer.response()


def read_placed(
    reader: AnswerReader, text: bytes, raw: bytes, request: InferRequest
) -> InferResponse:
    answer = reader.expect(request)
    assert answer.prefix_length(head_of(text + raw, len(text))) == len(text)
    start = 0
    for view in answer.place(text, len(raw)):
        assert len(view)
        view[:] = raw[start : start + len(view)]
        start += len(view)
    assert start == len(raw)
    return answer.response()


X = {"name": "x", "datatype": "INT32", "shape": [1], "data": [7]}
Y = {"name": "y", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}


def test_an_answer_may_mix_json_and_bytes() -> None:
    response = read(
        {
            "outputs": [Y, X],
            "model_version": "3",
            "parameters": {"p": 1, "nested": {}, "none": None},
        },
        raw=b"\1\0\0\0z",
    )
    assert list(response.outputs) == ["x", "y"], "in metadata order"
    assert response.outputs["x"].tolist() == [7]
    assert response.outputs["y"].tolist() == [b"z"]
    assert (response.model_version, response.parameters) == ("3", {"p": 1})
    assert response.backend_url == "http://h/m"


def test_outputs_come_in_the_order_wanted_and_others_are_left_out() -> None:
    plain = {"name": "y", "datatype": "BYTES", "shape": [1], "data": ["z"]}
    assert list(read({"outputs": [X, plain]}, outputs=("y", "x")).outputs) == ["y", "x"]
    assert list(read({"outputs": [X, plain]}, outputs=("y",)).outputs) == ["y"]


def test_an_answer_without_what_was_wanted_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="lacks the output 'y'"):
        read({"outputs": [X]})
    assert read({"outputs": [X]}, outputs=("x",)).model_version == ""


@pytest.mark.parametrize("answered", [None, "", "r"])
def test_an_id_is_compared_where_it_is_repeated(answered: str | None) -> None:
    header = {"outputs": [X], "id": answered}
    assert read(header, outputs=("x",), request_id="r").outputs["x"].tolist() == [7]
    with pytest.raises(ProtocolError, match="another request"):
        read(header | {"id": "s"}, outputs=("x",), request_id="r")
    read(header | {"id": "s"}, outputs=("x",))


def test_the_error_about_broken_json_does_not_keep_it() -> None:
    with pytest.raises(ProtocolError) as caught:
        read_whole(b'{"secret', b"", a_request())
    assert "secret" not in f"{caught.value}{caught.value.__cause__!r}"


def test_an_id_that_is_no_text_is_that_of_another_request() -> None:
    others: tuple[object, ...] = (7, [], {})
    for answered in others:
        with pytest.raises(ProtocolError, match="another request"):
            read({"outputs": [X], "id": answered}, outputs=("x",), request_id="r")


def example(dtype: DataType) -> Array:
    if dtype is DataType.BYTES:
        return np.array([b"", b"a\0", b"\xff" * 3], object)
    array: Array = np.array([1, 0, 1]).astype(dtype.numpy_dtype)
    return array


@pytest.mark.parametrize("dtype", list(DataType))
@pytest.mark.parametrize("shape", [(3,), (1, 3, 1), (0,), (2, 0)])
def test_every_datatype_is_received_into_the_array_that_the_caller_gets(
    dtype: DataType, shape: tuple[int, ...]
) -> None:
    array = example(dtype)[: int(np.prod(shape))].reshape(shape)
    metadata = ModelMetadata("m", (), "", (), (TensorSpec("x", dtype, shape),))
    raw = bytes(encode(array, dtype))
    entry: dict[str, Any] = {"name": "x", "datatype": dtype.value, "shape": shape}
    entry["parameters"] = {"binary_data_size": len(raw)}
    text = json.dumps({"outputs": [entry]}).encode()
    reader = AnswerReader(metadata, "u")
    back = read_placed(reader, text, raw, a_request()).outputs["x"]
    assert (back.dtype, back.shape, back.tolist()) == (array.dtype, shape, array.tolist())
    assert back.flags.writeable
    assert back.flags.c_contiguous


def test_any_byte_that_is_not_zero_is_true_in_the_same_memory() -> None:
    metadata = ModelMetadata("m", (), "", (), (TensorSpec("x", DataType.BOOL, (-1,)),))
    entry = {"name": "x", "datatype": "BOOL", "shape": [2, 2]}
    text = json.dumps({"outputs": [entry | {"parameters": {"binary_data_size": 4}}]}).encode()
    answer = AnswerReader(metadata, "u").expect(a_request())
    (view,) = answer.place(text, 4)
    view[:] = b"\x00\x01\x02\xff"
    array = answer.response().outputs["x"]
    assert array.view(np.uint8).tolist() == [[0, 1], [1, 1]]
    assert np.shares_memory(array, np.frombuffer(view, np.uint8))


def test_answers_that_are_alike_share_nothing() -> None:
    reader = AnswerReader(METADATA, "u")
    text = json.dumps({"outputs": [X, Y], "parameters": {"p": 1}}).encode()
    first = read_placed(reader, text, b"\1\0\0\0z", a_request())
    second = read_placed(reader, text, b"\1\0\0\0w", a_request())
    first.outputs["x"][0] = 8
    assert isinstance(first.parameters, dict)
    first.parameters["p"] = 2
    assert [array.tolist() for array in second.outputs.values()] == [[7], [b"w"]]
    third = read_placed(reader, text, b"\1\0\0\0v", a_request())
    assert (third.outputs["x"].tolist(), third.parameters) == ([7], {"p": 1})


@pytest.mark.parametrize(
    ("changes", "length", "words"),
    [
        ({"binary_data_size": 6}, 5, "'y' should have 6 bytes; 5 are there"),
        ({"binary_data_size": 2**50}, 5, "'y' should have"),
        ({"binary_data_size": 5}, 7, "2 bytes that belong to no output"),
        ({"binary_data_size": 3}, 3, "expected 4 or more bytes, got 3"),
    ],
)
def test_lengths_that_do_not_agree_are_refused_before_any_memory_is_taken(
    changes: dict[str, int], length: int, words: str
) -> None:
    text = json.dumps({"outputs": [X, Y | {"parameters": changes}]}).encode()
    with pytest.raises(ProtocolError, match=words):
        AnswerReader(METADATA, "u").expect(a_request()).place(text, length)


def test_a_size_that_is_not_that_of_the_shape_is_refused_before_any_memory_is_taken() -> None:
    entry = {"name": "x", "datatype": "INT32", "shape": [2**40]}
    text = json.dumps({"outputs": [entry | {"parameters": {"binary_data_size": 4}}]}).encode()
    with pytest.raises(ProtocolError, match="expected 4398046511104 bytes, got 4"):
        AnswerReader(METADATA, "u").expect(a_request(outputs=("x",))).place(text, 4)


def test_an_output_that_no_memory_holds_is_a_protocol_error() -> None:
    entry = {"name": "x", "datatype": "INT32", "shape": [2**58]}
    text = json.dumps({"outputs": [entry | {"parameters": {"binary_data_size": 2**60}}]}).encode()
    with pytest.raises(ProtocolError, match="no memory"):
        AnswerReader(METADATA, "u").expect(a_request(outputs=("x",))).place(text, 2**60)
