"""Pure: rows of text -> a plain table, for terminals and logs."""

from __future__ import annotations

from collections.abc import Sequence

from infer_backends._masking import CONTROL

_GAP = "  "
_LONGEST_ERROR = 100


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Lines with aligned columns, the last of which is as wide as it has to be.

    Args:
        rows: The headings, then the rows; all have the same number of cells.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def milliseconds(seconds: float | None) -> str:
    """A duration, as short as it reads well; "-" for None."""
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


def error_cell(error: Exception | None) -> str:
    """The kind of an error and the beginning of its text, on one line; empty for None."""
    if error is None:
        return ""
    # A server's words may be in it, and they must not move a terminal's cursor.
    text = CONTROL.sub("?", " ".join(str(error).split()))
    if len(text) > _LONGEST_ERROR:
        text = f"{text[:_LONGEST_ERROR]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
