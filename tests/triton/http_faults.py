"""A server that answers control requests like a real one, and calls as a test wants it to.

For faults only, which a real server cannot be made to show.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infer_backends.plugin import Deadline, InferRequest, ModelURL, OpenOptions
from infer_backends_triton import http_plugin
from infer_backends_triton._http import HTTPBackend
from infer_backends_triton._settings import TRITON_OPTIONS

Answer = Callable[[socket.socket, "Request"], None]

MODEL = {
    "name": "m",
    "versions": ["1"],
    "platform": "python",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
}
CONFIG = {"name": "m", "max_batch_size": 0}
EXTENSIONS = ["binary_tensor_data", "model_configuration"]


@dataclass
class Request:
    """One request as the server received it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class FaultyServer:
    """Listens on loopback, one thread for each connection, until it is closed.

    Attributes:
        control: The answer to each control path; anything else is a call.
        answer: What to do with a call's connection.
        requests: What was received, in order.
        connections: How many connections were accepted.
        threads: The one that accepts, then one for each connection.
    """

    answer: Answer | None = None
    control: dict[str, Any] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self.control = {
            "/v2": {"name": "fake", "extensions": EXTENSIONS},
            "/v2/models/m": MODEL,
            "/v2/models/m/config": CONFIG,
            "/v2/models/m/ready": {},
        } | self.control
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}/m"

    def drop_connections(self) -> None:
        """Close every connection, and go on listening."""
        while self._sockets:
            close(self._sockets.pop())

    def close(self) -> None:
        # A blocked accept ends only by a shutdown.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.threads[0].join(10)
        self.drop_connections()
        for thread in self.threads[1:]:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        # Clients that go away in the middle are what these tests are about.
        with contextlib.suppress(OSError, ValueError), contextlib.ExitStack() as stack:
            stack.callback(sock.close)
            if self.tls is not None:
                sock = self.tls.wrap_socket(sock, server_side=True)
                self._sockets.append(sock)
                stack.callback(sock.close)
            stream = stack.enter_context(sock.makefile("rb"))
            while (request := read_request(stream)) is not None:
                self.requests.append(request)
                known = self.control.get(request.path)
                if known is not None:
                    sock.sendall(known if isinstance(known, bytes) else json_answer(known))
                elif self.answer is not None:
                    self.answer(sock, request)


def read_request(stream: Any) -> Request | None:
    """The next request, or None when the client closed the connection."""
    line = stream.readline().decode().split()
    if len(line) != 3:
        return None
    headers = {}
    while header := stream.readline().decode().strip():
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    return Request(line[0], line[1], headers, stream.read(int(headers.get("content-length", 0))))


def http_answer(
    body: bytes = b"", status: str = "200 OK", headers: Mapping[str, object] | None = None
) -> bytes:
    """A well-formed answer, except where ``headers`` say otherwise."""
    lines = {"Content-Length": len(body)} | dict(headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def json_answer(value: Any, status: str = "200 OK") -> bytes:
    """An answer whose body is JSON."""
    return http_answer(json.dumps(value).encode(), status)


def tensor_answer(values: list[float], **changes: Any) -> bytes:
    """A right answer of the model ``m``, binary; ``changes`` go into its output's entry."""
    raw = np.array(values, "<f4").tobytes()
    entry: dict[str, Any] = {"name": "y", "datatype": "FP32", "shape": [len(values)]}
    entry["parameters"] = {"binary_data_size": len(raw)}
    header = json.dumps({"model_version": "1", "outputs": [entry | changes]}).encode()
    return http_answer(header + raw, headers={"Inference-Header-Content-Length": len(header)})


def saying(*pieces: bytes, then_close: bool = False) -> Answer:
    """Send these pieces, whatever was asked."""

    def answer(sock: socket.socket, request: Request) -> None:
        for piece in pieces:
            sock.sendall(piece)
        if then_close:
            close(sock)

    return answer


def echo(sock: socket.socket, request: Request) -> None:
    """Answer the tensor that was sent."""
    start = int(request.headers["inference-header-content-length"])
    sock.sendall(tensor_answer(np.frombuffer(request.body[start:], "<f4").tolist()))


def reset(sock: socket.socket, request: Request | None = None) -> None:
    """Make the end of this connection a reset, and end it."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise ConnectionAbortedError


def hang_up(sock: socket.socket, request: Request) -> None:
    """End the connection without an answer."""
    close(sock)


def close(sock: socket.socket) -> None:
    """Close a socket that another thread may be reading from."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    sock.close()


@contextlib.contextmanager
def faulty_server(answer: Answer | None = None, **settings: Any) -> Iterator[FaultyServer]:
    """A server that answers calls with ``answer``, closed at the end."""
    server = FaultyServer(answer, **settings)
    try:
        yield server
    finally:
        server.close()


def default_options(
    *,
    headers: Mapping[str, str] | None = None,
    connect_timeout: float = 5.0,
    timeout: float = 30.0,
    deadline: Deadline | None = None,
    **values: Any,
) -> OpenOptions:
    """What the core gives the plugin's hook when a URL says nothing else."""
    return OpenOptions(
        {option.name: option.default for option in TRITON_OPTIONS} | values,
        deadline=deadline or Deadline.after(timeout),
        connect_timeout=connect_timeout,
        headers=headers,
    )


@contextlib.contextmanager
def opened(url: str, **options: Any) -> Iterator[HTTPBackend]:
    """A backend opened by the plugin's hook alone, closed at the end."""
    parsed = ModelURL.parse(url)
    backend = http_plugin.infer_backends_open(parsed, default_options(**options))
    assert isinstance(backend, HTTPBackend)
    try:
        yield backend
    finally:
        backend.close()


def a_request(
    values: object = (1.0, 2.0), *, timeout: float = 30.0, name: str = "x", **fields: Any
) -> InferRequest:
    """A request to a model with one FP32 input."""
    array = np.asarray(values, np.float32)
    return InferRequest(
        {name: array}, fields.pop("outputs", None), Deadline.after(timeout), **fields
    )
