"""What a connection needs to know, from the URL and its options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infer_backends.plugin import InvalidInput, InvalidURL, ModelURL
from infer_backends_triton._settings import TRITON_OPTIONS, ConnectionSettings, check_headers
from tests.triton.http_faults import default_options

TLS = ["ca", "cert", "key"]


def read(url: str, **options: Any) -> ConnectionSettings:
    return ConnectionSettings.read(ModelURL.parse(url), default_options(**options))


@pytest.mark.parametrize(
    ("scheme", "port", "secure"),
    [
        ("http", 8000, False),
        ("triton+http", 8000, False),
        ("https", 443, True),
        ("triton+https", 443, True),
        ("grpc", 8001, False),
        ("triton+grpc", 8001, False),
        ("grpcs", 443, True),
        ("triton+grpcs", 443, True),
    ],
)
def test_a_scheme_has_its_port_and_its_security(scheme: str, port: int, secure: bool) -> None:
    settings = read(f"{scheme}://host/m")
    assert (settings.host, settings.port, settings.secure) == ("host", port, secure)
    assert read(f"{scheme}://host:99/m").port == 99


def test_an_address_has_brackets_around_ipv6() -> None:
    assert read("http://[::1]/m").address == "[::1]:8000"
    assert read("http://h:1/m").address == "h:1"


def test_the_files_of_tls_are_found(tmp_path: Path) -> None:
    file = tmp_path / "x.pem"
    file.write_text("pem")
    settings = read("https://h/m", ca=str(file), cert=str(file), key=str(file))
    assert (settings.ca, settings.cert, settings.key) == (str(file),) * 3


@pytest.mark.parametrize("name", ["ca", "cert", "key"])
def test_a_file_that_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    for path in (tmp_path / "none.pem", tmp_path, "nul\0"):
        with pytest.raises(InvalidURL, match=f"'{name}' cannot be read"):
            read("https://h/m", **{name: str(path)})


def test_tls_options_without_tls_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.pem"
    file.write_text("pem")
    with pytest.raises(InvalidURL, match="write http"):
        read("http://h/m", ca=str(file))
    with pytest.raises(InvalidURL, match="needs the option 'cert'"):
        read("https://h/m", key=str(file))


def test_a_url_without_a_host_is_refused() -> None:
    with pytest.raises(InvalidURL, match="names no host"):
        read("http:path")


def test_secrets_are_known_and_never_shown() -> None:
    settings = read(
        "http://user:pass-word@h/m", headers={"authorization": "Bearer tok-en", "x-key": "a key"}
    )
    assert settings.secrets == {"pass-word", "Bearer tok-en", "tok-en", "a key"}
    for secret in settings.secrets:
        assert secret not in repr(settings)
        assert secret not in settings.url


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x", "a\r\nb: c"),
        ("x", "a\nb"),
        ("x", "a\0"),
        ("x", "\x7f"),
        ("x", "\u20ac"),
        ("x y", "a"),
        ("x:", "a"),
        ("", "a"),
        ("x\r\n", "a"),
        ("\u00e9", "a"),
    ],
)
def test_headers_that_break_out_of_their_line_are_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidInput):
        check_headers({name: value}, InvalidInput)
    with pytest.raises(InvalidURL):
        read("http://h/m", headers={name: value})


def test_ordinary_headers_are_taken() -> None:
    check_headers({"x-key": "a b\tc \u00e9", "_": ""}, InvalidInput)


def test_the_options_of_both_protocols_are_declared() -> None:
    assert [option.name for option in TRITON_OPTIONS] == [
        *TLS,
        "max_response_bytes",
        "shared_memory",
    ]
    largest, shared_memory = TRITON_OPTIONS[-2:]
    assert largest.default == 2 * 1024**3
    with pytest.raises(InvalidURL):
        largest.check(0)
    assert shared_memory.default == "auto"
    with pytest.raises(InvalidURL):
        shared_memory.check("cuda")


def test_the_zone_of_an_address_is_nobody_elses_business() -> None:
    url = ModelURL.parse("http://[fe80::1%25eth0]:1/m")
    settings = ConnectionSettings.read(url, default_options())
    assert settings.address == "[fe80::1%eth0]:1"
    assert settings.authority == "[fe80::1]:1"
