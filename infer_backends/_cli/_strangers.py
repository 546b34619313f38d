"""What plugins and runtimes print goes to standard error: standard output is for results."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator

_STDOUT, _STDERR = 1, 2


@contextlib.contextmanager
def strangers_aside() -> Iterator[None]:
    """Within the block, what anybody prints, be it by Python or by C, goes to standard error."""
    sys.stdout.flush()
    kept = _replace() if _is_real(sys.stdout) else None
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _flush()
        if kept is not None:
            os.dup2(kept, _STDOUT)
            os.close(kept)


def _is_real(stream: io.TextIOBase | object) -> bool:
    try:
        return stream.fileno() == _STDOUT  # type: ignore[union-attr]  # one that has none raises
    except (AttributeError, OSError, ValueError):
        return False


def _replace() -> int | None:
    """Let standard output be standard error; what it was, or None if that could not be."""
    try:
        kept = os.dup(_STDOUT)
    except OSError:
        return None
    try:
        os.dup2(_STDERR, _STDOUT)
    except OSError:
        os.close(kept)
        return None
    return kept


def _flush() -> None:
    """Write out what Python and C still hold: later it would go elsewhere."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    import ctypes

    # Not everywhere can the C library be had by no name.
    with contextlib.suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).fflush(None)
