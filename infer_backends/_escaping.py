"""Percent-encoding: what may stand in a URL, and what it stands for."""

from __future__ import annotations

import re

from infer_backends._errors import InvalidURL
from infer_backends._masking import CONTROL, mask_text

BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def escape(text: str | bytes, safe: str = "") -> str:
    """Percent-encode all but letters, digits, ``_.-~`` and ``safe``."""
    # urllib brings several modules: importing the library has to stay cheap.
    from urllib.parse import quote

    return quote(text, safe=safe)


def unescape(text: bytes) -> bytes:
    """Percent-decode, once."""
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(text)


def encode_path(path: str) -> bytes:
    """The bytes of a file's name."""
    # File names that are not UTF-8 reach Python as surrogates.
    return path.encode("utf-8", "surrogateescape")


def decode_part(part: str, what: str, text: str) -> str:
    """Percent-decode one part, once."""
    if BAD_ESCAPE.search(part):
        raise InvalidURL(
            f"the {what} in {mask_text(text)!r} has a '%' that is not followed by two "
            "hexadecimal digits: write %25 for a '%'"
        )
    decoded = _utf8(part)
    if decoded is None:
        raise InvalidURL(f"the {what} in {mask_text(text)!r} is not UTF-8")
    if CONTROL.search(decoded):
        raise InvalidURL(f"the {what} in {mask_text(text)!r} holds a control character")
    return decoded


def _utf8(part: str) -> str | None:
    # The exception holds the text, which may be a secret: it must not become a context either.
    try:
        return unescape(part.encode()).decode()
    except UnicodeError:
        return None
