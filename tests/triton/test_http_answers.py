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
from infer_backends_triton._http_answers import Answer, AnswerReader
from infer_backends_triton._http_messages import HEADER_LENGTH
from infer_backends_triton._http_wire import ResponseHead, find_head_end, parse_head

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
    answer = Answer(AnswerReader(METADATA, "http://h/m"), request)
    head = head_of(text + raw, len(text) if raw else None)
    answer.take(memoryview(text + raw), head)
    return answer.response()


def read_placed(
    reader: AnswerReader, text: bytes, raw: bytes, request: InferRequest
) -> InferResponse:
    answer = Answer(reader, request)
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
    answer = Answer(AnswerReader(metadata, "u"), a_request())
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
        Answer(AnswerReader(METADATA, "u"), a_request()).place(text, length)


def test_a_size_that_is_not_that_of_the_shape_is_refused_before_any_memory_is_taken() -> None:
    entry = {"name": "x", "datatype": "INT32", "shape": [2**40]}
    text = json.dumps({"outputs": [entry | {"parameters": {"binary_data_size": 4}}]}).encode()
    with pytest.raises(ProtocolError, match="expected 4398046511104 bytes, got 4"):
        Answer(AnswerReader(METADATA, "u"), a_request(outputs=("x",))).place(text, 4)


def test_an_output_that_no_memory_holds_is_a_protocol_error() -> None:
    entry = {"name": "x", "datatype": "INT32", "shape": [2**58]}
    text = json.dumps({"outputs": [entry | {"parameters": {"binary_data_size": 2**60}}]}).encode()
    with pytest.raises(ProtocolError, match="no memory"):
        Answer(AnswerReader(METADATA, "u"), a_request(outputs=("x",))).place(text, 2**60)


NUMBERS = ModelMetadata(
    "m",
    (),
    "",
    (),
    (TensorSpec("x", DataType.INT32, (-1,)), TensorSpec("z", DataType.FP16, (-1,))),
)


def whole_answer(*tensors: tuple[str, str, list[int], bytes], **fields: Any) -> bytes:
    """Head, JSON object and tensors: each with its name, datatype, shape and bytes."""
    described = [
        {"name": name, "datatype": datatype, "shape": shape}
        | {"parameters": {"binary_data_size": len(raw)}}
        for name, datatype, shape, raw in tensors
    ]
    text = json.dumps({"outputs": described, **fields}).encode()
    raws = b"".join(raw for *_, raw in tensors)
    length = len(text) + len(raws)
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n{HEADER_LENGTH}: {len(text)}\r\n\r\n"
    return head.encode() + text + raws


def land(reader: AnswerReader, wire: bytes, request: InferRequest) -> Answer:
    """Take an answer in as a connection does that does not know it, and remember it."""
    answer = Answer(reader, request)
    end = find_head_end(wire)
    head = parse_head(wire[:end])
    prefix = answer.prefix_length(head)
    assert prefix is not None
    start = end + prefix
    for view in answer.place(wire[end:start], len(wire) - start):
        view[:] = wire[start : start + len(view)]
        start += len(view)
    answer.remember(wire, head)
    return answer


def numbers(x: int, z: bytes = b"\0\x3c") -> bytes:
    return whole_answer(("x", "INT32", [1], x.to_bytes(4, "little")), ("z", "FP16", [1], z))


def test_an_answer_like_the_one_before_is_known_by_how_it_begins() -> None:
    reader = AnswerReader(NUMBERS, "u")
    assert Answer(reader, a_request()).recall(numbers(7)) is None
    first = land(reader, numbers(7), a_request()).response()
    answer = Answer(reader, a_request())
    head = answer.recall(numbers(8, b"\0\x40"))
    assert head is not None
    assert head.status == 200
    second = answer.response()
    assert [array.tolist() for array in first.outputs.values()] == [[7], [1.0]]
    assert [array.tolist() for array in second.outputs.values()] == [[8], [2.0]]
    assert list(second.outputs) == ["x", "z"]
    for name, array in second.outputs.items():
        assert array.flags.writeable
        assert array.flags.c_contiguous
        assert array.dtype is first.outputs[name].dtype
        assert not np.shares_memory(array, first.outputs[name])


def test_nothing_but_a_whole_answer_of_the_same_beginning_is_known() -> None:
    reader = AnswerReader(NUMBERS, "u")
    known = numbers(7)
    land(reader, known, a_request())
    others = [known[:length] for length in range(len(known))]
    others += [known + b"\0", known.replace(b"200", b"500"), known.replace(b"INT32", b"INT64")]
    others += [whole_answer(("x", "INT32", [2], bytes(8)), ("z", "FP16", [0], b""))]
    for other in others:
        assert Answer(reader, a_request()).recall(other) is None, other
    assert Answer(reader, a_request(outputs=("z", "x"))).recall(known) is None
    assert Answer(reader, a_request(outputs=("x", "z"))).recall(known) is not None


@pytest.mark.parametrize(
    ("spec", "tensor"),
    [
        (TensorSpec("x", DataType.BOOL, (-1,)), ("x", "BOOL", [1], b"\2")),
        (TensorSpec("x", DataType.BYTES, (-1,)), ("x", "BYTES", [1], b"\1\0\0\0z")),
        (TensorSpec("x", DataType.INT32, (-1,)), ("x", "INT32", [0], b"")),
        (TensorSpec("x", DataType.INT32, (-1,)), ("x", "INT32", [5000], bytes(20000))),
    ],
    ids=str,
)
def test_an_answer_whose_bytes_are_not_all_there_is_to_an_array_is_not_remembered(
    spec: TensorSpec, tensor: tuple[str, str, list[int], bytes]
) -> None:
    reader = AnswerReader(ModelMetadata("m", (), "", (), (spec,)), "u")
    land(reader, whole_answer(tensor), a_request())
    assert reader.known is None


def test_an_answer_to_a_request_with_an_id_is_not_remembered() -> None:
    reader = AnswerReader(NUMBERS, "u")
    wire = whole_answer(("x", "INT32", [1], bytes(4)), ("z", "FP16", [1], bytes(2)), id="one")
    land(reader, wire, a_request(request_id="one"))
    assert reader.known is None
    with pytest.raises(ProtocolError, match="id of another"):
        land(reader, wire, a_request(request_id="two"))


def test_a_part_of_an_answer_is_not_remembered_as_a_whole_one() -> None:
    reader = AnswerReader(NUMBERS, "u")
    wire = numbers(7)
    answer = land(reader, wire, a_request())
    reader.known = None
    head = parse_head(wire[: find_head_end(wire)])
    for received in (wire[:-1], wire[:-6], wire[:20], b"HTTP/1.1 100 Continue\r\n\r\n" + wire):
        answer.remember(received, head)
        assert reader.known is None, received
