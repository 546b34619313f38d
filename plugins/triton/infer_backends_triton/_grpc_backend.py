"""A model on a Triton server (or another of its protocol family), over gRPC."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from infer_backends.plugin import (
    Deadline,
    InferenceFailed,
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
    OwnedStream,
    PermissionDenied,
    UnsupportedOperation,
)
from infer_backends_triton._allocator import LEAST, expect
from infer_backends_triton._call_options import (
    CallOptions,
    as_ranked,
    lacking,
    options_over_grpc,
    ranks,
)
from infer_backends_triton._discovery import choose_model
from infer_backends_triton._grpc_channel import GrpcConnection
from infer_backends_triton._grpc_endpoint import Endpoint
from infer_backends_triton._grpc_messages import parse, serialise, to_mapping
from infer_backends_triton._grpc_requests import InferRequests
from infer_backends_triton._grpc_responses import InferResponses
from infer_backends_triton._grpc_runtime import grpc, service_pb2
from infer_backends_triton._grpc_streams import ASK_FOR_FINAL, StreamReader
from infer_backends_triton._metadata import read_metadata
from infer_backends_triton._per_loop import PerLoop
from infer_backends_triton._settings import ConnectionSettings
from infer_backends_triton._shared_asking import Asking
from infer_backends_triton._shared_grpc import GrpcSharedServer
from infer_backends_triton._shared_memory import SharedMemory, share
from infer_backends_triton._unsent import mark_unsent

if TYPE_CHECKING:
    from infer_backends_triton._grpc_loop import LoopChannel

_COMPRESSIONS = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}


class GrpcBackend:
    """One model of one server. Made by :meth:`open`; safe for threads, and after a fork."""

    def __init__(
        self,
        connection: GrpcConnection,
        metadata: ModelMetadata,
        *,
        model: str,
        version: str,
        url: str,
        extensions: frozenset[str] = frozenset(),
    ) -> None:
        self._connection = connection
        self._in_loops = PerLoop(partial(_loop_channel, connection.endpoint), _close)
        self._metadata = metadata
        self._model = model
        self._version = version
        self._url = url
        self._requests = InferRequests(metadata, model, version)
        self._responses = InferResponses(metadata, url)
        self._ranked_responses = InferResponses(as_ranked(metadata), url)
        can = options_over_grpc(extensions)
        self._options = CallOptions(metadata, url, can, empty=True)
        self._memory: SharedMemory | None = None

    @classmethod
    def open(cls, url: ModelURL, options: OpenOptions) -> GrpcBackend:
        """Connect, find the model, and read its metadata.

        Raises:
            InferError: Anything of the library's tree; see the table of errors.
        """
        settings = ConnectionSettings.read(url, options)
        connection = GrpcConnection(settings)
        try:
            model = url.model
            if model is None:
                index = _list_models(connection, url, options.deadline)
                model = choose_model(index, settings.url, url.version)
            version = url.version or ""
            metadata = _read_metadata(connection, model, version, options.deadline)
            extensions = _list_extensions(connection, options.deadline)
            backend = cls(
                connection,
                metadata,
                model=model,
                version=version,
                url=str(url),
                extensions=extensions,
            )
            shared = "system_shared_memory" in extensions
            backend._share(settings, options.deadline, offered=shared)
        except BaseException:
            connection.close()
            raise
        return backend

    def _share(self, settings: ConnectionSettings, deadline: Deadline, *, offered: bool) -> None:
        self._shared = shared = GrpcSharedServer(
            self._connection,
            self._metadata,
            model=self._model,
            version=self._version,
            url=self._url,
        )
        self._memory = share(
            self, shared, self._metadata, settings, self._url, deadline, offered=offered
        )

    @property
    def metadata(self) -> ModelMetadata:
        """What the model said of itself when it was opened."""
        return self._metadata

    @property
    def request_options(self) -> frozenset[str]:
        """What calls may ask for, by what the server says of itself."""
        return self._options.offered

    def advice(self, ability: str) -> str:
        """What to do instead of what this backend cannot do."""
        return "" if ability in self.request_options else lacking(ability)

    def infer(self, request: InferRequest) -> InferResponse:
        """Answer one request within its deadline."""
        if request.options is not None:
            with self._options.of(request, request.options) as asked:
                return self._infer(asked)
        return self._infer(request)

    def _infer(self, request: InferRequest) -> InferResponse:
        if self._memory is not None:
            return self._memory.infer(request, self._infer_inline)
        return self._infer_inline(request)

    async def infer_async(self, request: InferRequest) -> InferResponse:
        """Answer one request within its deadline, in the running event loop.

        Cancelling the task cancels the call at the server.
        """
        if request.options is not None:
            with self._options.of(request, request.options) as asked:
                return await self._infer_in_loop(asked)
        return await self._infer_in_loop(request)

    def _infer_in_loop(self, request: InferRequest) -> Coroutine[Any, Any, InferResponse]:
        # No coroutine of its own: it would be one more that every call is resumed through.
        channel = self._in_loops.here()
        if self._memory is None:
            return self._infer_inline_in_loop(channel, request)
        return self._memory.infer_async(
            request,
            partial(self._infer_inline_in_loop, channel),
            partial(self._asking, channel),
        )

    def _asking(self, channel: LoopChannel) -> Asking:
        # This needs asyncio, which those who run no loop need not load.
        from infer_backends_triton._shared_loop import InLoop

        return InLoop(partial(self._shared.infer_async, channel))

    async def _infer_inline_in_loop(
        self, channel: LoopChannel, request: InferRequest
    ) -> InferResponse:
        return self._read(
            await channel.call(
                "ModelInfer",
                self._build(request),
                request.deadline,
                request.headers,
                None if request.options is None else _compression(request),
            ),
            request,
        )

    def _infer_inline(self, request: InferRequest) -> InferResponse:
        # No name for the message, so that it is gone when its answer is read.
        return self._read(
            self._connection.call(
                "ModelInfer",
                self._build(request),
                request.deadline,
                request.headers,
                None if request.options is None else _compression(request),
            ),
            request,
        )

    def _build(self, request: InferRequest) -> bytes:
        try:
            message = self._requests.build(request)
        except InferError as exc:
            mark_unsent(exc)
            raise
        if len(message) > LEAST:
            expect(len(message))
        return message

    def _read(self, answer: bytes, request: InferRequest) -> InferResponse:
        if len(answer) > LEAST:
            expect(len(answer))
        if request.options is None:
            return self._responses.read(answer, request)
        return self._responses_to(request).read(answer, request)

    def stream(self, request: InferRequest) -> Generator[InferResponse, None, None]:
        """The responses to one request, each as soon as it is there.

        Closing the generator cancels the request at the server. The request's deadline is that of
        the last response.
        """
        with self._streaming(request) as (reader, asked):
            messages = self._connection.stream(
                "ModelStreamInfer",
                self._build(asked) + ASK_FOR_FINAL,
                asked.deadline,
                asked.headers,
                _compression(asked),
            )
            with closing(messages):
                for answer in messages:
                    expect(len(answer))
                    response = reader.read(answer)
                    if response is not None:
                        yield response
            reader.finish()

    async def stream_async(self, request: InferRequest) -> AsyncGenerator[InferResponse, None]:
        """The same, in the running event loop; cancelling the task cancels the request, too."""
        channel = self._in_loops.here()
        with self._streaming(request) as (reader, asked):
            messages = channel.stream(
                "ModelStreamInfer",
                self._build(asked) + ASK_FOR_FINAL,
                asked.deadline,
                asked.headers,
                _compression(asked),
            )
            async with OwnedStream(messages) as answers:
                async for answer in answers:
                    expect(len(answer))
                    response = reader.read(answer)
                    if response is not None:
                        yield response
            reader.finish()

    @contextmanager
    def _streaming(self, request: InferRequest) -> Iterator[tuple[StreamReader, InferRequest]]:
        """What reads a stream, and the request with its options as parameters."""
        if request.options is None:
            asked: AbstractContextManager[InferRequest] = nullcontext(request)
        else:
            asked = self._options.of(request, request.options)
        refusal = partial(self._connection.endpoint.failures.of_message, headers=request.headers)
        reader = StreamReader(self._responses_to(request), request, self._url, refusal)
        with asked as sent, reader.reading():
            yield reader, sent

    def _responses_to(self, request: InferRequest) -> InferResponses:
        return self._ranked_responses if ranks(request) else self._responses

    def ready(self, deadline: Deadline) -> bool:
        """Whether the server says that the model is ready; False when it says nothing."""
        message = service_pb2.ModelReadyRequest(name=self._model, version=self._version)
        try:
            answer = self._connection.call("ModelReady", serialise(message), deadline)
            return bool(parse(service_pb2.ModelReadyResponse, answer, self._url).ready)
        except ModelClosed:
            raise
        except InferError:
            return False

    def describe(self, deadline: Deadline) -> ModelMetadata:
        """What the model says of itself now, which may differ after a reload."""
        return _read_metadata(self._connection, self._model, self._version, deadline)

    def close(self) -> None:
        """Disconnect; calls in flight raise ``ModelClosed``."""
        if self._memory is not None:
            self._memory.close()
        self._in_loops.close()
        self._connection.close()

    async def close_async(self) -> None:
        """Disconnect in the running loop, in others, and in threads."""
        channel = self._in_loops.take()
        if channel is not None:
            await channel.close_here()
        self.close()


def _loop_channel(endpoint: Endpoint) -> LoopChannel:
    # This needs asyncio, which those who run no loop need not load.
    from infer_backends_triton._grpc_loop import LoopChannel

    return LoopChannel(endpoint)


def _close(channel: LoopChannel) -> None:
    channel.close()


def _compression(request: InferRequest) -> grpc.Compression | None:
    options = request.options
    if options is None or options.compression is None:
        return None
    return _COMPRESSIONS[options.compression]


def list_models(url: ModelURL, options: OpenOptions) -> list[dict[str, Any]]:
    """A server's repository index: ``name``, ``version`` and ``state`` of each model.

    Raises:
        InvalidURL: The server has none, so the URL has to name the model.
    """
    connection = GrpcConnection(ConnectionSettings.read(url, options))
    try:
        return _list_models(connection, url, options.deadline)
    finally:
        connection.close()


def _list_models(
    connection: GrpcConnection, url: ModelURL, deadline: Deadline
) -> list[dict[str, Any]]:
    message = service_pb2.RepositoryIndexRequest()
    try:
        answer = connection.call("RepositoryIndex", serialise(message), deadline)
    except (ModelNotFound, UnsupportedOperation, InvalidInput) as exc:
        raise InvalidURL(
            f"{url.location} names no model, and the server does not list those it has: write "
            "the model's name after the host"
        ) from exc
    index = to_mapping(parse(service_pb2.RepositoryIndexResponse, answer, url.location))
    models: list[dict[str, Any]] = index.get("models", [])
    return models


def _list_extensions(connection: GrpcConnection, deadline: Deadline) -> frozenset[str]:
    """What the server says that it can do; nothing where it, or a gateway, does not say it."""
    message = serialise(service_pb2.ServerMetadataRequest())
    try:
        answer = connection.call("ServerMetadata", message, deadline)
    except (UnsupportedOperation, ModelNotFound, PermissionDenied, InvalidInput, InferenceFailed):
        return frozenset()
    return frozenset(parse(service_pb2.ServerMetadataResponse, answer, connection.url).extensions)


def _read_metadata(
    connection: GrpcConnection, model: str, version: str, deadline: Deadline
) -> ModelMetadata:
    message = service_pb2.ModelMetadataRequest(name=model, version=version)
    answer = connection.call("ModelMetadata", serialise(message), deadline)
    described = to_mapping(parse(service_pb2.ModelMetadataResponse, answer, connection.url))
    return read_metadata(described, _read_config(connection, model, version, deadline))


def _read_config(
    connection: GrpcConnection, model: str, version: str, deadline: Deadline
) -> dict[str, Any] | None:
    """The model's configuration; None where the server does not have Triton's extension."""
    message = service_pb2.ModelConfigRequest(name=model, version=version)
    try:
        answer = connection.call("ModelConfig", serialise(message), deadline)
    except UnsupportedOperation:
        return None
    response = to_mapping(parse(service_pb2.ModelConfigResponse, answer, connection.url))
    config: dict[str, Any] = response.get("config", {})
    return config
