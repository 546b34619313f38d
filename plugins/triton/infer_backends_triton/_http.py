"""A model on a server that speaks the Open Inference Protocol over HTTP."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
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
from infer_backends_triton._call_options import (
    CallOptions,
    as_ranked,
    lacking,
    options_over_http,
    over_grpc,
    ranks,
)
from infer_backends_triton._codec import binary_only
from infer_backends_triton._http_answers import Answer, AnswerReader
from infer_backends_triton._http_client import HTTPClient, HTTPClients, ask
from infer_backends_triton._http_described import ErrorInAnswer
from infer_backends_triton._http_messages import choose_model, model_path, read_index, says_ready
from infer_backends_triton._http_requests import RequestWriter
from infer_backends_triton._http_stream import Buffer
from infer_backends_triton._settings import ConnectionSettings
from infer_backends_triton._shared_asking import Asking
from infer_backends_triton._shared_http import HTTPSharedServer
from infer_backends_triton._shared_memory import SharedMemory, share
from infer_backends_triton._unsent import mark_unsent
from infer_backends_triton._waiting import run


class HTTPBackend:
    """One model on one server. Made by :meth:`open`; safe for threads and after a fork."""

    def __init__(
        self,
        url: str,
        path: str,
        clients: HTTPClients,
        metadata: ModelMetadata,
        *,
        extensions: frozenset[str] | None,
        binary: bool,
        grpc_url: str,
    ) -> None:
        self._url = url
        self._path = path
        self._clients = clients
        self._server = clients.blocking
        self._metadata = metadata
        self._extensions = extensions
        self._binary = binary
        self._infer_path = f"{path}/infer"
        self._infer_head = self._server.render_head("POST", self._infer_path, {})
        self._writer = RequestWriter(metadata, self._infer_head, binary=binary)
        self._reader = AnswerReader(metadata, url)
        self._ranked_reader = AnswerReader(as_ranked(metadata), url)
        # A gateway may hide what the server lists; that it takes bytes is a sign of Triton.
        can = options_over_http(extensions, triton=binary)
        self._options = CallOptions(metadata, url, can, empty=False)
        self._grpc_url = grpc_url
        self._memory: SharedMemory | None = None

    @classmethod
    def open(cls, url: ModelURL, options: OpenOptions) -> HTTPBackend:
        """Connect, find the model, and read its metadata.

        Raises:
            InferError: Anything of the library's tree; see the table of errors.
        """
        clients = HTTPClients(ConnectionSettings.read(url, options))
        try:
            return run(cls._open(url, clients, options.deadline))
        except BaseException:
            clients.close()
            raise

    @classmethod
    async def _open(cls, url: ModelURL, clients: HTTPClients, deadline: Deadline) -> HTTPBackend:
        server = clients.blocking
        extensions = await server.extensions(url.base_path, deadline)
        model = url.model
        if model is None:
            index = await server.repository_index(url, deadline)
            model = choose_model(index, url.location, url.version)
        path = model_path(url.base_path, model, url.version)
        metadata, configured = await server.model_metadata(path, extensions, deadline)
        # A gateway may hide the server's own metadata; only Triton has configurations.
        binary = "binary_tensor_data" in extensions if extensions is not None else configured
        if not binary:
            _require_json_forms(metadata)
        backend = cls(
            str(url),
            path,
            clients,
            metadata,
            extensions=extensions,
            binary=binary,
            grpc_url=over_grpc(url, metadata.name),
        )
        offered = binary and (extensions is None or "system_shared_memory" in extensions)
        backend._share(url, server, deadline, offered=offered)
        return backend

    def _share(
        self, url: ModelURL, server: HTTPClient, deadline: Deadline, *, offered: bool
    ) -> None:
        self._shared = shared = HTTPSharedServer(
            partial(_ask, server, self._infer_path, self._infer_head),
            _Control(server),
            url.base_path,
            self._metadata,
            self._url,
        )
        self._memory = share(
            self, shared, self._metadata, server.settings, self._url, deadline, offered=offered
        )

    @property
    def metadata(self) -> ModelMetadata:
        """What the model says of itself, read when it was opened."""
        return self._metadata

    @property
    def request_options(self) -> frozenset[str]:
        """What calls may ask for, by what the server says of itself."""
        return self._options.offered

    def advice(self, ability: str) -> str:
        """What to do instead of what this backend cannot do."""
        if ability in self.request_options:
            return ""
        return lacking(ability) or f"open {self._grpc_url} (or wherever its gRPC port is)"

    def infer(self, request: InferRequest) -> InferResponse:
        """Answer one request within its deadline."""
        if request.options is not None:
            with self._options.of(request, request.options) as asked:
                return self._infer(asked)
        return self._infer(request)

    def _infer(self, request: InferRequest) -> InferResponse:
        if self._memory is not None:
            return self._memory.infer(request, self._infer_inline)
        return run(self._exchange(request, self._server))

    async def infer_async(self, request: InferRequest) -> InferResponse:
        """Answer one request within its deadline, in the running event loop.

        Cancelling the task closes its connection: HTTP has no other way to say it.
        """
        client = self._clients.here()
        if client is self._server:
            import asyncio

            return await asyncio.to_thread(self.infer, request)
        if request.options is not None:
            with self._options.of(request, request.options) as asked:
                return await self._infer_in_loop(asked, client)
        return await self._infer_in_loop(request, client)

    def _infer_in_loop(
        self, request: InferRequest, client: HTTPClient
    ) -> Coroutine[Any, Any, InferResponse]:
        # No coroutine of its own: it would be one more that every call is resumed through.
        if self._memory is None:
            return self._exchange(request, client)
        return self._memory.infer_async(
            request, partial(self._exchange, server=client), partial(self._asking, client)
        )

    def _asking(self, client: HTTPClient) -> Asking:
        # This needs asyncio, which those who run no loop need not load.
        from infer_backends_triton._shared_loop import InLoop

        asked = partial(ask, client, self._infer_path, self._infer_head)
        return InLoop(partial(self._shared.infer_async, asked))

    def _infer_inline(self, request: InferRequest) -> InferResponse:
        return run(self._exchange(request, self._server))

    async def _exchange(self, request: InferRequest, server: HTTPClient) -> InferResponse:
        coding, head, reader = None, None, self._reader
        if request.options is not None:
            coding = request.options.compression
            reader = self._ranked_reader if ranks(request) else reader
        answer = Answer(reader, request)
        try:
            if request.headers or coding is not None:
                head = server.own_head(self._infer_path, request.headers, coding)
            message = self._writer.write(request, head)
        except InferError as exc:
            mark_unsent(exc)
            raise
        deadline = request.deadline
        if coding is None:
            response = await server.exchange_landing(message, deadline, answer)
            if not response.landed:
                await server.accept(response, deadline, headers=request.headers)
        else:
            response = await server.exchange(
                message, deadline, headers=request.headers, coding=coding
            )
        try:
            if not response.landed:
                answer.take(response.body, response.head)
            return answer.response()
        except ErrorInAnswer as exc:
            raise server.refusal(response, request.headers) from exc
        except ProtocolError as exc:
            raise ProtocolError(f"{self._url}: {exc}") from exc

    def ready(self, deadline: Deadline) -> bool:
        """Whether the model would answer now; False too when the server cannot be reached."""
        try:
            return says_ready(run(self._server.get(f"{self._path}/ready", deadline)))
        except ModelClosed:
            raise
        except InferError:
            return False

    def describe(self, deadline: Deadline) -> ModelMetadata:
        """What the model says of itself now, which may differ after a reload."""
        described = self._server.model_metadata(self._path, self._extensions, deadline)
        metadata, _ = run(described)
        if not self._binary:
            _require_json_forms(metadata)
        return metadata

    def close(self) -> None:
        """Close the connections; calls in flight fail. May be called more than once."""
        if self._memory is not None:
            self._memory.close()
        self._clients.close()

    async def close_async(self) -> None:
        """Close the connections of all loops, and of threads."""
        self.close()


def list_models(url: ModelURL, options: OpenOptions) -> list[Mapping[str, Any]]:
    """A server's repository index: ``name``, ``version`` and ``state`` of each model.

    Raises:
        InvalidURL: The server has none, so the URL has to name the model.
    """
    clients = HTTPClients(ConnectionSettings.read(url, options))
    try:
        index = run(clients.blocking.repository_index(url, options.deadline))
        return read_index(index, url.location)
    finally:
        clients.close()


class _Control:
    """Small requests to the server, by threads."""

    def __init__(self, server: HTTPClient) -> None:
        self._server = server

    def get(self, path: str, deadline: Deadline) -> memoryview:
        return run(self._server.get(path, deadline))

    def post(self, path: str, body: bytes, deadline: Deadline) -> memoryview:
        return run(self._server.post(path, body, deadline))


def _ask(
    server: HTTPClient,
    path: str,
    head: bytes,
    request: InferRequest,
    message: Mapping[str, Any],
    tensors: Sequence[Buffer],
) -> tuple[memoryview, int | None]:
    return run(ask(server, path, head, request, message, tensors))


def _require_json_forms(metadata: ModelMetadata) -> None:
    for spec in (*metadata.inputs, *metadata.outputs):
        if binary_only(spec.dtype):
            raise UnsupportedOperation(
                f"{spec} has no form in JSON, and this server has no binary tensor extension: use "
                "grpc://"
            )
