"""Which error of the library each of the server's is, on both protocols."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infer_backends.plugin import (
    DeadlineExceeded,
    InferenceFailed,
    InferError,
    InvalidInput,
    ModelNotFound,
    PermissionDenied,
    ProtocolError,
    TLSError,
    Unavailable,
    UnsupportedOperation,
)
from infer_backends_triton._status import (
    MESSAGE_LIMIT,
    ControlRefused,
    NotPolled,
    RegionError,
    RegionLost,
    RegionTaken,
    RegionTooSmall,
    clean,
    error_message,
    grpc_error,
    http_error,
)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, InferenceFailed),
        (204, ProtocolError),
        (302, ProtocolError),
        (304, ProtocolError),
        (400, InvalidInput),
        (401, PermissionDenied),
        (403, PermissionDenied),
        (404, ModelNotFound),
        (405, UnsupportedOperation),
        (407, PermissionDenied),
        (408, Unavailable),
        (410, ModelNotFound),
        (413, InvalidInput),
        (422, InvalidInput),
        (425, Unavailable),
        (429, Unavailable),
        (500, InferenceFailed),
        (501, UnsupportedOperation),
        (502, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
        (507, InferenceFailed),
    ],
)
def test_an_http_status_is_an_error(status: int, kind: type[InferError]) -> None:
    error = http_error(status, "as it is", url="http://h/m")
    assert type(error) is kind
    assert f"http://h/m answered {status}" in str(error)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("CANCELLED", Unavailable),
        ("UNKNOWN", InferenceFailed),
        ("INVALID_ARGUMENT", InvalidInput),
        ("DEADLINE_EXCEEDED", DeadlineExceeded),
        ("NOT_FOUND", ModelNotFound),
        ("ALREADY_EXISTS", InvalidInput),
        ("PERMISSION_DENIED", PermissionDenied),
        ("RESOURCE_EXHAUSTED", Unavailable),
        ("FAILED_PRECONDITION", InferenceFailed),
        ("ABORTED", InferenceFailed),
        ("OUT_OF_RANGE", InvalidInput),
        ("UNIMPLEMENTED", UnsupportedOperation),
        ("INTERNAL", InferenceFailed),
        ("UNAVAILABLE", Unavailable),
        ("DATA_LOSS", InferenceFailed),
        ("UNAUTHENTICATED", PermissionDenied),
    ],
)
def test_a_grpc_status_is_an_error(code: str, kind: type[InferError]) -> None:
    error = grpc_error(code, "as it is", url="grpc://h/m")
    assert type(error) is kind
    assert f"grpc://h/m answered {code}: as it is" in str(error)


@pytest.mark.parametrize(
    ("words", "status", "code", "kind"),
    [
        ("Request for unknown model: 'm' is not found", 400, "INVALID_ARGUMENT", ModelNotFound),
        ("Request for unknown model: 'm' is not found", 404, "NOT_FOUND", ModelNotFound),
        ("Request for unknown model: 'm' has no available versions", 500, "UNKNOWN", ModelNotFound),
        (
            "failed to get model version from specified version string 'abc'",
            400,
            "INVALID_ARGUMENT",
            ModelNotFound,
        ),
        (
            "invalid model version specified '-1' , version should be an integral value > 0",
            400,
            "INVALID_ARGUMENT",
            ModelNotFound,
        ),
        (
            "Failed to process the request(s) for model 'm_0', message: ValueError: no",
            400,
            "INVALID_ARGUMENT",
            InferenceFailed,
        ),
        ("Server is stopping, scheduler for model has stopped", 400, "INTERNAL", Unavailable),
        ("Exceeds maximum queue size", 400, "INTERNAL", Unavailable),
        ("Request timeout expired", 400, "INTERNAL", Unavailable),
        ("request was cancelled", 400, "INVALID_ARGUMENT", Unavailable),
    ],
)
@pytest.mark.parametrize("prefix", ["", "[request id: r1] ", "[request id: <id_unknown>] "])
def test_the_servers_words_decide_alike_on_both_protocols(
    prefix: str, words: str, status: int, code: str, kind: type[InferError]
) -> None:
    assert type(http_error(status, prefix + words, url="u")) is kind
    assert type(grpc_error(code, prefix + words, url="u")) is kind


@pytest.mark.parametrize(
    ("words", "status", "code", "kind"),
    [
        ("requested model 'm' is not available", 400, "INVALID_ARGUMENT", ModelNotFound),
        (
            "requested model version is not available for model 'm'",
            400,
            "INVALID_ARGUMENT",
            ModelNotFound,
        ),
        (
            "explicit model load / unload is not allowed if polling is enabled",
            503,
            "UNAVAILABLE",
            ControlRefused,
        ),
        (
            "failed to load 'm', failed to poll from model repository",
            500,
            "INTERNAL",
            NotPolled,
        ),
        (
            "load failed for model 'm': version 1 is at UNAVAILABLE state: Internal: ...",
            400,
            "INVALID_ARGUMENT",
            InferenceFailed,
        ),
    ],
)
def test_words_about_loading_models_decide_alike_on_both_protocols(
    words: str, status: int, code: str, kind: type[InferError]
) -> None:
    assert type(http_error(status, words, url="u")) is kind
    error = grpc_error(code, words, url="u")
    assert type(error) is kind
    assert not error.unprocessed


def test_words_in_the_middle_of_a_models_message_decide_nothing() -> None:
    words = "my model says: Request for unknown model"
    assert type(http_error(500, words, url="u")) is InferenceFailed
    assert type(grpc_error("INTERNAL", words, url="u")) is InferenceFailed


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (
            "UNAVAILABLE",
            "ipv4:127.0.0.1:1: Ssl handshake failed: SSL_ERROR_SSL: CERTIFICATE_VERIFY_FAILED",
            TLSError,
        ),
        ("UNAVAILABLE", "Peer name wrong.example is not in peer certificate", TLSError),
        ("UNAVAILABLE", "Hostname Verification Check failed.", TLSError),
        ("UNAVAILABLE", "failed to connect to all addresses; Connection refused", Unavailable),
        ("INTERNAL", "CERTIFICATE_VERIFY_FAILED, says the model", InferenceFailed),
        ("RESOURCE_EXHAUSTED", "CLIENT: Received message larger than max (9 vs. 8)", ProtocolError),
        ("RESOURCE_EXHAUSTED", "SERVER: Received message larger than max (9 vs. 8)", InvalidInput),
        ("RESOURCE_EXHAUSTED", "CLIENT: Sent message larger than max (9 vs. 8)", InvalidInput),
        ("INTERNAL", "Exception deserializing response!", ProtocolError),
        ("UNKNOWN", "Received http2 header with status: 302", ProtocolError),
        ("INTERNAL", "Received RST_STREAM with error code 2", Unavailable),
        ("UNKNOWN", "Stream removed", Unavailable),
    ],
)
def test_what_grpc_itself_says_is_told_from_what_servers_say(
    code: str, details: str, kind: type[InferError]
) -> None:
    assert type(grpc_error(code, details, url="u")) is kind


def test_a_refusal_of_credentials_says_what_to_give() -> None:
    assert "auth=env:NAME" in str(http_error(401, "", url="u"))
    assert "auth=env:NAME" in str(grpc_error("UNAUTHENTICATED", "", url="u"))


def test_a_redirect_says_what_to_do() -> None:
    assert "name its target in the URL" in str(http_error(308, "", url="u"))


@pytest.mark.parametrize(
    ("message", "status", "code", "kind"),
    [
        ("Unable to find shared memory region: 'r'", 404, "NOT_FOUND", RegionLost),
        ("shared memory region 'r' already in manager", 400, "ALREADY_EXISTS", RegionTaken),
        (
            "shared memory size specified with the request for output 'y' (3999 bytes) should be "
            "at least 4000 bytes to hold the results",
            500,
            "INTERNAL",
            RegionTooSmall,
        ),
        ("Unable to open shared memory region: '/r'", 500, "INTERNAL", RegionError),
        (
            "failed to register shared memory region 'r': invalid args",
            400,
            "INVALID_ARGUMENT",
            RegionError,
        ),
        (
            "Invalid offset + byte size for shared memory region: 'r'",
            400,
            "INVALID_ARGUMENT",
            RegionError,
        ),
        ("Invalid shared memory region: '/r'", 500, "INTERNAL", RegionError),
        (
            "Cannot unregister shared memory region 'r', it is currently in use.",
            500,
            "INTERNAL",
            RegionError,
        ),
        ("Request for unknown model: 'shared memory region'", 400, "NOT_FOUND", ModelNotFound),
    ],
)
def test_what_triton_says_of_regions_is_told_apart(
    message: str, status: int, code: str, kind: type[InferError]
) -> None:
    assert type(http_error(status, message, url="u")) is kind
    assert type(grpc_error(code, message, url="u")) is kind


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"error": "no"}, "no"),
        ({"detail": "no"}, "no"),
        ({"message": "no"}, "no"),
        ({"error": {"message": "no", "code": 3}}, "no"),
        ({"error": "", "detail": "no"}, "no"),
        (
            {"detail": [{"loc": ["body", "inputs", 0], "msg": "wrong", "input": [1.5, "secret"]}]},
            "body.inputs.0: wrong",
        ),
        ({"detail": [{"input": "secret"}, 3]}, ": wrong"),
        ({"error": 3}, ""),
        ([], ""),
        ("no", ""),
    ],
)
def test_the_message_is_found_where_servers_put_it(answer: Any, message: str) -> None:
    assert error_message(json.dumps(answer).encode()) == message


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"[" * 100_000, b'{"error": "cut'])
def test_a_body_that_is_no_json_says_nothing(body: bytes) -> None:
    assert error_message(body) == ""


def test_long_and_hostile_messages_are_cut_and_cleaned() -> None:
    message = clean("a\nb\x1b[31m\u202ec\x00\ud800 " + "d" * 10**6)
    assert message.startswith("a b [31m c d")
    assert len(message) == MESSAGE_LIMIT + 3


def test_secrets_are_not_repeated() -> None:
    assert clean("no: Bearer tok-en", {"Bearer tok-en", "tok-en", "x"}) == "no: ***"
    error = http_error(500, "tok-en is wrong", url="u", secrets={"tok-en"})
    assert "tok-en" not in str(error)


@pytest.mark.parametrize(
    "said",
    [
        "inference request to model 'm' must specify a non-zero or non-empty correlation ID",
        "inference request for sequence 5 to model 'm' must specify the START flag on the first",
    ],
)
def test_what_is_said_of_sequences_tells_how_they_are_made(said: str) -> None:
    for error in (
        http_error(400, said, url="http://h/m"),
        grpc_error("INVALID_ARGUMENT", said, url="grpc://h/m"),
    ):
        assert isinstance(error, InvalidInput)
        assert "model.sequence()" in str(error)
