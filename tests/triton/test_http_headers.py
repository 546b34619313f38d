"""Headers: sent with every request, refused where they would do harm, never shown."""

from __future__ import annotations

import socket

import pytest

from infer_backends.plugin import InvalidInput, InvalidURL, PermissionDenied
from tests.triton.http_faults import Request, a_request, echo, faulty_server, json_answer, opened


def test_a_secret_that_a_server_repeats_is_not_shown() -> None:
    def repeat(sock: socket.socket, request: Request) -> None:
        token = request.headers["authorization"].split()[1]
        said = f"no: {token} {request.headers['x-key']}\n\x1b[31m"
        sock.sendall(json_answer({"error": said}, "401 Unauthorized"))

    with faulty_server(repeat) as server:
        with opened(server.url, headers={"authorization": "Bearer s3cr3t"}) as backend:
            with pytest.raises(PermissionDenied) as caught:
                backend.infer(a_request(headers={"x-key": "hunter22"}))
    assert "s3cr3t" not in str(caught.value)
    assert "hunter22" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\nb", "a\0b", "\u20ac"])
def test_a_header_that_breaks_out_of_its_line_is_refused_without_showing_it(value: str) -> None:
    with faulty_server(echo) as server:
        with opened(server.url) as backend, pytest.raises(InvalidInput) as caught:
            backend.infer(a_request(headers={"x-key": value}))
        assert value not in str(caught.value)
        with pytest.raises(InvalidURL) as opening, opened(server.url, headers={"x-key": value}):
            pass
        assert value not in str(opening.value)


def test_headers_that_frame_the_message_are_refused() -> None:
    with faulty_server(echo) as server:
        with opened(server.url) as backend, pytest.raises(InvalidInput, match="content-length"):
            backend.infer(a_request(headers={"content-length": "0"}))
        with pytest.raises(InvalidURL, match="transfer-encoding"):
            with opened(server.url, headers={"Transfer-Encoding": "chunked"}):
                pass


def test_headers_are_sent_with_every_request_and_a_call_may_change_them() -> None:
    with faulty_server(echo) as server:
        with opened(server.url, headers={"x-key": "one", "x-other": "same"}) as backend:
            backend.infer(a_request(headers={"x-key": "two"}))
            backend.infer(a_request())
    assert [request.headers["x-key"] for request in server.requests[-2:]] == ["two", "one"]
    assert {request.headers["x-other"] for request in server.requests} == {"same"}
