"""What the gRPC backend makes of answers that are wrong, odd, or refusals."""

from __future__ import annotations

import pickle
from typing import Any

import grpc
import numpy as np
import pytest

from infer_backends.plugin import (
    DataType,
    DeadlineExceeded,
    InferenceFailed,
    InferError,
    InvalidInput,
    InvalidURL,
    ModelNotFound,
    ParameterValue,
    PermissionDenied,
    ProtocolError,
    Unavailable,
    UnsupportedOperation,
)
from tests.triton.grpc_fakes import (
    ONE_OUT,
    Answer,
    Tensors,
    a_request,
    fake_server,
    opened,
    refuse,
    respond,
)

FLOATS = np.array([1, 2], "<f4").tobytes()
GOOD = respond(("y", "FP32", (2,)), raw=(FLOATS,))


def failure(answer: Answer, *, outputs: Tensors = ONE_OUT, raw: bool = False) -> InferError:
    """The error of a call that is answered so."""
    with fake_server(answer, outputs=outputs, raw=raw) as server, opened(server.url) as backend:
        with pytest.raises(InferError) as caught:
            backend.infer(a_request(request_id="mine"))
    return caught.value


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (respond(("y", "FP32", (3,)), raw=(FLOATS,)), "expected 12 bytes, got 8"),
        (respond(("y", "FP32", (-2,)), raw=(FLOATS,)), "negative dimension"),
        (respond(("y", "FP32", (2,) * 40), raw=(FLOATS,)), "40 dimensions"),
        (respond(("y", "FP64", (1,)), raw=(FLOATS,)), "as 'FP64'; its metadata says FP32"),
        (respond(("z", "FP32", (2,)), raw=(FLOATS,)), "without the outputs 'y'"),
        (respond(("y", "FP32", (2,)), ("y", "FP32", (2,)), raw=(FLOATS,) * 2), "twice"),
        (respond(("y", "FP32", (2,)), raw=(FLOATS,) * 2), "1 outputs and the bytes of 2"),
        (respond(), "without the outputs 'y'"),
        (respond(("y", "FP32", (2,)), raw=(FLOATS,), id="theirs"), "id of another request"),
        (respond(("y", "FP32", (2,))), "expected 2 elements, got 0"),
        (
            respond(("y", "FP32", (2,)), contents={"y": {"fp64_contents": [1, 2]}}),
            "expected 2 elements, got 0",
        ),
        (
            respond(("y", "FP32", (-1, -2)), contents={"y": {"fp32_contents": [1, 2]}}),
            "negative dimension",
        ),
        (
            respond(("y", "FP32", (1,) * 70), contents={"y": {"fp32_contents": [1]}}),
            "70 dimensions",
        ),
    ],
)
def test_an_answer_that_does_not_hold_together_is_a_protocol_error(
    answer: Answer, said: str
) -> None:
    error = failure(answer)
    assert type(error) is ProtocolError
    assert said in str(error)


def test_an_answer_that_is_no_protobuf_is_a_protocol_error() -> None:
    error = failure(lambda request, context: b"\xff\xff\xff\xff", raw=True)
    assert type(error) is ProtocolError
    assert error.__cause__ is not None


def test_an_output_nobody_asked_for_is_dropped() -> None:
    two: Tensors = (("y", DataType.FP32, (-1,)), ("z", DataType.FP32, (-1,)))
    answer = respond(("z", "FP32", (2,)), ("y", "FP32", (2,)), raw=(FLOATS, FLOATS))
    with fake_server(answer, outputs=two) as server, opened(server.url) as backend:
        assert list(backend.infer(a_request(outputs=("y",))).outputs) == ["y"]
        assert list(backend.infer(a_request()).outputs) == ["y", "z"]


@pytest.mark.parametrize(
    ("dtype", "field", "elements"),
    [
        (DataType.BOOL, "bool_contents", [True, False]),
        (DataType.INT8, "int_contents", [-128, 127]),
        (DataType.INT16, "int_contents", [-32768, 5]),
        (DataType.INT32, "int_contents", [-(2**31), 5]),
        (DataType.INT64, "int64_contents", [-(2**63), 2**63 - 1]),
        (DataType.UINT8, "uint_contents", [0, 255]),
        (DataType.UINT16, "uint_contents", [0, 65535]),
        (DataType.UINT32, "uint_contents", [0, 2**32 - 1]),
        (DataType.UINT64, "uint64_contents", [1, 2**64 - 1]),
        (DataType.FP32, "fp32_contents", [1.5, float("inf")]),
        (DataType.FP64, "fp64_contents", [1e300, -0.0]),
        (DataType.BYTES, "bytes_contents", [b"a\0", "ü".encode()]),
    ],
)
@pytest.mark.parametrize("shape", [(2,), (1, 2), (2, 1, 1)])
def test_typed_contents_are_read_like_raw_bytes(
    dtype: DataType, field: str, elements: list[Any], shape: tuple[int, ...]
) -> None:
    answer = respond(("y", dtype.value, shape), contents={"y": {field: elements}})
    with fake_server(answer, outputs=(("y", dtype, shape),)) as server:
        with opened(server.url) as backend:
            y = backend.infer(a_request()).outputs["y"]
    assert (y.shape, y.dtype) == (shape, dtype.numpy_dtype)
    assert y.flags.writeable
    assert y.flags.c_contiguous
    assert y.reshape(-1).tolist() == elements


@pytest.mark.parametrize("dtype", list(DataType))
def test_an_empty_tensor_needs_no_contents(dtype: DataType) -> None:
    answer = respond(("y", dtype.value, (0, 3)))
    with fake_server(answer, outputs=(("y", dtype, (-1, 3)),)) as server:
        with opened(server.url) as backend:
            y = backend.infer(a_request()).outputs["y"]
    assert (y.shape, y.dtype) == ((0, 3), dtype.numpy_dtype)


def test_an_element_that_the_datatype_cannot_hold_is_a_protocol_error() -> None:
    answer = respond(("y", "INT8", (1,)), contents={"y": {"int_contents": [1234567]}})
    error = failure(answer, outputs=(("y", DataType.INT8, (1,)),))
    assert type(error) is ProtocolError
    assert "1234567" not in str(error)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.CANCELLED, Unavailable),
        (grpc.StatusCode.UNKNOWN, InferenceFailed),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidInput),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded),
        (grpc.StatusCode.NOT_FOUND, ModelNotFound),
        (grpc.StatusCode.ALREADY_EXISTS, InvalidInput),
        (grpc.StatusCode.PERMISSION_DENIED, PermissionDenied),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Unavailable),
        (grpc.StatusCode.FAILED_PRECONDITION, InferenceFailed),
        (grpc.StatusCode.ABORTED, InferenceFailed),
        (grpc.StatusCode.OUT_OF_RANGE, InvalidInput),
        (grpc.StatusCode.UNIMPLEMENTED, UnsupportedOperation),
        (grpc.StatusCode.INTERNAL, InferenceFailed),
        (grpc.StatusCode.UNAVAILABLE, Unavailable),
        (grpc.StatusCode.DATA_LOSS, InferenceFailed),
        (grpc.StatusCode.UNAUTHENTICATED, PermissionDenied),
    ],
)
def test_every_status_is_one_of_the_librarys_errors(
    code: grpc.StatusCode, kind: type[InferError]
) -> None:
    error = failure(refuse(code, "so it is"))
    assert type(error) is kind
    assert isinstance(error.__cause__, grpc.RpcError)
    assert "grpc://127.0.0.1" in str(error)
    assert type(pickle.loads(pickle.dumps(error))) is kind


def test_a_long_traceback_of_the_model_is_the_models_failure() -> None:
    error = failure(refuse(grpc.StatusCode.INTERNAL, "Traceback: " + "é" * 30_000))
    assert type(error) is InferenceFailed
    assert len(str(error)) < 1000


@pytest.mark.parametrize("over", [1, 100_000])
def test_an_answer_over_the_bound_is_a_protocol_error(over: int) -> None:
    limit = 20_000
    answer = respond(("y", "FP32", (4 * limit,)), raw=(bytes(limit + over),))
    with fake_server(answer) as server:
        with opened(server.url, max_response_bytes=limit) as backend:
            with pytest.raises(ProtocolError, match="expected 20000 or fewer"):
                backend.infer(a_request())


def test_a_server_that_takes_no_request_so_large_says_invalid_input() -> None:
    refused = "SERVER: Received message larger than max (9 vs. 4)"
    assert type(failure(refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, refused))) is InvalidInput


def test_headers_reach_the_server() -> None:
    with fake_server() as server:
        headers = {"authorization": "Bearer sesame", "X-Team": "vision", "trace-bin": "AP8"}
        with opened(server.url, headers=headers) as backend:
            backend.infer(a_request(headers={"x-call": "7"}))
            sent = server.metadata[-1]
    assert sent["authorization"] == "Bearer sesame"
    assert sent["x-team"] == "vision"
    assert sent["trace-bin"] == b"\x00\xff"
    assert sent["x-call"] == "7"


@pytest.mark.parametrize(
    "headers",
    [
        {"x-secret": "hunter2\nhunter2"},
        {"x-secret": "hunter2é"},
        {"x-secret\n": "hunter2"},
        {"": "hunter2"},
        {":path": "hunter2"},
        {"a b": "hunter2"},
        {"grpc-timeout": "hunter2"},
        {"content-type": "hunter2"},
        {"x-secret-bin": "hunter2!"},
        {"x-secret": 5},
    ],
)
def test_a_header_that_cannot_be_sent_is_refused_unseen(headers: dict[str, Any]) -> None:
    with fake_server() as server:
        with opened(server.url) as backend:
            with pytest.raises(InvalidInput) as call:
                backend.infer(a_request(headers=headers))
        seen = len(server.metadata)
        assert not server.requests
        if not isinstance(next(iter(headers.values())), int):
            with pytest.raises(InvalidURL) as opening, opened(server.url, headers=headers):
                pass
            assert "hunter2" not in str(opening.value)
        assert len(server.metadata) == seen
    assert "hunter2" not in str(call.value)


def test_a_secret_that_the_server_repeats_is_not_shown() -> None:
    def tell(request: Any, context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.INTERNAL, f"got {dict(context.invocation_metadata())}")

    with fake_server(tell) as server:
        with opened(server.url, headers={"authorization": "Bearer sesame-open"}) as backend:
            with pytest.raises(InferenceFailed) as caught:
                backend.infer(a_request(headers={"x-key": "hunter2"}))
    error: BaseException | None = caught.value
    while error is not None:
        assert "sesame" not in f"{error}{error!r}"
        assert "hunter2" not in f"{error}{error!r}"
        error = error.__cause__ or error.__context__


def test_a_token_of_one_call_that_the_server_repeats_is_not_shown() -> None:
    def tell(request: Any, context: grpc.ServicerContext) -> Any:
        token = str(dict(context.invocation_metadata())["authorization"]).split()[1]
        context.abort(grpc.StatusCode.INTERNAL, f"the token {token} is unknown")

    with fake_server(tell) as server, opened(server.url) as backend:
        with pytest.raises(InferenceFailed) as caught:
            backend.infer(a_request(headers={"authorization": "Bearer hunter2"}))
    assert "hunter2" not in f"{caught.value}{caught.value.__cause__!r}{caught.value.__context__!r}"


def test_parameters_and_the_request_id_travel_both_ways() -> None:
    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        response = GOOD(request, context)
        response.id = request.id
        response.model_version = "7"
        for name, value in request.parameters.items():
            response.parameters[name].CopyFrom(value)
        response.parameters["nothing"].SetInParent()
        return response

    parameters: dict[str, ParameterValue] = {
        "b": True,
        "i": -(2**63),
        "u": 2**64 - 1,
        "f": 0.5,
        "s": "ü",
    }
    with fake_server(answer) as server, opened(server.url) as backend:
        response = backend.infer(a_request(request_id="r1", parameters=parameters))
        assert server.requests[0].id == "r1"
    assert response.parameters == parameters
    assert response.model_version == "7"
    assert response.backend_url == server.url


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, None, b"x", [1], "\ud800"])
def test_a_parameter_without_a_form_is_invalid_input(value: Any) -> None:
    with fake_server() as server, opened(server.url) as backend:
        with pytest.raises(InvalidInput):
            backend.infer(a_request(parameters={"p": value}))
        assert not server.requests


def test_a_request_id_that_is_no_text_is_invalid_input() -> None:
    with fake_server() as server, opened(server.url) as backend:
        with pytest.raises(InvalidInput):
            backend.infer(a_request(request_id="\udc00"))


def test_a_server_without_configurations_is_opened_all_the_same() -> None:
    with fake_server() as server, opened(server.url) as backend:
        assert backend.metadata.max_batch_size == 0
        assert not backend.ready(a_request().deadline), "it does not implement ModelReady"


def test_a_configuration_that_is_refused_is_an_error() -> None:
    answers = {"ModelConfig": refuse(grpc.StatusCode.PERMISSION_DENIED)}
    with fake_server(answers=answers) as server:
        with pytest.raises(PermissionDenied), opened(server.url):
            pass


@pytest.mark.parametrize(
    ("states", "kind"),
    [
        ([("a", "READY"), ("b", "READY")], InvalidURL),
        ([("a", "UNAVAILABLE")], ModelNotFound),
        ([], ModelNotFound),
    ],
)
def test_a_url_without_a_model_needs_one_that_is_ready(
    states: list[tuple[str, str]], kind: type[InferError]
) -> None:
    with fake_server(answers={"RepositoryIndex": _index(states)}) as server:
        with pytest.raises(kind) as caught, opened(server.url.removesuffix("/m")):
            pass
    for name, _ in states:
        assert repr(name) in str(caught.value)


def test_a_url_without_a_model_takes_the_only_one() -> None:
    states = [("m", "READY"), ("m", "READY"), ("n", "UNAVAILABLE")]
    with fake_server(answers={"RepositoryIndex": _index(states)}) as server:
        with opened(server.url.removesuffix("/m")) as backend:
            assert backend.metadata.name == "m"
            backend.infer(a_request())
            assert server.requests[0].model_name == "m"


def test_a_server_that_lists_no_models_wants_one_in_the_url() -> None:
    with fake_server() as server:
        with pytest.raises(InvalidURL, match="name after the host"):
            with opened(server.url.removesuffix("/m")):
                pass


def _index(states: list[tuple[str, str]]) -> Answer:
    from tritonclient.grpc import service_pb2

    response = service_pb2.RepositoryIndexResponse()
    for number, (name, state) in enumerate(states):
        response.models.add(name=name, version=str(number), state=state)
    return lambda request, context: response
