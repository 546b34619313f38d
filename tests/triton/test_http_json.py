"""Servers with fewer extensions than Triton: tensors as JSON, no configurations, no index."""

from __future__ import annotations

import json
import socket
from typing import Any

import numpy as np
import pytest

from infer_backends.plugin import (
    Array,
    Deadline,
    InferenceFailed,
    InferRequest,
    InvalidInput,
    InvalidURL,
    ModelNotFound,
    ModelURL,
    PermissionDenied,
    ProtocolError,
    UnsupportedOperation,
)
from infer_backends_triton._http import list_models
from tests.triton.http_faults import (
    CONFIG,
    MODEL,
    Request,
    a_request,
    default_options,
    echo,
    faulty_server,
    http_answer,
    json_answer,
    opened,
)

PLAIN: dict[str, Any] = {"/v2": {"name": "plain", "version": "1", "extensions": []}}
NOT_FOUND = http_answer(b'{"error": "Not Found"}', "404 Not Found")


def echo_json(sock: socket.socket, request: Request) -> None:
    """Answer as a server does that insists on JSON, in text and in the type it is said to be."""
    if request.headers.get("content-type") != "application/json":
        sock.sendall(json_answer({"detail": "not JSON"}, "415 Unsupported Media Type"))
        return
    asked = json.loads(request.body)
    output = asked["inputs"][0] | {"name": "y"}
    parameters = {"content_type": None, "headers": {"a": "b"}, "took": 1.5}
    sock.sendall(json_answer({"outputs": [output], "parameters": parameters, "id": "own"}))


def test_tensors_travel_as_json_to_a_server_that_has_nothing_else() -> None:
    with faulty_server(echo_json, control=PLAIN) as server, opened(server.url) as backend:
        assert backend.metadata.max_batch_size == 0
        response = backend.infer(a_request([0.1, -2.0]))
        assert response.outputs["y"].tolist() == np.array([0.1, -2.0], np.float32).tolist()
        assert response.parameters == {"took": 1.5}
        assert backend.infer(a_request([])).outputs["y"].shape == (0,)
        with pytest.raises(UnsupportedOperation, match="use gRPC"):
            backend.infer(a_request([np.nan]))


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_a_model_of_halves_is_refused_at_open_by_a_server_of_json(datatype: str) -> None:
    model = MODEL | {"outputs": [{"name": "y", "datatype": datatype, "shape": [-1]}]}
    with (
        faulty_server(control=PLAIN | {"/v2/models/m": model}) as server,
        pytest.raises(UnsupportedOperation, match=f"{datatype}.*grpc"),
        opened(server.url),
    ):
        pass


def test_complaints_about_fields_are_shown_without_what_was_sent() -> None:
    detail = [{"loc": ["body", "inputs", 0], "msg": "is wrong", "input": [98765.5]}]

    def complain(sock: socket.socket, request: Request) -> None:
        sock.sendall(json_answer({"detail": detail}, "422 Unprocessable Content"))

    with faulty_server(complain, control=PLAIN) as server, opened(server.url) as backend:
        with pytest.raises(InvalidInput, match=r"body\.inputs\.0: is wrong") as caught:
            backend.infer(a_request())
    assert "98765" not in str(caught.value)


def test_a_gateway_that_hides_the_server_still_serves_its_model() -> None:
    with faulty_server(echo, control={"/v2": NOT_FOUND}) as server, opened(server.url) as backend:
        assert backend.infer(a_request()).outputs["y"].tolist() == [1.0, 2.0], "Triton is behind it"
    hidden = {"/v2": NOT_FOUND, "/v2/models/m/config": NOT_FOUND}
    with faulty_server(echo_json, control=hidden) as server, opened(server.url) as backend:
        assert backend.infer(a_request()).outputs["y"].tolist() == [1.0, 2.0], "it may not be"


def test_a_base_path_stands_before_every_request() -> None:
    control = {
        "/gw/a%20b/v2": {"extensions": ["binary_tensor_data"]},
        "/gw/a%20b/v2/models/m/versions/3": MODEL,
    }
    with faulty_server(echo, control=control) as server:
        url = server.url.removesuffix("/m") + "/gw/a%20b/v2/models/m/versions/3"
        with opened(url) as backend:
            backend.infer(a_request())
        assert server.requests[-1].path == "/gw/a%20b/v2/models/m/versions/3/infer"


def test_a_configuration_that_should_be_there_and_is_not_is_an_error() -> None:
    with faulty_server(control={"/v2/models/m/config": NOT_FOUND}) as server:
        with pytest.raises(ModelNotFound), opened(server.url):
            pass


def test_a_server_that_wants_credentials_says_so_at_open() -> None:
    refused = http_answer(b"", "401 Unauthorized")
    with faulty_server(control={"/v2": refused}) as server:
        with pytest.raises(PermissionDenied, match="auth="), opened(server.url):
            pass


@pytest.mark.parametrize(
    "answer", [NOT_FOUND, http_answer(b"", "405 No"), http_answer(b"", "400 No")]
)
def test_a_server_without_an_index_wants_a_model_in_the_url(answer: bytes) -> None:
    with faulty_server(control={"/v2/repository/index": answer}) as server:
        url = server.url.removesuffix("/m")
        with pytest.raises(InvalidURL, match="write the model's name"), opened(url):
            pass


def test_the_index_is_asked_when_the_url_names_no_model() -> None:
    index = [{"name": "m", "state": "READY"}, {"name": "n", "state": "UNAVAILABLE"}]
    with faulty_server(echo, control={"/v2/repository/index": index}) as server:
        url = server.url.removesuffix("/m")
        with opened(url) as backend:
            assert backend.infer(a_request()).backend_url == url
        assert list_models(ModelURL.parse(url), default_options()) == index


@pytest.mark.parametrize(
    "control",
    [
        {"/v2": http_answer(b"<html>")},
        {"/v2": {"extensions": 3}},
        {"/v2/models/m": http_answer(b"[]")},
        {"/v2/models/m": {"name": "m", "inputs": 3}},
        {"/v2/models/m/config": http_answer(b"3")},
        {"/v2/models/m/config": CONFIG | {"max_batch_size": "x"}},
        {"/v2/models/m": http_answer(headers={"Content-Length": 10**9})},
    ],
)
def test_control_answers_that_are_broken_are_protocol_errors(control: dict[str, Any]) -> None:
    with faulty_server(control=control) as server:
        with pytest.raises(ProtocolError), opened(server.url):
            pass


def test_a_failure_of_the_model_without_words_is_still_one() -> None:
    def fail(sock: socket.socket, request: Request) -> None:
        sock.sendall(http_answer(b"Internal Server Error", "500 Internal Server Error"))

    with faulty_server(fail, control=PLAIN) as server, opened(server.url) as backend:
        inputs: dict[str, Array] = {"x": np.zeros(1, np.float32)}
        with pytest.raises(InferenceFailed, match="answered 500"):
            backend.infer(InferRequest(inputs, None, Deadline.after(30)))
