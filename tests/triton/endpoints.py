"""Addresses where nobody answers, and backends of either protocol to ask there."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from infer_backends.plugin import ModelURL
from infer_backends_triton import grpc_plugin, http_plugin
from infer_backends_triton._grpc_backend import GrpcBackend
from infer_backends_triton._http import HTTPBackend
from tests.triton.http_faults import default_options

TritonBackend = HTTPBackend | GrpcBackend


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextmanager
def full_backlog() -> Iterator[socket.socket]:
    """A listener whose backlog is full: SYN packets to it get no answer."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener


@contextmanager
def black_hole() -> Iterator[int]:
    """The port of a listener that the system lets nobody reach."""
    with full_backlog() as listener:
        yield int(listener.getsockname()[1])


@contextmanager
def silent_server() -> Iterator[int]:
    """The port of a listener that lets everybody connect, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


@contextmanager
def opened_at(url: str, **options: Any) -> Iterator[TritonBackend]:
    """A backend of the protocol that the URL says, opened by its plugin and closed at the end."""
    parsed = ModelURL.parse(url)
    plugin: Any = grpc_plugin if parsed.scheme.startswith("grpc") else http_plugin
    backend: TritonBackend = plugin.infer_backends_open(parsed, default_options(**options))
    try:
        yield backend
    finally:
        backend.close()
