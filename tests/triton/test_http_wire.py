"""HTTP/1.1 on the wire: heads, framing, chunks."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infer_backends.plugin import ProtocolError
from infer_backends_triton._http_wire import (
    MAX_HEAD,
    ChunkedBody,
    TooLarge,
    find_head_end,
    parse_head,
    parse_length,
    render_head,
)


def head(*lines: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    return "\r\n".join([status, *lines, "", ""]).encode("latin-1")


def test_a_request_head_is_written_line_by_line() -> None:
    written = render_head("POST", "/v2/m", {"host": "h:1", "x-key": "\u00e9"})
    assert written == b"POST /v2/m HTTP/1.1\r\nhost: h:1\r\nx-key: \xe9\r\n"


def test_a_head_is_complete_with_its_empty_line() -> None:
    whole = head("A: b") + b"body"
    ends = [find_head_end(whole[:length]) for length in range(len(whole) + 1)]
    assert set(ends) == {-1, len(whole) - 4}
    assert ends.index(len(whole) - 4) == len(whole) - 4


def test_a_head_is_not_waited_for_when_it_cannot_be_one() -> None:
    for start in (b"S", b"HTTQ", b"HTTP/2 200", b"\x15\x03\x03"):
        with pytest.raises(ProtocolError, match="not HTTP"):
            find_head_end(start)
    with pytest.raises(ProtocolError, match="longer than"):
        find_head_end(head("A: " + "b" * MAX_HEAD))


def test_headers_are_read_by_name_whatever_their_case() -> None:
    parsed = parse_head(head("Content-Length:  5 ", "X-A: 1", "x-a: 2", "Empty:"))
    assert parsed.status == 200
    assert parsed.headers == {"content-length": "5", "x-a": "1, 2", "empty": ""}
    assert (parsed.length, parsed.chunked, parsed.keep_alive) == (5, False, True)


@pytest.mark.parametrize("status", ["HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1 200 All Good"])
def test_a_reason_is_not_needed(status: str) -> None:
    assert parse_head(head(status=status)).status == 200


@pytest.mark.parametrize(
    ("lines", "status", "kept"),
    [
        (["Content-Length: 0"], "HTTP/1.1 200 OK", True),
        (["Content-Length: 0", "Connection: close"], "HTTP/1.1 200 OK", False),
        (["Content-Length: 0", "Connection: x, Close"], "HTTP/1.1 200 OK", False),
        (["Content-Length: 0"], "HTTP/1.0 200 OK", False),
        (["Content-Length: 0", "Connection: keep-alive"], "HTTP/1.0 200 OK", True),
        (["Transfer-Encoding: Chunked"], "HTTP/1.1 200 OK", True),
        ([], "HTTP/1.1 200 OK", False),
        ([], "HTTP/1.1 204 No", True),
    ],
)
def test_a_connection_is_kept_only_where_the_next_answer_begins_clearly(
    lines: list[str], status: str, kept: bool
) -> None:
    assert parse_head(head(*lines, status=status)).keep_alive is kept


def test_some_answers_have_no_body() -> None:
    for status in ("100 Continue", "204 No Content", "304 Not Modified"):
        assert parse_head(head("Content-Length: 7", status=f"HTTP/1.1 {status}")).length == 0


@pytest.mark.parametrize(
    ("line", "coding"),
    [("A: b", ""), ("Content-Encoding: Identity", ""), ("Content-Encoding: GZIP", "gzip")],
)
def test_an_answer_says_how_it_is_compressed(line: str, coding: str) -> None:
    assert parse_head(head(line, "Content-Length: 5")).coding == coding


def test_a_length_given_twice_alike_is_one() -> None:
    assert parse_head(head("Content-Length: 5", "Content-Length: 5")).length == 5


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: +5"],
        ["Content-Length: 5.0"],
        ["Content-Length: "],
        ["Content-Length: 99999999999999999999"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked, chunked"],
        ["Transfer-Encoding: identity"],
        ["A : b"],
        ["A\x00: b"],
        ["A: b\x00"],
        ["A: b\rc"],
        [" A: b"],
        ["A"],
        [": b"],
    ],
)
def test_a_head_that_leaves_doubts_is_a_protocol_error(lines: list[str]) -> None:
    with pytest.raises(ProtocolError):
        parse_head(head(*lines))


@pytest.mark.parametrize(
    "status", ["", "HTTP/1.1", "HTTP/1.1 99 No", "HTTP/1.1 600 No", "HTTP/1.1  200"]
)
def test_a_wrong_status_line_is_a_protocol_error(status: str) -> None:
    with pytest.raises(ProtocolError, match="status line"):
        parse_head(head(status=status))


def test_a_length_is_digits() -> None:
    assert parse_length("12", "length") == 12
    with pytest.raises(ProtocolError, match="a length that is no length"):
        parse_length("\u0661", "length")


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=6), st.data())
def test_chunks_make_their_body_however_they_arrive(
    chunks: list[bytes], data: st.DataObject
) -> None:
    wire = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    wire += b"0\r\nTrailer: x\r\n\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=6)))
    decoder = ChunkedBody(1000)
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        assert not decoder.complete or start == len(wire)
        decoder.feed(wire[start:end])
    assert decoder.complete
    assert decoder.body == b"".join(chunks)
    assert not decoder.surplus


def test_what_follows_the_last_chunk_is_noticed() -> None:
    decoder = ChunkedBody(10)
    decoder.feed(b"0\r\n\r\nHTTP/1.1 200 OK")
    assert decoder.complete
    assert decoder.surplus


@pytest.mark.parametrize(
    "wire",
    [
        b"x\r\n",
        b"\r\n",
        b"-1\r\n",
        b"1\r\nab\r\n",
        b"0" * 2000,
        b"1;" + b"x" * 2000,
        b"f" * 17 + b"\r\n",
    ],
)
def test_broken_chunks_are_a_protocol_error(wire: bytes) -> None:
    with pytest.raises(ProtocolError):
        ChunkedBody(10).feed(wire)


def test_chunks_over_the_limit_are_refused_by_their_announcement() -> None:
    decoder = ChunkedBody(10)
    decoder.feed(b"a\r\n0123456789\r\n")
    with pytest.raises(TooLarge, match="more than the 10 bytes"):
        decoder.feed(b"1\r\n")


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_a_head_or_a_protocol_error(received: bytes, dressed: bool) -> None:
    wire = b"HTTP/1.1 200 OK\r\n" + received + b"\r\n\r\n" if dressed else received
    with contextlib.suppress(ProtocolError):
        end = find_head_end(wire)
        if end >= 0:
            parse_head(wire[:end])
