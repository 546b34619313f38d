"""Bodies that are compressed on the way (RFC 9110, "Content-Encoding"). Pure."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence

from infer_backends.plugin import ProtocolError
from infer_backends_triton._http_stream import Buffer
from infer_backends_triton._http_wire import TooLarge, too_large

# zlib's own numbers for its two formats; HTTP's "deflate" is the one with zlib's header.
_FORMATS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
# Most of what can be had for a fraction of the time: tensors rarely give more for more of it.
_LEVEL = 1
# Of what was received; it may become a thousand times as much.
_PIECE = 16 * 1024
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: [0-9]+")


def coding_headers(coding: str | None) -> Mapping[str, str]:
    """What a request says of its body, and of the answer that it would like; None for neither."""
    if coding is None:
        return {}
    return {"content-encoding": coding, "accept-encoding": coding}


def compress_body(request: Sequence[Buffer], coding: str) -> list[Buffer]:
    """A request whose body is compressed.

    Args:
        request: The pieces of a request; all of its head is in the first.
        coding: ``gzip`` or ``deflate``.
    """
    head, end, text = bytes(request[0]).partition(b"\r\n\r\n")
    body = b"".join(_compressed([text, *request[1:]], coding))
    # How long the JSON object is goes by another header, and is said of it as it was.
    head = _CONTENT_LENGTH.sub(b"\r\ncontent-length: %d" % len(body), head, count=1)
    return [head + end, body]


def _compressed(pieces: Sequence[Buffer], coding: str) -> Iterator[bytes]:
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _FORMATS[coding])
    for piece in pieces:
        yield compressor.compress(piece)
    yield compressor.flush()


def decompress(body: Buffer, coding: str, limit: int) -> memoryview:
    """A body as it was before it was compressed.

    Args:
        body: What was received.
        coding: ``gzip`` or ``deflate``.
        limit: The most bytes that it may be.

    Raises:
        TooLarge: It is more. No more than that is kept of it, or made.
        ProtocolError: It is not what it should be, or goes on after its end.
    """
    decompressor = zlib.decompressobj(_FORMATS[coding])
    whole = bytearray()
    left = memoryview(body)
    try:
        while left and not decompressor.eof:
            whole += decompressor.decompress(left[:_PIECE], limit + 1 - len(whole))
            if len(whole) > limit:
                raise TooLarge(too_large(limit))
            left = left[_PIECE:]
    except zlib.error as exc:
        raise ProtocolError(f"the answer should be {coding}, and is not") from exc
    if not decompressor.eof or decompressor.unused_data or left:
        raise ProtocolError(f"the answer is {coding} that does not end where it should")
    return memoryview(whole)
