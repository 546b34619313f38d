"""The URL grammar: what is understood, what is refused, and what is never shown."""

from __future__ import annotations

import os
import pickle
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from infer_backends import InvalidURL, ModelURL
from infer_backends._masking import mask_text
from infer_backends._url import split_urls


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://h:8000/digits", {"host": "h", "port": 8000, "model": "digits"}),
        ("HTTP://Host/Digits", {"scheme": "http", "host": "host", "model": "Digits"}),
        ("http://h/v2/models/digits", {"model": "digits", "base_path": ()}),
        ("http://h/digits/versions/3", {"model": "digits", "version": "3"}),
        ("http://gw/base/v2/models/d/versions/3", {"base_path": ("base",), "version": "3"}),
        ("http://gw/a/b/v2/models/d", {"base_path": ("a", "b"), "model": "d"}),
        ("http://h/digits?version=3", {"version": "3", "options": ()}),
        ("http://h/d/versions/3?version=3", {"version": "3"}),
        ("http://h", {"model": None, "base_path": ()}),
        ("http://h/", {"model": None}),
        ("http://gw/base/v2", {"model": None, "base_path": ("base",)}),
        ("http://gw/base/v2/", {"model": None, "base_path": ("base",)}),
        ("http://h/base", {"model": "base", "base_path": ()}),
        ("http://h/v2/models/v2", {"model": "v2", "base_path": ()}),
        ("http://h/v2/models/models", {"model": "models"}),
        ("http://h/v2/models/versions", {"model": "versions"}),
        ("http://h/a%2Fb", {"model": "a/b"}),
        ("http://h/a%2520b", {"model": "a%20b"}),
        ("http://h/caf%C3%A9", {"model": "café"}),
        ("triton+grpc://[::1]:8001/m", {"scheme": "triton+grpc", "host": "::1", "port": 8001}),
        ("grpc://[FE80::1]/m", {"host": "fe80::1", "port": None}),
        ("http://[fe80::1%25eth0]:1/m", {"host": "fe80::1%eth0", "port": 1}),
        ("http://u:p%40ss@h/m", {"username": "u", "password": "p@ss"}),
        ("http://u@h/m", {"username": "u", "password": None}),
        ("http://my_service.local./m", {"host": "my_service.local."}),
        ("http://h/m?ca=a%26b&ca=c", {"options": (("ca", "a&b"), ("ca", "c"))}),
        ("http://h/m?a=b?c=d", {"options": (("a", "b?c=d"),)}),
        ("onnx:m.onnx", {"scheme": "onnx", "path": "m.onnx", "host": None}),
        ("onnx:/abs/m.onnx", {"path": "/abs/m.onnx"}),
        ("onnx:///abs/m.onnx", {"path": "/abs/m.onnx"}),
        ("onnx:a%20b%23.onnx?device=cpu", {"path": "a b#.onnx", "options": (("device", "cpu"),)}),
        ("onnx:a@b.onnx", {"path": "a@b.onnx"}),
        ("onnx:C:\\m.onnx", {"path": "C:\\m.onnx"}),
        ("m.onnx", {"scheme": "onnx", "path": "m.onnx"}),
        ("./dir/M.ONNX", {"path": "./dir/M.ONNX"}),
        ("C:\\m.onnx", {"path": "C:\\m.onnx"}),
        ("a%20b#c.onnx", {"path": "a%20b#c.onnx"}),
        (Path("my model.onnx"), {"path": "my model.onnx"}),
    ],
)
def test_a_url_is_understood(text: str | Path, expected: dict[str, Any]) -> None:
    url = ModelURL.parse(text)
    assert {name: getattr(url, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "the URL is empty"),
        ("digits", "has no scheme"),
        ("m.onnx?device=cpu", "write onnx: before it"),
        ("localhost:8000/digits", "write http://localhost:8000/digits"),
        ("triton.http://h/m", r"write 'triton\+http'"),
        ("http://h/m#1", "write %23"),
        ("onnx:m#1.onnx", "write %23"),
        ("http://h/a\tb", r"U\+0009"),
        ("http://h/a\nb", r"U\+000A"),
        ("http://h/a\u00a0b", r"U\+00A0"),
        ("http://h/a%0Ab", "control character"),
        ("http://h/%zz", "write %25"),
        ("http://h/%ff", "not UTF-8"),
        ("onnx:%zz.onnx", "write %25"),
        ("http://a@b@h/m", "write %40"),
        ("http://h/a/b", "names no model"),
        ("http://h/v2/models", "names no model"),
        ("http://h/v2/models/m/infer", "names no model"),
        ("http://h//m", "empty, '.' or '..'"),
        ("http://h/../m", "empty, '.' or '..'"),
        ("http://h/%2E%2E", "empty, '.' or '..'"),
        ("http://h:0/m", "1 to 65535"),
        ("http://h:65536/m", "1 to 65535"),
        ("http://h:/m", "1 to 65535"),
        ("http://h:８０/m", "1 to 65535"),
        ("http://::1/m", "in brackets"),
        ("http://[::1/m", r"\[::1\]:8000"),
        ("http://[::1]8000/m", r"\[::1\]:8000"),
        ("http://[nope]/m", "no valid IPv6"),
        ("http://[127.0.0.1]/m", "no valid IPv6"),
        ("http://[::1%25%E2%82%AC]/m", "no valid IPv6 zone"),
        ("http://[::1%25a%20b]/m", "no valid IPv6 zone"),
        ("http://a..b/m", "no valid host name"),
        (f"http://{'a' * 64}/m", "no valid host name"),
        ("http://bücher/m", "xn-- form"),
        ("http://h\\x/m", "backslash"),
        ("http://@/m", "no valid host name"),
        ("http://u%3Ax@h/m", "holds a ':'"),
        ("http://h/m?version=", "version"),
        ("http://h/m/versions/1?version=2", "version twice"),
        ("http://h/m?version=1&version=2", "version twice"),
        ("http://h/m?", "without a name or a value"),
        ("http://h/m?flag", "without a name or a value"),
        ("http://h/m?=v", "without a name or a value"),
        ("http://h/m?a=1&&b=2", "without a name or a value"),
        ("onnx:", "names no path"),
        ("onnx://", "no valid host name"),
        ("onnx:%00.onnx", "names no path"),
        (PurePosixPath("m.bin"), "does not end in .onnx"),
        (PurePosixPath("a\0.onnx"), "NUL"),
        (42, "not by int"),
        (None, "not by NoneType"),
    ],
)
def test_a_url_is_refused_with_advice(text: Any, advice: str) -> None:
    with pytest.raises(InvalidURL, match=advice):
        ModelURL.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://user:hunter2@h/m",
        "http://hunter2@h/m",
        "http://u:hunter2/x@h/m",
        "http://u:hunter2?x@h/m",
        "http://u:1/hunter2@h/m",
        "http://u:x@hunter2@h/m",
        "http://u:hunter2",
        "http://u:hunter2#x@h/m",
        "http://u:hunter2\n@h/m",
        "http://u:hunter2%zz@h/m",
        "http://u:hunter2%ff@h/m",
        "http://u:hunter2@h/m?",
        "http://u:hunter2@h/a/b",
        "http://u:hunter2@h:port/m",
        "http://u:hunter2@@h/m",
        "u:hunter2@h/m",
        "hunter2@h/m",
        "http://h/m?auth=hunter2",
        "http://h/a/b?token=hunter2",
        "http://h/m?auth=a&hunter2",
        "http://h/m?auth=%zzhunter2",
        "//u:hunter2@h/m.onnx?x",
        "http://u:hunter2?",
        "http://u:hunter2#",
        "http://u:hunter2 ",
        "http://u:hunter2\udcff@h/m",
        "http:u:hunter2@h/m",
        "http:/u:hunter2@h/m",
        "http:///u:hunter2@h/m",
        "httphunter2//x@h/m",
        "http:/u:hunter2%FF@h/m",
        "http:/u:hunter2\udcff@h/m",
    ],
)
def test_no_text_shows_a_secret(text: str) -> None:
    try:
        url = ModelURL.parse(text)
    except InvalidURL as exc:
        # Even a suppressed context is there for those who collect errors.
        shown = f"{exc} {exc!r} {exc.__cause__!r} {exc.__context__!r}"
    else:
        shown = f"{url} {url!r} {url.location}"
    assert "hunter2" not in shown


@pytest.mark.parametrize("text", ["http:/hunter2@h/m", "http:u:hunter2@h/m"])
def test_a_host_that_is_missing_is_asked_for_without_showing_a_secret(text: str) -> None:
    with pytest.raises(InvalidURL, match=r"\*\*\*@h/m' names no host") as caught:
        ModelURL.parse(text).require_host(8000)
    assert "hunter2" not in str(caught.value)


def test_the_rendered_url_masks_secrets_unless_asked_not_to() -> None:
    url = ModelURL.parse("https://me:s3cret@h:1/b/v2/models/m/versions/2?auth=env:T&ca=x")
    assert str(url) == "https://***@h:1/b/v2/models/m/versions/2?auth=***&ca=x"
    assert url.location == "https://***@h:1/b/v2/models/m/versions/2"
    assert "me:s3cret@" in url.render(mask=False)
    assert "ca=***" in str(url.with_secret_options(frozenset({"ca"})))
    assert pickle.loads(pickle.dumps(url)).password == "s3cret"


def test_a_host_or_a_path_is_asked_for_where_it_is_missing() -> None:
    remote, local = ModelURL.parse("http://h/m"), ModelURL.parse("onnx:m.onnx")
    assert remote.require_host(8000) == ("h", 8000)
    assert local.require_path() == "m.onnx"
    with pytest.raises(InvalidURL, match="write onnx://host:8000/model"):
        local.require_host(8000)
    with pytest.raises(InvalidURL, match="write onnx:host/x for a relative path, onnx:///host/x"):
        ModelURL.parse("onnx://host/x").require_path()


def test_a_version_from_the_call_must_agree() -> None:
    url = ModelURL.parse("http://h/m/versions/1")
    assert url.with_version("1") == url
    assert ModelURL.parse("http://h/m").with_version("1") == url
    with pytest.raises(InvalidURL, match="two values"):
        url.with_version("2")
    with pytest.raises(InvalidURL, match="no meaning for 'onnx:m.onnx', which is a path"):
        ModelURL.parse("m.onnx").with_version("1")
    with pytest.raises(InvalidURL, match="is empty"):
        url.with_version("")


def test_a_version_without_a_model_is_rendered_as_an_option() -> None:
    url = ModelURL.parse("http://h?version=2")
    assert str(url) == "http://h?version=2"
    assert ModelURL.parse(str(url)) == url


def test_a_file_name_that_is_not_utf8_is_kept() -> None:
    path = os.fsdecode(b"caf\xe9.onnx")
    url = ModelURL.parse(path)
    assert url.path == path
    assert str(url) == "onnx:caf%E9.onnx"
    assert ModelURL.parse(str(url)) == url
    assert ModelURL.parse(f"onnx:{path}") == url


def test_a_path_that_no_file_system_has_is_refused() -> None:
    with pytest.raises(InvalidURL, match="is no text"):
        ModelURL.parse("onnx:\ud800.onnx")
    with pytest.raises(InvalidURL, match="is no text"):
        ModelURL.parse("\ud800.onnx")


@pytest.mark.parametrize("text", ["http://[fe80::1%25eth0]:1/m", "http://u:p%25@[::1]/m"])
def test_a_rendered_url_is_understood_again(text: str) -> None:
    url = ModelURL.parse(text)
    assert ModelURL.parse(url.render(mask=False)) == url


def test_a_parsed_url_is_taken_as_it_is() -> None:
    url = ModelURL.parse("http://h/m")
    assert ModelURL.parse(url) is url


def test_white_space_separates_urls() -> None:
    assert split_urls(" http://h/m\n\tonnx:m.onnx ") == ["http://h/m", "onnx:m.onnx"]


def test_masking_keeps_what_is_no_secret() -> None:
    assert mask_text("http://h/m?a=b") == "http://h/m?***"
    assert mask_text("http://h/m") == "http://h/m"
    assert mask_text("http://u:p@h/m") == "http://***@h/m"
    assert mask_text("http://h:8000/m") == "http://h:8000/m"
    assert mask_text("http://[::1]:8000/m") == "http://[::1]:8000/m"
    assert mask_text("onnx:a@b:c.onnx") == "onnx:***@b:c.onnx"


def test_masking_shortens_what_is_far_too_long() -> None:
    assert len(mask_text("http://" + "a" * 1_000_000)) < 500
