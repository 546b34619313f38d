"""Text that failed to parse as a URL, made fit for an error message."""

from __future__ import annotations

import re

#: What stands where a secret was.
MASK = "***"
#: Characters that could break a line, or hide one.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LONGEST_SHOWN = 300
_PORT = re.compile(r"(//[^/?\[]*?:)([^/?]*)")
_BRACKETED_PORT = re.compile(r"(//[^/?]*:)[^:/?]*")


def mask_text(text: str) -> str:
    """``text`` without what could be a user, a password or an option's value, and not too long."""
    head, question, query = text.partition("?")
    if "@" in text:
        scheme, slashes, _ = head.partition("//")
        bare = slashes and (not scheme or scheme.endswith(":")) and "@" not in scheme
        prefix = f"{scheme}//" if bare else _scheme(head)
        # Where the "@" comes after the "?", the "?" may have been part of a password.
        tail = "" if "@" in query else f"@{head.rpartition('@')[2]}"
        head = f"{prefix}{MASK}{tail}"
    else:
        # Without the rest, a password looks like a port.
        head = _PORT.sub(_mask_no_number, head, count=1)
    if len(head) > _LONGEST_SHOWN:
        head = f"{head[:_LONGEST_SHOWN]}..."
    return CONTROL.sub("?", f"{head}{question}{MASK if query else ''}")


def mask_port(text: str) -> str:
    """``mask_text``, and what stands where a port should: it may be half of a password."""
    return _BRACKETED_PORT.sub(rf"\g<1>{MASK}", mask_text(text))


def mask_path(path: str) -> str:
    """A path in which a user and a password stand, as in a URL that lacks its slashes."""
    return f"{MASK}@{path.rpartition('@')[2]}" if "@" in path else path


def holds_credentials(path: str) -> bool:
    """Whether a path looks as if it began with ``user:password@``; a drive's letter is no user."""
    return re.match(r"/*[^/\\@]{2,}:[^@]*@|/*[^/\\@]:(?![/\\])[^@]*@", path) is not None


def _scheme(head: str) -> str:
    found = re.match(r"[A-Za-z][A-Za-z0-9+.\-]*:(?=[^@:]*@)", head)
    return found.group() if found is not None else ""


def _mask_no_number(found: re.Match[str]) -> str:
    return found.group() if found.group(2).isdecimal() else f"{found.group(1)}{MASK}"
