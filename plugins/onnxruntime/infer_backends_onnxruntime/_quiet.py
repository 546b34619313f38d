"""Keep one known warning of onnxruntime's import off stderr.

When it is imported, onnxruntime looks for graphics cards under ``/sys/class/drm`` and, in several
versions, warns on file descriptor 2 about cards that are not on the PCI bus: virtual machines,
containers, small boards. No log level reaches that warning. Where such a card is, what the import
writes to stderr is held back, and written again without those lines.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

_CARDS = Path("/sys/class/drm")
_WARNING = b"device discovery failed"
_LOCK = threading.Lock()


@contextlib.contextmanager
def without_discovery_warnings(cards: Path = _CARDS) -> Iterator[None]:
    """Drop the lines about device discovery from what the body writes to stderr."""
    if "onnxruntime" in sys.modules or not will_warn(cards):
        yield
        return
    with _LOCK, _held_back(2):
        yield


def will_warn(cards: Path) -> bool:
    """Whether there is a graphics card that does not say who made it."""
    try:
        found = [card for card in cards.iterdir() if card.name.removeprefix("card").isdigit()]
    except OSError:
        return False
    return any(not os.access(card / "device" / "vendor", os.R_OK) for card in found)


@contextlib.contextmanager
def _held_back(descriptor: int) -> Iterator[None]:
    try:
        original = os.dup(descriptor)
    except OSError:  # There is no stderr: nothing to keep quiet.
        yield
        return
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), descriptor)
        try:
            yield
        finally:
            os.dup2(original, descriptor)
            os.close(original)
            kept.seek(0)
            for line in kept:
                if _WARNING not in line:
                    _write(descriptor, line)


def _write(descriptor: int, line: bytes) -> None:
    with contextlib.suppress(OSError):
        while line:
            line = line[os.write(descriptor, line) :]
