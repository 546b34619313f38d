"""Which model a URL means that names none. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from infer_backends.plugin import InvalidURL, ModelNotFound

_MAX_CANDIDATES = 20


def choose_model(index: Iterable[Mapping[str, Any]], url: str, version: str | None) -> str:
    """The one model of a server that is ready.

    Args:
        index: The server's repository index: ``name``, ``version`` and ``state`` of each model.
        url: Who answered, for errors.
        version: The version that is asked for, or None for any.

    Raises:
        ModelNotFound: No model is ready.
        InvalidURL: Several are.
    """
    entries = list(index)
    ready = {
        entry.get("name")
        for entry in entries
        if is_ready(entry) and (version is None or entry.get("version") == version)
    }
    names = sorted(name for name in ready if isinstance(name, str) and name)
    if len(names) == 1:
        return names[0]
    if names:
        more = f" and {len(names) - _MAX_CANDIDATES} more" if len(names) > _MAX_CANDIDATES else ""
        raise InvalidURL(
            f"{url} names no model, and {len(names)} are ready there: write one of them after the "
            f"host, as in /{quote(names[0], safe='')}; ready are {_shown(names)}{more}"
        )
    known = _shown(sorted({str(entry["name"]) for entry in entries if entry.get("name")}))
    raise ModelNotFound(f"no model is ready at {url}; it knows of {known or 'none at all'}")


def is_ready(entry: Mapping[str, Any]) -> bool:
    """Whether a model of a repository index is ready."""
    # MLServer gives the name of its enumeration too, over gRPC: "State.READY".
    return str(entry.get("state")).rpartition(".")[2] == "READY"


def _shown(names: list[str]) -> str:
    return ", ".join(repr(name[:200]) for name in names[:_MAX_CANDIDATES])
