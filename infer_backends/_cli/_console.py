"""Where the command prints: plain text in a pipe, colours in a terminal that wants them."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator
from typing import TextIO, cast

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]+")

_TRAILING = re.compile(r" +(?=\n)")

#: The width of what is not a terminal, in columns: wide, so that lines can be searched.
_WIDE = 200


def console(width: int = _WIDE) -> Console:
    """A console on standard output, as it is now.

    Args:
        width: Its width where that is no terminal, in columns.
    """
    found = Console(highlight=False)
    if found.is_terminal:
        return found
    columns = None if "COLUMNS" in os.environ else width
    return Console(highlight=False, width=columns, file=cast("TextIO", _Trimmed(sys.stdout)))


class _Trimmed:
    """Writes to a text stream, without the blanks at the ends of lines that fill up tables."""

    def __init__(self, stream: TextIO) -> None:
        self.encoding = stream.encoding
        self._stream = stream
        self._blanks = ""

    def write(self, text: str) -> int:
        """Write ``text``, but keep back blanks that may turn out to be the last of a line."""
        trimmed = _TRAILING.sub("", self._blanks + text)
        kept = trimmed.rstrip(" ")
        self._blanks = trimmed[len(kept) :]
        self._stream.write(kept)
        return len(text)

    def flush(self) -> None:
        """Flush the stream; a line that is not complete keeps its blanks back."""
        self._stream.flush()


def note(text: str) -> None:
    """One plain line on standard error."""
    click.echo(one_line(text), err=True)


class _Notes(logging.Handler):
    """Writes a record of the log as a note."""

    def emit(self, record: logging.LogRecord) -> None:
        note(f"{record.levelname.lower()}: {record.getMessage()}")


@contextlib.contextmanager
def log_as_notes() -> Iterator[None]:
    """Within the block, warnings of the library are lines on standard error, like all the rest."""
    handler = _Notes(logging.WARNING)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


def one_line(text: str) -> str:
    """``text`` without line breaks, escape sequences and other controls of a terminal."""
    return _CONTROL.sub(" ", text)


def plain(text: object, style: str = "") -> Text:
    """Text of others for a table: its square brackets and escape sequences do nothing."""
    return Text(one_line(str(text)), style, overflow="fold")


def plain_lines(text: str) -> Text:
    """Like ``plain``, of several lines."""
    return Text("\n").join(plain(line) for line in text.split("\n"))


def table(*headings: str) -> Table:
    """An empty table with a line under its headings."""
    found = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 3, 0, 0))
    for heading in headings:
        found.add_column(heading)
    return found
