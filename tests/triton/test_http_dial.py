"""Reaching a server: names, addresses, bounds."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest
import trustme

from infer_backends.plugin import Deadline, DeadlineExceeded, ModelURL, TLSError, Unavailable
from infer_backends_triton import _http_dial
from infer_backends_triton._http_dial import dial, make_tls_context
from infer_backends_triton._settings import ConnectionSettings
from tests.triton.http_faults import default_options, echo, faulty_server, opened


def settings(
    url: str, *, connect_timeout: float = 5.0, ca: str | None = None
) -> ConnectionSettings:
    options = default_options(connect_timeout=connect_timeout, ca=ca)
    return ConnectionSettings.read(ModelURL.parse(url), options)


def test_a_name_is_resolved() -> None:
    with faulty_server(echo) as server:
        with opened(f"http://localhost:{server.port}/m") as backend:
            assert backend.metadata.name == "m"


def test_the_next_address_is_tried_when_one_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()
    with faulty_server(echo) as server:
        candidates = [(socket.AF_INET, nobody), (socket.AF_INET, ("127.0.0.1", server.port))]
        monkeypatch.setattr(_http_dial, "_getaddrinfo", lambda *_: candidates)
        with opened(f"http://two.example:{server.port}/m") as backend:
            assert backend.metadata.name == "m"


def test_a_name_without_an_address_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_http_dial, "_getaddrinfo", lambda *_: [])
    with pytest.raises(Unavailable, match="no address"):
        dial(settings("http://none.example/m"), None, Deadline.after(5))


def test_a_resolver_that_hangs_costs_its_bound_and_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = threading.Event()

    def hang(host: str, port: int, flags: int) -> list[object]:
        if flags:
            raise socket.gaierror(socket.EAI_NONAME, "a name")
        release.wait(30)
        return []

    def resolvers() -> list[threading.Thread]:
        return [
            thread for thread in threading.enumerate() if thread.name == "resolve hangs.example"
        ]

    monkeypatch.setattr(_http_dial, "_getaddrinfo", hang)
    slow = settings("http://hangs.example/m", connect_timeout=0.05)
    for _ in range(3):
        with pytest.raises(Unavailable, match=r"resolving.*connect_timeout, 0\.05 s"):
            dial(slow, None, Deadline.after(5))
    with pytest.raises(DeadlineExceeded, match="resolving"):
        dial(settings("http://hangs.example/m"), None, Deadline.after(0.05))
    waiting = resolvers()
    assert len(waiting) == 1
    release.set()
    waiting[0].join(10)
    assert not resolvers()
    assert not _http_dial._lookups


def test_a_known_server_that_closes_in_the_handshake_is_unavailable(tmp_path: Path) -> None:
    authority = trustme.CA()
    ca = str(tmp_path / "ca.pem")
    authority.cert_pem.write_to_path(ca)

    def accept_and_close(listener: socket.socket) -> None:
        for _ in range(2):
            sock, _ = listener.accept()
            sock.recv(10_000)
            sock.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept_and_close, args=(listener,), daemon=True)
        thread.start()
        server = settings(f"https://127.0.0.1:{listener.getsockname()[1]}/m", ca=ca)
        context = make_tls_context(server)
        with pytest.raises(TLSError, match="does this port speak TLS"):
            dial(server, context, Deadline.after(5), known=False)
        with pytest.raises(Unavailable, match="closed the connection") as caught:
            dial(server, context, Deadline.after(5), known=True)
        assert isinstance(caught.value.__cause__, ssl.SSLError)
        thread.join(10)


def test_a_deadline_that_has_passed_connects_to_nobody() -> None:
    with pytest.raises(DeadlineExceeded, match="connecting"):
        dial(settings("http://127.0.0.1:1/m"), None, Deadline.after(0))
