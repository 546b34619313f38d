"""TLS: who is trusted, who is not, and what each failure is called."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
import trustme

from infer_backends.plugin import DeadlineExceeded, InvalidURL, ProtocolError, TLSError, Unavailable
from tests.triton.http_faults import a_request, echo, faulty_server, opened


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def test_a_server_with_a_certificate_of_a_trusted_authority_is_used(
    authority: trustme.CA, ca: str
) -> None:
    context = server_context(authority, "127.0.0.1")
    with faulty_server(echo, tls=context) as server, opened(server.url, ca=ca) as backend:
        for _ in range(3):
            assert backend.infer(a_request()).outputs["y"].tolist() == [1.0, 2.0]
        assert server.connections == 1
        assert backend.infer(a_request(range(300_000))).outputs["y"].size == 300_000


def test_a_connection_that_the_server_closed_meanwhile_is_replaced(
    authority: trustme.CA, ca: str
) -> None:
    context = server_context(authority, "127.0.0.1")
    with faulty_server(echo, tls=context) as server, opened(server.url, ca=ca) as backend:
        server.drop_connections()
        assert backend.infer(a_request()).outputs["y"].tolist() == [1.0, 2.0]


def test_an_unknown_authority_is_a_tls_error(authority: trustme.CA) -> None:
    context = server_context(authority, "127.0.0.1")
    with (
        faulty_server(echo, tls=context) as server,
        pytest.raises(TLSError, match="ca=FILE") as caught,
        opened(server.url),
    ):
        pass
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


def test_another_host_name_is_a_tls_error(authority: trustme.CA, ca: str) -> None:
    context = server_context(authority, "other.example")
    with (
        faulty_server(echo, tls=context) as server,
        pytest.raises(TLSError, match="not verified"),
        opened(server.url, ca=ca),
    ):
        pass


def test_a_client_certificate_is_shown_to_a_server_that_wants_one(
    authority: trustme.CA, ca: str, tmp_path: Path
) -> None:
    context = server_context(authority, "127.0.0.1")
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    client = authority.issue_cert("client@example.org")
    cert, key, both = (str(tmp_path / name) for name in ("cert.pem", "key.pem", "both.pem"))
    client.cert_chain_pems[0].write_to_path(cert)
    client.private_key_pem.write_to_path(key)
    client.private_key_and_cert_chain_pem.write_to_path(both)
    with faulty_server(echo, tls=context) as server:
        with opened(server.url, ca=ca, cert=cert, key=key) as backend:
            backend.infer(a_request())
        with opened(server.url, ca=ca, cert=both) as backend:
            backend.infer(a_request())
        with pytest.raises(TLSError), opened(server.url, ca=ca):
            pass


def test_files_that_are_no_certificates_are_refused_before_anything_is_sent(
    authority: trustme.CA, ca: str, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("not PEM")
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(ENCRYPTED_KEY)
    with (
        pytest.raises(InvalidURL, match="'ca' is not usable"),
        opened("https://h.invalid/m", ca=str(wrong)),
    ):
        pass
    for key in (str(wrong), str(encrypted)):
        with (
            pytest.raises(InvalidURL, match="'cert' or 'key' is not usable"),
            opened("https://h.invalid/m", ca=ca, cert=ca, key=key),
        ):
            pass


def test_a_plain_request_to_a_tls_port_fails_clearly(authority: trustme.CA) -> None:
    context = server_context(authority, "127.0.0.1")
    with faulty_server(echo, tls=context) as server:
        url = server.url.replace("https:", "http:")
        with pytest.raises((ProtocolError, Unavailable)), opened(url):
            pass


def test_a_server_that_never_finishes_the_handshake_is_unavailable_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/m"
        with pytest.raises(Unavailable, match="shaking hands"), opened(url, connect_timeout=0.3):
            pass
        with pytest.raises(DeadlineExceeded, match="shaking hands"), opened(url, timeout=0.3):
            pass


def test_a_call_over_tls_ends_at_its_deadline(authority: trustme.CA, ca: str) -> None:
    context = server_context(authority, "127.0.0.1")
    with faulty_server(tls=context) as server, opened(server.url, ca=ca) as backend:
        with pytest.raises(DeadlineExceeded):
            backend.infer(a_request(timeout=0.3))


ENCRYPTED_KEY = b"""\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIIBHDBXBgkqhkiG9w0BBQ0wSjApBgkqhkiG9w0BBQwwHAQIAAAAAAAAAAACAggA
-----END ENCRYPTED PRIVATE KEY-----
"""
