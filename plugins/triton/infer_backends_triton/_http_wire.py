"""HTTP/1.1 as it stands on the wire (RFC 9112). Pure: bytes in, values out.

Strict where a lenient reading could pair an answer with the wrong request: one way of framing a
body, lengths that agree, nothing folded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from infer_backends.plugin import ProtocolError

#: The largest head (status line and headers) of an answer, in bytes.
MAX_HEAD = 64 * 1024

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [^\r\n]*)?")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*")
_LENGTH = re.compile(r"[0-9]{1,19}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?")
_TIMEOUT = re.compile(r"\btimeout=([0-9]{1,9})\b", re.IGNORECASE)
# A server's answers to calls alike have heads alike, unless there is a date in them.
_KNOWN_HEADS = 64
_LONGEST_KNOWN_HEAD = 1024
_MAX_CHUNK_LINE = 1024
_PREFIX = b"HTTP/1."


class TooLarge(ProtocolError):
    """An answer is larger than the caller will take."""


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """The status line and the headers of an answer.

    Attributes:
        status: The status code.
        headers: Values by name in lower case; those of a repeated name joined by commas.
        length: The length of the body in bytes; None when something else ends it.
        chunked: Whether the body comes in chunks.
        keep_alive: Whether the connection can carry another request after this answer.
        coding: How the body is compressed, in lower case; empty where it is not.
        idle_timeout: After how many idle seconds the server says that it will close the
            connection; None where it does not say.
    """

    status: int
    headers: Mapping[str, str]
    length: int | None
    chunked: bool
    keep_alive: bool
    coding: str = ""
    idle_timeout: int | None = None


def render_head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """The head of a request, all but the empty line that ends it.

    Args:
        method: As ``POST``.
        target: The path, percent-encoded.
        headers: Values by name; checked already.
    """
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n").encode("latin-1")


def find_head_end(received: bytes | bytearray) -> int:
    """Where the body begins in what was received so far, or -1 when the head is not complete.

    Raises:
        ProtocolError: This is not HTTP, or the head is too long.
    """
    if not received.startswith(_PREFIX) and not _PREFIX.startswith(bytes(received[: len(_PREFIX)])):
        hint = ""
        if received[:1] in (b"\x15", b"\x16"):
            hint = "; it looks like TLS: write https://"
        raise ProtocolError(f"the answer is not HTTP/1.1{hint} (is this the right port?)")
    end = received.find(b"\r\n\r\n", 0, MAX_HEAD)
    if end < 0 and len(received) >= MAX_HEAD:
        raise ProtocolError(f"the head of the answer is longer than {MAX_HEAD} bytes")
    return end + 4 if end >= 0 else -1


def parse_head(head: bytes) -> ResponseHead:
    """Parse a complete head, the empty line included. Heads seen lately are not parsed again.

    Raises:
        ProtocolError: The syntax is wrong, or it does not say clearly where the body ends.
    """
    return _parse_known(head) if len(head) <= _LONGEST_KNOWN_HEAD else _parse_head(head)


def _parse_head(head: bytes) -> ResponseHead:
    lines = head[:-4].split(b"\r\n")
    found = _STATUS_LINE.fullmatch(lines[0])
    if found is None:
        raise ProtocolError("the answer has no HTTP status line")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        field = _HEADER.fullmatch(line)
        if field is None:
            raise ProtocolError("the answer has a header line that breaks HTTP's syntax")
        name, value = field.group(1).decode("ascii").lower(), field.group(2).decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    status = int(found.group(2))
    try:
        chunked, length = _framing(status, headers)
    except ProtocolError:
        if status < 400:
            raise
        # A refusal is one however badly its explanation is framed: that is not read, and the
        # connection not used again.
        headers["connection"], chunked, length = "close", False, 0
    return ResponseHead(
        status=status,
        headers=MappingProxyType(headers),
        length=length,
        chunked=chunked,
        keep_alive=_keeps_alive(found.group(1) == b"1", headers)
        and (chunked or length is not None),
        coding=headers.get("content-encoding", "").lower().removeprefix("identity"),
        idle_timeout=_idle_timeout(headers.get("keep-alive", "")),
    )


_parse_known = lru_cache(_KNOWN_HEADS)(_parse_head)


def parse_length(text: str, what: str) -> int:
    """The length that a header gives, in bytes.

    Raises:
        ProtocolError: It is no number.
    """
    if not _LENGTH.fullmatch(text):
        raise ProtocolError(f"the answer has a {what} that is no length")
    return int(text)


class ChunkedBody:
    """Puts a body together that comes in chunks.

    Attributes:
        body: What has come so far.
        complete: Whether the last chunk and the trailers have come.
    """

    __slots__ = ("_at_data_end", "_in_trailers", "_left", "_limit", "_pending", "body", "complete")

    def __init__(self, limit: int) -> None:
        self.body = bytearray()
        self.complete = False
        self._limit = limit
        self._pending = bytearray()
        self._left = 0
        self._at_data_end = False
        self._in_trailers = False

    @property
    def surplus(self) -> bool:
        """Whether something came after the end."""
        return self.complete and bool(self._pending)

    def feed(self, received: bytes | bytearray | memoryview) -> None:
        """Take in what was received.

        Raises:
            ProtocolError: The chunks break HTTP's syntax.
            TooLarge: The body is larger than the limit.
        """
        self._pending += received
        while not self.complete:
            if self._left:
                taken = min(self._left, len(self._pending))
                self.body += self._pending[:taken]
                del self._pending[:taken]
                self._left -= taken
                if self._left:
                    return
                self._at_data_end = True
            line = self._next_line()
            if line is None:
                return
            self._take_line(line)

    def _next_line(self) -> bytes | None:
        end = self._pending.find(b"\r\n")
        if end > _MAX_CHUNK_LINE or (end < 0 and len(self._pending) > _MAX_CHUNK_LINE):
            raise ProtocolError("the answer has a chunk header or a trailer that is too long")
        if end < 0:
            return None
        line = bytes(self._pending[:end])
        del self._pending[: end + 2]
        return line

    def _take_line(self, line: bytes) -> None:
        if self._in_trailers:
            self.complete = not line
        elif self._at_data_end:
            if line:
                raise ProtocolError("the answer has a chunk longer than its length")
            self._at_data_end = False
        else:
            found = _CHUNK_SIZE.fullmatch(line)
            if found is None:
                raise ProtocolError("the answer has a chunk without a length")
            self._left = int(found.group(1), 16)
            self._in_trailers = self._left == 0
            if len(self.body) + self._left > self._limit:
                raise TooLarge(too_large(self._limit))


def too_large(limit: int) -> str:
    """What an error says of an answer over the limit."""
    return (
        f"the answer has more than the {limit} bytes that are taken: ask for fewer rows or "
        "outputs, or raise max_response_bytes"
    )


def _framing(status: int, headers: Mapping[str, str]) -> tuple[bool, int | None]:
    """Whether the body comes in chunks, and otherwise its length where one is given."""
    coding, lengths = headers.get("transfer-encoding"), headers.get("content-length")
    if status < 200 or status in {204, 304}:
        return False, 0
    if coding is not None:
        if coding.lower() != "chunked" or lengths is not None:
            raise ProtocolError("the answer does not say clearly where its body ends")
        return True, None
    if lengths is None:
        return False, None
    values = {parse_length(text.strip(), "Content-Length") for text in lengths.split(",")}
    if len(values) > 1:
        raise ProtocolError("the answer has two values of Content-Length")
    return False, values.pop()


def _idle_timeout(announced: str) -> int | None:
    # RFC 2068, section 19.7.1.1: no later standard has it, and servers send it all the same.
    found = _TIMEOUT.search(announced)
    return None if found is None else int(found.group(1))


def _keeps_alive(is_http_1_1: bool, headers: Mapping[str, str]) -> bool:
    tokens = {token.strip().lower() for token in headers.get("connection", "").split(",")}
    return "close" not in tokens and (is_http_1_1 or "keep-alive" in tokens)
