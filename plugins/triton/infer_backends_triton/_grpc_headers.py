"""Headers as gRPC metadata. Pure.

gRPC takes fewer characters than HTTP does: names of lower-case letters, digits, ``-``, ``_`` and
``.``, values of printable ASCII; the value of a name that ends in ``-bin`` is bytes, written here
in base64, as on the wire (the gRPC protocol over HTTP/2, "Requests").
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

from infer_backends.plugin import InferError

GrpcMetadata = tuple[tuple[str, str | bytes], ...]

_NAME = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")
_RESERVED = frozenset(
    {
        "connection",
        "content-type",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    }
)


def to_grpc_metadata(headers: Mapping[str, str], error: type[InferError]) -> GrpcMetadata:
    """The gRPC metadata that these headers stand for.

    Args:
        headers: Values by name. Names are taken in any case, and sent in lower case.
        error: What to raise for a header that cannot be sent. The message has the header's
            name, never its value.
    """
    return tuple(
        (name.lower(), _value(name.lower(), value, error)) for name, value in headers.items()
    )


def _value(name: str, value: str, error: type[InferError]) -> str | bytes:
    if not _NAME.fullmatch(name):
        raise error(
            "the name of a header for gRPC is letters, digits, '-', '_' and '.'; one given is not"
        )
    if name in _RESERVED or name.startswith("grpc-"):
        raise error(f"the header {name!r} belongs to gRPC itself: leave it out")
    if not isinstance(value, str):
        raise error(f"the header {name!r} is text, not {type(value).__name__}")
    if name.endswith("-bin"):
        return _binary(name, value, error)
    if not _VALUE.fullmatch(value):
        raise error(
            f"the header {name!r} has a value that gRPC cannot send: expected printable ASCII (or "
            f"base64 in a header named {name}-bin)"
        )
    return value


def _binary(name: str, value: str, error: type[InferError]) -> bytes:
    try:
        # Padding may be left out on the wire.
        return base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        # Not chained: nothing of the value may be shown.
        raise error(
            f"the header {name!r} ends in -bin, so its value is base64; the one given is not"
        ) from None
