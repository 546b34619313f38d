"""The peak of this process's memory, from Linux's own account of it.

The kernel keeps the largest resident size that a process ever had (``VmHWM``); writing 5 to
``/proc/self/clear_refs`` sets it to the present size (``VmRSS``). What the C library keeps of freed
memory is given back before, so that it cannot be taken for free by the call that is measured; for
what it keeps for other threads, the driver starts a process that keeps no large blocks.
"""

from __future__ import annotations

import ctypes
import gc
import re
from pathlib import Path

_SELF = Path("/proc/self")


def parse_status(text: str, field: str) -> int:
    """A size in the text of ``/proc/self/status``, in bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"/proc/self/status has no {field}")
    return int(found[1]) * 1024


def reset_peak() -> int:
    """Let the peak begin at the present size, which is returned, in bytes."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    (_SELF / "clear_refs").write_text("5")
    return parse_status((_SELF / "status").read_text(), "VmRSS")


def peak() -> int:
    """The largest resident size since :func:`reset_peak`, in bytes."""
    return parse_status((_SELF / "status").read_text(), "VmHWM")
