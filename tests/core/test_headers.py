"""Headers and credentials: checked before anything is sent, never shown."""

from __future__ import annotations

from typing import Any

import pytest

from infer_backends import InvalidInput, InvalidURL, ModelURL
from infer_backends._headers import check_headers, request_headers

PLAIN = ModelURL.parse("http://h/m")


def test_names_are_lowered_and_values_kept() -> None:
    given = {"X-Trace": "a b"}
    assert check_headers(given) == {"x-trace": "a b"}
    assert given == {"X-Trace": "a b"}
    assert check_headers(None) == {}


@pytest.mark.parametrize(
    "headers",
    [
        {"a b": "s3cret"},
        {"": "s3cret"},
        {"a\r\nb": "s3cret"},
        {"a": "s3cret\r\nb: c"},
        {"a": "s3cret\0"},
        {"a": "s3cretü"},
        {"a": b"s3cret"},
        {1: "s3cret"},
        {"a": "s3cret", "A": "s3cret"},
        ["s3cret"],
    ],
)
def test_what_no_header_may_hold_is_refused_without_being_shown(headers: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_headers(headers)
    assert "s3cret" not in str(caught.value)


def test_user_and_password_become_basic_auth() -> None:
    # The example of RFC 7617, section 2.
    url = ModelURL.parse("http://Aladdin:open%20sesame@h/m")
    assert request_headers(url, None, None) == {
        "authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    }
    assert request_headers(ModelURL.parse("http://a@h/m"), None, None) == {
        "authorization": "Basic YTo="
    }


def test_a_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "abc.def")
    headers = request_headers(PLAIN, "env:MY_TOKEN", {"X-Trace": "1"})
    assert headers == {"x-trace": "1", "authorization": "Bearer abc.def"}


@pytest.mark.parametrize(
    ("url", "auth", "headers", "message"),
    [
        (PLAIN, "s3cret", None, "takes env:NAME"),
        (PLAIN, "env:", None, "takes env:NAME"),
        (PLAIN, "env:NOT_SET", None, "NOT_SET is not set"),
        (PLAIN, "env:s3cret.token", None, "takes env:NAME"),
        (PLAIN, "env:NOT_SET\n", None, "takes env:NAME"),
        (PLAIN, "env:BROKEN", None, "white space or unprintable"),
        (ModelURL.parse("m.onnx"), "env:GOOD", None, "no meaning for a local model"),
        (ModelURL.parse("http://u:s3cret@h/m"), "env:GOOD", None, "given twice"),
        (PLAIN, "env:GOOD", {"Authorization": "s3cret"}, "given twice"),
        (ModelURL.parse("http://u:s3cret@h/m"), None, {"authorization": "x"}, "given twice"),
    ],
)
def test_credentials_that_cannot_be_used_are_refused_without_being_shown(
    monkeypatch: pytest.MonkeyPatch,
    url: ModelURL,
    auth: str | None,
    headers: dict[str, str] | None,
    message: str,
) -> None:
    monkeypatch.setenv("GOOD", "s3cret")
    monkeypatch.setenv("BROKEN", "s3cret\n")
    with pytest.raises(InvalidURL, match=message) as caught:
        request_headers(url, auth, headers)
    assert "s3cret" not in str(caught.value)
