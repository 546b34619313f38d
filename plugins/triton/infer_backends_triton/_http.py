"""A model on a server that speaks the Open Inference Protocol over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from infer_backends.plugin import (
    Deadline,
    InferError,
    InferRequest,
    InferResponse,
    ModelClosed,
    ModelMetadata,
    ModelURL,
    OpenOptions,
    ProtocolError,
    UnsupportedOperation,
)
from infer_backends_triton._codec import binary_only
from infer_backends_triton._http_answers import AnswerReader
from infer_backends_triton._http_client import HTTPClient, naming
from infer_backends_triton._http_messages import (
    HEADER_LENGTH,
    choose_model,
    model_path,
    read_index,
)
from infer_backends_triton._http_requests import RequestWriter, begin_request
from infer_backends_triton._http_stream import Buffer
from infer_backends_triton._http_wire import parse_length
from infer_backends_triton._settings import ConnectionSettings
from infer_backends_triton._shared_http import HTTPSharedServer
from infer_backends_triton._shared_memory import SharedMemory, share


class HTTPBackend:
    """One model on one server. Made by :meth:`open`; safe for threads and after a fork."""

    def __init__(
        self,
        url: str,
        path: str,
        server: HTTPClient,
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
        server = HTTPClient(ConnectionSettings.read(url, options))
        try:
            return cls._open(url, server, options.deadline)
        except BaseException:
            server.close()
            raise

    @classmethod
    def _open(cls, url: ModelURL, server: HTTPClient, deadline: Deadline) -> HTTPBackend:
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

    def _share(
        self, url: ModelURL, server: HTTPClient, deadline: Deadline, *, offered: bool
    ) -> None:
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
    server = HTTPClient(ConnectionSettings.read(url, options))
    try:
        return read_index(server.repository_index(url, options.deadline), url.location)
    finally:
        server.close()


def _ask(
    server: HTTPClient,
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
    with naming(server.settings.url):
        return response.body, parse_length(length, HEADER_LENGTH)


def _require_json_forms(metadata: ModelMetadata) -> None:
    for spec in (*metadata.inputs, *metadata.outputs):
        if binary_only(spec.dtype):
            raise UnsupportedOperation(
                f"{spec} has no form in JSON, and this server has no binary tensor extension: use "
                "grpc://"
            )
