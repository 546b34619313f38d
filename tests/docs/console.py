"""What a console block of a page shows: commands, and what they print."""

from __future__ import annotations

import re


def commands(text: str) -> list[tuple[str, list[str]]]:
    """The commands of a console block, each with the lines that it prints."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def matches(expected: list[str], printed: str) -> bool:
    """Whether the lines are there, in this order; three dots stand for anything."""
    patterns = [re.escape(line).replace(r"\.\.\.", ".*") for line in expected]
    return re.search("(?s:.*)".join(patterns), printed) is not None
