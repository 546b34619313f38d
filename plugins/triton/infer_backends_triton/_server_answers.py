"""What a server says of itself and its models, in the JSON form that HTTP uses. Pure.

After the extensions "model repository" and "statistics" of Triton's protocol. 64-bit integers are
numbers or, from gRPC, strings; what is left out is zero or empty, and what is new is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from infer_backends.plugin import (
    BatchStatistics,
    ModelState,
    ModelStatistics,
    ProtocolError,
    ServerMetadata,
    StatisticDuration,
)

_INTEGER = re.compile(r"[0-9]{1,20}")
_NANOSECONDS, _MILLISECONDS = 1e-9, 1e-3


def read_server_metadata(answer: object) -> ServerMetadata:
    """The server's name, version and extensions.

    Raises:
        ProtocolError: This is no server metadata.
    """
    found = _mapping(answer, "the server's metadata")
    extensions = _list(found.get("extensions"), "the server's extensions")
    return ServerMetadata(
        name=_text(found, "name"),
        version=_text(found, "version"),
        extensions=tuple(name for name in extensions if isinstance(name, str)),
    )


def read_states(index: Iterable[object]) -> list[ModelState]:
    """The entries of a repository index.

    Raises:
        ProtocolError: One of them is no model.
    """
    return [_read_state(_mapping(entry, "the repository index")) for entry in index]


def _read_state(entry: Mapping[str, Any]) -> ModelState:
    name = _text(entry, "name")
    if not name:
        raise ProtocolError("the repository index has a model without a name")
    # MLServer gives the name of its enumeration too, over gRPC: "State.READY".
    state = _text(entry, "state").rpartition(".")[2]
    return ModelState(name, _text(entry, "version"), state, _text(entry, "reason"))


def read_statistics(answer: object) -> list[ModelStatistics]:
    """The statistics of each version of each model.

    Raises:
        ProtocolError: These are no statistics.
    """
    found = _mapping(answer, "the statistics")
    entries = _list(found.get("model_stats"), "the statistics")
    return [_read_model(_mapping(entry, "the statistics")) for entry in entries]


def _read_model(entry: Mapping[str, Any]) -> ModelStatistics:
    durations = _mapping(entry.get("inference_stats") or {}, "inference_stats")
    batches = [
        _read_batch(_mapping(batch, "batch_stats"))
        for batch in _list(entry.get("batch_stats"), "batch_stats")
    ]
    last = _integer(entry, "last_inference")
    return ModelStatistics(
        name=_text(entry, "name"),
        version=_text(entry, "version"),
        inferences=_integer(entry, "inference_count"),
        executions=_integer(entry, "execution_count"),
        last_inference=last * _MILLISECONDS if last else None,
        success=_duration(durations, "success"),
        fail=_duration(durations, "fail"),
        queue=_duration(durations, "queue"),
        compute_input=_duration(durations, "compute_input"),
        compute_infer=_duration(durations, "compute_infer"),
        compute_output=_duration(durations, "compute_output"),
        cache_hit=_duration(durations, "cache_hit"),
        cache_miss=_duration(durations, "cache_miss"),
        batches=tuple(sorted(batches, key=lambda batch: batch.size)),
    )


def _read_batch(entry: Mapping[str, Any]) -> BatchStatistics:
    return BatchStatistics(
        size=_integer(entry, "batch_size"),
        compute_input=_duration(entry, "compute_input"),
        compute_infer=_duration(entry, "compute_infer"),
        compute_output=_duration(entry, "compute_output"),
    )


def _duration(entry: Mapping[str, Any], key: str) -> StatisticDuration:
    found = _mapping(entry.get(key) or {}, key)
    return StatisticDuration(_integer(found, "count"), _integer(found, "ns") * _NANOSECONDS)


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ProtocolError(f"{what} should have an object, and has {type(value).__name__}")
    return value


def _list(value: object, what: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ProtocolError(f"{what} should be a list, and is {type(value).__name__}")
    return value


def _text(entry: Mapping[str, Any], key: str) -> str:
    text = entry.get(key)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise ProtocolError(f"{key} should be text, and is {type(text).__name__}")
    return text


def _integer(entry: Mapping[str, Any], key: str) -> int:
    value = entry.get(key)
    if value is None:
        return 0
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise ProtocolError(f"{key} should be a count of at most 64 bits, and is not")
    return value
