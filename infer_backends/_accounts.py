"""A runtime's account of a failure, made fit for an error's message."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"\d(?:[\d.,]*\d)?(?:[eE][+-]?\d+)?")
_LONGEST = 600


def without_numbers(text: str) -> str:
    """The text with ``#`` for every number: what a failed operator quotes is often a tensor's."""
    return _NUMBER.sub("#", text)


def one_line(text: str) -> str:
    """The text in one line without a full stop, cut after 600 characters."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
