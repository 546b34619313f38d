"""What other servers of the protocol do otherwise than Triton, and within it: all of it is read.

Each has quirks of its own. Those of MLServer are tested on a real one, in ``tests/mlserver``.
"""

from __future__ import annotations

import json
import socket
from typing import Any

import grpc
import numpy as np
import pytest

from infer_backends.plugin import (
    DataType,
    Deadline,
    InferenceFailed,
    InferError,
    InvalidURL,
    ModelNotFound,
    ProtocolError,
    Unavailable,
    UnsupportedOperation,
)
from tests.triton import grpc_fakes
from tests.triton.grpc_fakes import fake_server, refuse, respond
from tests.triton.http_faults import (
    MODEL,
    Answer,
    Request,
    a_request,
    faulty_server,
    http_answer,
    json_answer,
    opened,
    saying,
    tensor_answer,
)

PLAIN: dict[str, Any] = {"/v2": {"name": "plain", "version": "1", "extensions": []}}
Y: dict[str, Any] = {"name": "y", "datatype": "FP32", "shape": [2], "data": [1, 2.5]}


def says(answer: dict[str, Any]) -> Answer:
    return saying(json_answer(answer))


@pytest.mark.parametrize(
    "answer",
    [
        {"outputs": [Y]},
        {"model_name": None, "model_version": None, "id": None, "parameters": None, "outputs": [Y]},
        {"outputs": [Y | {"parameters": None}], "time": 1.5, "nested": {"more": [1]}},
        {"outputs": [Y | {"parameters": {"content_type": "np", "binary_data_size": None}}]},
        {"outputs": [Y | {"shape": ["2"]}]},
        {"outputs": [Y | {"data": [1.0, 2.5], "labels": ["a", "b"]}]},
        {"outputs": [Y, {"name": "more", "datatype": "FP8", "shape": None, "data": [None]}]},
        {"outputs": [{"name": "more"}, Y], "error": None},
    ],
)
def test_an_answer_in_json_may_say_more_or_less(answer: dict[str, Any]) -> None:
    with faulty_server(says(answer), control=PLAIN) as server, opened(server.url) as backend:
        response = backend.infer(a_request())
        assert {name: array.tolist() for name, array in response.outputs.items()} == {
            "y": [1.0, 2.5]
        }
        assert response.outputs["y"].dtype == np.float32
        assert response.model_version == ""


def test_json_is_read_where_bytes_were_asked_for() -> None:
    with faulty_server(says({"outputs": [Y], "model_version": 3})) as server:
        with opened(server.url) as backend:
            response = backend.infer(a_request())
            assert server.requests[-1].headers["content-type"] == "application/octet-stream"
    assert response.outputs["y"].tolist() == [1.0, 2.5]
    assert response.model_version == "3"


def test_bytes_that_belong_to_an_output_nobody_knows_are_left_out() -> None:
    entry = {"datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}
    outputs = [{"name": "more"} | entry, {"name": "y"} | entry]
    header = json.dumps({"outputs": outputs}).encode()
    body = header + np.array([7, 1.5], "<f4").tobytes()
    answer = http_answer(body, headers={"Inference-Header-Content-Length": len(header)})
    with faulty_server(saying(answer)) as server, opened(server.url) as backend:
        response = backend.infer(a_request([0.0]))
    assert {name: array.tolist() for name, array in response.outputs.items()} == {"y": [1.5]}


@pytest.mark.parametrize(
    ("shape", "data"),
    [([2, 2], [1, 2, 3, 4]), ([2, 2], [[1, 2], [3, 4]]), ([2, 2, 1], [[[1], [2]], [[3], [4]]])],
)
def test_data_in_json_is_flat_or_nested(shape: list[int], data: list[Any]) -> None:
    answer = {"outputs": [Y | {"shape": shape, "data": data}]}
    with faulty_server(says(answer), control=PLAIN) as server, opened(server.url) as backend:
        array = backend.infer(a_request()).outputs["y"]
    assert array.shape == tuple(shape)
    assert array.ravel().tolist() == [1, 2, 3, 4]


def test_outputs_may_come_in_another_order() -> None:
    model = MODEL | {"outputs": [Y | {"name": "a"}, Y | {"name": "b", "datatype": "INT64"}]}
    control = PLAIN | {"/v2/models/m": model}
    b = {"name": "b", "datatype": "INT64", "shape": [1], "data": [2**63 - 1]}
    answer = {"outputs": [b, Y | {"name": "a"}]}
    with faulty_server(says(answer), control=control) as server, opened(server.url) as backend:
        outputs = backend.infer(a_request()).outputs
    assert list(outputs) == ["a", "b"]
    assert outputs["b"].tolist() == [2**63 - 1]


@pytest.mark.parametrize("extensions", [None, [], ["model_repository_extension", None, 3]])
@pytest.mark.parametrize(
    "described",
    [
        {"platform": "", "versions": None},
        {"platform": None, "inputs": None, "parameters": {}},
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": ["-1"], "parameters": None}]},
        {"tags": ["a"], "outputs": [Y | {"shape": None, "description": "of y"}]},
    ],
)
def test_metadata_may_say_more_or_less(extensions: Any, described: dict[str, Any]) -> None:
    model = {"name": "m", "inputs": MODEL["inputs"], "outputs": MODEL["outputs"]} | described
    control = {"/v2": {"extensions": extensions}, "/v2/models/m": model}
    with faulty_server(control=control) as server, opened(server.url) as backend:
        assert backend.metadata.name == "m"
        assert backend.metadata.versions == ()
        assert backend.metadata.platform == ""
        assert backend.metadata.outputs[0].dtype is DataType.FP32


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "501 Not Implemented"])
def test_a_server_may_say_nothing_of_itself(status: str) -> None:
    nothing = http_answer(b'{"error": "Invalid request URL"}', status)
    control = {"/v2": nothing, "/v2/models/m/config": nothing}
    with faulty_server(says({"outputs": [Y]}), control=control) as server:
        with opened(server.url) as backend:
            assert backend.infer(a_request()).outputs["y"].tolist() == [1.0, 2.5]
        assert server.requests[-1].headers["content-type"] == "application/json"


def test_a_server_that_does_not_describe_its_model_is_refused_at_open() -> None:
    control = PLAIN | {"/v2/models/m": {"name": "m", "inputs": [], "outputs": []}}
    with faulty_server(control=control) as server:
        with pytest.raises(UnsupportedOperation, match="declare the model's inputs and outputs"):
            with opened(server.url):
                pass


@pytest.mark.parametrize(
    ("body", "ready"),
    [
        (b"", True),
        (b"{}", True),
        (b'{"name": "m", "ready": true}', True),
        (b'{"name": "m", "ready": false}', False),
        (b'{"name": "m", "ready": null}', True),
        (b"ok", True),
        (b"[false]", True),
    ],
)
def test_readiness_is_the_status_unless_the_body_denies_it(body: bytes, ready: bool) -> None:
    control = PLAIN | {"/v2/models/m/ready": http_answer(body)}
    with faulty_server(control=control) as server, opened(server.url) as backend:
        assert backend.ready(Deadline.after(10)) is ready


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("the model has fallen over", InferenceFailed),
        ({"code": 5, "message": "the model has fallen over"}, InferenceFailed),
        ("Request for unknown model: 'm' is not found", ModelNotFound),
        ("Model m is not ready yet.", Unavailable),
        (7, InferenceFailed),
    ],
)
def test_an_error_that_comes_as_a_success_is_still_one(
    said: object, kind: type[InferError]
) -> None:
    with faulty_server(says({"error": said}), control=PLAIN) as server:
        with opened(server.url, headers={"x-key": "hush-hush"}) as backend:
            with pytest.raises(kind, match="answered 200, and yet with an error") as caught:
                backend.infer(a_request())
    assert type(caught.value) is kind
    assert isinstance(said, int) or "m" in str(caught.value).rpartition("error: ")[2]


def test_an_error_that_comes_as_a_success_repeats_no_secret() -> None:
    with faulty_server(says({"error": "who is hush-hush?"})) as server:
        with opened(server.url, headers={"x-key": "hush-hush"}) as backend:
            with pytest.raises(InferenceFailed, match=r"who is \*\*\*\?"):
                backend.infer(a_request())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"outputs": [Y | {"shape": ["2.0"]}]}, "no shape"),
        ({"outputs": [Y | {"shape": ["-2"]}]}, "no shape"),
        ({"outputs": [Y | {"shape": [" 2"]}]}, "no shape"),
        ({"outputs": [Y, {"name": "more"}, {"name": "more"}]}, "'more' twice"),
        ({"outputs": None}, "no list of outputs"),
    ],
)
def test_what_cannot_be_meant_is_a_protocol_error(answer: dict[str, Any], words: str) -> None:
    with faulty_server(says(answer), control=PLAIN) as server, opened(server.url) as backend:
        with pytest.raises(ProtocolError, match=words):
            backend.infer(a_request())


def test_null_where_a_number_should_be_is_not_guessed_at() -> None:
    answer = {"outputs": [Y | {"data": [1.0, None]}]}
    with faulty_server(says(answer), control=PLAIN) as server, opened(server.url) as backend:
        with pytest.raises(UnsupportedOperation, match="null.*use gRPC"):
            backend.infer(a_request())


def test_a_model_that_is_being_loaded_is_unavailable_and_was_not_asked() -> None:
    said = "Model m with version 1 is not ready yet."

    def loading(sock: socket.socket, request: Request) -> None:
        sock.sendall(json_answer({"error": said}, "400 Bad Request"))

    with faulty_server(loading, control=PLAIN) as server, opened(server.url) as backend:
        with pytest.raises(Unavailable) as caught:
            backend.infer(a_request())
    assert caught.value.unprocessed
    answer = refuse(grpc.StatusCode.INVALID_ARGUMENT, said)
    with fake_server(answer) as fake, grpc_fakes.opened(fake.url) as other:
        with pytest.raises(Unavailable) as caught:
            other.infer(grpc_fakes.a_request())
    assert caught.value.unprocessed


def test_grpc_needs_neither_configurations_nor_an_index_nor_the_servers_metadata() -> None:
    with fake_server() as server:
        with grpc_fakes.opened(server.url) as backend:
            assert backend.metadata.max_batch_size == 0
            assert backend.infer(grpc_fakes.a_request()).outputs["y"].tolist() == [1.0, 2.0]
        with pytest.raises(InvalidURL, match="write the model's name after the host"):
            with grpc_fakes.opened(server.url.removesuffix("/m")):
                pass


def test_an_output_over_grpc_that_nobody_knows_is_left_out() -> None:
    raws = (b"junk!", np.array([1, 2], "<f4").tobytes())
    answers = (
        respond(("more", "FP8", (5,)), ("y", "FP32", (2,)), raw=raws),
        respond(
            ("more", "INT8", (1,)),
            ("y", "FP32", (2,)),
            contents={"y": {"fp32_contents": [1, 2]}, "more": {"int_contents": [3]}},
        ),
    )
    for answer in answers:
        with fake_server(answer) as server, grpc_fakes.opened(server.url) as backend:
            outputs = backend.infer(grpc_fakes.a_request()).outputs
        assert {name: array.tolist() for name, array in outputs.items()} == {"y": [1.0, 2.0]}


def test_the_tensors_of_a_binary_answer_may_be_empty() -> None:
    with faulty_server(saying(tensor_answer([]))) as server, opened(server.url) as backend:
        assert backend.infer(a_request([])).outputs["y"].shape == (0,)
