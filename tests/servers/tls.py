"""A proxy on loopback that ends TLS in front of a server without it, as deployments have one."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import Future

HOST = "127.0.0.1"
_PIECE = 64 * 1024


@contextlib.contextmanager
def tls_proxy(target: int, context: ssl.SSLContext) -> Iterator[int]:
    """The port of a proxy, which passes on what it is sent, until the end of the block.

    Args:
        target: The port of the server, on 127.0.0.1.
        context: Whom the proxy is, for its clients.
    """
    started: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve(
        client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter
    ) -> None:
        try:
            reader, writer = await asyncio.open_connection(HOST, target)
        except OSError:
            client_writer.close()
            return
        await asyncio.gather(_pass_on(client_reader, writer), _pass_on(reader, client_writer))

    async def run() -> None:
        server = await asyncio.start_server(serve, HOST, 0, ssl=context)
        end = asyncio.Event()
        started.set_result((server.sockets[0].getsockname()[1], asyncio.get_running_loop(), end))
        await end.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="TLS proxy")
    thread.start()
    port, loop, end = started.result(10)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(10)
        assert not thread.is_alive()


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    # Who ends one direction ends both: that is all that TLS in asyncio can do.
    with contextlib.closing(sink), contextlib.suppress(OSError):
        while piece := await source.read(_PIECE):
            sink.write(piece)
            await sink.drain()
