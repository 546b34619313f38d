"""How the gRPC backend connects, fails to, and lets go again."""

from __future__ import annotations

import datetime as dt
import gc
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
import trustme

from infer_backends.plugin import (
    DeadlineExceeded,
    InferError,
    InvalidURL,
    TLSError,
    Unavailable,
)
from infer_backends_triton import LocalTriton, _grpc_tls
from tests.servers import repository
from tests.triton.endpoints import black_hole, free_port
from tests.triton.grpc_fakes import a_request, echo, fake_server, opened


def failure(url: str, **options: object) -> InferError:
    """The error of opening ``url``."""
    with pytest.raises(InferError) as caught, opened(url, **options):
        pass
    return caught.value


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_refused_connection_is_unavailable_long_before_any_timeout(host: str) -> None:
    started = time.monotonic()
    error = failure(f"grpc://{host}:{free_port()}/m", timeout=100, connect_timeout=100)
    assert type(error) is Unavailable
    assert "could not be reached; is a gRPC server running at" in str(error)
    assert isinstance(error.__cause__, grpc.RpcError)
    assert time.monotonic() - started < 50


def test_a_port_that_closes_is_asked_about() -> None:
    def answer(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, args=(server,))
        thread.start()
        error = failure(f"grpc://127.0.0.1:{server.getsockname()[1]}/m", timeout=20)
        thread.join(20)
    assert type(error) is Unavailable
    assert "gRPC" in str(error)


def test_a_name_that_does_not_resolve_is_unavailable() -> None:
    assert type(failure("grpc://no-such-host.invalid/m")) is Unavailable


def test_a_host_that_swallows_packets_is_unavailable_after_the_connect_timeout() -> None:
    with black_hole() as port:
        error = failure(f"grpc://127.0.0.1:{port}/m", timeout=60, connect_timeout=0.3)
    assert type(error) is Unavailable


def test_a_deadline_before_the_connect_timeout_is_what_is_reported() -> None:
    with black_hole() as port:
        error = failure(f"grpc://127.0.0.1:{port}/m", timeout=0.3, connect_timeout=60)
    assert type(error) is DeadlineExceeded


@pytest.mark.parametrize("scheme", ["grpc", "grpcs"])
def test_a_server_that_accepts_and_says_nothing_is_unavailable(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        error = failure(
            f"{scheme}://127.0.0.1:{sock.getsockname()[1]}/m", timeout=60, connect_timeout=0.3
        )
    assert type(error) is Unavailable


def test_the_http_port_is_no_grpc_server(triton: LocalTriton) -> None:
    error = failure(f"{triton.http_url.replace('http', 'grpc')}/identity_1d", timeout=20)
    assert isinstance(error, InferError)
    assert type(error) is Unavailable


def test_a_server_that_vanishes_in_a_call_is_unavailable() -> None:
    entered = threading.Event()

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        entered.set()
        time.sleep(0.5)

    with fake_server(answer) as server:
        url = server.url
        with opened(url) as backend:
            errors: list[InferError] = []

            def call() -> None:
                try:
                    backend.infer(a_request())
                except InferError as exc:
                    errors.append(exc)

            thread = threading.Thread(target=call)
            thread.start()
            assert entered.wait(10)
            server.stop()
            thread.join(10)
    assert [type(error) for error in errors] == [Unavailable]


def test_every_call_after_a_failure_makes_an_attempt_of_its_own() -> None:
    port = free_port()
    with ExitStack() as stack:
        with fake_server(port=port) as server:
            backend = stack.enter_context(opened(server.url))
        for _ in range(30):
            with pytest.raises(Unavailable):
                backend.infer(a_request())
        with fake_server(port=port):
            # No back-off stands in the way of the very next call.
            assert backend.infer(a_request()).outputs["y"].tolist() == [1, 2]


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with fake_server() as server, opened(server.url) as backend:
        assert backend.infer(a_request()).outputs["y"].tolist() == [1, 2]


def test_opening_and_closing_leaves_no_threads_and_no_files() -> None:
    me = psutil.Process()

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        if request.id == "late":
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "too late")
        return echo(request, context)

    def use() -> None:
        with opened(server.url) as backend:
            backend.infer(a_request())
            with pytest.raises(DeadlineExceeded):
                backend.infer(a_request(request_id="late"))
            backend.infer(a_request())

    with fake_server(answer) as server:
        for _ in range(3):
            use()
        threads, files = threading.active_count(), me.num_fds()
        for _ in range(30):
            use()
        gc.collect()
        end = time.monotonic() + 10
        # The server lets go of its side when it has seen ours closed.
        while me.num_fds() > files + 5 and time.monotonic() < end:
            time.sleep(0.02)
        assert me.num_fds() <= files + 5
        assert threading.active_count() <= threads + 8, "the server's own pool"


AUTHORITY = trustme.CA()
STRANGER = trustme.CA()


def pem(certificate: trustme.LeafCert) -> bytes:
    """The certificate and what is above it."""
    return b"".join(blob.bytes() for blob in certificate.cert_chain_pems)


def server_credentials(
    name: str = "127.0.0.1", *, clients: trustme.CA | None = None, expired: bool = False
) -> grpc.ServerCredentials:
    """What a TLS server presents, and whom it lets in."""
    past = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
    certificate = AUTHORITY.issue_cert(name, not_after=past if expired else None)
    return grpc.ssl_server_credentials(
        [(certificate.private_key_pem.bytes(), pem(certificate))],
        root_certificates=clients.cert_pem.bytes() if clients else None,
        require_client_auth=clients is not None,
    )


@pytest.fixture
def ca(tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(str(path))
    return str(path)


def secure(url: str) -> str:
    return url.replace("grpc://", "grpcs://")


def test_a_verified_server_is_answered_to(ca: str) -> None:
    with fake_server(credentials=server_credentials()) as server:
        with opened(secure(server.url), ca=ca) as backend:
            assert backend.infer(a_request()).outputs["y"].tolist() == [1, 2]


def test_an_unknown_authority_is_a_tls_error() -> None:
    with fake_server(credentials=server_credentials()) as server:
        assert type(failure(secure(server.url))) is TLSError


def test_another_hosts_certificate_is_a_tls_error(ca: str) -> None:
    with fake_server(credentials=server_credentials("other.example")) as server:
        assert type(failure(secure(server.url), ca=ca)) is TLSError


def test_an_expired_certificate_is_a_tls_error(ca: str) -> None:
    with fake_server(credentials=server_credentials(expired=True)) as server:
        assert type(failure(secure(server.url), ca=ca)) is TLSError


def test_tls_to_a_plain_port_is_a_tls_error(ca: str) -> None:
    with fake_server() as server:
        assert type(failure(secure(server.url), ca=ca)) is TLSError


def test_plain_text_to_a_tls_port_is_unavailable() -> None:
    with fake_server(credentials=server_credentials()) as server:
        assert type(failure(server.url)) is Unavailable


def test_a_server_may_want_the_clients_certificate(ca: str, tmp_path: Path) -> None:
    mine = AUTHORITY.issue_cert("client@example.org")
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    both = str(tmp_path / "both.pem")
    Path(cert).write_bytes(pem(mine))
    mine.private_key_pem.write_to_path(key)
    mine.private_key_and_cert_chain_pem.write_to_path(both)
    with fake_server(credentials=server_credentials(clients=AUTHORITY)) as server:
        for files in ({"cert": cert, "key": key}, {"cert": both}):
            with opened(secure(server.url), ca=ca, **files) as backend:
                backend.infer(a_request())
        assert isinstance(failure(secure(server.url), ca=ca), InferError)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ca": "{garbage}"}, "'ca'"),
        ({"cert": "{garbage}"}, "'cert'"),
        ({"cert": "{ca}", "key": "{garbage}"}, "'key'"),
        ({"ca": "{missing}"}, "'ca'"),
    ],
)
def test_a_tls_file_that_holds_something_else_is_an_error_of_the_url(
    options: dict[str, str], said: str, ca: str, tmp_path: Path
) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("hunter2")
    paths = {"garbage": str(garbage), "ca": ca, "missing": str(tmp_path / "missing")}
    given = {name: value.format(**paths) for name, value in options.items()}
    error = failure("grpcs://127.0.0.1:1/m", **given)
    assert type(error) is InvalidURL
    assert said in str(error)
    assert "hunter2" not in str(error)


def test_the_system_is_trusted_by_default(
    ca: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", raising=False)
    directory = tmp_path / "certs"
    directory.mkdir()
    (directory / "0a1b2c3d.0").write_bytes(Path(ca).read_bytes())
    (directory / "README").write_text("no certificate")
    for variables in (
        {"SSL_CERT_FILE": ca, "SSL_CERT_DIR": str(tmp_path / "none")},
        {"SSL_CERT_FILE": str(tmp_path / "none"), "SSL_CERT_DIR": str(directory)},
    ):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            with fake_server(credentials=server_credentials()) as server:
                with opened(secure(server.url)) as backend:
                    backend.infer(a_request())


def test_grpcs_own_choice_is_taken_where_the_system_has_no_authorities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "roots.pem")
    assert _grpc_tls.system_roots() is None
    monkeypatch.delenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    assert _grpc_tls.system_roots() is None


def test_a_real_triton_is_spoken_to_over_tls(
    triton_environment: Path, tmp_path: Path, ca: str
) -> None:
    certificate = AUTHORITY.issue_cert("127.0.0.1")
    cert, key = tmp_path / "server.pem", tmp_path / "server.key"
    cert.write_bytes(pem(certificate))
    certificate.private_key_pem.write_to_path(str(key))
    models = repository.write_repository(tmp_path / "models", only=["identity_1d"])
    arguments = [
        "--grpc-use-ssl=1",
        f"--grpc-server-cert={cert}",
        f"--grpc-server-key={key}",
    ]
    x = np.array([1, 2], np.float32)
    with LocalTriton(models, environment=triton_environment, arguments=arguments) as server:
        url = f"{secure(server.grpc_url)}/identity_1d"
        with opened(url, ca=ca) as backend:
            assert backend.infer(a_request(inputs={"INPUT": x})).outputs["OUTPUT"].tolist() == [
                1,
                2,
            ]
        assert type(failure(url)) is TLSError


def test_ordinary_failures_write_nothing_to_stderr(ca: str) -> None:
    program = """
import os, sys
import infer_backends_triton.grpc_plugin as plugin
from infer_backends.plugin import InferError, ModelURL, OpenOptions
values = {option.name: option.default for option in plugin.infer_backends_options()}
for url in sys.argv[2:]:
    values["ca"] = sys.argv[1] if url.startswith("grpcs") else None
    try:
        plugin.infer_backends_open(ModelURL.parse(url), OpenOptions(values))
    except InferError as exc:
        print(type(exc).__name__)
assert "GRPC_VERBOSITY" not in os.environ
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GRPC_")}
    with fake_server(credentials=server_credentials("other.example")) as other:
        with fake_server() as plain:
            urls = [
                secure(other.url),
                secure(plain.url),
                other.url,
                f"grpc://127.0.0.1:{free_port()}/m",
                "grpc://no-such-host.invalid/m",
            ]
            done = subprocess.run(
                [sys.executable, "-c", program, ca, *urls],
                capture_output=True,
                check=False,
                text=True,
                env=environment,
            )
    assert done.stdout.split() == ["TLSError", "TLSError", *["Unavailable"] * 3]
    assert done.stderr == ""
