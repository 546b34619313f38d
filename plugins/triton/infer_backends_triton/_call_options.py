"""What a call asks for besides its tensors, in the terms of Triton's protocol extensions. Pure.

Three of these are parameters of the request, by names that the protocol reserves for them. One is a
parameter of each output, and changes what the output is. The last is no part of the message.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from infer_backends.plugin import (
    DataType,
    DeadlineExceeded,
    InferRequest,
    InvalidInput,
    ModelMetadata,
    ModelURL,
    ParameterValue,
    RequestOptions,
    Unavailable,
    UnsupportedOperation,
)
from infer_backends_triton._unsent import BEFORE_SENDING

#: The extension that each option is a part of.
_EXTENSIONS = {
    "top_k": "classification",
    "sequence": "sequence",
    "priority": "schedule_policy",
    "queue_timeout": "schedule_policy",
}
_RESERVED = {
    "sequence": ("sequence_id", "sequence_start", "sequence_end"),
    "priority": ("priority",),
    "queue_timeout": ("timeout",),
}
# Triton refuses the other numbers, and ends itself when it is to rank BYTES.
_RANKED = frozenset(
    dtype for dtype in DataType if dtype.value.startswith(("INT", "UINT"))
) | {DataType.FP32, DataType.FP64}  # fmt: skip
_LONGEST_QUEUE_TIMEOUT = 2**63 - 1  # microseconds
_GRPC_PORT = 8001
_LATE_IN_QUEUE = re.compile(r"Request timeout expired")


def options_over_http(extensions: frozenset[str] | None, *, triton: bool) -> frozenset[str]:
    """The options that a server can do.

    Args:
        extensions: What it lists; None where that is not known.
        triton: Whether it is Triton in that case.
    """
    if extensions is None:
        return frozenset({*_EXTENSIONS, "compression"} if triton else ())
    # HTTP has no way to ask what a server decompresses. This extension is Triton's own.
    compression = {"compression"} if "schedule_policy" in extensions else set()
    return _listed(extensions) | compression


def options_over_grpc(extensions: frozenset[str]) -> frozenset[str]:
    """The options that a server can do which lists these extensions."""
    return _listed(extensions) | {"compression"}


def _listed(extensions: frozenset[str]) -> frozenset[str]:
    return frozenset(option for option, named in _EXTENSIONS.items() if named in extensions)


def over_grpc(url: ModelURL, model: str) -> str:
    """The URL of a model over gRPC, where servers have it by default.

    Args:
        url: Where it is over HTTP. What is secret in it does not come over.
        model: Its name.
    """
    scheme, port = ("grpcs", None) if url.scheme.endswith("s") else ("grpc", _GRPC_PORT)
    return ModelURL(scheme, url.host, port, model=model, version=url.version).location


def lacking(ability: str) -> str:
    """What to do about an option that a server does not offer; empty for another ability."""
    extension = _EXTENSIONS.get(ability)
    if extension is None:
        return ""
    return f"use a server that lists the extension {extension!r}, as Triton does"


def ranks(request: InferRequest) -> int:
    """How many of its largest elements each output is answered by; 0 for all, as they are."""
    options = request.options
    return 0 if options is None else options.top_k or 0


def as_ranked(metadata: ModelMetadata) -> ModelMetadata:
    """What the outputs are where only their largest elements are asked for: BYTES."""
    specs = tuple(replace(spec, dtype=DataType.BYTES, labels=None) for spec in metadata.outputs)
    return replace(metadata, outputs=specs)


class CallOptions:
    """Reads the options of calls of one model.

    Args:
        metadata: What the model says of itself.
        url: Whom errors name.
        offered: The options that its server can do.
        empty: Whether the server survives it when elements of an empty output are ranked.
    """

    def __init__(
        self, metadata: ModelMetadata, url: str, offered: frozenset[str], *, empty: bool
    ) -> None:
        self._outputs = {spec.name: spec for spec in metadata.outputs}
        self._url = url
        self.offered = offered
        self._empty = empty

    @contextmanager
    def of(self, request: InferRequest, options: RequestOptions) -> Iterator[InferRequest]:
        """The request with its options as parameters; in the block, it is answered.

        Raises:
            InvalidInput: An option contradicts a parameter.
            UnsupportedOperation: The server, or the model, cannot do it.
            DeadlineExceeded: The request waited for too long in the server's queue.
        """
        with BEFORE_SENDING:
            self._check(request, options)
        named = _parameters(options)
        asked = replace(request, parameters={**request.parameters, **named})
        try:
            yield asked
        except Unavailable as exc:
            if options.queue_timeout is None or not _LATE_IN_QUEUE.search(str(exc)):
                raise
            raise DeadlineExceeded(
                f"the request waited longer than queue_timeout={options.queue_timeout:g} s for its "
                f"turn: {exc}",
                unprocessed=exc.unprocessed,
            ) from exc

    def _check(self, request: InferRequest, options: RequestOptions) -> None:
        refused = options.given - self.offered
        if refused:
            name = min(refused)
            raise UnsupportedOperation(
                f"{self._url} cannot do {name}=" + (f": {text}" if (text := lacking(name)) else "")
            )
        if options.top_k is not None:
            self._check_ranks(request, options.top_k)
        both = [name for name in _reserved(options) if name in request.parameters]
        if both:
            raise InvalidInput(
                f"the parameter {both[0]!r} is given in parameters=, and by the option of the same "
                "meaning too: give one of them"
            )

    def _check_ranks(self, request: InferRequest, top_k: int) -> None:
        if top_k < 1:
            raise InvalidInput(f"top_k={top_k} is how many elements to answer: at least 1")
        for name in request.outputs or self._outputs:
            spec = self._outputs[name]
            if spec.dtype not in _RANKED:
                raise UnsupportedOperation(
                    f"{self._url} cannot do top_k= for {spec}: expected integers, FP32 or FP64; "
                    "leave it out by outputs="
                )
        if not self._empty and not all(array.size for array in request.inputs.values()):
            raise InvalidInput(
                "an input has no elements, so that there may be none to rank, which Triton does "
                "not survive over HTTP: call without top_k, or use grpc://"
            )


def _reserved(options: RequestOptions) -> list[str]:
    """The names of the parameters that say the same as these options."""
    return [
        name
        for option, names in _RESERVED.items()
        if getattr(options, option) is not None
        for name in names
    ]


def _parameters(options: RequestOptions) -> Mapping[str, ParameterValue]:
    named: dict[str, ParameterValue] = {}
    if options.sequence is not None:
        named["sequence_id"] = options.sequence.id
        named["sequence_start"] = options.sequence.start
        named["sequence_end"] = options.sequence.end
    if options.priority is not None:
        named["priority"] = options.priority
    if options.queue_timeout is not None:
        named["timeout"] = _microseconds(options.queue_timeout)
    return named


def _microseconds(seconds: float) -> int:
    """At least one: none would be no bound."""
    # The rest is what floats add to a number of microseconds.
    exact = min(seconds * 1e6, _LONGEST_QUEUE_TIMEOUT)
    return max(1, min(math.ceil(round(exact, 3)), _LONGEST_QUEUE_TIMEOUT))
