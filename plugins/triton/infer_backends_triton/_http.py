"""A model on a server that speaks the Open Inference Protocol over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from infer_backends.plugin import (
    Deadline,
    InferError,
    InferRequest,
    InferResponse,
    InvalidInput,
    InvalidURL,
    ModelClosed,
    ModelMetadata,
    ModelNotFound,
    ModelURL,
    OpenOptions,
    ProtocolError,
    UnsupportedOperation,
)
from infer_backends_triton._codec import binary_only
from infer_backends_triton._http_answers import AnswerReader
from infer_backends_triton._http_connection import HTTPResponse, Landing
from infer_backends_triton._http_messages import (
    HEADER_LENGTH,
    choose_model,
    model_path,
    parse_object,
    read_extensions,
    read_index,
    server_path,
)
from infer_backends_triton._http_pool import ConnectionPool
from infer_backends_triton._http_requests import RequestWriter, begin_request
from infer_backends_triton._http_stream import Buffer
from infer_backends_triton._http_wire import parse_length, render_head
from infer_backends_triton._metadata import read_metadata
from infer_backends_triton._settings import ConnectionSettings, check_headers, secret_values
from infer_backends_triton._shared_http import HTTPSharedServer
from infer_backends_triton._shared_memory import SharedMemory, share
from infer_backends_triton._status import error_message, http_error, is_of_broken_relay

# What a server says of itself and its models is small; max_response_bytes is about tensors.
_MAX_CONTROL_BYTES = 16 * 1024 * 1024
# These say how a message is framed, which is not for callers to change.
_FRAMING_HEADERS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        HEADER_LENGTH,
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class HTTPBackend:
    """One model on one server. Made by :meth:`open`; safe for threads and after a fork."""

    def __init__(
        self,
        url: str,
        path: str,
        server: _Server,
        metadata: ModelMetadata,
        *,
        extensions: frozenset[str] | None,
        binary: bool,
    ) -> None:
        self._url = url
        self._path = path
        self._server = server
        self._metadata = metadata
        self._extensions = extensions
        self._binary = binary
        self._infer_path = f"{path}/infer"
        self._infer_head = server.render_head("POST", self._infer_path, {})
        self._writer = RequestWriter(metadata, self._infer_head, binary=binary)
        self._reader = AnswerReader(metadata, url)
        self._memory: SharedMemory | None = None

    @classmethod
    def open(cls, url: ModelURL, options: OpenOptions) -> HTTPBackend:
        """Connect, find the model, and read its metadata.

        Raises:
            InferError: Anything of the library's tree; see the table of errors.
        """
        server = _Server(ConnectionSettings.read(url, options))
        try:
            return cls._open(url, server, options.deadline)
        except BaseException:
            server.close()
            raise

    @classmethod
    def _open(cls, url: ModelURL, server: _Server, deadline: Deadline) -> HTTPBackend:
        extensions = server.extensions(url.base_path, deadline)
        model = url.model
        if model is None:
            index = server.repository_index(url, deadline)
            model = choose_model(index, url.location, url.version)
        path = model_path(url.base_path, model, url.version)
        metadata, configured = server.model_metadata(path, extensions, deadline)
        # A gateway may hide the server's own metadata; only Triton has configurations.
        binary = "binary_tensor_data" in extensions if extensions is not None else configured
        if not binary:
            _require_json_forms(metadata)
        backend = cls(str(url), path, server, metadata, extensions=extensions, binary=binary)
        offered = binary and (extensions is None or "system_shared_memory" in extensions)
        backend._share(url, server, deadline, offered=offered)
        return backend

    def _share(self, url: ModelURL, server: _Server, deadline: Deadline, *, offered: bool) -> None:
        ask = partial(_ask, server, self._infer_path, self._infer_head)
        shared = HTTPSharedServer(ask, server, url.base_path, self._metadata, self._url)
        self._memory = share(
            self, shared, self._metadata, server.settings, self._url, deadline, offered=offered
        )

    @property
    def metadata(self) -> ModelMetadata:
        """What the model says of itself, read when it was opened."""
        return self._metadata

    def infer(self, request: InferRequest) -> InferResponse:
        """Answer one request within its deadline."""
        if self._memory is not None:
            return self._memory.infer(request, self._infer_inline)
        return self._infer_inline(request)

    def _infer_inline(self, request: InferRequest) -> InferResponse:
        head = self._server.own_head(self._infer_path, request.headers)
        answer = self._reader.expect(request)
        response = self._server.exchange(
            self._writer.write(request, head),
            request.deadline,
            landing=answer,
            headers=request.headers,
        )
        try:
            if not response.landed:
                answer.take(response.body, response.head)
            return answer.response()
        except ProtocolError as exc:
            raise ProtocolError(f"{self._url}: {exc}") from exc

    def ready(self, deadline: Deadline) -> bool:
        """Whether the model would answer now; False too when the server cannot be reached."""
        try:
            self._server.get(f"{self._path}/ready", deadline)
        except ModelClosed:
            raise
        except InferError:
            return False
        return True

    def describe(self, deadline: Deadline) -> ModelMetadata:
        """What the model says of itself now, which may differ after a reload."""
        metadata, _ = self._server.model_metadata(self._path, self._extensions, deadline)
        if not self._binary:
            _require_json_forms(metadata)
        return metadata

    def close(self) -> None:
        """Close the connections; calls in flight fail. May be called more than once."""
        if self._memory is not None:
            self._memory.close()
        self._server.close()


def list_models(url: ModelURL, options: OpenOptions) -> list[Mapping[str, Any]]:
    """A server's repository index: ``name``, ``version`` and ``state`` of each model.

    Raises:
        InvalidURL: The server has none, so the URL has to name the model.
    """
    server = _Server(ConnectionSettings.read(url, options))
    try:
        return read_index(server.repository_index(url, options.deadline), url.location)
    finally:
        server.close()


class _Server:
    """Requests to one server: heads, control messages, and refusals turned into errors."""

    def __init__(self, settings: ConnectionSettings) -> None:
        _refuse_framing(settings.headers, InvalidURL)
        self._settings = settings
        self._pool = ConnectionPool(settings)

    @property
    def settings(self) -> ConnectionSettings:
        """Where the server is, and how to reach it."""
        return self._settings

    def render_head(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        """The beginning of a request's head; what says how long the body is comes after it."""
        return render_head(
            method,
            path,
            {
                "host": self._settings.authority,
                "user-agent": "infer-backends",
                "accept": "*/*",
                "accept-encoding": "identity",
                **self._settings.headers,
                **headers,
            },
        )

    def own_head(self, path: str, headers: Mapping[str, str]) -> bytes | None:
        """The head of a call that has headers of its own; None for others.

        Raises:
            InvalidInput: A header cannot be sent, or is not for callers.
        """
        if not headers:
            return None
        _refuse_framing(headers, InvalidInput)
        check_headers(headers, InvalidInput)
        return self.render_head("POST", path, headers)

    def exchange(
        self,
        request: Sequence[Buffer],
        deadline: Deadline,
        *,
        max_body: int | None = None,
        repeatable: bool = False,
        landing: Landing | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HTTPResponse:
        """Send a request, receive an answer that is 200.

        Args:
            request: The pieces of head and body.
            deadline: By when the answer has to be here.
            max_body: The largest body taken, in bytes; None for ``max_response_bytes``.
            repeatable: Whether the request may be sent twice without harm.
            landing: Where the body of the answer goes; None to have it whole.
            headers: The headers of this call alone, which no error may show.
        """
        settings = self._settings
        if max_body is None:
            max_body = settings.max_response_bytes
        response = self._pool.exchange(
            request, deadline, max_body, repeatable=repeatable, landing=landing
        )
        if response.head.status == 200:
            return response
        secrets = settings.secrets | secret_values(headers or {})
        body = bytes(response.body)
        raise http_error(
            response.head.status,
            error_message(body),
            url=settings.url,
            secrets=secrets,
            relay_broke=is_of_broken_relay(body),
        )

    def get(self, path: str, deadline: Deadline) -> memoryview:
        """The body of the answer to a GET."""
        request = [self.render_head("GET", path, {}) + b"\r\n"]
        return self.exchange(request, deadline, max_body=_MAX_CONTROL_BYTES, repeatable=True).body

    def post(self, path: str, body: bytes, deadline: Deadline) -> memoryview:
        """The body of the answer to a POST of JSON."""
        head = self.render_head("POST", path, {"content-type": "application/json"})
        request = [b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)]
        return self.exchange(request, deadline, max_body=_MAX_CONTROL_BYTES, repeatable=True).body

    def extensions(self, base_path: Sequence[str], deadline: Deadline) -> frozenset[str] | None:
        """The server's protocol extensions; None where a gateway shows models only."""
        try:
            described = self.get(server_path([*base_path, "v2"]), deadline)
        except (ModelNotFound, UnsupportedOperation):
            return None
        with _naming(self._settings.url):
            return read_extensions(described)

    def repository_index(self, url: ModelURL, deadline: Deadline) -> memoryview:
        """What the server says of the models that it has, for a URL that names none."""
        path = server_path([*url.base_path, "v2", "repository", "index"])
        try:
            return self.post(path, b"{}", deadline)
        except (ModelNotFound, UnsupportedOperation, InvalidInput) as exc:
            raise InvalidURL(
                f"{url.location} names no model, and the server does not list those it has: write "
                f"the model's name after the host"
            ) from exc

    def model_metadata(
        self, path: str, extensions: frozenset[str] | None, deadline: Deadline
    ) -> tuple[ModelMetadata, bool]:
        """What a model says of itself, and whether the server has its configuration."""
        described = self.get(path, deadline)
        config = self._model_config(path, extensions, deadline)
        with _naming(self._settings.url):
            metadata = read_metadata(parse_object(described, "the model's metadata"), config)
        return metadata, config is not None

    def _model_config(
        self, path: str, extensions: frozenset[str] | None, deadline: Deadline
    ) -> Mapping[str, Any] | None:
        """The model's configuration; None from a server that has none."""
        if extensions is not None and "model_configuration" not in extensions:
            return None
        try:
            config = self.get(f"{path}/config", deadline)
            with _naming(self._settings.url):
                return parse_object(config, "the model's configuration")
        except (ModelNotFound, UnsupportedOperation, InvalidInput, ProtocolError):
            if extensions is not None:
                raise
            return None

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


@contextmanager
def _naming(url: str) -> Iterator[None]:
    """Say whose answer it is that breaks the protocol."""
    try:
        yield
    except ProtocolError as exc:
        raise ProtocolError(f"{url}: {exc}") from exc


def _ask(
    server: _Server,
    path: str,
    head: bytes,
    request: InferRequest,
    message: Mapping[str, Any],
    tensors: Sequence[Buffer],
) -> tuple[memoryview, int | None]:
    """The body of the answer to a message, and the length of the JSON at its beginning.

    Args:
        server: Whom to ask.
        path: The path to post to.
        head: The request's head, where the call has no headers of its own.
        request: The call.
        message: The JSON object to send.
        tensors: The bytes that follow it; none of them empty.
    """
    head = server.own_head(path, request.headers) or head
    beginning = begin_request(head, message, sum(map(len, tensors)))
    response = server.exchange([beginning, *tensors], request.deadline, headers=request.headers)
    length = response.head.headers.get(HEADER_LENGTH)
    if length is None:
        return response.body, None
    with _naming(server.settings.url):
        return response.body, parse_length(length, HEADER_LENGTH)


def _refuse_framing(headers: Mapping[str, str], error: type[InferError]) -> None:
    for name in headers:
        if name.lower() in _FRAMING_HEADERS:
            raise error(f"the header {name.lower()!r} is not for callers: remove it")


def _require_json_forms(metadata: ModelMetadata) -> None:
    for spec in (*metadata.inputs, *metadata.outputs):
        if binary_only(spec.dtype):
            raise UnsupportedOperation(
                f"{spec} has no form in JSON, and this server has no binary tensor extension: use "
                "grpc://"
            )
