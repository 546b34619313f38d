"""Reaching a server: names, addresses, bounds."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infer_backends.plugin import (
    Deadline,
    DeadlineExceeded,
    InferError,
    ModelURL,
    TLSError,
    Unavailable,
)
from infer_backends_triton import _http_dial
from infer_backends_triton._http_dial import dial, make_tls_context
from infer_backends_triton._settings import ConnectionSettings
from infer_backends_triton._waiting import Waiting, run
from tests.triton.http_faults import default_options, echo, faulty_server, opened, reset


def settings(url: str, *, connect_timeout: float = 5.0) -> ConnectionSettings:
    options = default_options(connect_timeout=connect_timeout)
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
        run(dial(settings("http://none.example/m"), None, Deadline.after(5)))


def test_a_name_can_be_resolved_after_a_time_without_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with faulty_server(echo) as server:
        named = settings(f"http://localhost:{server.port}/m")
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(Unavailable, match="no thread"):
                run(dial(named, None, Deadline.after(5)))
        run(dial(named, None, Deadline.after(5))).close()


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
            run(dial(slow, None, Deadline.after(5)))
    with pytest.raises(DeadlineExceeded, match="resolving"):
        run(dial(settings("http://hangs.example/m"), None, Deadline.after(0.05)))
    waiting = resolvers()
    assert len(waiting) == 1
    release.set()
    waiting[0].join(10)
    assert not resolvers()
    assert not _http_dial._lookups


@contextlib.contextmanager
def listening(answer: Callable[[socket.socket], object]) -> Iterator[ConnectionSettings]:
    """Settings for TLS with a server that treats every connection as ``answer`` does."""

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                with sock:
                    sock.recv(10_000)
                    answer(sock)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield settings(f"https://127.0.0.1:{listener.getsockname()[1]}/m")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def reset_quietly(sock: socket.socket) -> None:
    with contextlib.suppress(ConnectionAbortedError):
        reset(sock)


@pytest.mark.parametrize(
    ("answer", "known", "kind", "words"),
    [
        (lambda sock: sock.sendall(b"HTTP/1.1 400 No\r\n\r\n"), True, TLSError, "speak TLS"),
        (lambda sock: None, False, TLSError, "speak TLS"),
        (lambda sock: None, True, Unavailable, "closed the connection"),
        (reset_quietly, False, Unavailable, "reset"),
    ],
)
def test_a_handshake_that_comes_to_nothing_says_why(
    answer: Callable[[socket.socket], object], known: bool, kind: type[InferError], words: str
) -> None:
    with listening(answer) as server:
        context = make_tls_context(server)
        with pytest.raises(kind, match=words) as caught:
            run(dial(server, context, Deadline.after(5), known=known))
    assert type(caught.value) is kind
    assert isinstance(caught.value.__cause__, OSError)


def test_a_handshake_does_not_begin_when_connecting_took_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect = _http_dial._connect

    async def connect_slowly(
        candidate: Any, timeout: float, bound: Any, waiting: Waiting
    ) -> socket.socket:
        sock = await connect(candidate, timeout, bound, waiting)
        threading.Event().wait(timeout)
        return sock

    monkeypatch.setattr(_http_dial, "_connect", connect_slowly)
    with listening(lambda sock: None) as server:
        hasty = dataclasses.replace(server, connect_timeout=0.05)
        with pytest.raises(Unavailable, match="shaking hands"):
            run(dial(hasty, make_tls_context(server), Deadline.after(5)))


def test_a_deadline_that_has_passed_connects_to_nobody() -> None:
    with pytest.raises(DeadlineExceeded, match="connecting"):
        run(dial(settings("http://127.0.0.1:1/m"), None, Deadline.after(0)))
