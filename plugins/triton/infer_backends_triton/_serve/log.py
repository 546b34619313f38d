"""What of tritonserver's log says why it could not start."""

from __future__ import annotations

import re

# As in: E1122 11:20:55.817017 18465 model_lifecycle.cc:642] "failed to load ..."
_ENTRY = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ \d+ ")
# Said at error level on every machine without a GPU.
_HARMLESS = "CudaDriverHelper"


def last_errors(log: str, lines: int) -> str:
    """The last ``lines`` lines of the errors in ``log``; of all of it when it has none.

    An error may go on over several lines, such as a traceback; the tables that the server prints
    between them, and all that it says at lower levels, are left out.
    """
    found, level = [], "I"
    for line in log.splitlines():
        entry = _ENTRY.match(line)
        if entry:
            level = entry[1] if _HARMLESS not in line else "I"
        elif line.startswith("error:"):
            level = "E"
        elif line.startswith(("+--", "|")):
            continue
        if level in "EF" and line.strip():
            found.append(line)
    return "\n".join((found or log.splitlines())[-lines:])
