"""The JSON of the Open Inference Protocol over HTTP, both ways. Pure.

With the server's binary tensor data extension a message is one JSON object and, after it, the
bytes of the tensors that the object describes, in its order; ``Inference-Header-Content-Length``
says where the object ends. Without it, tensors are lists in the object.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from infer_backends.plugin import (
    ProtocolError,
)
from infer_backends_triton import _discovery as discovery

#: Says, in requests and in answers, how long the JSON object before the tensors' bytes is.
HEADER_LENGTH = "inference-header-content-length"
# What a segment of a path may hold as it is (RFC 3986, "pchar"). Triton does not decode its paths,
# so that a model "a+b" is not found as "a%2Bb".
_PLAIN = "!$&'()*+,;=:@"


def model_path(base: Sequence[str], model: str, version: str | None) -> str:
    """The path of a model, percent-encoded."""
    segments = [*base, "v2", "models", model]
    if version is not None:
        segments += ["versions", version]
    return server_path(segments)


def server_path(segments: Sequence[str]) -> str:
    """A path made of these segments, percent-encoded where that is needed."""
    return "".join(f"/{quote(segment, safe=_PLAIN)}" for segment in segments)


def parse_object(text: bytes | bytearray | memoryview, what: str) -> Mapping[str, Any]:
    """The JSON object that ``text`` is.

    Raises:
        ProtocolError: It is something else.
    """
    answer = _parse(text, what)
    if not isinstance(answer, dict):
        raise ProtocolError(f"{what} is no JSON object")
    return answer


def choose_model(index: bytes | memoryview, url: str, version: str | None) -> str:
    """The one model of a server that is ready.

    Args:
        index: What the server answered when asked for its repository.
        url: Who answered, for errors.
        version: The version that is asked for, or None for any.

    Raises:
        ModelNotFound: No model is ready.
        InvalidURL: Several are.
        ProtocolError: This is no repository index.
    """
    return discovery.choose_model(read_index(index, url), url, version)


def read_index(index: bytes | memoryview, url: str) -> list[Mapping[str, Any]]:
    """The models that a server's repository index lists.

    Raises:
        ProtocolError: This is no repository index.
    """
    entries = _parse(index, "the repository index")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ProtocolError(f"the repository index of {url} is no list of models")
    return entries


def says_ready(body: bytes | memoryview) -> bool:
    """What the body says of an answer that means "ready" by its status.

    Only ``{"ready": false}`` says otherwise: Triton, for one, leaves it empty.
    """
    try:
        answer = _parse(body, "the answer")
    except ProtocolError:
        return True
    return not (isinstance(answer, dict) and answer.get("ready") is False)


def read_extensions(body: bytes | memoryview) -> frozenset[str]:
    """The protocol extensions that a server says it has.

    Raises:
        ProtocolError: This is no server metadata.
    """
    extensions = parse_object(body, "the server's metadata").get("extensions") or []
    if not isinstance(extensions, list):
        raise ProtocolError("the server's metadata has a wrong list of extensions")
    return frozenset(name for name in extensions if isinstance(name, str))


def _parse(text: bytes | bytearray | memoryview, what: str) -> Any:
    try:
        return json.loads(str(text, "utf-8"))
    except (ValueError, RecursionError) as exc:
        # Only the kind: the exception keeps the whole text.
        raise ProtocolError(f"{what} is not JSON") from ValueError(type(exc).__name__)
