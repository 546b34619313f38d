"""One server that speaks HTTP: requests to it, and its refusals turned into errors."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from infer_backends.plugin import (
    Deadline,
    DeadlineExceeded,
    InferError,
    InferRequest,
    InvalidInput,
    InvalidURL,
    ModelMetadata,
    ModelNotFound,
    ModelURL,
    ProtocolError,
    UnsupportedOperation,
)
from infer_backends_triton._http_coding import coding_headers, compress_body, decompress
from infer_backends_triton._http_connection import HTTPResponse, Landing
from infer_backends_triton._http_dial import make_tls_context
from infer_backends_triton._http_messages import (
    HEADER_LENGTH,
    parse_object,
    read_extensions,
    server_path,
)
from infer_backends_triton._http_pool import ConnectionPool
from infer_backends_triton._http_requests import begin_request
from infer_backends_triton._http_stream import Buffer
from infer_backends_triton._http_wire import parse_length, render_head
from infer_backends_triton._metadata import read_metadata
from infer_backends_triton._per_loop import PerLoop
from infer_backends_triton._settings import ConnectionSettings, check_headers, secret_values
from infer_backends_triton._status import error_message, http_error, is_of_broken_relay
from infer_backends_triton._unsent import BEFORE_SENDING

# What a server says of itself and its models is small; max_response_bytes is about tensors.
_MAX_CONTROL_BYTES = 16 * 1024 * 1024
#: How many connections one event loop may have; calls that find none wait for their turn.
MAX_CONNECTIONS = 100
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


class HTTPClients:
    """One server, as threads ask it and as each event loop does.

    Args:
        settings: Where the server is, and how to reach it.

    Attributes:
        blocking: For threads; its coroutines never suspend.

    Raises:
        InvalidURL: A header is not for callers, or a TLS file is not what its option says.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self._context = make_tls_context(settings)
        self.blocking = HTTPClient(settings, ConnectionPool(settings, self._context))
        self._in_loops = PerLoop(self._in_loop, self._drop)

    def here(self) -> HTTPClient:
        """For the running event loop; the blocking one if the loop does not watch sockets."""
        return self._in_loops.here()

    def _in_loop(self) -> HTTPClient:
        # This needs asyncio, which those who run no loop need not load.
        from infer_backends_triton._waiting_loop import IN_LOOP, Slots, can_watch_sockets

        if not can_watch_sockets():
            return self.blocking
        pool = ConnectionPool(
            self._settings,
            self._context,
            IN_LOOP,
            bound=Slots(MAX_CONNECTIONS),
            max_idle=MAX_CONNECTIONS,
        )
        return HTTPClient(self._settings, pool)

    def _drop(self, client: HTTPClient) -> None:
        if client is not self.blocking:
            client.close()

    def close(self) -> None:
        """Close the connections of all."""
        self._in_loops.close()
        self.blocking.close()


class HTTPClient:
    """Requests to one server: heads, control messages, and refusals turned into errors.

    Args:
        settings: Where the server is, and how to reach it.
        pool: What sends requests there.

    Raises:
        InvalidURL: A header is not for callers.
    """

    def __init__(self, settings: ConnectionSettings, pool: ConnectionPool) -> None:
        _refuse_framing(settings.headers, InvalidURL)
        self._settings = settings
        self._pool = pool

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

    def own_head(self, path: str, headers: Mapping[str, str], coding: str | None = None) -> bytes:
        """The head of a call that has headers of its own, or a body that is compressed.

        Args:
            path: The path to post to.
            headers: The headers.
            coding: How the body is going to be compressed; None for not at all.

        Raises:
            InvalidInput: A header cannot be sent, or is not for callers.
        """
        _refuse_framing(headers, InvalidInput)
        check_headers(headers, InvalidInput)
        return self.render_head("POST", path, {**headers, **coding_headers(coding)})

    async def exchange(
        self,
        request: Sequence[Buffer],
        deadline: Deadline,
        *,
        max_body: int | None = None,
        repeatable: bool = False,
        headers: Mapping[str, str] | None = None,
        coding: str | None = None,
    ) -> HTTPResponse:
        """Send a request, receive an answer that is 200, and have it whole.

        Args:
            request: The pieces of head and body.
            deadline: By when the answer has to be here.
            max_body: The largest body taken, in bytes; None for ``max_response_bytes``.
            repeatable: Whether the request may be sent twice without harm.
            headers: The headers of this call alone, which no error may show.
            coding: How to compress the request; the answer may be compressed so, too.
        """
        if max_body is None:
            max_body = self._settings.max_response_bytes
        if coding is not None:
            with BEFORE_SENDING:
                request = await self._pool.waiting.work(
                    partial(compress_body, request, coding),
                    partial(deadline.patience, "the request was compressed"),
                )
        response = await self._pool.exchange(request, deadline, max_body, repeatable=repeatable)
        return await self.accept(response, deadline, max_body, headers=headers, coding=coding)

    def exchange_landing(
        self, request: Sequence[Buffer], deadline: Deadline, landing: Landing
    ) -> Coroutine[Any, Any, HTTPResponse]:
        """Send a request, receive an answer to where ``landing`` says: a call's usual way.

        What has not landed there is still to be accepted, by :meth:`accept`.
        """
        limit = self._settings.max_response_bytes
        return self._pool.exchange(request, deadline, limit, landing=landing)

    async def accept(
        self,
        response: HTTPResponse,
        deadline: Deadline,
        max_body: int | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        coding: str | None = None,
    ) -> HTTPResponse:
        """An answer that is 200, not compressed any more; others are raised as what they mean."""
        if response.head.coding:
            limit = self._settings.max_response_bytes if max_body is None else max_body
            await self._decompress(response, coding, limit, deadline)
        if response.head.status == 200:
            return response
        raise self.refusal(response, headers or {})

    def refusal(self, response: HTTPResponse, headers: Mapping[str, str]) -> InferError:
        """The error that an answer stands for; ``headers`` are those of this call alone."""
        body = bytes(response.body)
        return http_error(
            response.head.status,
            error_message(body),
            url=self._settings.url,
            secrets=self._settings.secrets | secret_values(headers),
            relay_broke=is_of_broken_relay(body),
        )

    async def _decompress(
        self, response: HTTPResponse, coding: str | None, limit: int, deadline: Deadline
    ) -> None:
        """Have the body of an answer as it was before it was compressed."""
        try:
            if response.head.coding != coding:
                raise ProtocolError(
                    f"{self._settings.url}: the answer is compressed, which was not asked for"
                )
            with naming(self._settings.url):
                response.body = await self._pool.waiting.work(
                    partial(decompress, response.body, coding, limit),
                    partial(deadline.patience, "the answer was decompressed"),
                )
        except DeadlineExceeded as exc:
            exc.unprocessed = False
            raise
        except ProtocolError:
            # The status says what happened, with or without the explanation.
            if response.head.status == 200:
                raise
            response.body = memoryview(b"")

    async def get(self, path: str, deadline: Deadline) -> memoryview:
        """The body of the answer to a GET."""
        request = [self.render_head("GET", path, {}) + b"\r\n"]
        answer = await self.exchange(
            request, deadline, max_body=_MAX_CONTROL_BYTES, repeatable=True
        )
        return answer.body

    async def post(self, path: str, body: bytes, deadline: Deadline) -> memoryview:
        """The body of the answer to a POST of JSON."""
        head = self.render_head("POST", path, {"content-type": "application/json"})
        request = [b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)]
        answer = await self.exchange(
            request, deadline, max_body=_MAX_CONTROL_BYTES, repeatable=True
        )
        return answer.body

    async def extensions(
        self, base_path: Sequence[str], deadline: Deadline
    ) -> frozenset[str] | None:
        """The server's protocol extensions; None where a gateway shows models only."""
        try:
            described = await self.get(server_path([*base_path, "v2"]), deadline)
        except (ModelNotFound, UnsupportedOperation, InvalidInput):
            return None
        with naming(self._settings.url):
            return read_extensions(described)

    async def repository_index(self, url: ModelURL, deadline: Deadline) -> memoryview:
        """What the server says of the models that it has, for a URL that names none."""
        path = server_path([*url.base_path, "v2", "repository", "index"])
        try:
            return await self.post(path, b"{}", deadline)
        except (ModelNotFound, UnsupportedOperation, InvalidInput) as exc:
            raise InvalidURL(
                f"{url.location} names no model, and the server does not list those it has: write "
                f"the model's name after the host"
            ) from exc

    async def model_metadata(
        self, path: str, extensions: frozenset[str] | None, deadline: Deadline
    ) -> tuple[ModelMetadata, bool]:
        """What a model says of itself, and whether the server has its configuration."""
        described = await self.get(path, deadline)
        config = await self._model_config(path, extensions, deadline)
        with naming(self._settings.url):
            metadata = read_metadata(parse_object(described, "the model's metadata"), config)
        return metadata, config is not None

    async def _model_config(
        self, path: str, extensions: frozenset[str] | None, deadline: Deadline
    ) -> Mapping[str, Any] | None:
        """The model's configuration; None from a server that has none."""
        if extensions is not None and "model_configuration" not in extensions:
            return None
        try:
            config = await self.get(f"{path}/config", deadline)
            with naming(self._settings.url):
                return parse_object(config, "the model's configuration")
        except (ModelNotFound, UnsupportedOperation, InvalidInput, ProtocolError):
            if extensions is not None:
                raise
            return None

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


@contextmanager
def naming(url: str) -> Iterator[None]:
    """Say whose answer it is that breaks the protocol."""
    try:
        yield
    except ProtocolError as exc:
        raise ProtocolError(f"{url}: {exc}") from exc


async def ask(
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
    with BEFORE_SENDING:
        if request.headers:
            head = server.own_head(path, request.headers)
        beginning = begin_request(head, message, sum(map(len, tensors)))
    response = await server.exchange(
        [beginning, *tensors], request.deadline, headers=request.headers
    )
    length = response.head.headers.get(HEADER_LENGTH)
    if length is None:
        return response.body, None
    with naming(server.settings.url):
        return response.body, parse_length(length, HEADER_LENGTH)


def _refuse_framing(headers: Mapping[str, str], error: type[InferError]) -> None:
    for name in headers:
        if name.lower() in _FRAMING_HEADERS:
            raise error(f"the header {name.lower()!r} is not for callers: remove it")
