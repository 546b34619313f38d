"""The JSON of requests and answers."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from infer_backends.plugin import (
    Array,
    DataType,
    Deadline,
    InferRequest,
    InferResponse,
    InvalidInput,
    InvalidURL,
    ModelMetadata,
    ModelNotFound,
    ProtocolError,
    TensorSpec,
)
from infer_backends_triton._http_messages import (
    build_infer,
    choose_model,
    model_path,
    read_extensions,
    read_infer,
)

METADATA = ModelMetadata(
    name="m",
    versions=(),
    platform="",
    inputs=(TensorSpec("a", DataType.FP32, (-1,)), TensorSpec("b", DataType.BYTES, (-1,))),
    outputs=(TensorSpec("x", DataType.INT32, (-1,)), TensorSpec("y", DataType.BYTES, (-1,))),
)


def a_request(**fields: Any) -> InferRequest:
    text = np.array([b"c"], object)
    inputs: dict[str, Array] = {"a": np.array([1, 2], np.float32), "b": text}
    return InferRequest(
        **({"inputs": inputs, "outputs": None, "deadline": Deadline.after(9)} | fields)
    )


def read(header: dict[str, Any], raw: bytes = b"", **fields: Any) -> InferResponse:
    text = json.dumps(header).encode()
    length = len(text) if raw else None
    return read_infer(memoryview(text + raw), length, a_request(**fields), METADATA, "http://h/m")


def test_a_binary_request_describes_the_bytes_that_follow() -> None:
    message = build_infer(a_request(request_id="r"), METADATA, binary=True)
    assert json.loads(message.header) == {
        "id": "r",
        "parameters": {"binary_data_output": True},
        "inputs": [
            {"name": "a", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}},
            {"name": "b", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 5}},
        ],
    }
    assert b"".join(message.tensors) == np.array([1, 2], "<f4").tobytes() + b"\1\0\0\0c"
    assert message.length == len(message.header) + 13


def test_a_json_request_holds_its_tensors() -> None:
    message = build_infer(a_request(outputs=("y",)), METADATA, binary=False)
    assert json.loads(message.header) == {
        "outputs": [{"name": "y"}],
        "inputs": [
            {"name": "a", "shape": [2], "datatype": "FP32", "data": [1.0, 2.0]},
            {"name": "b", "shape": [1], "datatype": "BYTES", "data": ["c"]},
        ],
    }
    assert message.tensors == ()


def test_outputs_that_are_wanted_are_asked_for() -> None:
    message = build_infer(a_request(outputs=("y", "x")), METADATA, binary=True)
    assert json.loads(message.header)["outputs"] == [
        {"name": "y", "parameters": {"binary_data": True}},
        {"name": "x", "parameters": {"binary_data": True}},
    ]


def test_empty_tensors_send_no_bytes() -> None:
    inputs: dict[str, Array] = {"a": np.zeros(0, np.float32)}
    message = build_infer(a_request(inputs=inputs), METADATA, binary=True)
    assert message.tensors == ()
    assert json.loads(message.header)["inputs"][0]["parameters"] == {"binary_data_size": 0}


def test_parameters_are_sent_and_the_callers_mapping_stays_as_it_was() -> None:
    given = {"priority": 1, "name": "é", "flag": True}
    message = build_infer(a_request(parameters=given), METADATA, binary=True)
    assert json.loads(message.header)["parameters"] == given | {"binary_data_output": True}
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
        build_infer(a_request(**fields), METADATA, binary=True)


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
        read_infer(memoryview(b'{"secret'), None, a_request(), METADATA, "u")
    assert "secret" not in f"{caught.value}{caught.value.__cause__!r}"


def test_paths_are_quoted() -> None:
    assert model_path((), "m", None) == "/v2/models/m"
    assert model_path(("a", "b"), "é/ ?", "3") == "/a/b/v2/models/%C3%A9%2F%20%3F/versions/3"


def test_what_a_path_may_hold_is_sent_as_it_is_since_triton_does_not_decode() -> None:
    assert model_path((), "a.b-c+d@e:f", "1") == "/v2/models/a.b-c+d@e:f/versions/1"


def index(*entries: Any) -> bytes:
    return json.dumps(entries).encode()


def test_a_state_is_read_in_the_form_that_mlserver_gives_it_over_grpc() -> None:
    entries = index(
        {"name": "a", "state": "State.READY"}, {"name": "b", "state": "State.UNAVAILABLE"}
    )
    assert choose_model(entries, "grpc://h", None) == "a"


def test_the_only_ready_model_is_chosen() -> None:
    entries = index(
        {"name": "a", "version": "1", "state": "READY"},
        {"name": "a", "version": "2", "state": "READY"},
        {"name": "b", "version": "1", "state": "UNAVAILABLE", "reason": "boom"},
        {"name": "c"},
    )
    assert choose_model(entries, "http://h", None) == "a"
    assert choose_model(entries, "http://h", "2") == "a"
    with pytest.raises(ModelNotFound, match="'a', 'b', 'c'"):
        choose_model(entries, "http://h", "3")


def test_several_ready_models_are_listed() -> None:
    many = index(*({"name": f"m{number:02}", "state": "READY"} for number in range(30)))
    with pytest.raises(InvalidURL, match=r"30 are ready.* /m00; .*'m19' and 10 more"):
        choose_model(many, "http://h", None)


def test_a_server_without_models_is_told_apart() -> None:
    with pytest.raises(ModelNotFound, match="none at all"):
        choose_model(b"[]", "http://h", None)


@pytest.mark.parametrize("text", [b"{}", b"[1]", b"x"])
def test_what_is_no_index_is_a_protocol_error(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        choose_model(text, "http://h", None)


def test_extensions_are_read() -> None:
    assert read_extensions(b'{"extensions": ["a", 1]}') == {"a"}
    assert read_extensions(b'{"extensions": null}') == frozenset()
    with pytest.raises(ProtocolError):
        read_extensions(b'{"extensions": "a"}')
