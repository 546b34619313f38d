"""Requests of the protocol over HTTP."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import pytest

from infer_backends.plugin import (
    Array,
    DataType,
    Deadline,
    InferRequest,
    InvalidInput,
    ModelMetadata,
    TensorSpec,
)
from infer_backends_triton._http_requests import RequestWriter

METADATA = ModelMetadata(
    name="m",
    versions=(),
    platform="",
    inputs=(TensorSpec("a", DataType.FP32, (-1,)), TensorSpec("b", DataType.BYTES, (-1,))),
    outputs=(),
)
HEAD = b"POST /m/infer HTTP/1.1\r\nhost: h\r\n"


def a_request(**fields: Any) -> InferRequest:
    text = np.array([b"c"], object)
    inputs: dict[str, Array] = {"a": np.array([1, 2], np.float32), "b": text}
    return InferRequest(
        **({"inputs": inputs, "outputs": None, "deadline": Deadline.after(9)} | fields)
    )


def take_apart(pieces: list[bytes | memoryview]) -> tuple[bytes, Any, list[bytes | memoryview]]:
    """The head, the JSON object and the tensors of a request, after a look at its lengths."""
    head, _, text = bytes(pieces[0]).partition(b"\r\n\r\n")
    tensors = pieces[1:]
    assert all(len(piece) for piece in pieces)
    assert length(b"content-length", head) == len(text) + sum(len(tensor) for tensor in tensors)
    if b"inference-header" in head:
        assert length(b"inference-header-content-length", head) == len(text)
    return head, json.loads(text), tensors


def length(name: bytes, head: bytes) -> int:
    found = re.search(b"\n%b: ([0-9]+)" % name, head)
    assert found is not None
    return int(found.group(1))


def write(
    request: InferRequest, *, binary: bool = True
) -> tuple[bytes, Any, list[bytes | memoryview]]:
    return take_apart(RequestWriter(METADATA, HEAD, binary=binary).write(request))


def test_a_binary_request_describes_the_bytes_that_follow() -> None:
    head, message, tensors = write(a_request(request_id="r"))
    assert message == {
        "id": "r",
        "parameters": {"binary_data_output": True},
        "inputs": [
            {"name": "a", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}},
            {"name": "b", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 5}},
        ],
    }
    assert b"".join(tensors) == np.array([1, 2], "<f4").tobytes() + b"\1\0\0\0c"
    assert b"content-type: application/octet-stream" in head


def test_a_json_request_holds_its_tensors() -> None:
    head, message, tensors = write(a_request(outputs=("y",)), binary=False)
    assert b"content-type: application/json" in head
    assert message == {
        "outputs": [{"name": "y"}],
        "inputs": [
            {"name": "a", "shape": [2], "datatype": "FP32", "data": [1.0, 2.0]},
            {"name": "b", "shape": [1], "datatype": "BYTES", "data": ["c"]},
        ],
    }
    assert tensors == []


def test_outputs_that_are_wanted_are_asked_for() -> None:
    _, message, _ = write(a_request(outputs=("y", "x")))
    assert message["outputs"] == [
        {"name": "y", "parameters": {"binary_data": True}},
        {"name": "x", "parameters": {"binary_data": True}},
    ]


def test_empty_tensors_send_no_bytes() -> None:
    inputs: dict[str, Array] = {"a": np.zeros(0, np.float32)}
    _, message, tensors = write(a_request(inputs=inputs))
    assert tensors == []
    assert message["inputs"][0]["parameters"] == {"binary_data_size": 0}


def test_parameters_are_sent_and_the_callers_mapping_stays_as_it_was() -> None:
    given = {"priority": 1, "name": "é", "flag": True}
    _, message, _ = write(a_request(parameters=given))
    assert message["parameters"] == given | {"binary_data_output": True}
    assert len(given) == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"parameters": {"x": math.nan}},
        {"parameters": {"x": "\ud800"}},
        {"parameters": {"x": object()}},
        {"parameters": {"binary_data_output": False}},
        {"request_id": "\ud800"},
    ],
)
def test_what_json_cannot_carry_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        write(a_request(**fields))


def test_a_tensor_is_not_copied() -> None:
    array = np.zeros((2, 3), np.float32)
    _, _, tensors = write(a_request(inputs={"a": array}))
    assert np.shares_memory(np.frombuffer(tensors[0], np.uint8), array)


def test_requests_of_one_shape_begin_with_the_same_bytes_and_others_with_their_own() -> None:
    writer = RequestWriter(METADATA, HEAD, binary=True)
    one, two = np.zeros(4, np.float32), np.ones(4, np.float32)
    first, second = (writer.write(a_request(inputs={"a": array})) for array in (one, two))
    assert first[0] is second[0]
    assert bytes(second[1]) == two.tobytes()
    for array in (one.reshape(2, 2), np.zeros(5, np.float32)):
        _, message, _ = take_apart(writer.write(a_request(inputs={"a": array})))
        assert message["inputs"][0]["shape"] == list(array.shape)
    _, message, _ = take_apart(writer.write(a_request(inputs={"a": one}, outputs=("y",))))
    assert [output["name"] for output in message["outputs"]] == ["y"]


def test_bytes_of_another_length_are_described_anew() -> None:
    writer = RequestWriter(METADATA, HEAD, binary=True)
    for element in (b"c", b"cc", b""):
        inputs: dict[str, Array] = {"b": np.array([element], object)}
        _, message, tensors = take_apart(writer.write(a_request(inputs=inputs)))
        assert message["inputs"][0]["parameters"] == {"binary_data_size": 4 + len(element)}
        assert len(tensors[0]) == 4 + len(element)


def test_what_one_call_has_of_its_own_is_not_in_the_next_one() -> None:
    writer = RequestWriter(METADATA, HEAD, binary=True)
    plain = writer.write(a_request())
    for fields in ({"request_id": "r"}, {"parameters": {"p": 1}}):
        assert writer.write(a_request(**fields))[0] != plain[0]
    assert bytes(writer.write(a_request(), b"POST / HTTP/1.1\r\n")[0]).startswith(b"POST / ")
    assert writer.write(a_request())[0] == plain[0]


def test_arrays_laid_out_otherwise_are_sent_in_the_order_of_the_wire() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    for other in (np.asfortranarray(array), array.astype(">f4"), np.flip(np.flip(array))):
        _, _, tensors = write(a_request(inputs={"a": other}))
        assert bytes(tensors[0]) == array.astype("<f4").tobytes()
