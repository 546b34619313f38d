"""Which of the library's errors an error of the server is. Pure, and the only place that knows.

Some servers (Triton among them) use one status for several things, and both protocols have to
say the same of the same failure; so the server's own words are looked at first, the status after
them. Those words may be long or hostile: they are cut, and control characters are taken out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from infer_backends.plugin import (
    DeadlineExceeded,
    InferenceFailed,
    InferError,
    InvalidInput,
    ModelNotFound,
    PermissionDenied,
    ProtocolError,
    TLSError,
    Unavailable,
    UnsupportedOperation,
)

#: How many characters of a server's message are shown.
MESSAGE_LIMIT = 600
# Shorter "secrets" would be found everywhere by chance.
_SHORTEST_SECRET = 4
_UNPRINTABLE = re.compile(
    r"[\x00-\x20\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+"
)

_REQUEST_ID = r"(?:\[request id: [^\]]*\] )?"
_REGION = re.compile(
    _REQUEST_ID + r"(?:unable to find shared memory region|failed to register shared memory region"
    r"|invalid offset (?:\+ byte size )?for shared memory region"
    r"|unable to open shared memory region|invalid shared memory region"
    r"|cannot unregister shared memory region|shared memory size specified|shared memory region)",
    re.IGNORECASE,
)

_LOADING = r"Model .{1,200} is not ready yet\."


class RegionError(InferenceFailed):
    """The server refuses a shared-memory region. The model was not asked, or asked in vain."""


class RegionLost(RegionError):
    """The server does not know the region: it was restarted since, or it never did."""


class RegionTaken(RegionError):
    """The server has a region of this name already."""


class RegionTooSmall(RegionError):
    """An output does not fit where it should go."""


class ControlRefused(UnsupportedOperation):
    """The server was not started to load and unload models when it is told to."""


class NotPolled(InferenceFailed):
    """The server has no such model in its repository, or cannot read what it has."""


# Most specific first: each is the beginning of what the server says, whatever its status.
_WORDS: tuple[tuple[re.Pattern[str], type[InferError]], ...] = (
    (re.compile(_REQUEST_ID + r"Unable to find shared memory region"), RegionLost),
    (re.compile(r"shared memory region .{1,200} already in manager"), RegionTaken),
    (re.compile(_REQUEST_ID + r"shared memory size specified with the request"), RegionTooSmall),
    (_REGION, RegionError),
    (re.compile(_REQUEST_ID + r"Failed to process the request\(s\) for model"), InferenceFailed),
    (re.compile(_REQUEST_ID + r"Request for unknown model"), ModelNotFound),
    (
        re.compile(_REQUEST_ID + r"failed to get model version from specified version"),
        ModelNotFound,
    ),
    (re.compile(_REQUEST_ID + r"invalid model version specified"), ModelNotFound),
    (re.compile(r"requested model (?:version )?.{0,300}is not available"), ModelNotFound),
    (re.compile(r"explicit model load / unload is not allowed"), ControlRefused),
    (re.compile(r"failed to load .{1,300}, failed to poll from model repository"), NotPolled),
    (re.compile(r"load failed for model"), InferenceFailed),
    (re.compile(_REQUEST_ID + r"Server is stopping"), Unavailable),
    (re.compile(_REQUEST_ID + r"Exceeds maximum queue size"), Unavailable),
    (re.compile(_REQUEST_ID + r"Request timeout expired"), Unavailable),
    (re.compile(_REQUEST_ID + r"Request was cancelled", re.IGNORECASE), Unavailable),
    # MLServer's words, with 400 and INVALID_ARGUMENT, for a model that is being loaded.
    (re.compile(_LOADING), Unavailable),
)

# Said of a request that waits, or would have to, for the model to begin with it.
_NOT_BEGUN = re.compile(
    _REQUEST_ID + r"(?:Server is stopping|Exceeds maximum queue size|Request timeout expired"
    rf"|{_LOADING})"
)
# What Envoy says with 503 also when the server behind it had the request already.
_RELAY_BROKE = b"reset before headers"

_HTTP: Mapping[int, type[InferError]] = {
    401: PermissionDenied,
    403: PermissionDenied,
    404: ModelNotFound,
    405: UnsupportedOperation,
    407: PermissionDenied,
    408: Unavailable,
    410: ModelNotFound,
    425: Unavailable,
    429: Unavailable,
    500: InferenceFailed,
    501: UnsupportedOperation,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}

_GRPC: Mapping[str, type[InferError]] = {
    "CANCELLED": Unavailable,
    "INVALID_ARGUMENT": InvalidInput,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "NOT_FOUND": ModelNotFound,
    "ALREADY_EXISTS": InvalidInput,
    "PERMISSION_DENIED": PermissionDenied,
    "RESOURCE_EXHAUSTED": Unavailable,
    "OUT_OF_RANGE": InvalidInput,
    "UNIMPLEMENTED": UnsupportedOperation,
    "UNAVAILABLE": Unavailable,
    "UNAUTHENTICATED": PermissionDenied,
}
# gRPC's own complaints about what has arrived, which comes after the work.
_TOO_MUCH = re.compile(r"larger than max|exceeds (?:hard |soft )?limit", re.IGNORECASE)
# What Triton says of a request that does not fit its model, where it says so without a status.
_MISFIT = re.compile(
    _REQUEST_ID + r"(?:unexpected (?:shape|data-?type|total byte size|inference (?:input|output))"
    r"|expected \d+ (?:inputs|outputs)|input '[^']*' |inference (?:input|request) "
    r"|(?:unable to parse|duplicate|must specify) )",
    re.IGNORECASE,
)
# What gRPC itself says with a status that a server could have sent too.
_GRPC_WORDS: tuple[tuple[frozenset[str], re.Pattern[str], type[InferError]], ...] = (
    (
        frozenset({"UNAVAILABLE"}),
        re.compile(
            r"CERTIFICATE_VERIFY_FAILED|SSL_ERROR_SSL|SSL routines|TSI_PROTOCOL_FAILURE"
            r"|not in peer certificate|Hostname Verification",
            re.IGNORECASE,
        ),
        TLSError,
    ),
    (
        frozenset({"RESOURCE_EXHAUSTED"}),
        re.compile(r"CLIENT: Received message larger than max"),
        ProtocolError,
    ),
    (
        frozenset({"RESOURCE_EXHAUSTED"}),
        re.compile(r"(?:Received|Sent) message larger than max"),
        InvalidInput,
    ),
    (
        frozenset({"INTERNAL", "UNKNOWN", "UNIMPLEMENTED"}),
        re.compile(
            r"Exception deserializing response|Failed parsing HTTP/2|Received http2 header with "
            r"status|Unrecognized (?:gRPC )?status"
        ),
        ProtocolError,
    ),
    (frozenset({"INTERNAL", "UNKNOWN"}), re.compile(r"RST_STREAM|Stream removed"), Unavailable),
)


def http_error(
    status: int,
    message: str,
    *,
    url: str,
    secrets: Iterable[str] = (),
    relay_broke: bool = False,
) -> InferError:
    """The error that an HTTP answer stands for.

    Args:
        status: The status of an answer that is not the one that was hoped for; 200 for one that
            is an error object all the same.
        message: What the server says of it; see :func:`error_message`.
        url: Who answered, secrets masked.
        secrets: What must not appear in the error, should the server repeat it.
        relay_broke: Whether it was a proxy that answered, see :func:`is_of_broken_relay`.
    """
    text = _with_hint(clean(message, secrets))
    described = f"{url} answered {status}" + (f": {text}" if text else "")
    if 300 <= status < 400:
        return ProtocolError(f"{url} answered {status}, a redirect: name its target in the URL")
    if status in {401, 403, 407}:
        return PermissionDenied(f"{described} (give credentials: auth=env:NAME, or headers=)")
    if status == 200:
        said = _by_words(message) or InferenceFailed
        return said(f"{url} answered 200, and yet with an error{f': {text}' if text else ''}")
    if not 400 <= status < 600:
        return ProtocolError(f"{described}; expected 200")
    kind = _by_words(message)
    if kind is None:
        kind = _HTTP.get(status, InvalidInput if status < 500 else InferenceFailed)
    # RFC 6585 and RFC 9110: too many requests; not able to handle the request now.
    refused = status == 429 or (status == 503 and not relay_broke)
    return kind(described, unprocessed=_is_unprocessed(kind, message, refused=refused))


def grpc_error(code: str, details: str, *, url: str, secrets: Iterable[str] = ()) -> InferError:
    """The error that a gRPC status stands for.

    Args:
        code: The status code's name, as ``NOT_FOUND``.
        details: What comes with it.
        url: Who answered, secrets masked.
        secrets: What must not appear in the error, should the server repeat it.
    """
    text = _with_hint(clean(details, secrets))
    described = f"{url} answered {code}" + (f": {text}" if text else "")
    if code in {"UNAUTHENTICATED", "PERMISSION_DENIED"}:
        return PermissionDenied(f"{described} (give credentials: auth=env:NAME, or headers=)")
    for codes, pattern, kind in _GRPC_WORDS:
        if code in codes and pattern.search(details):
            return kind(described)
    kind = _by_words(details) or _GRPC.get(code, InferenceFailed)
    refused = code == "RESOURCE_EXHAUSTED" and not _TOO_MUCH.search(details)
    return kind(described, unprocessed=_is_unprocessed(kind, details, refused=refused))


#: What Triton says of sequences, and what to do about it.
_OF_SEQUENCES = (
    (
        "non-zero or non-empty correlation ID",
        "a stateful model: make its calls by model.sequence()",
    ),
    (
        "must specify the START flag",
        "no such sequence is there, or not any more: begin another by model.sequence()",
    ),
)


def _with_hint(text: str) -> str:
    hint = next((hint for words, hint in _OF_SEQUENCES if words in text), "")
    return f"{text} ({hint})" if hint else text


def stream_error(message: str, *, url: str, secrets: Iterable[str] = ()) -> InferError:
    """The error that a message in a stream of gRPC stands for, which has no status.

    Args:
        message: What the server says.
        url: Who answered, secrets masked.
        secrets: What must not appear in the error, should the server repeat it.
    """
    kind = _by_words(message)
    if kind is None:
        kind = InvalidInput if _MISFIT.match(message) else InferenceFailed
    return kind(
        f"{url} answered: {clean(message, secrets)}",
        unprocessed=_is_unprocessed(kind, message, refused=False),
    )


def error_message(body: bytes) -> str:
    """What the JSON body of an HTTP error says: under ``error`` (Triton) or ``detail`` (MLServer).

    Of lists of complaints about a request's fields only places and messages are taken: the rest
    repeats what was sent. A body that is something else says nothing.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(answer, Mapping):
        return ""
    for key in ("error", "detail", "message"):
        text = _said(answer.get(key))
        if text:
            return text
    return ""


def is_of_broken_relay(body: bytes) -> bool:
    """Whether an error is that of a proxy, whose own connection to the server may have broken."""
    return _RELAY_BROKE in body


def clean(message: str, secrets: Iterable[str] = ()) -> str:
    """A server's message, fit to be shown: on one line, not too long, without ``secrets``."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            message = message.replace(secret, "***")
    text = _UNPRINTABLE.sub(" ", message[: 4 * MESSAGE_LIMIT]).strip()
    return text if len(text) <= MESSAGE_LIMIT else f"{text[:MESSAGE_LIMIT]}..."


def _by_words(message: str) -> type[InferError] | None:
    for pattern, kind in _WORDS:
        if pattern.match(message):
            return kind
    return None


def _is_unprocessed(kind: type[InferError], message: str, *, refused: bool) -> bool:
    """Whether the server says that it has not begun with the request."""
    return kind is Unavailable and (refused or _NOT_BEGUN.match(message) is not None)


def _said(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return _said(value.get("message"))
    if isinstance(value, list):
        return "; ".join(_complaint(entry) for entry in value[:5] if isinstance(entry, Mapping))
    return ""


def _complaint(entry: Mapping[str, Any]) -> str:
    place = entry.get("loc")
    parts = [str(part) for part in place if type(part) in {str, int}] if type(place) is list else []
    message = entry.get("msg")
    return f"{'.'.join(parts)}: {message if isinstance(message, str) else 'wrong'}"
